"""Enrol for another user: permissions and file owners, for root, for users themselves, and in stores outside homes."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.account import Person, Phone
from tests.support.client import PAM_SUCCESS, Service
from tests.support.enroller import OTHERS_CODE_PROMPT, Enroller
from tests.support.installation import Installation
from tests.support.listing import listing

SCRIPT = ("--no-confirm", "--json", "--period=300", "--recovery-codes=0")


def facts(directory: Path) -> dict[str, tuple[str, int, int]]:
    """Return mode, user and group of a directory and what is in it."""
    found = {path.name: path.lstat() for path in [directory, *directory.iterdir()]}
    return {name: (stat.filemode(status.st_mode), status.st_uid, status.st_gid) for name, status in found.items()}


@pytest.mark.parametrize("umask", [0, 0o022, 0o777], ids=["0000", "0022", "0777"])
def test_enroll__by_root_creates_files_that_the_user_owns(
    enroller: Enroller, alice: Person, service: Service, umask: int
) -> None:
    done = enroller.run(*SCRIPT, "--user", alice.name, umask=umask)
    assert done.status == 0
    assert facts(alice.store) == {
        ".softtoken": ("drwx------", alice.uid, alice.gid),
        "tokens": ("-rw-------", alice.uid, alice.gid),
        "state": ("-rw-------", alice.uid, alice.gid),
    }
    phone = Phone(json.loads(done.stdout))
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS
    # The user can go on without root.
    assert enroller.run(*SCRIPT, "--force", person=alice).status == 0


def test_enroll__dialogue_of_root_names_the_user(enroller: Enroller, alice: Person, service: Service) -> None:
    with enroller.start("--user", alice.name, "--period=300", "--recovery-codes=1") as dialogue:
        phone = dialogue.confirm(prompt=OTHERS_CODE_PROMPT.format(alice.name))
        assert dialogue.transcript.startswith(f"Enrolling {alice.name} on ")
        assert f":{alice.name}?" in dialogue.transcript
    assert service.log_in(alice, phone.totp(1)).result == PAM_SUCCESS


def test_enroll__no_hint_tells_root_to_remove_files_in_a_home(enroller: Enroller, alice: Person) -> None:
    """Before root removes the file, the user can put a link there."""
    enroller.run(*SCRIPT, "--user", alice.name)
    (alice.store / "state").write_bytes(b"damaged")
    for words in (["--name=spare", *SCRIPT], ["--force", *SCRIPT], ["--remove=phone", "--force", "--no-confirm"]):
        mistake = enroller.run(*words, "--user", alice.name).refused()
        assert "neither of its two records is whole" in mistake.error
        assert mistake.hint == f"run: softtoken-admin reset-state {alice.name}"
    assert enroller.run("--force", *SCRIPT, person=alice).refused().hint == f"run: rm {alice.store}/state"


@pytest.mark.parametrize("name", ["no-such-user", "", "a\nb", "\x1b[31mred", "\udcff", "a" * 300])
def test_enroll__unknown_user_is_one_clear_error(enroller: Enroller, name: str) -> None:
    done = enroller.run(*SCRIPT, "--user", name)
    mistake = done.refused()
    assert mistake.error.startswith("no such user")
    assert "\x1b" not in done.stderr


def test_enroll__user_cannot_enrol_another_user(
    enroller: Enroller, alice: Person, make_person: Callable[[], Person]
) -> None:
    bob = make_person()
    before = listing(bob.home)
    for other in (bob.name, "root"):
        mistake = enroller.run(*SCRIPT, "--user", other, person=alice).refused()
        assert mistake.error == "only root can do that for somebody else"
        assert mistake.hint == f"sudo softtoken-enroll --user {other}"
    assert listing(bob.home) == before


def test_enroll__user_may_name_the_own_account(enroller: Enroller, alice: Person) -> None:
    assert enroller.run(*SCRIPT, "--user", alice.name, person=alice).status == 0


def test_enroll__home_comes_from_the_password_database(enroller: Enroller, alice: Person, outside: Path) -> None:
    outside.chmod(0o777)
    environment = {"HOME": str(outside), "USER": "root", "LOGNAME": "root", "PATH": "/usr/bin:/bin"}
    assert enroller.run(*SCRIPT, person=alice, environment=environment).status == 0
    assert list(outside.iterdir()) == []
    assert alice.store.exists()


class TestStoreOutside:
    """Use a root-owned store."""

    @pytest.mark.parametrize("umask", [0, 0o022, 0o777], ids=["0000", "0022", "0777"])
    def test_store__of_root_is_closed_to_the_user(
        self, enroller: Enroller, alice: Person, outside: Path, make_service: Callable[[str], Service], umask: int
    ) -> None:
        template = f"{outside}/%U"
        done = enroller.run(*SCRIPT, "--user", alice.name, "--store", template, umask=umask)
        assert done.status == 0
        assert facts(outside / str(alice.uid)) == {
            str(alice.uid): ("drwx------", 0, 0),
            "tokens": ("-rw-------", 0, 0),
            "state": ("-rw-------", 0, 0),
        }
        assert not alice.store.exists()
        service = make_service(Installation(enroller_root(enroller)).line(f"store={template}"))
        assert service.log_in(alice, Phone(json.loads(done.stdout)).totp()).result == PAM_SUCCESS

    @pytest.mark.parametrize("template", ["{}/softtoken/%U", "{}/a/b/%u", "{}/%u/%U/token"])
    def test_store__is_created_with_all_missing_directories(
        self, enroller: Enroller, alice: Person, outside: Path, template: str
    ) -> None:
        done = enroller.run(*SCRIPT, "--user", alice.name, "--store", template.format(outside), umask=0)
        assert done.status == 0, done.stderr
        for path in outside.rglob("*"):
            status = path.lstat()
            assert (status.st_uid, stat.S_IMODE(status.st_mode) & 0o077) == (0, 0), path
        assert len(list(outside.rglob("tokens"))) == 1

    def test_store__interrupted_leaves_nothing(self, enroller: Enroller, alice: Person, outside: Path) -> None:
        before = listing(outside)
        with enroller.start("--user", alice.name, f"--store={outside}/%U") as dialogue:
            dialogue.expect(OTHERS_CODE_PROMPT.format(alice.name))
            dialogue.press_control("C")
            dialogue.refused()
        assert listing(outside) == before

    def test_store__outside_the_home_is_not_for_users(self, enroller: Enroller, alice: Person, outside: Path) -> None:
        before = listing(outside)
        mistake = enroller.run(*SCRIPT, f"--store={outside}/%U", person=alice).refused()
        assert mistake.error == f"tokens in {outside}/{alice.uid} are kept by root"
        assert mistake.hint == f"ask an administrator for: softtoken-enroll --user {alice.name}"
        assert listing(outside) == before

    def test_store__elsewhere_in_the_home_belongs_to_the_user(
        self, enroller: Enroller, alice: Person, make_service: Callable[[str], Service]
    ) -> None:
        done = enroller.run(*SCRIPT, "--store=%h/.config/softtoken", person=alice)
        assert done.status == 0
        assert facts(alice.home / ".config/softtoken")["tokens"] == ("-rw-------", alice.uid, alice.gid)
        service = make_service(Installation(enroller_root(enroller)).line("store=%h/.config/softtoken"))
        assert service.log_in(alice, Phone(json.loads(done.stdout)).totp()).result == PAM_SUCCESS

    @pytest.mark.parametrize("owner", ["alice", "root"])
    def test_store__that_others_can_write_is_refused(
        self, enroller: Enroller, alice: Person, outside: Path, owner: str
    ) -> None:
        common = outside / "common"
        common.mkdir()
        common.chmod(0o755 if owner == "alice" else 0o777)
        os.chown(common, alice.uid if owner == "alice" else 0, 0)
        before = listing(outside)
        enroller.run(*SCRIPT, "--user", alice.name, f"--store={common}/%U").refused()
        assert listing(outside) == before

    def test_store__link_to_another_place_is_refused(self, enroller: Enroller, alice: Person, outside: Path) -> None:
        (outside / str(alice.uid)).symlink_to(alice.home)
        before = listing(alice.home)
        enroller.run(*SCRIPT, "--user", alice.name, f"--store={outside}/%U").refused()
        assert listing(alice.home) == before

    @pytest.mark.parametrize("template", ["relative/%U", "/var/lib/softtoken", "/var/%x", "%h/../%u", "/a/%h", ""])
    def test_store__invalid_template_is_a_usage_error(self, enroller: Enroller, alice: Person, template: str) -> None:
        mistake = enroller.run(*SCRIPT, "--store", template, "--user", alice.name).refused(2)
        assert mistake.error.startswith("--store")
        assert "administrator" not in mistake.hint


def enroller_root(enroller: Enroller) -> Path:
    """Return the path where the program is installed."""
    return Path(enroller.program[0]).parents[1]
