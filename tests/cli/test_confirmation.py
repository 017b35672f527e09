"""Type codes that do not match while enrolling: check the message, and that nothing changes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.enroller import CODE_PROMPT, ENTER_PROMPT, Dialogue, Enroller
from tests.support.installation import Installation
from tests.support.listing import listing


def other_than(code: str) -> str:
    """Return a wrong code of the same length."""
    return str((int(code) + 1) % 10 ** len(code)).zfill(len(code))


WRONG: dict[str, tuple[Callable[[Phone], str], str]] = {
    "wrong digits": (lambda phone: other_than(phone.totp()), "Look at the entry that you have just made in the app."),
    "too short": (lambda phone: phone.totp()[:5], "It has 6 digits."),
    "too long": (lambda phone: phone.totp() + "0", "It has 6 digits."),
    "letters": (lambda phone: "abcdef", "It has 6 digits."),
    "nothing": (lambda phone: "", "It has 6 digits."),
    "spaces": (lambda phone: "      ", "It has 6 digits."),
    "very long": (lambda phone: "1" * 1000, "It has 6 digits."),
    "digits of another script": (lambda phone: "\u0661\u0662\u0663\u0664\u0665\u0666", "It has 6 digits."),
    "a recovery code's form": (lambda phone: "9KQT-4HAW-7XEC", "It has 6 digits."),
    "the key": (lambda phone: str(phone.record["key"]), "It has 6 digits."),
    "ten steps ahead": (lambda phone: phone.totp(10), "The app's clock is about 3000 s ahead of this machine's"),
    "ten steps behind": (lambda phone: phone.totp(-10), "The app's clock is about 3000 s behind this machine's"),
}


def answer_three_times(dialogue: Dialogue, answer: Callable[[Phone], str], remark: str) -> list[str]:
    """Answer three prompts in the same way, and check that each answer is followed by a remark.

    Returns:
        The lines that the terminal showed after each answer.
    """
    shown = []
    for _ in range(3):
        dialogue.expect(CODE_PROMPT)
        dialogue.type(answer(dialogue.phone()))
        dialogue.expect("\r\n")
        shown.append(dialogue.expect("\r\n"))
        assert remark in shown[-1]
    return shown


@pytest.mark.parametrize("kind", WRONG)
def test_enroll__wrong_confirmation_changes_nothing_and_never_shows_the_right_code(
    enroller: Enroller, alice: Person, kind: str
) -> None:
    before = listing(alice.home)
    with enroller.start("--period=300", person=alice) as dialogue:
        shown = answer_three_times(dialogue, *WRONG[kind])
        phone = dialogue.phone()
        mistake = dialogue.refused()
    assert mistake.error == "no code was right; nothing was changed"
    assert CODE_PROMPT not in mistake.before.rpartition(WRONG[kind][1])[2], "it asks three times"
    assert listing(alice.home) == before
    near = [phone.totp(steps) for steps in range(-2, 3)]
    assert [code for code in near if code in " ".join([*shown, mistake.error, mistake.hint])] == []


@pytest.mark.parametrize("kind", ["wrong digits", "ten steps ahead"])
def test_enroll__wrong_confirmation_keeps_the_earlier_token(
    enroller: Enroller, installed: Installation, alice: Person, service: Service, kind: str
) -> None:
    phone = alice.enrol(installed, "--period=300", "--recovery-codes=1")
    before = listing(alice.home)
    with enroller.start("--period=300", "--force", person=alice) as dialogue:
        answer_three_times(dialogue, *WRONG[kind])
        new_phone = dialogue.phone()
        dialogue.refused()
    assert listing(alice.home) == before
    assert service.log_in(alice, new_phone.totp()).result == PAM_AUTH_ERR
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS
    assert service.log_in(alice, phone.recovery_codes[0]).result == PAM_SUCCESS


def test_enroll__wrong_then_right_confirmation_works(enroller: Enroller, alice: Person, service: Service) -> None:
    with enroller.start("--period=300", "--recovery-codes=1", person=alice) as dialogue:
        for kind in ("wrong digits", "letters"):
            answer, remark = WRONG[kind]
            dialogue.expect(CODE_PROMPT)
            dialogue.type(answer(dialogue.phone()))
            dialogue.expect(remark)
        phone = dialogue.confirm()
    assert service.log_in(alice, phone.totp(1)).result == PAM_SUCCESS


def test_enroll__hotp_code_beyond_the_look_ahead_is_wrong(enroller: Enroller, alice: Person) -> None:
    before = listing(alice.home)
    with enroller.start("--type=hotp", person=alice) as dialogue:
        dialogue.expect(CODE_PROMPT)
        phone = dialogue.phone()
        phone.counter = 10  # look_ahead is 10, counters 0 to 9 here
        dialogue.type(phone.hotp())
        dialogue.expect("That code does not fit.")
        dialogue.press_control("C")
        dialogue.refused()
    assert listing(alice.home) == before


@pytest.mark.parametrize("locale", ["utf8", "latin"])
def test_enroll__bytes_that_are_no_text_are_a_wrong_code(
    enroller: Enroller, alice: Person, locales: dict[str, dict[str, str]], locale: str
) -> None:
    before = listing(alice.home)
    with enroller.start(person=alice, environment=locales[locale]) as dialogue:
        dialogue.expect(CODE_PROMPT)
        dialogue.type_bytes(b"\xff\xfe12")
        dialogue.expect("That code does not fit. It has 6 digits.")
        dialogue.expect(CODE_PROMPT)
        dialogue.press_control("C")
        dialogue.refused()
    assert listing(alice.home) == before


def test_enroll__used_code_of_a_key_enrolled_again_does_not_confirm(enroller: Enroller, alice: Person) -> None:
    with enroller.start("--period=300", "--recovery-codes=1", person=alice) as dialogue:
        dialogue.expect(CODE_PROMPT)
        phone = dialogue.phone()
        code = phone.totp()
        dialogue.type(code)
        dialogue.expect(ENTER_PROMPT)
        dialogue.type("")
        assert dialogue.finish() == 0
    (alice.home / "key.txt").write_text(str(phone.record["key"]))
    options = ("--period=300", "--recovery-codes=1", "--force", f"--key-file={alice.home / 'key.txt'}")
    with enroller.start(*options, person=alice) as dialogue:
        dialogue.expect(CODE_PROMPT)
        dialogue.type(code)
        dialogue.expect("That code has been used before. Wait for the next one.")
        dialogue.expect(CODE_PROMPT)
        dialogue.type(phone.totp(1))
        dialogue.expect(ENTER_PROMPT)
        dialogue.type("")
        assert dialogue.finish() == 0
