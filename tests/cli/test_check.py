"""`softtoken-enroll --check`: a code is tried for real, and the person is told in plain words what came of it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from pam_softtoken import state, volatile
from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.enroller import CHECK_PROMPT, ENVIRONMENT, Enroller, Mistake
from tests.support.installation import Installation
from tests.support.pam_scene import set_pin

ACCEPTED = "Accepted: the code is right."


@pytest.fixture
def phone(installed: Installation, alice: Person) -> Phone:
    """Alice's token; its codes last so long that no test outlasts one."""
    return alice.enrol(installed, "--period=300")


@pytest.fixture
def check(enroller: Enroller, alice: Person) -> Callable[..., str]:
    """Have Alice check codes; gives all that the terminal has shown."""

    def run(code: str) -> str:
        with enroller.start("--check", person=alice) as dialogue:
            dialogue.expect(CHECK_PROMPT)
            dialogue.type(code)
            dialogue.finish()
            return dialogue.transcript

    return run


def test_check__right_code_is_accepted_and_spent(
    check: Callable[..., str], alice: Person, phone: Phone, service: Service
) -> None:
    assert ACCEPTED in check(phone.totp())
    assert service.log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    assert service.log_in(alice, phone.totp(1)).result == PAM_SUCCESS


def test_check__used_code_is_told(check: Callable[..., str], alice: Person, phone: Phone, service: Service) -> None:
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS
    mistake = Mistake(check(phone.totp()))
    assert 'that code of "phone" has been used' in mistake.error
    assert "the next" in mistake.hint


@pytest.mark.parametrize(("steps", "words"), [(10, "3000 s behind"), (-10, "3000 s ahead of")])
def test_check__wrong_clock_is_told_with_how_much(
    check: Callable[..., str], phone: Phone, steps: int, words: str
) -> None:
    assert f"this machine's clock seems {words} that of the app" in Mistake(check(phone.totp(steps))).error


def test_check__code_of_another_entry_is_told(check: Callable[..., str], phone: Phone) -> None:
    far_away = phone.totp(100_000)
    assert "none of those that are right now" in Mistake(check(far_away)).error


def test_check__throttled_is_told_with_how_long(
    check: Callable[..., str], alice: Person, phone: Phone, service: Service
) -> None:
    wait_s = 0
    while wait_s < 8:  # long enough not to be over before the check
        told = service.log_in_often(alice, *[phone.totp(100_000)] * 12, run_as=alice, attempts=12)[-1].messages[-1][1]
        wait_s = int((re.findall(r"again in (\d+) s", told) or ["0"])[0])
    mistake = Mistake(check(phone.totp()))
    assert "too many wrong codes; the next one is looked at in" in mistake.error


def test_check__wrong_modes_are_told(enroller: Enroller, alice: Person, phone: Phone) -> None:
    (alice.store / "tokens").chmod(0o644)
    with enroller.start("--check", person=alice) as dialogue:
        mistake = dialogue.refused()
    assert "is open to others (mode 0644)" in mistake.error


def test_check__without_a_token_says_so(enroller: Enroller, alice: Person) -> None:
    with enroller.start("--check", person=alice) as dialogue:
        assert "is not enrolled" in dialogue.refused().error


@pytest.mark.parametrize(("typed", "words"), [("hello", "not a code"), ("", "not a code"), ("12345", "not a code")])
def test_check__what_is_no_code_is_told(check: Callable[..., str], phone: Phone, typed: str, words: str) -> None:
    assert words in Mistake(check(typed)).error


def test_check__recovery_code_is_not_spent_by_it(
    check: Callable[..., str], alice: Person, phone: Phone, service: Service
) -> None:
    assert "recovery code" in Mistake(check(phone.recovery_codes[0])).error
    assert service.log_in(alice, phone.recovery_codes[0]).result == PAM_SUCCESS


def test_check__lost_hotp_counter_takes_two_codes(
    check: Callable[..., str], installed: Installation, alice: Person
) -> None:
    phone = alice.enrol(installed, "--type=hotp")
    (alice.store / "state").unlink()
    mistake = Mistake(check(phone.hotp()))
    assert "a later counter" in mistake.error
    assert "the code after it" in mistake.hint
    assert ACCEPTED in check(phone.hotp())


