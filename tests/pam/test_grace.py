"""Check the grace time after a code: for the same source and service, and for no source that is only claimed."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Sequence

import pytest

from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Outcome, Service
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES, PROMPT, Clock, Pam, set_pin
from tests.support.system_log import SystemLog

HERE, THERE = "--item=rhost=192.0.2.7", "--item=rhost=2001:db8::7"
LETS_IN_UNASKED: tuple[int, list[object]] = (PAM_SUCCESS, [])


@pytest.fixture
def phone(installed: Installation, alice: Person) -> Phone:
    """A token that counts."""
    return alice.enrol(installed, "--type=hotp", NO_CODES)


def _unasked(service: Service, person: Person, *options: str) -> bool:
    """Try without an answer, and return whether none was needed."""
    outcome = service.log_in(person, options=options)
    if (outcome.result, outcome.messages) == LETS_IN_UNASKED:
        return True
    assert outcome.result != PAM_SUCCESS
    assert outcome.messages == PROMPT
    return False


def test_grace__is_off_by_default(pam: Pam, alice: Person, phone: Phone) -> None:
    service = pam.service()
    assert service.log_in(alice, phone.hotp(), options=[HERE]).result == PAM_SUCCESS
    assert not _unasked(service, alice, HERE)


@pytest.mark.lockout("the time of grace is over")
def test_grace__asks_an_address_for_one_code_until_it_is_over(
    pam: Pam, alice: Person, phone: Phone, clock: Clock, system_log: SystemLog
) -> None:
    service = pam.with_backend(clock.backend, "grace=8h")
    now = 1_740_000_000
    clock.set(now)
    assert not _unasked(service, alice, HERE)
    assert service.log_in(alice, phone.hotp(), options=[HERE]).result == PAM_SUCCESS
    for elapsed_s, is_over in ((0, False), (8 * 3600 - 1, False), (8 * 3600, True), (-1, True)):
        clock.set(now + elapsed_s)
        assert _unasked(service, alice, HERE) != is_over
    assert not _unasked(service, alice, THERE)
    clock.set(now + 8 * 3600)
    assert service.log_in(alice, phone.hotp(), options=[HERE]).result == PAM_SUCCESS
    reasons = [line for line in system_log.reasons() if line != "conversation"]
    assert reasons == ["accepted", "grace", "grace", "accepted"]


def test_grace__is_not_made_longer_by_itself(pam: Pam, alice: Person, phone: Phone, clock: Clock) -> None:
    service = pam.with_backend(clock.backend, "grace=60s")
    clock.set(1_740_000_000)
    assert service.log_in(alice, phone.hotp(), options=[HERE]).result == PAM_SUCCESS
    clock.set(1_740_000_059)
    assert _unasked(service, alice, HERE)
    clock.set(1_740_000_061)
    assert not _unasked(service, alice, HERE)


@pytest.mark.claim(
    "No jump of the clock makes a time of grace or an issued code last longer as long as the machine runs."
)
def test_grace__gets_no_longer_when_the_clock_is_set_back(
    pam: Pam, alice: Person, phone: Phone, standing_clock: Clock
) -> None:
    """The clock is set back by three hours after four. The grace still ends after eight."""
    service = pam.with_backend(standing_clock.backend, "grace=8h")
    now = 1_740_000_000
    standing_clock.set(now)
    assert service.log_in(alice, phone.hotp(), options=[HERE]).result == PAM_SUCCESS
    standing_clock.set(now + 3600)
    standing_clock.run_for(4 * 3600)
    assert _unasked(service, alice, HERE)
    standing_clock.run_for(8 * 3600)
    assert not _unasked(service, alice, HERE)


def test_grace__ends_with_a_restart(pam: Pam, alice: Person, phone: Phone, standing_clock: Clock) -> None:
    """After a restart, the elapsed time is unknown."""
    service = pam.with_backend(standing_clock.backend, "grace=8h")
    assert service.log_in(alice, phone.hotp(), options=[HERE]).result == PAM_SUCCESS
    assert _unasked(service, alice, HERE)
    standing_clock.run_for(0, started="f" * 32)
    assert not _unasked(service, alice, HERE)


def test_grace__comes_of_no_wrong_code(pam: Pam, alice: Person, phone: Phone) -> None:
    service = pam.service("grace=8h")
    assert service.log_in(alice, "00000000", options=[HERE]).result == PAM_AUTH_ERR
    assert not _unasked(service, alice, HERE)


@pytest.mark.parametrize("rhost", ["host.example", "192.0.2.7.example", "localhost", "UNKNOWN", "192.0.2.7%eth0", " "])
@pytest.mark.claim("A time of grace is not for a source that is only claimed, and not for another session.")
def test_grace__is_not_for_a_name_that_its_owner_chose(pam: Pam, alice: Person, phone: Phone, rhost: str) -> None:
    service = pam.service("grace=8h")
    assert service.log_in(alice, phone.hotp(), options=[f"--item=rhost={rhost}"]).result == PAM_SUCCESS
    assert not _unasked(service, alice, f"--item=rhost={rhost}")


@pytest.mark.claim("A time of grace is not for a source that is only claimed, and not for another session.")
def test_grace__is_not_for_a_host_without_root_which_can_claim_any_source(
    pam: Pam, alice: Person, phone: Phone
) -> None:
    service = pam.service("grace=8h")
    assert service.log_in(alice, phone.hotp(), run_as=alice, options=[HERE]).result == PAM_SUCCESS
    assert not _unasked(service, alice, HERE)
    assert service.log_in(alice, phone.hotp(), options=[HERE]).result == PAM_SUCCESS
    assert service.log_in(alice, run_as=alice, options=[HERE]).messages == PROMPT


def test_grace__is_not_for_an_address_that_a_user_gave_to_a_set_uid_host(pam: Pam, alice: Person, phone: Phone) -> None:
    service = pam.service("grace=8h")
    for caller, code, unasked in (("nobody", phone.hotp(), False), ("", phone.hotp(), True), ("nobody", "", False)):
        scripts = [f"={code}\n" if code else "", ""]
        *_, last = _in_one_session(service, alice, *scripts, caller=caller, options=[HERE])
        assert (last.result == PAM_SUCCESS) == unasked, caller


@pytest.mark.parametrize("hidden", ["/proc", "/proc/sys/kernel/random"])
def test_grace__is_not_for_a_session_whose_owner_the_kernel_does_not_tell(
    pam: Pam, alice: Person, phone: Phone, hidden: str
) -> None:
    service = pam.service("grace=8h")
    around = ["unshare", "--mount", "sh", "-c", f'mount -t tmpfs none {hidden} && exec "$@"', "sh"]
    first, second = _in_one_session(service, alice, f"={phone.hotp()}\n", "", around=around)
    assert first.result == PAM_SUCCESS
    assert (second.result == PAM_SUCCESS, second.messages) == (False, PROMPT)


def test_grace__is_for_one_service(pam: Pam, installed: Installation, alice: Person, phone: Phone) -> None:
    service = pam.service("grace=8h")
    assert service.log_in(alice, phone.hotp(), options=[HERE]).result == PAM_SUCCESS
    (service.directory / service.name).rename(service.directory / "another")
    service.name = "another"
    assert not _unasked(service, alice, HERE)


def test_grace__is_for_one_user(
    pam: Pam, installed: Installation, alice: Person, phone: Phone, make_person: object
) -> None:
    bob = make_person()  # type: ignore[operator]
    bob.enrol(installed, NO_CODES)
    service = pam.service("grace=8h")
    assert service.log_in(alice, phone.hotp(), options=[HERE]).result == PAM_SUCCESS
    assert not _unasked(service, bob, HERE)


def _in_one_session(
    service: Service,
    person: Person,
    *scripts: str,
    caller: str = "nobody",
    options: Sequence[str] = (),
    around: Sequence[str] = (),
) -> list[Outcome]:
    """Run local login attempts, one after the other, in a separate login session.

    Args:
        scripts: the answers of each attempt.
        caller: the user who runs the host, which is then set-uid; empty for root.
        options: further options of the client.
        around: a command that runs the host.
    """
    words = [*around, *(["setpriv", f"--ruid={caller}"] if caller else []), *service.command(person, *options)]
    command = shlex.join(words)
    lines = "".join(f"printf '{script}' | {command}; " for script in scripts)
    done = subprocess.run(["setsid", "--wait", "sh", "-c", lines], check=False, capture_output=True, text=True)
    return [Outcome(line) for line in done.stdout.splitlines()]


@pytest.mark.claim("A time of grace is not for a source that is only claimed, and not for another session.")
def test_grace__of_a_local_session_is_not_that_of_the_next(pam: Pam, alice: Person, phone: Phone) -> None:
    service = pam.service("grace=8h")
    first, second = _in_one_session(service, alice, f"={phone.hotp()}\n", "")
    assert (first.result, second.result, second.messages) == (PAM_SUCCESS, PAM_SUCCESS, [])
    (other,) = _in_one_session(service, alice, "")
    assert (other.result == PAM_SUCCESS, other.messages) == (False, PROMPT)


def test_grace__of_a_local_session_is_not_for_another_user_in_it(pam: Pam, alice: Person, phone: Phone) -> None:
    """A user who ran `su` with a code may later run another user's program in the same session."""
    service = pam.service("grace=8h")
    here = service.command(alice)
    callers = [shlex.join(["setpriv", f"--ruid={caller}", *here]) for caller in ("nobody", "daemon", "nobody")]
    lines = "".join(
        f"printf '{script}' | {command}; "
        for script, command in zip((f"={phone.hotp()}\n", "", ""), callers, strict=True)
    )
    done = subprocess.run(["setsid", "--wait", "sh", "-c", lines], check=False, capture_output=True, text=True)
    first, other, again = [Outcome(line) for line in done.stdout.splitlines()]
    assert (first.result, again.result) == (PAM_SUCCESS, PAM_SUCCESS)
    assert (other.result == PAM_SUCCESS, other.messages) == (False, PROMPT)


