"""Run `softtoken-admin` on a host with a root-owned store: the prompts, the listed users, and the log."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.account import Person, Phone
from tests.support.admin import Admin, refused, succeeded
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, TEXT_INFO, Service
from tests.support.enroller import ENVIRONMENT, Enroller
from tests.support.installation import Installation
from tests.support.leak import keep
from tests.support.listing import listing
from tests.support.pam_scene import Pam, lock_out, set_pin, steady_step, wrong_code
from tests.support.system_log import SystemLog

ROOTS = Path("/var/lib/softtoken")
TEMPLATE = f"{ROOTS}/%U"
_INSIDE = 'mount --bind "$1" /etc/security; shift; exec "$@"'


@pytest.fixture
def admin(installed: Installation, outside: Path) -> Enroller:
    """`softtoken-admin` on a host whose configuration file names a root-owned store."""
    security = outside / "security"
    security.mkdir()
    (security / "softtoken.conf").write_text(f"store = {TEMPLATE}\n")
    unshare = ("unshare", "--mount", "--propagation=private", "sh", "-euc", _INSIDE, "sh", security)
    return Admin(installed).after(*unshare)


@pytest.fixture
def kept(alice: Person) -> Iterator[Path]:
    """The place of Alice's files in root's store, still empty."""
    path = ROOTS / str(alice.uid)

    def clear() -> None:
        shutil.rmtree(path, ignore_errors=True)
        (ROOTS / "enrolled" / str(alice.uid)).unlink(missing_ok=True)

    clear()
    yield path
    clear()


@pytest.fixture
def phone(alice: Person, installed: Installation, kept: Path) -> Phone:
    """A token of Alice's in root's store, and two recovery codes. Its codes last longer than any test."""
    return alice.enrol(installed, "--period=300", "--recovery-codes=2", f"--store={TEMPLATE}")


@pytest.fixture
def service(make_service: Callable[[str], Service], installed: Installation) -> Service:
    """A service that uses root's store."""
    return make_service(installed.line(f"store={TEMPLATE}"))


@pytest.fixture
def at_home(make_service: Callable[[str], Service], installed: Installation) -> Service:
    """A service that uses the home directory."""
    return make_service(installed.line())


def issue(admin: Enroller, person: Person) -> str:
    """Issue a code."""
    return keep(succeeded(admin.run("code-for", person.name, "--for=1h")).strip())


def look_up(admin: Enroller, person: Person) -> dict[str, Any]:
    """Return the result of `status --json` for a user."""
    (facts,) = json.loads(succeeded(admin.run("status", "--json", person.name)))["users"]
    return dict(facts)


def wait_for_long(service: Service, alice: Person, phone: Phone) -> None:
    """Guess until even the right code must wait."""
    wrong = wrong_code(phone)
    for _ in range(6):
        assert service.log_in(alice, wrong).result == PAM_AUTH_ERR


# -- code-for


def test_root_store__issued_code_needs_the_pin_and_works_once(
    admin: Enroller, alice: Person, phone: Phone, kept: Path, service: Service, system_log: SystemLog
) -> None:
    set_pin(kept / "tokens", "4711")
    record = json.loads(succeeded(admin.run("code-for", alice.name, "--for=1h", "--json")))
    code = keep(record["code"])
    assert record["pin_in_front"] is True
    for answer in (code, "4712" + code, "4711", code + "4711"):
        assert service.log_in(alice, answer).result == PAM_AUTH_ERR
    outcome = service.log_in(alice, "4711" + code)
    assert outcome.result == PAM_SUCCESS
    assert outcome.messages[1:] == [(TEXT_INFO, "Code of the administrator accepted; it cannot be used again.")]
    assert service.log_in(alice, "4711" + code).result == PAM_AUTH_ERR
    assert system_log.reasons()[-2:] == ["issued", "replayed"]
    assert service.log_in(alice, "4711" + phone.totp()).result == PAM_SUCCESS


