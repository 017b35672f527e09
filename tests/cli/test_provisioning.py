"""Run `softtoken-enroll --if-absent` and its companions as a configuration management system does: again and again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.support.account import Person, Phone
from tests.support.admin import Admin
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.enroller import Enroller, Finished
from tests.support.installation import Installation
from tests.support.listing import listing

KEY, OTHER = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
ABSENT = ("--if-absent", "--no-confirm", "--json", "--recovery-codes=0")
OTHERWISE = 4


def provision(enroller: Enroller, person: Person, *options: str, key: str = KEY) -> Finished:
    """Run, as root, what a script runs for each account: the key comes on stdin."""
    return enroller.run("--user", person.name, *ABSENT, "--key-file=-", *options, typed=key.encode())


def stands(enroller: Enroller, person: Person, *options: str, key: str = KEY) -> None:
    """Provision again, and check that nothing was needed and nothing was done."""
    before = listing(person.home)
    done = provision(enroller, person, *options, key=key)
    assert (done.status, done.stdout) == (0, "")
    assert done.stderr.endswith("; nothing was changed.\n")
    assert done.stderr.count("\n") == 1
    assert listing(person.home) == before


def differs(enroller: Enroller, person: Person, *options: str, key: str = KEY) -> str:
    """Provision again, and check that the account differs and is left alone."""
    before = listing(person.home)
    mistake = provision(enroller, person, *options, key=key).refused(OTHERWISE)
    assert mistake.error.endswith("; nothing was changed")
    assert listing(person.home) == before
    return mistake.error


def test_if_absent__enrols_once_and_then_changes_nothing(enroller: Enroller, alice: Person, service: Service) -> None:
    done = provision(enroller, alice, "--type=hotp")
    assert (done.status, done.stderr) == (0, "")
    phone = Phone(json.loads(done.stdout))
    assert phone.record["key"] == KEY
    stands(enroller, alice, "--type=hotp")
    assert service.log_in(alice, phone.hotp()).result == PAM_SUCCESS
    stands(enroller, alice, "--type=hotp")
    assert service.log_in(alice, phone.hotp_at(0)).result == PAM_AUTH_ERR


def test_if_absent__knows_the_key_under_another_name_and_among_others(
    enroller: Enroller, installed: Installation, alice: Person
) -> None:
    assert provision(enroller, alice, "--name=from work").status == 0
    alice.enrol(installed, "--name=spare", "--recovery-codes=0")
    stands(enroller, alice)
    stands(enroller, alice, "--name=spare")


@pytest.mark.parametrize(
    "options", [["--type=hotp"], ["--digits=8"], ["--period=60"], ["--algorithm=SHA256"]], ids=lambda each: each[0]
)
def test_if_absent__same_key_with_other_settings_is_another_token(
    enroller: Enroller, alice: Person, options: list[str]
) -> None:
    assert provision(enroller, alice).status == 0
    assert "another token" in differs(enroller, alice, *options)


def test_if_absent__other_key_is_neither_added_nor_put_in_place(
    enroller: Enroller, installed: Installation, alice: Person, service: Service
) -> None:
    own = alice.enrol(installed, "--type=hotp", "--name=own")
    assert "another token" in differs(enroller, alice, "--type=hotp")
    given = Phone({**own.record, "key": KEY, "counter": 0})
    assert service.log_in(alice, given.hotp()).result == PAM_AUTH_ERR
    assert service.log_in(alice, own.hotp()).result == PAM_SUCCESS


def test_if_absent__without_a_key_any_token_will_do(enroller: Enroller, installed: Installation, alice: Person) -> None:
    assert enroller.run("--user", alice.name, *ABSENT).status == 0
    before = listing(alice.home)
    done = enroller.run("--user", alice.name, *ABSENT)
    assert (done.status, done.stdout) == (0, "")
    assert done.stderr == f"{alice.name} is enrolled already; nothing was changed.\n"
    assert listing(alice.home) == before


def test_if_absent__revoked_key_does_not_come_back(
    enroller: Enroller, installed: Installation, alice: Person, service: Service
) -> None:
    phone = Phone(json.loads(provision(enroller, alice, "--type=hotp").stdout))
    assert Admin(installed).run("revoke", alice.name, "--yes").status == 0
    assert "was taken away" in differs(enroller, alice, "--type=hotp")
    assert service.log_in(alice, phone.hotp()).result == PAM_AUTH_ERR


def test_if_absent__key_that_was_removed_before_its_first_login_does_not_come_back(
    enroller: Enroller, alice: Person
) -> None:
    assert provision(enroller, alice).status == 0
    assert enroller.run("--user", alice.name, "--remove=phone", "--force").status == 0
    assert "was taken away" in differs(enroller, alice)
    # It is still possible on purpose.
    words = ["--user", alice.name, "--no-confirm", "--json", "--recovery-codes=0", "--key-file=-"]
    assert enroller.run(*words, typed=KEY.encode()).status == 0
    stands(enroller, alice)


def test_if_absent__other_key_than_one_that_was_removed_is_enrolled(enroller: Enroller, alice: Person) -> None:
    assert provision(enroller, alice).status == 0
    assert enroller.run("--user", alice.name, "--remove=phone", "--force").status == 0
    assert provision(enroller, alice, key=OTHER).status == 0


def test_if_absent__account_that_lost_its_files_is_refused(enroller: Enroller, alice: Person, service: Service) -> None:
    phone = Phone(json.loads(provision(enroller, alice, "--type=hotp").stdout))
    assert service.log_in(alice, phone.hotp()).result == PAM_SUCCESS
    for file in alice.store.iterdir():
        file.unlink()
    alice.store.rmdir()
    assert "was taken away" in differs(enroller, alice, "--type=hotp", key=OTHER)


def test_if_absent__damaged_file_is_a_mistake_and_not_an_absence(enroller: Enroller, alice: Person) -> None:
    assert provision(enroller, alice).status == 0
    (alice.store / "tokens").write_text("{")
    before = listing(alice.home)
    provision(enroller, alice).refused()
    assert listing(alice.home) == before


def test_if_absent__user_provisions_the_own_account(enroller: Enroller, alice: Person) -> None:
    for _ in range(2):
        done = enroller.run(*ABSENT, "--key-file=-", person=alice, typed=KEY.encode())
        assert done.status == 0


# Recovery codes from elsewhere.


def made_elsewhere(enroller: Enroller, count: int = 2) -> tuple[list[str], dict[str, object]]:
    done = enroller.run("--print-recovery-codes", f"--recovery-codes={count}")
    assert (done.status, done.stderr) == (0, "")
    printed = json.loads(done.stdout)
    assert list(printed) == ["recovery_codes", "recovery_hashes"]
    return printed["recovery_codes"], printed["recovery_hashes"]


def hashes_in(directory: Path, content: object) -> Path:
    path = directory / "hashes"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(0o600)
    return path


def test_recovery_hashes__their_codes_log_in_once_each(
    enroller: Enroller, alice: Person, service: Service, outside: Path
) -> None:
    codes, hashes = made_elsewhere(enroller)
    path = hashes_in(outside, hashes)
    words = ["--user", alice.name, "--if-absent", "--no-confirm", "--json", "--key-file=-", f"--recovery-hashes={path}"]
    done = enroller.run(*words, typed=KEY.encode())
    assert done.status == 0
    assert json.loads(done.stdout)["recovery_codes"] == []
    for code in codes:
        assert code not in done.stdout + done.stderr
        assert service.log_in(alice, code).result == PAM_SUCCESS
        assert service.log_in(alice, code).result == PAM_AUTH_ERR
    assert enroller.run(*words, typed=KEY.encode()).status == 0
    assert service.log_in(alice, codes[0]).result == PAM_AUTH_ERR


@pytest.mark.parametrize("removed", [False, True])
def test_recovery_hashes__same_ones_again_bring_no_used_code_back(
    enroller: Enroller, alice: Person, service: Service, outside: Path, removed: bool
) -> None:
    codes, hashes = made_elsewhere(enroller)
    path = hashes_in(outside, hashes)
    words = ["--user", alice.name, "--no-confirm", "--json", "--type=hotp", f"--recovery-hashes={path}"]
    assert enroller.run(*words).status == 0
    assert service.log_in(alice, codes[0]).result == PAM_SUCCESS
    between = ["--remove=phone", "--force"] if removed else ["--force", "--no-confirm", "--json", "--recovery-codes=1"]
    assert enroller.run("--user", alice.name, *between).status == 0
    assert enroller.run(*words, *([] if removed else ["--force"])).status == 0
    assert service.log_in(alice, codes[0]).result == PAM_AUTH_ERR
    assert service.log_in(alice, codes[1]).result == PAM_SUCCESS


def test_print_recovery_codes__touches_no_account(enroller: Enroller, alice: Person) -> None:
    before = listing(alice.home)
    done = enroller.run("--print-recovery-codes", "--recovery-codes=24", person=alice, cwd=alice.home)
    assert len(json.loads(done.stdout)["recovery_hashes"]["hashes"]) == 24
    assert listing(alice.home) == before


@pytest.mark.parametrize("spoilt", ["text", "outer object", "scratch", "cheap", "long", "empty", "hash too short"])
def test_recovery_hashes__invalid_ones_are_refused_and_not_shown(
    enroller: Enroller, alice: Person, outside: Path, spoilt: str
) -> None:
    codes, hashes = made_elsewhere(enroller)
    content: object = {
        "text": "\n".join(codes),
        "outer object": {"recovery_codes": codes, "recovery_hashes": hashes},
        "scratch": {**hashes, "scratch": True},
        "cheap": {**hashes, "scrypt": [2, 8, 1]},
        "long": json.dumps(hashes) + " " * 9000,
        "empty": "",
        "hash too short": {**hashes, "hashes": ["00"]},
    }[spoilt]
    path = hashes_in(outside, content)
    before = listing(alice.home)
    done = enroller.run("--user", alice.name, "--no-confirm", "--json", "--recovery-hashes", path)
    mistake = done.refused()
    assert mistake.error.startswith(f'"{path}" holds no hashes of recovery codes: ')
    assert not any(code in done.stderr for code in codes)
    assert listing(alice.home) == before


def test_recovery_hashes__are_for_the_first_token(
    enroller: Enroller, installed: Installation, alice: Person, outside: Path
) -> None:
    alice.enrol(installed, "--recovery-codes=1")
    path = hashes_in(outside, made_elsewhere(enroller)[1])
    before = listing(alice.home)
    done = enroller.run("--user", alice.name, "--name=spare", "--no-confirm", "--json", "--recovery-hashes", path)
    assert "has recovery codes already" in done.refused().error
    assert listing(alice.home) == before


def test_recovery_hashes__user_reads_them_as_the_user(enroller: Enroller, alice: Person, outside: Path) -> None:
    path = hashes_in(outside, made_elsewhere(enroller)[1])
    done = enroller.run("--no-confirm", "--json", "--recovery-hashes", path, person=alice)
    assert "Permission denied" in done.refused().error
    os.chown(path, alice.uid, alice.gid)
    assert enroller.run("--no-confirm", "--json", "--recovery-hashes", path, person=alice).status == 0
