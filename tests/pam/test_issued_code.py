"""Log in with a code that an administrator has issued, through the real module: once, in its time, never by an old
file.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.account import Person, Phone
from tests.support.admin import Admin, refused, succeeded
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, TEXT_INFO, Service
from tests.support.disk import disk_as_home
from tests.support.enroller import CODE_PROMPT, TOKEN_PROMPT, Enroller
from tests.support.installation import Installation
from tests.support.leak import keep
from tests.support.pam_scene import NO_CODES, Clock, Pam, lock_out, oathtool, set_pin
from tests.support.pam_waiting import Waiting
from tests.support.process import when_left
from tests.support.system_log import SystemLog

DAY_S = 24 * 60 * 60


@pytest.fixture
def issue(installed: Installation) -> Callable[..., str]:
    """Issue a code as an administrator."""
    admin = Admin(installed)

    def issue(person: Person, *, valid: str = "1h") -> str:
        return keep(succeeded(admin.run("code-for", person.name, f"--for={valid}")).strip())

    return issue


def put(path: Path, data: bytes, owner: Person) -> None:
    """Restore a file from a backup."""
    path.write_bytes(data)
    path.chmod(0o600)
    os.chown(path, owner.uid, owner.gid)


@pytest.mark.claim("An issued code works once and in its time only, and no older token file brings it back.")
def test_issued_code__works_once_and_says_so(
    service: Service, alice: Person, phone: Phone, issue: Callable[..., str], system_log: SystemLog
) -> None:
    code = issue(alice)
    outcome = service.log_in(alice, code.lower().replace("-", " "))
    assert outcome.result == PAM_SUCCESS
    assert outcome.messages[1:] == [(TEXT_INFO, "Code of the administrator accepted; it cannot be used again.")]
    assert service.log_in(alice, code).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["issued", "replayed"]


def test_issued_code__is_no_guess_when_it_is_typed_again(
    service: Service, alice: Person, phone: Phone, issue: Callable[..., str]
) -> None:
    code = issue(alice)
    assert service.log_in(alice, code).result == PAM_SUCCESS
    for _ in range(7):
        assert service.log_in(alice, code).result == PAM_AUTH_ERR
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS


ANOTHER_START = "f" * 32


@pytest.mark.parametrize(
    ("clock_s", "run_s", "started", "reason"),
    [
        (59 * 60, 0, "this", "issued"),
        (3601, 0, "this", "expired"),
        (10**9, 0, "this", "expired"),
        pytest.param(
            -DAY_S, 58 * 60, "this", "issued",
            marks=pytest.mark.lockout("a code is issued, and the clock is set back by a day"),
        ),
        (-DAY_S, 3601, "this", "expired"),
        pytest.param(
            59 * 60, 0, ANOTHER_START, "issued",
            marks=pytest.mark.lockout("a code is issued, and the machine is restarted"),
        ),
        (3601, 0, ANOTHER_START, "expired"),
        (-DAY_S, 0, ANOTHER_START, "expired"),
    ],
)  # fmt: skip
@pytest.mark.claim("An issued code works once and in its time only, and no older token file brings it back.")
@pytest.mark.claim(
    "No jump of the clock makes a time of grace or an issued code last longer as long as the machine runs."
)
def test_issued_code__works_in_its_time_only(
    pam: Pam,
    standing_clock: Clock,
    alice: Person,
    phone: Phone,
    issue: Callable[..., str],
    system_log: SystemLog,
    clock_s: int,
    run_s: int,
    started: str,
    reason: str,
) -> None:
    """Its time is measured by the clock and, while the machine runs, by the time since boot. No jump extends it."""
    code = issue(alice)
    standing_clock.set(time.time() + clock_s)
    standing_clock.run_for(run_s, started=started)
    assert (pam.with_backend(standing_clock.backend).log_in(alice, code).result == PAM_SUCCESS) == (reason == "issued")
    assert system_log.reasons() == [reason]
    told = "by this machine's clock the code is issued in" in system_log.outcomes()[-1].get("detail", "")
    assert told == (clock_s < 0 and started != "this")


@pytest.mark.lockout("a code is issued, the clock jumps ahead by a year and back")
def test_issued_code__does_not_expire_by_a_jump_of_the_clock_and_back(
    pam: Pam, standing_clock: Clock, alice: Person, phone: Phone, issue: Callable[..., str], system_log: SystemLog
) -> None:
    code = issue(alice)
    service = pam.with_backend(standing_clock.backend)
    standing_clock.set(time.time() + 365 * DAY_S)
    assert service.log_in(alice, code).result == PAM_AUTH_ERR
    standing_clock.set(time.time())
    assert service.log_in(alice, code).result == PAM_SUCCESS
    assert service.log_in(alice, code).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["expired", "issued", "replayed"]


def test_issued_code__of_a_clock_that_was_ahead_is_not_valid_once_more_when_its_time_comes(
    pam: Pam, standing_clock: Clock, alice: Person, phone: Phone, issue: Callable[..., str]
) -> None:
    """The machine's clock is a year behind the clock at the time of issue, and the app's code shows that."""
    code = issue(alice)
    service = pam.with_backend(standing_clock.backend)
    now = time.time() - 365 * DAY_S
    standing_clock.set(now)
    standing_clock.run_for(0, started=ANOTHER_START)
    assert service.log_in(alice, oathtool(phone, int(now) // 300)[0]).result == PAM_SUCCESS
    standing_clock.set(time.time())
    assert service.log_in(alice, code).result == PAM_AUTH_ERR


def test_issued_code__new_one_replaces_it(
    service: Service, alice: Person, phone: Phone, issue: Callable[..., str], system_log: SystemLog
) -> None:
    first, second = issue(alice), issue(alice)
    assert service.log_in(alice, first).result == PAM_AUTH_ERR
    assert service.log_in(alice, second).result == PAM_SUCCESS
    assert system_log.reasons() == ["mismatch", "issued"]


@pytest.mark.claim("An issued code works once and in its time only, and no older token file brings it back.")
def test_issued_code__older_token_file_revives_no_used_or_revoked_one(
    installed: Installation, service: Service, alice: Person, phone: Phone, issue: Callable[..., str]
) -> None:
    backup = (alice.store / "tokens").read_bytes()
    code = issue(alice)
    assert service.log_in(alice, code).result == PAM_SUCCESS
    put(alice.store / "tokens", backup, alice)
    assert service.log_in(alice, code).result == PAM_AUTH_ERR
    dead = issue(alice)
    during = (alice.store / "tokens").read_bytes()
    assert succeeded(Admin(installed).run("revoke", alice.name, "--yes")) == ""
    put(alice.store / "tokens", during, alice)
    assert service.log_in(alice, dead).result == PAM_AUTH_ERR


@pytest.mark.lockout(
    "the phone is lost and all recovery codes are used up",
    shows="reason=replayed",
    cure="softtoken-admin code-for alice --for 1h",
)
def test_issued_code__lets_in_and_enrol_when_all_recovery_codes_are_used_up(
    installed: Installation, alice: Person, service: Service, system_log: SystemLog
) -> None:
    (code,) = alice.enrol(installed, "--recovery-codes=1").recovery_codes
    assert service.log_in(alice, code).result == PAM_SUCCESS
    assert service.log_in(alice, code).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["recovery", "replayed"]
    issued = keep(succeeded(Admin(installed).run("code-for", alice.name, "--for", "1h")).strip())
    assert service.log_in(alice, issued).result == PAM_SUCCESS
    done = Enroller(installed.enroll).run("--force", "--no-confirm", "--json", "--period=300", NO_CODES, person=alice)
    assert service.log_in(alice, Phone(json.loads(done.stdout)).totp()).result == PAM_SUCCESS


def test_issued_code__a_lost_state_file_does_not_revive_it(
    service: Service, alice: Person, phone: Phone, issue: Callable[..., str]
) -> None:
    code = issue(alice)
    (alice.store / "state").unlink()
    assert service.log_in(alice, code).result == PAM_AUTH_ERR


def test_issued_code__dies_with_a_new_enrolment(
    installed: Installation, service: Service, alice: Person, phone: Phone, issue: Callable[..., str]
) -> None:
    code = issue(alice)
    fresh = alice.enrol(installed, "--force", "--period=300")
    assert service.log_in(alice, code).result == PAM_AUTH_ERR
    assert service.log_in(alice, fresh.totp()).result == PAM_SUCCESS


def test_issued_code__permits_to_enrol_one_more_token(
    installed: Installation, alice: Person, phone: Phone, issue: Callable[..., str]
) -> None:
    code = issue(alice)
    with Enroller(installed.enroll).start("--name=spare", person=alice) as dialogue:
        dialogue.expect(TOKEN_PROMPT)
        dialogue.type(code)
        dialogue.expect("That code cannot be used again.")
        dialogue.expect(CODE_PROMPT)
        dialogue.type(dialogue.phone().totp())
        assert dialogue.finish() == 0, dialogue.transcript


def test_issued_code__is_refused_and_kept_where_nothing_can_be_recorded(
    service: Service, installed: Installation, alice: Person, issue: Callable[..., str], system_log: SystemLog
) -> None:
    with disk_as_home(alice):
        alice.enrol(installed, "--recovery-codes=0")
        code = issue(alice)
        when_left("mount", "-o", "remount,ro", alice.home)
        assert service.log_in(alice, code).result == PAM_AUTH_ERR
        error, hint = refused(Admin(installed).run("code-for", alice.name, "--for=1h"))
        assert "Read-only" in error
        assert "mount -o remount,rw" in hint
        when_left("mount", "-o", "remount,rw", alice.home)
        assert service.log_in(alice, code).result == PAM_SUCCESS
    assert system_log.reasons() == ["not_stored", "issued"]


@pytest.mark.claim("An issued code works once and in its time only, and no older token file brings it back.")
def test_issued_code__at_many_prompts_lets_one_in(
    service: Service, alice: Person, phone: Phone, issue: Callable[..., str], system_log: SystemLog
) -> None:
    code = issue(alice)
    clients = [Waiting(service, alice, attempts=1) for _ in range(6)]
    try:
        for client in clients:
            client.write_down(code)
        for client in clients:
            client.wait_for_prompt()
        for client in clients:
            client.release()
        results = sorted(client.outcome().result for client in clients)
    finally:
        for client in clients:
            client.__exit__(None, None, None)
    assert results == [PAM_SUCCESS] + 5 * [PAM_AUTH_ERR]
    assert sorted(system_log.reasons()) == ["issued"] + 5 * ["replayed"]


def test_issued_code__gets_in_during_a_wait(
    service: Service, alice: Person, phone: Phone, issue: Callable[..., str], system_log: SystemLog
) -> None:
    code = issue(alice)
    lock_out(alice)
    assert service.log_in(alice, code).result == PAM_SUCCESS
    assert service.log_in(alice, code).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["issued", "replayed"]


def test_issued_code__takes_the_pin_in_front(
    service: Service, alice: Person, phone: Phone, issue: Callable[..., str]
) -> None:
    set_pin(alice.store / "tokens", "4711")
    code = issue(alice)
    assert service.log_in(alice, code).result == PAM_AUTH_ERR
    assert service.log_in(alice, "4712" + code).result == PAM_AUTH_ERR
    assert service.log_in(alice, "4711" + code).result == PAM_SUCCESS
