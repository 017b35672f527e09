"""The questions of an enrolment: how many tries, which code counts, what is recorded, and one set of texts."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import pam_softtoken
from pam_softtoken.account.state import State
from pam_softtoken.login import enrolment_dialogue
from pam_softtoken.login.enrolment_dialogue import Confirmed
from pam_softtoken.login.policy import Limits
from pam_softtoken.otp.token import Secret, Token, TOTPToken
from pam_softtoken.program_errors import EnrolmentFailed

LIMITS = Limits(window=1, look_ahead=3, no_drift=False)
SOURCES = {path: path.read_text() for path in Path(pam_softtoken.__file__).parent.rglob("*.py")}


@pytest.fixture
def phone() -> TOTPToken:
    """A token of so long a period that no step ends during a test."""
    return TOTPToken("phone", Secret.random("SHA1"), algorithm="SHA1", digits=6, created=0, period_s=300)


def present_code(phone: TOTPToken) -> str:
    return phone.otp_at(int(time.time()) // phone.period_s)


def wrong_code(phone: TOTPToken) -> str:
    """Return a code that no step near now has."""
    step = int(time.time()) // phone.period_s
    near = {phone.otp_at(counter) for counter in range(step - 500, step + 501)}
    return next(code for code in map("{:06}".format, range(1000)) if code not in near)


def dialogue(phone: Token, *answers: str, state: State | None = None) -> tuple[Confirmed | None, list[str]]:
    """Return what was confirmed, None if nothing was, and the texts that were shown."""
    left, shown = list(answers), list[str]()
    try:
        confirmed = enrolment_dialogue.confirm(
            phone, limits=LIMITS, state=lambda: state or State.new(), ask=lambda: left.pop(0), tell=shown.append
        )
    except EnrolmentFailed:
        assert not left
        return None, shown
    return confirmed, shown


def test_confirm__accepts_a_right_code_at_the_last_try_and_none_later(phone: TOTPToken) -> None:
    wrong, right = wrong_code(phone), present_code(phone)
    confirmed, shown = dialogue(phone, wrong, "12345", right)
    assert confirmed is not None
    assert shown[-1] == enrolment_dialogue.RIGHT
    assert [text.rpartition(". ")[2] for text in shown[:-1]] == ["2 left to try.", "1 left to try."]
    assert "It has 6 digits." in shown[1]
    assert dialogue(phone, wrong, wrong, wrong)[0] is None


@pytest.mark.parametrize("form", ["{0[0]}{0[1]}{0[2]}-{0[3]}{0[4]}{0[5]}", "{}\u00a0", "\u200b{}\t", "{} "])
def test_confirm__counts_the_digits_of_a_pasted_code_as_it_reads_them(phone: TOTPToken, form: str) -> None:
    assert dialogue(phone, form.format(present_code(phone)))[0] is not None
    shown = dialogue(phone, *[form.format(wrong_code(phone))] * 3)[1]
    assert not [text for text in shown if "6 digits" in text]


def test_confirm__refuses_a_used_code(phone: TOTPToken) -> None:
    used = State.new().with_last(phone.fingerprint(), int(time.time()) // phone.period_s + 1)
    confirmed, shown = dialogue(phone, *[present_code(phone)] * 3, state=used)
    assert confirmed is None
    assert all(text.startswith("That code has been used before.") for text in shown)


def test_confirmed_code__is_recorded_as_used_unless_a_login_was_first(phone: TOTPToken) -> None:
    confirmed, _ = dialogue(phone, present_code(phone))
    assert confirmed is not None
    counter = confirmed.finding.counter
    state = enrolment_dialogue.recorded_in(State.new(), phone, confirmed, new_set="0123456789abcdef")
    assert state.last[phone.fingerprint()] == counter
    assert "0123456789abcdef" in state.spent
    with pytest.raises(EnrolmentFailed):
        enrolment_dialogue.recorded_in(state, phone, confirmed, new_set="")


@pytest.mark.parametrize("name", ["QUESTION", "RIGHT", "CODES_TITLE", "CODES_ADVICE", "CODES_QUESTION"])
def test_text__is_spelt_in_one_module(name: str) -> None:
    text = getattr(enrolment_dialogue, name)
    (owner,) = (path for path, source in SOURCES.items() if text in source)
    assert owner.stem == "enrolment_dialogue"
