"""A clock that jumps: nothing old is accepted, and the log says what is wrong and by how much."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES, Clock, Pam, oathtool
from tests.support.pam_waiting import Waiting
from tests.support.process import processes
from tests.support.system_log import SystemLog

PERIOD_S = 30
STEP = 56_666_666
DAY_S, YEAR_S = 86_400, 31_536_000
JUMPS_S = [1, 29, 30, 31, 59, 60, 61, 90, 600, 3600, DAY_S, 30 * DAY_S, YEAR_S]


@pytest.fixture
def service(pam: Pam, clock: Clock) -> Service:
    """A service by whose clock it is the start of a time step."""
    clock.set(STEP * PERIOD_S)
    return pam.with_backend(clock.backend)


@pytest.mark.parametrize("jump_s", [*JUMPS_S, *(-jump_s for jump_s in JUMPS_S)])
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
def test_clock__that_went_on_while_a_login_was_stopped_takes_a_code_of_now(
    pam: Pam, alice: Person, phone: Phone, clock: Clock
) -> None:
    """As when a laptop sleeps at a prompt: all processes stand still for eight hours, and the clock does not."""
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


@pytest.mark.parametrize("back_s", [120, 3600, DAY_S, YEAR_S, STEP * PERIOD_S], ids=lambda back_s: f"{back_s} s")
def test_clock__set_back_is_told_in_the_log_with_how_much(
    installed: Installation, service: Service, alice: Person, clock: Clock, system_log: SystemLog, back_s: int
) -> None:
    """The last one is a machine that has started without a clock, in 1970."""
    phone = alice.enrol(installed, NO_CODES)
    used, following = oathtool(phone, STEP, 2)
    assert service.log_in(alice, used).result == PAM_SUCCESS
    clock.set(STEP * PERIOD_S - back_s)
    (shown_there,) = oathtool(phone, STEP - back_s // PERIOD_S)
    assert service.log_in(alice, shown_there).result == PAM_AUTH_ERR
    assert system_log.outcomes()[-1]["detail"] == f"\"the token's clock seems {back_s} s ahead of this machine's\""
    clock.set((STEP + 1) * PERIOD_S)
    assert service.log_in(alice, following).result == PAM_SUCCESS, "and with the clock right again, all is well"


@pytest.mark.parametrize(("steps", "side"), [(4, "ahead of"), (-4, "behind"), (100, "ahead of"), (-100, "behind")])
def test_clock__of_an_app_that_is_off_is_told_in_the_log_with_how_much(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog, steps: int, side: str
) -> None:
    (code,) = oathtool(alice.enrol(installed, NO_CODES), STEP + steps)
    assert service.log_in(alice, code).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["mismatch"]
    detail = f"\"the token's clock seems {abs(steps) * PERIOD_S} s {side} this machine's\""
    assert system_log.outcomes()[-1]["detail"] == detail