def test_root_store__issued_code_is_said_to_take_the_pin(
    admin: Enroller, alice: Person, phone: Phone, kept: Path
) -> None:
    set_pin(kept / "tokens", "4711")
    done = admin.run("code-for", alice.name, "--for=1h")
    keep(succeeded(done).strip())
    assert "The PIN goes in front of it" in done.stderr


def test_root_store__issued_code_changes_only_the_state_that_root_owns(
    admin: Enroller, alice: Person, phone: Phone, kept: Path
) -> None:
    before, tokens = listing(alice.home), (kept / "tokens").read_bytes()
    issue(admin, alice)
    assert listing(alice.home) == before
    assert (kept / "tokens").read_bytes() == tokens
    for path, mode in ((kept, 0o700), (kept / "tokens", 0o600), (kept / "state", 0o600)):
        assert (path.stat().st_uid, stat.S_IMODE(path.stat().st_mode)) == (0, mode)


def test_root_store__issued_code_does_not_count_for_a_service_that_reads_the_home(
    admin: Enroller, alice: Person, phone: Phone, installed: Installation, at_home: Service
) -> None:
    other = alice.enrol(installed, "--period=300", "--recovery-codes=0")
    code = issue(admin, alice)
    assert at_home.log_in(alice, code).result == PAM_AUTH_ERR
    assert at_home.log_in(alice, other.totp()).result == PAM_SUCCESS


def test_root_store__used_issued_code_stays_used_after_a_move_home(
    admin: Enroller, alice: Person, phone: Phone, kept: Path, service: Service, at_home: Service
) -> None:
    set_pin(kept / "tokens", "4711")
    spent = issue(admin, alice)
    assert service.log_in(alice, "4711" + spent).result == PAM_SUCCESS
    assert succeeded(admin.run("move", alice.name, "--to=home")) == f"{alice.name}: moved to {alice.store}\n"
    assert not kept.exists()
    assert at_home.log_in(alice, "4711" + spent).result == PAM_AUTH_ERR
    assert service.log_in(alice, "4711" + phone.totp()).result == PAM_AUTH_ERR
    assert at_home.log_in(alice, "4711" + phone.totp()).result == PAM_SUCCESS


def test_root_store__unused_issued_code_works_once_after_a_move_home(
    admin: Enroller, alice: Person, phone: Phone, service: Service, at_home: Service
) -> None:
    used = phone.totp()
    assert service.log_in(alice, used).result == PAM_SUCCESS
    code = issue(admin, alice)
    succeeded(admin.run("move", alice.name, "--to=home"))
    assert at_home.log_in(alice, used).result == PAM_AUTH_ERR
    assert at_home.log_in(alice, code).result == PAM_SUCCESS
    assert at_home.log_in(alice, code).result == PAM_AUTH_ERR


# -- status


def test_root_store__status_shows_tokens_that_root_keeps(
    admin: Enroller, alice: Person, phone: Phone, kept: Path, service: Service
) -> None:
    assert service.log_in(alice, phone.recovery_codes[0]).result == PAM_SUCCESS
    issue(admin, alice)
    facts = look_up(admin, alice)
    assert facts["store"] == str(kept)
    assert (facts["status"], facts["state"], facts["problem"]) == ("enrolled", "ok", "")
    assert [token["name"] for token in facts["tokens"]] == ["phone"]
    assert facts["recovery_codes"] == {"total": 2, "left": 1}
    assert facts["issued_code_until"] is not None
    assert facts["elsewhere"] == []
    table = succeeded(admin.run("status", alice.name))
    assert re.search(rf"^{alice.name} +enrolled +1 .* 1/2 +issued code until ", table, re.MULTILINE)


def test_root_store__status_tells_of_tokens_that_still_lie_in_the_home(
    admin: Enroller, alice: Person, kept: Path, installed: Installation
) -> None:
    alice.enrol(installed, "--recovery-codes=0")
    facts = look_up(admin, alice)
    assert (facts["status"], facts["store"], facts["elsewhere"]) == ("not-enrolled", str(kept), [str(alice.store)])
    said = succeeded(admin.run("status", alice.name))
    assert f"has tokens in {alice.store}, where no service looks: softtoken-admin move {alice.name} --to system" in said
    succeeded(admin.run("move", alice.name, "--to=system"))
    facts = look_up(admin, alice)
    assert (facts["status"], facts["elsewhere"]) == ("enrolled", [])


