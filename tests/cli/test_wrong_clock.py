"""Run the programs with a wrong clock: check their messages, and that their records lock nobody out later."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.account import Person, Phone
from tests.support.admin import Admin, succeeded
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.enroller import CHECK_PROMPT, CODE_PROMPT, ENVIRONMENT, Enroller, Mistake
from tests.support.installation import Installation
from tests.support.leak import keep
from tests.support.pam_scene import NO_CODES, oathtool, read_state, rewrite_state, steady_step
from tests.support.preload import SET_CLOCK, compile_library

DAY_S = 24 * 60 * 60
STEPS_OF_A_DAY = 288
IN_1970 = 2 * DAY_S


class WrongClock:
    """A clock for programs that run with `environment`."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "clock"
        library = compile_library(directory / "set_clock.so", SET_CLOCK)
        self.environment = {**ENVIRONMENT, "LD_PRELOAD": str(library), "CLOCK_FILE": str(self._file)}

    def set(self, now: float) -> None:
        """Set the clock."""
        self._file.write_text(repr(now))
        self._file.chmod(0o644)


@pytest.fixture
def clock(outside: Path) -> WrongClock:
    """A clock that a test sets."""
    return WrongClock(outside)


@pytest.fixture
def phone(installed: Installation, alice: Person) -> Phone:
    """Alice's token and a recovery code."""
    return alice.enrol(installed, "--period=300", "--recovery-codes=1")


@pytest.fixture
def check(enroller: Enroller, alice: Person, clock: WrongClock) -> Callable[..., str]:
    """Check a code as Alice with that clock. Return what the terminal has shown."""

    def run(code: str) -> str:
        with enroller.start("--check", person=alice, environment=clock.environment) as dialogue:
            dialogue.expect(CHECK_PROMPT)
            dialogue.type(code)
            dialogue.finish()
            return dialogue.transcript

    return run


@pytest.mark.lockout(
    "a user checks a code while the clock says 1970",
    shows="this machine's clock says 1970",
    cure="timedatectl set-time",
)
def test_check__says_that_the_clock_was_never_set(
    check: Callable[..., str], clock: WrongClock, phone: Phone, alice: Person, service: Service
) -> None:
    clock.set(IN_1970)
    mistake = Mistake(check(phone.totp()))
    assert "this machine's clock says 1970-01-03, so no code of an app is right" in mistake.error
    assert "timedatectl set-time" in mistake.hint
    assert "recovery codes and tokens that count work until then" in mistake.hint
    clock.set(time.time())
    assert "Accepted" in check(phone.totp())
    assert service.log_in(alice, phone.totp(1)).result == PAM_SUCCESS


@pytest.mark.lockout(
    "a user checks a code after one was accepted while the clock was ahead",
    shows="later was accepted while this machine's clock was ahead",
    cure="softtoken-admin reset-state USER",
)
def test_check__distinguishes_a_record_from_the_future_and_a_wrong_clock(
    check: Callable[..., str],
    clock: WrongClock,
    phone: Phone,
    alice: Person,
    installed: Installation,
    make_service: Callable[[str], Service],
) -> None:
    step = steady_step(300)
    clock.set((step + 3 * STEPS_OF_A_DAY) * 300)
    assert "Accepted" in check(oathtool(phone, step + 3 * STEPS_OF_A_DAY)[0])
    clock.set(time.time())
    code, late = oathtool(phone, step)[0], oathtool(phone, step + 5)[0]
    assert "seems 1500 s behind that of the app" in Mistake(check(late)).error
    mistake = Mistake(check(code))
    assert "the code is right, but one of 3 d later was accepted while this machine's clock was ahead" in mistake.error
    assert f"softtoken-admin reset-state {alice.name}, as root" in mistake.hint
    assert "a recovery code gets in until then" in mistake.hint
    service = make_service(installed.line("window=3"))
    assert service.log_in(alice, phone.recovery_codes[0]).result == PAM_SUCCESS
    assert service.log_in(alice, code).result == PAM_AUTH_ERR
    assert succeeded(Admin(installed).run("reset-state", alice.name, "--yes")) == ""
    assert service.log_in(alice, oathtool(phone, step + 2)[0]).result == PAM_SUCCESS


