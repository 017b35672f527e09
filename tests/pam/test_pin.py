"""Type a PIN before the code: both are judged together, and a wrong PIN looks like any other wrong answer."""

from __future__ import annotations

import pytest

from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES, PROMPT, Pam, set_pin, wrong_code
from tests.support.system_log import SystemLog

PIN = "4711"


@pytest.fixture
def phone(installed: Installation, alice: Person) -> Phone:
    """A token whose owner has a PIN."""
    phone = alice.enrol(installed, "--type=hotp", "--recovery-codes=2")
    set_pin(alice.store / "tokens", PIN)
    return phone


def test_pin__is_typed_in_front_of_the_code(pam: Pam, alice: Person, phone: Phone) -> None:
    for front in (PIN, f"{PIN} ", " 47 11 "):
        outcome = pam.service().log_in(alice, front + phone.hotp())
        assert (outcome.result, outcome.messages) == (PAM_SUCCESS, PROMPT)


@pytest.mark.parametrize("front", ["", "4712", "471", "47110", "1174", PIN * 2, "4711x"])
@pytest.mark.claim("A wrong PIN looks like a wrong code, counts as one, and spends nothing.")
def test_pin__wrong_one_spends_nothing_counts_as_a_wrong_answer_and_looks_like_any_other(
    pam: Pam, alice: Person, phone: Phone, system_log: SystemLog, front: str
) -> None:
    service = pam.service()
    code = phone.hotp()
    outcome = service.log_in(alice, front + code)
    assert (outcome.result, outcome.messages) == (PAM_AUTH_ERR, PROMPT)
    assert service.log_in(alice, PIN + code).result == PAM_SUCCESS
    # The first waits may be over before the next answer. Then that answer is judged.
    while "throttled" not in system_log.reasons():
        assert len(system_log.reasons()) < 30
        service.log_in(alice, front + phone.hotp_at(50))
    reasons = system_log.reasons()
    assert set(reasons[:1] + reasons[2:]) == {"mismatch", "throttled"}


@pytest.mark.claim("A wrong PIN looks like a wrong code, counts as one, and spends nothing.")
def test_pin__right_one_with_a_wrong_code_says_no_more_than_a_wrong_one(
    pam: Pam, alice: Person, phone: Phone, system_log: SystemLog
) -> None:
    service = pam.service()
    said = [service.log_in(alice, front + wrong_code(phone)).messages for front in (PIN, "0815")]
    assert said == [PROMPT, PROMPT]
    lines = [{key: value for key, value in line.items() if key != "stamp"} for line in system_log.outcomes()]
    assert lines[0] == lines[1]


def test_pin__belongs_in_front_of_a_recovery_code_too(pam: Pam, alice: Person, phone: Phone) -> None:
    service = pam.service()
    first, second = phone.recovery_codes
    assert service.log_in(alice, first).result == PAM_AUTH_ERR
    assert service.log_in(alice, "0815" + first).result == PAM_AUTH_ERR
    assert service.log_in(alice, PIN + first).result == PAM_SUCCESS
    assert service.log_in(alice, f"{PIN}-{second.lower()}").result == PAM_SUCCESS
    assert service.log_in(alice, PIN + second).result == PAM_AUTH_ERR


def test_pin__stands_between_password_and_code(pam: Pam, installed: Installation, alice: Person, phone: Phone) -> None:
    stack = installed.line("forward_pass") + "auth required pam_unix.so use_first_pass nodelay\n"
    service = pam.stack(stack)
    assert service.log_in(alice, PIN + alice.password + phone.hotp_at(0)).result == PAM_AUTH_ERR
    assert service.log_in(alice, alice.password + PIN + phone.hotp()).result == PAM_SUCCESS


def test_pin__of_letters_and_digits_is_told_apart_by_case(installed: Installation, pam: Pam, alice: Person) -> None:
    phone = alice.enrol(installed, "--type=hotp", NO_CODES)
    set_pin(alice.store / "tokens", "aZ09bbbbYYYY")
    assert pam.service().log_in(alice, "Az09bbbbYYYY" + phone.hotp_at(0)).result == PAM_AUTH_ERR
    assert pam.service().log_in(alice, "aZ09bbbbYYYY" + phone.hotp_at(0)).result == PAM_SUCCESS


def test_pin_required__refuses_users_without_a_pin_and_lets_in_users_with_one(
    installed: Installation, pam: Pam, alice: Person, system_log: SystemLog
) -> None:
    phone = alice.enrol(installed, "--type=hotp", "--recovery-codes=1")
    service = pam.service("pin_required")
    for answer in (phone.hotp(), phone.recovery_codes[0]):
        outcome = service.log_in(alice, answer)
        assert (outcome.result, outcome.messages) == (PAM_AUTH_ERR, PROMPT)
    assert system_log.reasons() == ["pin_missing", "pin_missing"]
    set_pin(alice.store / "tokens", PIN)
    assert service.log_in(alice, PIN + phone.hotp_at(0)).result == PAM_SUCCESS
    assert service.log_in(alice, PIN + phone.recovery_codes[0]).result == PAM_SUCCESS


def test_pin__taken_away_during_the_login_counts_as_missing(
    installed: Installation, pam: Pam, alice: Person, phone: Phone
) -> None:
    """The file is read again under the lock. A verdict by the old file does not count."""
    service = pam.service()
    assert service.log_in(alice, phone.hotp_at(0)).result == PAM_AUTH_ERR
    set_pin(alice.store / "tokens", "0815")
    assert service.log_in(alice, PIN + phone.hotp_at(0)).result == PAM_AUTH_ERR
    assert service.log_in(alice, "0815" + phone.hotp_at(0)).result == PAM_SUCCESS


@pytest.mark.parametrize("password", ["geheim\udce9", "\udcff\udcfe\udcfd\udcfc", "\udce9" * 4 + "x"])
def test_pin__behind_a_password_that_is_not_utf_8_is_found(
    installed: Installation, pam: Pam, alice: Person, password: str
) -> None:
    """The last digits of a PIN could belong to a longer code. Then other characters replace them."""
    phone = alice.enrol(installed, "--type=hotp", "--recovery-codes=1")
    set_pin(alice.store / "tokens", PIN)
    service = pam.service("forward_pass")
    for code in (phone.hotp(), phone.recovery_codes[0]):
        assert service.log_in(alice, password + PIN + code).result == PAM_SUCCESS


def test_pin__that_is_not_utf_8_is_a_wrong_one(pam: Pam, alice: Person, phone: Phone, system_log: SystemLog) -> None:
    assert pam.service().log_in(alice, "\udce9\udce9\udce9\udce9" + phone.hotp()).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["mismatch"]
