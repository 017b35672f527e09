"""Enrol in the login itself, at real hosts: after the first factor and never without it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.account import Person
from tests.support.hosts import SSH, UNIX_PASSWORD, UNIX_PASSWORD_OR_STOP, Host
from tests.support.installation import Installation
from tests.support.newcomer import ENROLS, ENTER, NEW_CODE, Arrival, arrival, lines
from tests.support.private_mounts import PrivateMounts
from tests.support.process import wait_until
from tests.support.screen import read_qr_codes
from tests.support.system_log import SystemLog
from tests.system.test_every_host import wait_for_end_of_backend

ROOMS = ["sshd with password", "sshd with key", "su with password", "login with password"]
WITH_PASSWORD = ["sshd with password", "su with password", "login with password"]
DEBIAN = (
    "auth [success=1 default=ignore] pam_unix.so nodelay\n"
    "auth requisite pam_deny.so\n"
    "auth required pam_permit.so\n"
)  # fmt: skip
FRONTS = {
    "as in Debian's common-auth": DEBIAN,
    "required": UNIX_PASSWORD,
    "requisite": UNIX_PASSWORD_OR_STOP,
}


def account_line(host: Host, person: Person, result: str, reason: str, **more: str) -> str:
    """Return the log line of the account phase."""
    return host.log_line(person, result, reason, **more).replace(":auth)", ":account)")


def ignored_line(host: Host, person: Person) -> str:
    """Return the log line of the auth phase."""
    return host.log_line(person, "ignored", "not_enrolled", detail="is to enrol at the account line")


def environments_of(person: Person) -> bytes:
    """Return the environments of all processes of a session."""
    done = subprocess.run(["pgrep", "-u", person.name], check=True, capture_output=True, text=True)
    seen = []
    for pid in done.stdout.split():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended meanwhile
            seen.append(Path(f"/proc/{pid}/environ").read_bytes())
    assert any(b"HOME=" in each for each in seen)
    return b"".join(seen)


@pytest.mark.parametrize("host", ROOMS, indirect=True)
def test_newcomer__enrols_in_the_login_and_is_asked_for_a_code_at_the_next(
    host: Host, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    host.use_stack(lines(installed))
    with arrival(host, alice) as visit:
        assert visit.entered_as == alice.name, visit
        assert visit.seen == [*host.first_prompts, "new code", "enter"]
        assert b"PAM_SOFTTOKEN" not in environments_of(alice)
    phone = visit.phone_with_codes
    assert len(phone.recovery_codes) == 10
    assert system_log.ours() == [
        ignored_line(host, alice),
        account_line(host, alice, "accepted", "enrolled", token="phone"),
    ]
    system_log.clear()
    assert not host.log_in(alice, phone.totp(-1)).entered_as, "an older code than the one that confirmed"
    assert host.log_in(alice, phone.recovery_codes[0]).entered_as == alice.name
    assert host.log_in(alice, phone.totp(1)).entered_as == alice.name
    refused, *accepted = system_log.reasons()
    assert refused in ("replayed", "mismatch")  # a time step may have ended meanwhile; its code is then outside, too
    assert accepted == ["recovery", "accepted"]


@pytest.mark.parametrize("host", ROOMS, indirect=True)
def test_newcomer__scans_the_qr_code_off_the_terminal(host: Host, installed: Installation, alice: Person) -> None:
    host.use_stack(lines(installed))
    with arrival(host, alice, until=NEW_CODE) as visit:
        _scan(visit, alice, theme="dark")


@pytest.mark.parametrize("host", ["sshd with password", "login with password"], indirect=True)
def test_newcomer__with_a_light_terminal_scans_the_qr_code_that_enter_draws(
    host: Host, installed: Installation, alice: Person
) -> None:
    host.use_stack(lines(installed))
    with arrival(host, alice, until=NEW_CODE) as visit:
        before = len(visit.screen)
        visit.terminal.sendline("")
        visit.go_on(host, alice, password=alice.password, until=NEW_CODE)
        _scan(visit, alice, theme="light", after=before)
        visit.terminal.sendline(visit.phone.totp())  # type: ignore[union-attr]
        visit.go_on(host, alice, password=alice.password)
        assert visit.entered_as == alice.name, visit


def _scan(visit: Arrival, person: Person, *, theme: str, after: int = 0) -> None:
    """Scan the picture drawn since some place of the screen."""
    drawn = [line.rstrip("\r") for line in visit.screen[after:].split("\n")]
    blocks = "\n".join(line for line in drawn if line and not line.strip(" ▀▄█"))
    (scanned,) = read_qr_codes(blocks, theme=theme)
    assert scanned.startswith(f"otpauth://totp/{os.uname().nodename}:{person.name}?")
    assert f"URI:  {scanned}" in visit.screen.replace("\r", "")


@pytest.mark.parametrize("front", FRONTS)
@pytest.mark.parametrize("host", WITH_PASSWORD, indirect=True)
@pytest.mark.claim(
    "A user who enrols in a login has passed the first factor. In a badly ordered stack nobody enrols, "
    "and nobody is shown a key."
)
def test_newcomer__with_the_wrong_password_sees_no_key_and_gets_no_file(
    host: Host, installed: Installation, alice: Person, system_log: SystemLog, front: str
) -> None:
    host.use_stack(lines(installed), first=FRONTS[front])
    with arrival(host, alice, password="wrong") as visit:
        assert not visit.entered_as, visit
        assert set(visit.seen) == {"password"}
        assert "otpauth" not in visit.screen
        assert ENROLS not in visit.screen
    assert not alice.store.exists()
    assert "enrolled" not in system_log.reasons()
    with arrival(host, alice) as visit:
        assert visit.entered_as == alice.name, visit


@pytest.mark.parametrize("host", WITH_PASSWORD, indirect=True)
def test_enrolled__token_stays_unchanged_at_a_wrong_password(
    host: Host, installed: Installation, alice: Person
) -> None:
    host.use_stack(lines(installed))
    phone = alice.enrol(installed, "--period=300")
    before = (alice.store / "tokens").read_bytes()
    with arrival(host, alice, password="wrong") as visit:
        assert not visit.entered_as
        assert "otpauth" not in visit.screen
    assert (alice.store / "tokens").read_bytes() == before
    assert host.log_in(alice, phone.totp()).entered_as == alice.name


@pytest.mark.parametrize("host", ["sshd with password"], indirect=True)
@pytest.mark.claim(
    "A user who enrols in a login has passed the first factor. In a badly ordered stack nobody enrols, "
    "and nobody is shown a key."
)
def test_sshd__with_neither_key_nor_password_enrols_nobody(
    host: Host, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    """As with a missing `AuthenticationMethods`: the line that should follow a key stands alone."""
    host.mounts.set_service("sshd", lines(installed) + "auth required pam_permit.so\naccount required pam_permit.so\n")
    with arrival(host, alice) as visit:
        assert not visit.entered_as
        assert set(visit.seen) == {"code"}
        assert "otpauth" not in visit.screen
    assert not alice.store.exists()
    assert set(system_log.reasons()) == {"not_enrolled"}
    assert any("there was no first factor" in line for line in system_log.ours())


@pytest.mark.parametrize("key", ["before", "behind"])
def test_sshd__with_key_and_password_enrols_before_later_modules(
    mounts: PrivateMounts, installed: Installation, alice: Person, key: str
) -> None:
    """sshd reaches the account phase as soon as PAM has accepted, so PAM must be asked last."""
    methods = ["publickey", "keyboard-interactive:pam"]
    order = ",".join(methods if key == "before" else reversed(methods))
    host = SSH(mounts, password=True, settings=f"AuthenticationMethods {order}\n")
    try:
        host.use_stack(lines(installed))
        with arrival(host, alice) as visit:
            assert not visit.entered_as, visit
            assert ("otpauth" in visit.screen) is (key == "behind")
        assert (alice.store / "tokens").exists() is (key == "behind")
    finally:
        host.close()


@pytest.mark.parametrize("host", ["su with password", "login with password", "sshd with password"], indirect=True)
def test_newcomer__is_not_let_in_without_the_account_line(
    host: Host, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    host.use_stack(installed.line("enrol"))
    visit = host.log_in(alice, "000000")
    assert not visit.entered_as, visit
    assert "result=denied reason=not_enrolled" in system_log.ours()[-1]
    assert any("has no account line with this module" in line for line in system_log.ours())


@pytest.mark.parametrize("host", ["sudo with password"], indirect=True)
def test_sudo__which_shows_no_messages_enrols_nobody(
    host: Host, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    host.use_stack(lines(installed))
    visit = host.log_in(alice, "000000")
    assert not visit.entered_as, visit
    assert visit.prompts == ["password", "code"]
    assert system_log.reasons() == ["not_enrolled"]
    host.use_stack(lines(installed, "nullok"))
    assert host.log_in(alice).entered_as == "root"


@pytest.mark.lockout(
    "a user is to enrol in the login, and /proc is not mounted",
    shows="it cannot be seen which program asks; is /proc mounted?",
    cure="mount -t proc proc /proc",
)
@pytest.mark.parametrize("host", ["su with password"], indirect=True)
def test_newcomer__without_proc_is_refused_and_enrols_when_it_is_mounted(
    host: Host, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    host.use_stack(lines(installed))
    subprocess.run(host.mounts.command("umount", "--lazy", "/proc"), check=True)
    with arrival(host, alice) as visit:
        assert not visit.entered_as, visit
    assert "it cannot be seen which program asks; is /proc mounted?" in system_log.ours()[0]
    assert system_log.reasons() == ["not_enrolled"]
    subprocess.run(host.mounts.command("mount", "-t", "proc", "proc", "/proc"), check=True)
    with arrival(host, alice) as visit:
        assert visit.entered_as == alice.name, visit
    code = visit.phone_with_codes.totp(1)
    assert [host.log_in(alice, code).entered_as for _ in range(2)] == [alice.name, ""]


@pytest.mark.parametrize("host", ROOMS, indirect=True)
def test_newcomer__with_three_wrong_codes_is_refused_and_not_enrolled(
    host: Host, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    host.use_stack(lines(installed))
    with arrival(host, alice, "", "12345", "not a code", "") as visit:
        assert not visit.entered_as, visit
        assert "2 left to try" in visit.screen
        assert "1 left to try" in visit.screen
        assert "Not enrolled; nothing was changed." in visit.screen
    detail = "no code of the new token in 3 answers"
    assert account_line(host, alice, "denied", "enrolment", detail=detail) in system_log.ours()
    assert not alice.store.exists()


@pytest.mark.parametrize("until", [NEW_CODE, ENTER], ids=["at the code", "at the recovery codes"])
@pytest.mark.parametrize("host", ROOMS, indirect=True)
@pytest.mark.lockout("the connection is lost during the enrolment in a login")
@pytest.mark.claim("Whatever ends an enrolment in the login leaves the user enrolled or as before.")
def test_newcomer__that_hangs_up_is_not_enrolled(
    host: Host, installed: Installation, alice: Person, system_log: SystemLog, until: int
) -> None:
    host.use_stack(lines(installed))
    with arrival(host, alice, until=until) as visit:
        assert visit.terminal.pid is not None
        os.kill(visit.terminal.pid, signal.SIGHUP)
    wait_for_end_of_backend(installed)
    assert not alice.store.exists()
    assert "enrolled" not in system_log.reasons()
    with arrival(host, alice) as visit:
        assert visit.entered_as == alice.name, visit


@pytest.mark.parametrize("host", ["sshd with password"], indirect=True)
def test_newcomers__two_at_once_get_one_token(
    host: Host, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    host.use_stack(lines(installed))
    with arrival(host, alice, until=ENTER) as slow:
        with arrival(host, alice) as quick:
            assert quick.entered_as == alice.name, quick
        slow.press_enter()
        slow.go_on(host, alice, password=alice.password)
        assert not slow.entered_as, slow
        assert "Not enrolled; nothing was changed." in slow.screen
    wait_until(lambda: len(system_log.reasons()) == 4, "both are logged")
    detail = "somebody has enrolled the user meanwhile"
    assert system_log.ours()[-1] == account_line(host, alice, "denied", "enrolment", detail=detail)
    assert host.log_in(alice, quick.phone_with_codes.totp(1)).entered_as == alice.name


@pytest.mark.parametrize("host", ["sshd with password"], indirect=True)
def test_newcomer__at_an_ascii_terminal_sees_the_key_as_text(
    host: Host, installed: Installation, alice: Person
) -> None:
    host.use_stack(lines(installed))
    with arrival(host, alice, locale="C") as visit:
        assert visit.entered_as == alice.name, visit
        assert "Key:  " in visit.screen