def test_check__of_a_code_of_no_time_leaves_open_which_clock_is_wrong(
    check: Callable[..., str], clock: WrongClock, phone: Phone, alice: Person
) -> None:
    step = steady_step(300)
    clock.set(step * 300)
    (name,) = read_state(alice).last
    rewrite_state(alice, lambda present: present.with_last(name, step + 3 * STEPS_OF_A_DAY))
    mistake = Mistake(check(phone.totp(100_000)))
    assert "a code of 3 d later was accepted here" in mistake.error
    assert "if it is wrong, set it; if it is right, softtoken-admin reset-state" in mistake.hint


def test_enrolling__in_1970_says_why_no_code_fits(enroller: Enroller, alice: Person, clock: WrongClock) -> None:
    clock.set(IN_1970)
    with enroller.start(NO_CODES, person=alice, environment=clock.environment) as dialogue:
        dialogue.expect(CODE_PROMPT)
        dialogue.type(dialogue.phone().totp())
        dialogue.expect("This machine's clock says 1970-01-03. An administrator can set it with timedatectl.")


@pytest.mark.lockout("a state is reset while the clock is a day ahead")
def test_reset_state__with_a_clock_ahead_leaves_a_way_in(
    installed: Installation, alice: Person, phone: Phone, clock: WrongClock, service: Service
) -> None:
    step = steady_step(300)
    clock.set((step + STEPS_OF_A_DAY) * 300)
    done = Admin(installed).run("reset-state", alice.name, "--yes", environment=clock.environment)
    assert succeeded(done) == ""
    assert read_state(alice).assumed != {}
    _log_in_with_two(service, alice, *oathtool(phone, step, 2))


@pytest.mark.lockout("tokens are taken over while the clock is a day ahead")
def test_import__with_a_clock_ahead_leaves_a_way_in(
    enroller: Enroller, installed: Installation, alice: Person, phone: Phone, clock: WrongClock, service: Service
) -> None:
    uri = f"otpauth://totp/x?secret={phone.record['key']}&period=300&digits={phone.record['digits']}"
    file = alice.home / "uri"
    file.write_text(keep(uri) + "\n")
    os.chown(file, alice.uid, alice.gid)
    (alice.store / "tokens").unlink()
    (alice.store / "state").unlink()
    Path("/var/lib/softtoken/enrolled", str(alice.uid)).unlink(missing_ok=True)
    step = steady_step(300)
    clock.set((step + STEPS_OF_A_DAY) * 300)
    done = enroller.run("--import", file, "--no-confirm", NO_CODES, person=alice, environment=clock.environment)
    assert done.status == 0, done.stderr
    _log_in_with_two(service, alice, *oathtool(phone, step, 2))


def _log_in_with_two(service: Service, person: Person, first: str, second: str) -> None:
    """Log in while the used codes are unknown: the first code only shows where the app's clock is."""
    assert service.log_in(person, first).result == PAM_AUTH_ERR
    assert service.log_in(person, second).result == PAM_SUCCESS
    for used in (first, second):
        assert service.log_in(person, used).result == PAM_AUTH_ERR


def test_code_for__in_1970_says_that_the_code_ends_when_the_clock_is_set(
    installed: Installation, alice: Person, phone: Phone, clock: WrongClock, service: Service
) -> None:
    clock.set(IN_1970)
    done = Admin(installed).run("code-for", alice.name, "--for=1h", environment=clock.environment)
    code = keep(succeeded(done).strip())
    assert "The code ends when the clock is set" in done.stderr
    assert service.log_in(alice, code).result == PAM_AUTH_ERR
