"""Log in with a jumping clock: nothing old is accepted, and the log says what is wrong and by how much."""

from __future__ import annotations

import os
import signal

import pytest

from pam_softtoken.errors import in_words
from tests.support.account import Person, Phone
from tests.support.admin import Admin, succeeded
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES, Clock, Pam, lock_out, oathtool, read_state, rewrite_state, steady_step
from tests.support.pam_waiting import Waiting
from tests.support.process import processes
from tests.support.system_log import SystemLog

PERIOD_S = 30
STEP = 66_666_660
"""A time in 2033. A clock before the day of this version counts as never set."""
DAY_S, YEAR_S = 86_400, 31_536_000
JUMPS_S = [1, 29, 30, 31, 59, 60, 61, 90, 600, 3600, DAY_S, 30 * DAY_S, YEAR_S]


@pytest.fixture
def service(pam: Pam, clock: Clock) -> Service:
    """A service whose clock is at the start of a time step."""
    clock.set(STEP * PERIOD_S)
    return pam.with_backend(clock.backend)


@pytest.mark.parametrize("jump_s", [*JUMPS_S, *(-jump_s for jump_s in JUMPS_S)])
@pytest.mark.claim(
    "A clock that jumps, by a second or a year, brings nothing old back, and the log says by how much it is off."
)
@pytest.mark.sampled(0.4)
def test_clock__jump_brings_nothing_old_back(
    installed: Installation, service: Service, alice: Person, clock: Clock, jump_s: int
) -> None:
    phone = alice.enrol(installed, NO_CODES)
    (used,) = oathtool(phone, STEP)
    assert service.log_in(alice, used).result == PAM_SUCCESS
    clock.set(STEP * PERIOD_S + jump_s)
    there = STEP + jump_s // PERIOD_S
    for step in range(there - 1, there + 2):
        (code,) = oathtool(phone, step)
        expected = PAM_SUCCESS if step > STEP else PAM_AUTH_ERR
        assert service.log_in(alice, code).result == expected, f"the code of step {step - STEP:+}"
        assert service.log_in(alice, code).result == PAM_AUTH_ERR
    assert service.log_in(alice, used).result == PAM_AUTH_ERR


@pytest.mark.lockout("the host is suspended while a login waits for its code")
def test_clock__after_a_suspended_login_the_present_code_is_accepted(
    pam: Pam, alice: Person, phone: Phone, clock: Clock
) -> None:
    """As when a laptop sleeps at a prompt: all processes stop for eight hours, but the clock does not."""
    step = 5_800_000
    clock.set(step * 300)
    with Waiting(pam.with_backend(clock.backend), alice) as login:
        login.wait_for_prompt()
        asleep = [login.pid, *(each.pid for each in processes() if str(clock.backend) in each.command)]
        assert len(asleep) > 1
        for pid in asleep:
            os.kill(pid, signal.SIGSTOP)
        clock.set((step + 96) * 300)
        for pid in asleep:
            os.kill(pid, signal.SIGCONT)
        assert login.answer(*oathtool(phone, step + 96)).result == PAM_SUCCESS


@pytest.mark.lockout("a clock is set back by a year, and right again")
@pytest.mark.parametrize("back_s", [180, 3600, DAY_S, YEAR_S], ids=lambda back_s: f"{back_s} s")
@pytest.mark.claim(
    "A clock that jumps, by a second or a year, brings nothing old back, and the log says by how much it is off."
)
def test_clock__log_says_by_how_much_it_was_set_back(
    installed: Installation, service: Service, alice: Person, clock: Clock, system_log: SystemLog, back_s: int
) -> None:
    """An app that agrees with the clock shows that the record is wrong. After any other code, either can be wrong."""
    phone = alice.enrol(installed, NO_CODES)
    used, following = oathtool(phone, STEP, 2)
    assert service.log_in(alice, used).result == PAM_SUCCESS
    clock.set(STEP * PERIOD_S - back_s)
    later = in_words(back_s)
    (shown_there,) = oathtool(phone, STEP - back_s // PERIOD_S)
    assert service.log_in(alice, shown_there).result == PAM_AUTH_ERR
    said = system_log.outcomes()[-1]
    assert said["reason"] == "replayed"
    assert f"the record is from the future: a code of {later} later was accepted" in said["detail"]
    assert f"softtoken-admin reset-state {alice.name}" in said["detail"]
    (far_away,) = oathtool(phone, STEP + 9 * 2880)
    assert service.log_in(alice, far_away).result == PAM_AUTH_ERR
    said = system_log.outcomes()[-1]
    assert said["reason"] == "mismatch"
    assert f"a code of {later} later was accepted" in said["detail"]
    assert "set a clock that is wrong now" in said["detail"]
    clock.set((STEP + 1) * PERIOD_S)
    assert service.log_in(alice, following).result == PAM_SUCCESS, "and with the clock right again, all is well"


@pytest.mark.lockout(
    "a machine starts without a clock, in 1970",
    shows="this machine's clock says 1970",
    cure="timedatectl set-time",
)
def test_clock__of_1970_is_named_in_the_log_until_it_is_set(
    installed: Installation, service: Service, alice: Person, clock: Clock, system_log: SystemLog
) -> None:
    phone = alice.enrol(installed, NO_CODES)
    used, shown, following = oathtool(phone, STEP, 3)
    assert service.log_in(alice, used).result == PAM_SUCCESS
    clock.set(2 * DAY_S)
    for code in (shown, following):  # two codes in a row cannot bring it back either
        assert service.log_in(alice, code).result == PAM_AUTH_ERR
        said = system_log.outcomes()[-1]
        assert said["reason"] == "mismatch"
        assert "this machine's clock says 1970-01-03, so no code of an app is right" in said["detail"]
        assert "timedatectl set-time" in said["detail"]
    clock.set((STEP + 1) * PERIOD_S)
    assert service.log_in(alice, shown).result == PAM_SUCCESS


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("hotp", marks=pytest.mark.lockout("a machine starts in 1970, and the token counts")),
        pytest.param("recovery", marks=pytest.mark.lockout("a machine starts in 1970, and there is a recovery code")),
    ],
)
def test_clock__of_1970_accepts_hotp_and_recovery_codes(
    installed: Installation, service: Service, alice: Person, clock: Clock, kind: str
) -> None:
    phone = alice.enrol(installed, *(("--type=hotp", NO_CODES) if kind == "hotp" else ("--recovery-codes=2",)))
    for now in (2 * DAY_S, STEP * PERIOD_S):
        clock.set(now)
        code = phone.hotp() if kind == "hotp" else phone.recovery_codes.pop()
        assert service.log_in(alice, code).result == PAM_SUCCESS
        assert service.log_in(alice, code).result == PAM_AUTH_ERR