def test_grace__of_a_local_session_knows_no_terminal(pam: Pam, alice: Person, phone: Phone) -> None:
    """The same terminal name in another session can belong to another user."""
    service = pam.service("grace=8h")
    for _ in range(2):
        outcome = service.log_in(alice, phone.hotp(), options=["--item=tty=/dev/tty1"])
        assert outcome.result == PAM_SUCCESS
        (other,) = _in_one_session(service, alice, "")
        assert other.messages == PROMPT


def test_grace__is_not_for_a_daemon_of_root_that_names_no_source(pam: Pam, alice: Person, phone: Phone) -> None:
    """Such a daemon would have one session for all users that it serves, from anywhere."""
    service = pam.service("grace=8h")
    first, second = _in_one_session(service, alice, f"={phone.hotp()}\n", "", caller="")
    assert first.result == PAM_SUCCESS
    assert (second.result == PAM_SUCCESS, second.messages) == (False, PROMPT)


def test_grace__of_a_local_session_is_not_for_a_program_of_the_users_own(pam: Pam, alice: Person, phone: Phone) -> None:
    """Such a program can use the name of any service."""
    service = pam.service("grace=8h")
    own = ("setpriv", f"--reuid={alice.uid}", f"--regid={alice.gid}", "--clear-groups")
    first, second = _in_one_session(service, alice, f"={phone.hotp()}\n", "", caller="", around=own)
    assert first.result == PAM_SUCCESS
    assert (second.result == PAM_SUCCESS, second.messages) == (False, PROMPT)