def test_status__reports_tokens_of_root_that_no_service_reads(
    installed: Installation, alice: Person, phone: Phone, kept: Path
) -> None:
    said = succeeded(Admin(installed).run("status", alice.name))
    assert f"has tokens in {kept}, where no service looks: softtoken-admin move {alice.name} --to home" in said


def test_root_store__status_finds_tokens_in_a_home_that_only_a_group_may_enter(
    admin: Enroller, alice: Person, kept: Path, installed: Installation
) -> None:
    alice.enrol(installed, "--recovery-codes=0")
    group = f"{alice.name}-g"
    subprocess.run(["groupadd", group], check=True)
    try:
        subprocess.run(["usermod", "--append", "--groups", group, alice.name], check=True)
        shutil.chown(alice.home, "root", group)
        alice.home.chmod(0o750)
        assert look_up(admin, alice)["elsewhere"] == [str(alice.store)]
    finally:
        subprocess.run(["groupdel", group], check=True)


@pytest.mark.parametrize("kind", ["link", "directory", "pipe", "closed home", "link to the directory"])
def test_root_store__status_counts_no_link_or_directory_as_a_token_file(
    admin: Enroller, alice: Person, kept: Path, outside: Path, kind: str
) -> None:
    """The user can make all of these. They are read as the user, and no link is followed."""
    (outside / "tokens").write_text("{}")
    if kind == "link to the directory":
        alice.store.symlink_to(outside)
    else:
        alice.store.mkdir(0o700)
        shutil.chown(alice.store, alice.uid, alice.gid)
    tokens = alice.store / "tokens"
    if kind == "link":
        tokens.symlink_to(outside / "tokens")
    elif kind == "directory":
        tokens.mkdir()
    elif kind == "pipe":
        os.mkfifo(tokens)
    elif kind == "closed home":
        alice.store.chmod(0)
    facts = look_up(admin, alice)
    assert (facts["status"], facts["elsewhere"], facts["problem"]) == ("not-enrolled", [], "")


# -- unlock, revoke, reset-state


def test_root_store__unlock_ends_the_wait(
    admin: Enroller, alice: Person, phone: Phone, service: Service, kept: Path
) -> None:
    lock_out(alice, kept)
    assert look_up(admin, alice)["waiting"] != []
    done = admin.run("unlock", alice.name)
    assert succeeded(done) == ""
    assert "forgotten" in done.stderr
    assert look_up(admin, alice)["waiting"] == []
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS


def test_root_store__revoke_removes_the_files_of_root_and_keeps_those_of_the_home(
    admin: Enroller, alice: Person, phone: Phone, kept: Path, installed: Installation, pam: Pam
) -> None:
    alice.enrol(installed, "--recovery-codes=0")
    before = listing(alice.home)
    code = issue(admin, alice)
    assert succeeded(admin.run("revoke", alice.name, "--yes")) == ""
    assert not (kept / "tokens").exists()
    assert listing(alice.home) == before
    under_nullok = pam.service("nullok", f"store={TEMPLATE}")
    for answer in (phone.totp(), code, phone.recovery_codes[0]):
        assert under_nullok.log_in(alice, answer).result == PAM_AUTH_ERR


def test_root_store__reset_state_brings_no_used_code_back(
    admin: Enroller, alice: Person, phone: Phone, kept: Path, service: Service
) -> None:
    steady_step(300)
    used = [phone.totp(), phone.recovery_codes[0]]
    for code in used:
        assert service.log_in(alice, code).result == PAM_SUCCESS
    issued = issue(admin, alice)
    (kept / "state").write_bytes(b"x" * 8192)
    assert service.log_in(alice, phone.totp(1)).result == PAM_AUTH_ERR
    _, hint = refused(admin.run("unlock", alice.name))
    assert f"softtoken-admin reset-state {alice.name}" in hint
    assert succeeded(admin.run("reset-state", alice.name, "--yes")) == ""
    assert ((kept / "state").stat().st_uid, stat.S_IMODE((kept / "state").stat().st_mode)) == (0, 0o600)
    assert look_up(admin, alice)["state"] == "ok"
    for code in (*used, issued, phone.totp(1)):
        assert service.log_in(alice, code).result == PAM_AUTH_ERR


