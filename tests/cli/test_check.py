"""Run `softtoken-enroll --check`: it tries a code for real, and explains the result in plain words."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pam_softtoken.account import ram_record, state, state_format, token_file
from pam_softtoken.otp.recovery_code import RecoverySet
from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.enroller import CHECK_PROMPT, Enroller, Mistake
from tests.support.installation import Installation
from tests.support.leak import keep
from tests.support.pam_scene import lock_out, oathtool, rewrite_state, set_pin

ACCEPTED = "Accepted: the code is right."


@pytest.fixture
def phone(installed: Installation, alice: Person) -> Phone:
    """Alice's token. Its codes last longer than any test."""
    return alice.enrol(installed, "--period=300")


@pytest.fixture
def check(enroller: Enroller, alice: Person) -> Callable[..., str]:
    """Check codes as Alice, and return everything that the terminal has shown."""

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


def test_check__used_code_is_reported(check: Callable[..., str], alice: Person, phone: Phone, service: Service) -> None:
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS
    mistake = Mistake(check(phone.totp()))
    assert 'that code of "phone" has been used' in mistake.error
    assert "the next" in mistake.hint


@pytest.mark.parametrize(("steps", "words"), [(10, "3000 s behind"), (-10, "3000 s ahead of")])
def test_check__wrong_clock_is_reported_with_its_error(
    check: Callable[..., str], phone: Phone, steps: int, words: str
) -> None:
    assert f"this machine's clock seems {words} that of the app" in Mistake(check(phone.totp(steps))).error


def test_check__code_of_another_entry_is_reported(check: Callable[..., str], phone: Phone) -> None:
    far_away = phone.totp(100_000)
    assert "is not right now" in Mistake(check(far_away)).error