@pytest.mark.parametrize("options", [("--force",), ("--force", "--type=hotp")], ids=" ".join)
def test_grace__ends_when_the_token_is_replaced(
    pam: Pam, installed: Installation, alice: Person, phone: Phone, options: tuple[str, ...]
) -> None:
    service = pam.service("grace=8h")
    assert service.log_in(alice, phone.hotp(), options=[HERE]).result == PAM_SUCCESS
    assert _unasked(service, alice, HERE)
    alice.enrol(installed, NO_CODES, *options)
    assert not _unasked(service, alice, HERE)


def test_grace__needs_no_pin_but_an_enrolment(pam: Pam, alice: Person, phone: Phone) -> None:
    set_pin(alice.store / "tokens", "4711")
    service = pam.service("grace=8h")
    assert service.log_in(alice, "4711" + phone.hotp(), options=[HERE]).result == PAM_SUCCESS
    assert _unasked(service, alice, HERE)
    (alice.store / "tokens").unlink()
    assert not _unasked(service, alice, HERE)


def test_grace__does_not_skip_the_question_for_the_password(
    installed: Installation, pam: Pam, alice: Person, phone: Phone
) -> None:
    last = "auth required pam_unix.so use_first_pass nodelay\n"
    service = pam.stack(installed.line("grace=8h", "forward_pass") + last)
    for _ in range(2):
        outcome = service.log_in(alice, alice.password + phone.hotp(), options=[HERE])
        assert (outcome.result, outcome.prompts) == (PAM_SUCCESS, ["Password & verification code: "])


def test_grace__leaves_the_password_of_an_earlier_module_to_the_next(
    installed: Installation, pam: Pam, alice: Person, phone: Phone
) -> None:
    first, last = "auth optional pam_unix.so nodelay\n", "auth required pam_unix.so use_first_pass nodelay\n"
    service = pam.stack(first + installed.line("grace=8h", "use_first_pass", "forward_pass") + last)
    assert service.log_in(alice, alice.password + phone.hotp(), options=[HERE]).result == PAM_SUCCESS
    assert service.log_in(alice, alice.password, options=[HERE]).result == PAM_SUCCESS
    assert service.log_in(alice, alice.password + "x", options=[HERE]).result != PAM_SUCCESS