@pytest.mark.lockout(
    "a code is accepted while the clock is days ahead",
    shows="the record is from the future",
    cure="softtoken-admin reset-state USER",
)
@pytest.mark.claim(
    "A clock that was wrong keeps the owner out afterwards only because of a code that was accepted then,"
    " and the log says so, with what helps."
)
def test_clock__record_from_the_future_ends_with_reset_state(
    installed: Installation, pam: Pam, alice: Person, standing_clock: Clock, system_log: SystemLog
) -> None:
    phone = alice.enrol(installed, "--period=300", NO_CODES)
    step = steady_step(300)
    ahead = step + 3 * 288
    standing_clock.set(ahead * 300)
    assert pam.with_backend(standing_clock.backend).log_in(alice, oathtool(phone, ahead)[0]).result == PAM_SUCCESS
    service = pam.service("window=3")
    for code in oathtool(phone, step, 2):
        assert service.log_in(alice, code).result == PAM_AUTH_ERR
        said = system_log.outcomes()[-1]
        assert "the record is from the future: a code of 3 d later was accepted" in said["detail"]
    command = said["detail"].strip('"').partition("softtoken-admin ")[2].split()
    done = Admin(installed).run(*command, "--yes")
    assert succeeded(done) == ""
    assert "Codes were accepted of up to 3 d later than now." in done.stderr
    assert "If that is wrong, set it first" in done.stderr
    # A service with a wider window need not wait until the present codes have expired.
    assert service.log_in(alice, oathtool(phone, step + 2)[0]).result == PAM_SUCCESS


@pytest.mark.lockout(
    "a code is accepted while the clock is days ahead, and strangers guess since",
    shows="the record is from the future",
    cure="softtoken-admin reset-state USER",
)
def test_clock__record_from_the_future_is_logged_during_a_wait(
    installed: Installation, pam: Pam, alice: Person, system_log: SystemLog
) -> None:
    """During a wait, two codes in a row let nobody in."""
    phone = alice.enrol(installed, "--period=300", NO_CODES)
    step = steady_step(300)
    (name,) = read_state(alice).last
    rewrite_state(alice, lambda present: present.with_last(name, step + 3 * 288))
    lock_out(alice)
    service = pam.service("window=3")
    for code in oathtool(phone, step, 2):
        assert service.log_in(alice, code).result == PAM_AUTH_ERR
        said = system_log.outcomes()[-1]
        assert said["reason"] == "throttled"
        assert "the record is from the future" in said["detail"]
    assert succeeded(Admin(installed).run("reset-state", alice.name, "--yes")) == ""
    assert service.log_in(alice, oathtool(phone, step + 2)[0]).result == PAM_SUCCESS


@pytest.mark.parametrize(("steps", "side"), [(4, "ahead of"), (-4, "behind"), (100, "ahead of"), (-100, "behind")])
def test_clock__log_says_by_how_much_the_clock_of_an_app_is_off(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog, steps: int, side: str
) -> None:
    (code,) = oathtool(alice.enrol(installed, NO_CODES), STEP + steps)
    assert service.log_in(alice, code).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["mismatch"]
    detail = f"\"the token's clock seems {abs(steps) * PERIOD_S} s {side} this machine's\""
    assert system_log.outcomes()[-1]["detail"] == detail