def test_check__wait_is_reported_and_two_codes_end_it(check: Callable[..., str], alice: Person, phone: Phone) -> None:
    lock_out(alice)
    first, second = oathtool(phone, int(time.time()) // 300, 2)
    mistake = Mistake(check(first))
    assert "too many wrong codes; one code alone is accepted again in 24 h" in mistake.error
    assert "two codes in a row are accepted now" in mistake.hint
    assert ACCEPTED in check(second)


def test_check__wrong_file_modes_are_reported(enroller: Enroller, alice: Person, phone: Phone) -> None:
    (alice.store / "tokens").chmod(0o644)
    with enroller.start("--check", person=alice) as dialogue:
        mistake = dialogue.refused()
    assert "is open to others (mode 0644)" in mistake.error


def test_check__without_a_token_says_so(enroller: Enroller, alice: Person) -> None:
    with enroller.start("--check", person=alice) as dialogue:
        assert "is not enrolled" in dialogue.refused().error


@pytest.mark.parametrize(("typed", "words"), [("hello", "not a code"), ("", "not a code"), ("12345", "not a code")])
def test_check__input_that_is_not_a_code_is_an_error(
    check: Callable[..., str], phone: Phone, typed: str, words: str
) -> None:
    assert words in Mistake(check(typed)).error


def test_check__does_not_use_up_a_recovery_code(
    check: Callable[..., str], alice: Person, phone: Phone, service: Service
) -> None:
    assert "recovery code" in Mistake(check(phone.recovery_codes[0])).error
    assert service.log_in(alice, phone.recovery_codes[0]).result == PAM_SUCCESS


def test_check__lost_hotp_counter_needs_two_codes(
    check: Callable[..., str], installed: Installation, alice: Person
) -> None:
    phone = alice.enrol(installed, "--type=hotp")
    (alice.store / "state").unlink()
    mistake = Mistake(check(phone.hotp()))
    assert "a later counter" in mistake.error
    assert "the code after it" in mistake.hint
    assert ACCEPTED in check(phone.hotp())


def test_check__without_a_terminal_is_a_usage_error(enroller: Enroller, alice: Person, phone: Phone) -> None:
    assert "no terminal" in enroller.run("--check", person=alice).refused(2).error


def test_check__by_root_for_another_user(enroller: Enroller, alice: Person, phone: Phone) -> None:
    with enroller.start("--check", "--user", alice.name) as dialogue:
        dialogue.expect(f"Code that the app of {alice.name} shows now: ")
        dialogue.type(phone.totp())
        assert dialogue.finish() == 0
        assert ACCEPTED in dialogue.transcript


def test_check__record_owned_by_root_has_a_hint_with_the_cure(
    enroller: Enroller, alice: Person, phone: Phone, service: Service
) -> None:
    record = Path(ram_record.path_of(alice.uid, str(alice.store)))
    is_new = not record.parent.exists()
    ram_record.write(str(record), state_format.encode(state.State.new(), 1))
    with enroller.start("--check", person=alice) as dialogue:
        assert "the next login through sshd or su" in dialogue.refused().hint
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS
    assert not record.exists()
    if is_new:
        record.parent.rmdir()


def test_check__damaged_record_owned_by_root_has_a_hint_with_the_cure(
    enroller: Enroller, alice: Person, phone: Phone, service: Service
) -> None:
    record = Path(ram_record.path_of(alice.uid, str(alice.store)))
    is_new = not record.parent.exists()
    ram_record.write(str(record), b"not whole")
    for options in (("--check", f"--user={alice.name}"), ("--force", f"--user={alice.name}")):
        with enroller.start(*options) as dialogue:
            mistake = dialogue.refused()
        assert f"{record}: is not whole" in mistake.error
        assert f"rm {record}" in mistake.hint
        assert f"{alice.store}/state" not in mistake.hint
    assert service.log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    record.unlink()
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS
    if is_new:
        record.parent.rmdir()


def test_check__with_json_is_a_usage_error(enroller: Enroller, alice: Person) -> None:
    assert "--json does not go with --check" in enroller.run("--check", "--json", person=alice).refused(2).error


def test_check__wrong_pin_looks_like_a_wrong_code(enroller: Enroller, installed: Installation, alice: Person) -> None:
    phone = alice.enrol(installed, "--type=hotp", "--recovery-codes=0")
    set_pin(alice.store / "tokens", "4711")
    said = []
    for front, counter in (("0815", 0), ("0815", 99_999), ("4711", 99_999), ("4711", 0)):
        with enroller.start("--check", person=alice) as dialogue:
            dialogue.expect("PIN, and behind it the code that the app shows now:")
            dialogue.type(front + phone.hotp_at(counter))
            dialogue.finish()
            said.append(dialogue.transcript.splitlines()[1:])
    assert said[0] == said[1] == said[2]
    assert ACCEPTED in "".join(said[3])


def test_check__eight_digits_say_nothing_of_a_scratch_code(
    enroller: Enroller, installed: Installation, alice: Person, service: Service
) -> None:
    alice.enrol(installed, "--type=hotp", "--recovery-codes=0")
    with_scratch = installed_scratch_code(alice, "12345678")
    said = []
    for typed in (with_scratch, "87654321"):
        with enroller.start("--check", person=alice) as dialogue:
            dialogue.expect(CHECK_PROMPT)
            dialogue.type(typed)
            dialogue.finish()
            said.append(dialogue.transcript.splitlines()[1:])
    assert said[0] == said[1]
    assert service.log_in(alice, with_scratch).result == PAM_SUCCESS


def installed_scratch_code(person: Person, code: str) -> str:
    """Add a scratch code to a user's file, as an import would, and return it."""
    path = person.store / "tokens"
    present = token_file.parse(path.read_bytes(), path=str(path))
    codes = RecoverySet.of([keep(code)])
    path.write_bytes(token_file.serialise(token_file.TokenFile(present.tokens, codes, present.pin)))
    rewrite_state(person, lambda present: present.with_set(codes.name))
    return code


def test_check__sixteen_answers_at_once_count_as_sixteen(
    enroller: Enroller, installed: Installation, alice: Person
) -> None:
    """Five are judged, and one more for each wait that ends meanwhile. The others are told to wait."""
    phone = alice.enrol(installed, "--type=hotp", "--recovery-codes=0")
    wrong = phone.hotp_at(99_999)
    with contextlib.ExitStack() as stack:
        dialogues = [stack.enter_context(enroller.start("--check", person=alice)) for _ in range(16)]
        for dialogue in dialogues:
            dialogue.expect(CHECK_PROMPT)
        started = time.monotonic()
        for dialogue in dialogues:
            dialogue.type(wrong)
        for dialogue in dialogues:
            dialogue.finish()
        elapsed_s = int(time.monotonic() - started) + 1
        errors = [Mistake(dialogue.transcript).error for dialogue in dialogues]
    allowed = 5 + sum(2**number - 1 <= elapsed_s for number in range(1, 12))
    judged = sum("is not right now" in error for error in errors)
    assert 5 <= judged <= allowed
    assert judged + sum("too many wrong codes" in error for error in errors) == 16