@pytest.mark.parametrize("words", [["unlock"], ["revoke", "--yes"], ["reset-state", "--yes"], ["code-for", "--for=1h"]])
def test_root_store__without_a_token_error_names_the_store(
    admin: Enroller, alice: Person, kept: Path, installed: Installation, words: list[str]
) -> None:
    """The token in the home does not count, and is left alone."""
    alice.enrol(installed, "--recovery-codes=0")
    before = listing(alice.home)
    error, _ = refused(admin.run(words[0], alice.name, *words[1:]))
    assert error == f"{alice.name} is not enrolled in {kept}"
    assert listing(alice.home) == before
    assert not kept.exists()


# -- log


def test_root_store__log_has_each_command_for_the_user_in_order_and_for_no_other(
    admin: Enroller, alice: Person, phone: Phone, service: Service, system_log: SystemLog, outside: Path
) -> None:
    wait_for_long(service, alice, phone)
    deeds = (["unlock"], ["code-for", "--for=1h"], ["reset-state", "--yes"], ["revoke", "--yes"])
    for command, *options in deeds:
        said = succeeded(admin.run(command, alice.name, *options)).strip()
        if command == "code-for":
            code = keep(said)
    system_log.ours()  # waits for the last
    file = outside / "auth.log"
    file.write_text("".join(_as_in_a_file(line) for line in system_log.lines))
    entries = json.loads(succeeded(admin.run("log", "--json", "--user", alice.name, "--since=1d", "--file", file)))
    found = entries["entries"]
    done = [(entry["service"], entry["result"]) for entry in found if entry["service"] == "softtoken-admin"]
    assert done == [("softtoken-admin", command) for command, *_ in deeds]
    assert {entry["user"] for entry in found} == {alice.name}
    assert {entry["result"] for entry in found if entry["service"] != "softtoken-admin"} == {"denied"}
    (issued,) = [entry for entry in found if entry["result"] == "code-for"]
    assert re.fullmatch(r"until=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ by=root( loginuid=\d+)?", issued["detail"])
    assert code not in file.read_text()
    assert succeeded(admin.run("log", "--user", alice.name, "--since=1d", "--file", file)).count("softtoken-admin") == 4
    nothing = admin.run("log", "--user", alice.name, "--since=2999-01-01", "--file", file)
    assert succeeded(nothing) == ""
    assert succeeded(admin.run("log", "--user", alice.name[:-1], "--since=1d", "--file", file)) == ""


def test_move__log_names_the_user_the_store_and_the_administrator(
    admin: Enroller, alice: Person, phone: Phone, system_log: SystemLog
) -> None:
    succeeded(admin.run("move", alice.name, "--to=home", "--dry-run"))
    succeeded(admin.run("move", alice.name, "--to=home", environment={**ENVIRONMENT, "SUDO_USER": "carol"}))
    refused(admin.run("move", alice.name, "--to=home"))
    system_log.ours()  # waits for the last
    (line,) = [line for line in system_log.lines if f"action=move user={alice.name} " in line]
    assert re.search(rf"softtoken-admin\[\d+\]: softtoken-admin: action=move user={alice.name} to=home by=carol", line)


def _as_in_a_file(line: str) -> str:
    """Return a line from the system log's socket as a log daemon writes it to a file: without priority, with a host."""
    found = re.fullmatch(r"<\d+>(?:\w{3} [ \d]\d \d\d:\d\d:\d\d )?(.*)", line.rstrip("\n\0"))
    assert found is not None, line
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S+00:00', time.gmtime())} host {found[1]}\n"