def test_check__verdict_is_the_modules_own(
    enroller: Enroller, installed: Installation, alice: Person, phone: Phone
) -> None:
    """The same code in a host whose module cannot work: the files look right, and it is refused all the same."""
    backend = installed.backend
    aside = backend.with_suffix(".aside")
    with enroller.start("--check", person=alice) as dialogue:
        dialogue.expect(CHECK_PROMPT)
        backend.rename(aside)
        try:
            dialogue.type(phone.totp())
            mistake = dialogue.refused()
        finally:
            aside.rename(backend)
    assert "the module refused it, although" in mistake.error


def test_check__without_a_terminal_is_a_usage_error(enroller: Enroller, alice: Person, phone: Phone) -> None:
    assert "no terminal" in enroller.run("--check", person=alice).refused(2).error


def test_check__by_root_for_somebody_else(enroller: Enroller, alice: Person, phone: Phone) -> None:
    with enroller.start("--check", "--user", alice.name) as dialogue:
        dialogue.expect(CHECK_PROMPT)
        dialogue.type(phone.totp())
        assert dialogue.finish() == 0
        assert ACCEPTED in dialogue.transcript


def test_check__by_root_makes_its_service_where_no_user_can_exchange_it(
    enroller: Enroller, alice: Person, phone: Phone
) -> None:
    """`su` leaves TMPDIR as it was."""
    theirs = alice.home / "tmp"
    theirs.mkdir()
    os.chown(theirs, alice.uid, alice.gid)
    before = theirs.stat().st_mtime_ns
    environment = {**ENVIRONMENT, "TMPDIR": str(theirs)}
    with enroller.start("--check", "--user", alice.name, environment=environment) as dialogue:
        dialogue.expect(CHECK_PROMPT)
        dialogue.type(phone.totp())
        assert dialogue.finish() == 0
    assert theirs.stat().st_mtime_ns == before


def test_check__without_room_for_its_service_says_so(enroller: Enroller, alice: Person, phone: Phone) -> None:
    with enroller.after("prlimit", "--fsize=0").start("--check", person=alice) as dialogue:
        dialogue.expect(CHECK_PROMPT)
        dialogue.type(phone.totp())
        assert "cannot make a PAM service" in dialogue.refused().error


def test_check__record_of_roots_has_a_hint_that_helps(
    enroller: Enroller, alice: Person, phone: Phone, service: Service
) -> None:
    record = Path(volatile.path_of(alice.uid, str(alice.store)))
    is_new = not record.parent.exists()
    volatile.write(str(record), state.encode(state.State.new(), 1))
    with enroller.start("--check", person=alice) as dialogue:
        dialogue.expect(CHECK_PROMPT)
        dialogue.type(phone.totp())
        assert "the next login through sshd or su" in dialogue.refused().hint
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS
    assert not record.exists()
    if is_new:
        record.parent.rmdir()


def test_check__damaged_record_of_roots_has_a_hint_that_helps(
    enroller: Enroller, alice: Person, phone: Phone, service: Service
) -> None:
    record = Path(volatile.path_of(alice.uid, str(alice.store)))
    is_new = not record.parent.exists()
    volatile.write(str(record), b"not whole")
    for options in (("--check", f"--user={alice.name}"), ("--force", f"--user={alice.name}")):
        with enroller.start(*options) as dialogue:
            if options[0] == "--check":
                dialogue.expect(CHECK_PROMPT)
                dialogue.type(phone.totp())
            mistake = dialogue.refused()
        assert f"{record}: is not whole" in mistake.error
        assert f"remove {record}" in mistake.hint
        assert f"{alice.store}/state" not in mistake.hint
    assert service.log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    record.unlink()
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS
    if is_new:
        record.parent.rmdir()


def test_check__with_json_is_a_usage_error(enroller: Enroller, alice: Person) -> None:
    assert "--json does not go with --check" in enroller.run("--check", "--json", person=alice).refused(2).error


def test_check__pin_is_asked_for_and_a_wrong_one_told(
    enroller: Enroller, installed: Installation, alice: Person
) -> None:
    phone = alice.enrol(installed, "--type=hotp", "--recovery-codes=0")
    set_pin(alice.store / "tokens", "4711")
    for front, said in (("0815", "the PIN in front of the code is wrong"), ("4711", ACCEPTED)):
        with enroller.start("--check", person=alice) as dialogue:
            dialogue.expect("PIN, and behind it the code that the app shows now:")
            dialogue.type(front + phone.hotp_at(0))
            dialogue.finish()
            assert said in dialogue.transcript
