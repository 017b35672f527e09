"""Recover a token that has drifted away, by two consecutive codes. What is learned makes no old code valid again."""

from __future__ import annotations

import pytest

from tests.support.account import Person
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES, PROMPT, Clock, Pam, oathtool
from tests.support.system_log import SystemLog

STEP = 58_000_000  # in 2025


@pytest.mark.lockout(
    "the button of a HOTP token was pressed 60 times",
    shows="reason=mismatch",
    cure="type two codes in a row",
)
def test_hotp__two_codes_recover_a_button_pressed_too_often(
    installed: Installation, pam: Pam, alice: Person, system_log: SystemLog
) -> None:
    phone = alice.enrol(installed, "--type=hotp", NO_CODES)
    service = pam.service()
    for counter, result in ((0, 0), (61, 7), (62, 0), (61, 7), (62, 7), (63, 0), (30, 7), (31, 7)):
        outcome = service.log_in(alice, phone.hotp_at(counter))
        assert (counter, outcome.result, outcome.messages) == (counter, result, PROMPT)
    assert system_log.reasons()[:3] == ["accepted", "mismatch", "accepted"]


@pytest.mark.parametrize("between", ["000000", "recovery", "replay"])
def test_hotp__only_a_wrong_code_between_the_two_ends_the_pair(
    installed: Installation, pam: Pam, alice: Person, between: str
) -> None:
    phone = alice.enrol(installed, "--type=hotp", "--recovery-codes=1")
    service = pam.service()
    service.log_in(alice, phone.hotp_at(0))
    service.log_in(alice, phone.hotp_at(50))
    answer = {"recovery": phone.recovery_codes[0], "replay": phone.hotp_at(0)}.get(between, between)
    service.log_in(alice, answer)
    # A wrong code cancels them; a used one or a recovery code says nothing about the token.
    expected = PAM_AUTH_ERR if between == "000000" else PAM_SUCCESS
    assert service.log_in(alice, phone.hotp_at(51)).result == expected


@pytest.mark.parametrize("off", [-30, -5, 4, 38])
@pytest.mark.lockout("the clock of the app is minutes off")
@pytest.mark.claim(
    "Two codes in a row, or a clock that is followed, bring no used code back, whatever the order of codes and clocks."
)
def test_totp__two_codes_recover_an_app_that_is_minutes_off(
    installed: Installation, pam: Pam, alice: Person, clock: Clock, system_log: SystemLog, off: int
) -> None:
    phone = alice.enrol(installed, NO_CODES)
    (alice.store / "state").write_bytes(b"")
    service = pam.with_backend(clock.backend)
    clock.set((STEP - 100) * 30)
    service.log_in(alice, oathtool(phone, STEP - 100)[0])  # leaves a record that is older than all codes below
    accepted = []
    for turn, result in ((0, 7), (1, 0), (1, 7), (2, 0), (3, 0)):
        clock.set((STEP + turn) * 30 + 5)
        (code,) = oathtool(phone, STEP + turn + off)
        assert service.log_in(alice, code).result == result, turn
        accepted += [code] * (result == 0)
    reasons = system_log.reasons()
    assert reasons[1:3] == ["mismatch", "accepted"]
    for code in accepted:
        assert service.log_in(alice, code).result == PAM_AUTH_ERR


def test_totp__no_drift_refuses_two_consecutive_codes_too(
    installed: Installation, pam: Pam, alice: Person, clock: Clock
) -> None:
    phone = alice.enrol(installed, NO_CODES)
    (alice.store / "state").write_bytes(b"")
    service = pam.with_backend(clock.backend, "no_drift", "no_throttle")
    for turn in range(4):
        clock.set((STEP + turn) * 30)
        assert service.log_in(alice, oathtool(phone, STEP + turn + 5)[0]).result == PAM_AUTH_ERR


@pytest.mark.lockout("an app's clock runs away slowly")
def test_totp__clock_that_runs_away_slowly_is_followed(
    installed: Installation, pam: Pam, alice: Person, clock: Clock
) -> None:
    phone = alice.enrol(installed, NO_CODES)
    (alice.store / "state").write_bytes(b"")
    service = pam.with_backend(clock.backend)
    clock.set((STEP - 100) * 30)
    service.log_in(alice, oathtool(phone, STEP - 100)[0])
    for login in range(16):  # half a step ahead each time
        clock.set((STEP + 10 * login) * 30)
        (code,) = oathtool(phone, STEP + 10 * login + login // 3)
        assert service.log_in(alice, code).result == PAM_SUCCESS, login
    assert service.log_in(alice, oathtool(phone, STEP + 151)[0]).result == PAM_AUTH_ERR


def test_resync__is_a_wrong_answer_first_and_counted(
    installed: Installation, pam: Pam, alice: Person, system_log: SystemLog
) -> None:
    phone = alice.enrol(installed, "--type=hotp", NO_CODES)
    for counter in range(50, 64, 2):
        pam.service().log_in(alice, phone.hotp_at(counter))
    assert system_log.reasons()[:5] == 5 * ["mismatch"]
    assert "throttled" in system_log.reasons()


def test_resync__works_with_no_throttle_too(installed: Installation, pam: Pam, alice: Person) -> None:
    phone = alice.enrol(installed, "--type=hotp", NO_CODES)
    service = pam.service("no_throttle")
    assert service.log_in(alice, phone.hotp_at(40)).result == PAM_AUTH_ERR
    assert service.log_in(alice, phone.hotp_at(41)).result == PAM_SUCCESS


@pytest.mark.parametrize("turn", [-3600, -1, 91, 3600])
def test_totp__clock_change_between_two_codes_ends_the_pair(
    installed: Installation, pam: Pam, alice: Person, clock: Clock, turn: int
) -> None:
    phone = alice.enrol(installed, NO_CODES)
    (alice.store / "state").write_bytes(b"")
    service = pam.with_backend(clock.backend, "no_throttle")
    clock.set((STEP - 200) * 30)
    service.log_in(alice, "00000000")
    codes = oathtool(phone, STEP + 20, 3)
    clock.set(STEP * 30)
    assert service.log_in(alice, codes[0]).result == PAM_AUTH_ERR
    clock.set(STEP * 30 + turn)
    assert service.log_in(alice, codes[1]).result == PAM_AUTH_ERR
    # The code typed last is near now, if it can be reached at all.
    clock.set(STEP * 30 + turn + 30)
    reachable = abs(turn) < 3600
    assert (service.log_in(alice, codes[2]).result == PAM_SUCCESS) == reachable


def test_totp__window_that_a_clock_has_moved_lets_no_used_code_back_in(
    installed: Installation, pam: Pam, alice: Person, clock: Clock
) -> None:
    """Ahead by two consecutive codes, back by two others: codes accepted on the way stay used."""
    phone = alice.enrol(installed, NO_CODES)
    (alice.store / "state").write_bytes(b"")
    service = pam.with_backend(clock.backend, "no_throttle", "window=20")
    clock.set((STEP - 100) * 30)
    service.log_in(alice, "00000000")
    accepted = []
    for turn, off in ((0, 30), (1, 30), (2, -10), (3, -10), (33, 0), (34, 0), (35, -30), (36, -30), (40, 15)):
        clock.set((STEP + turn) * 30)
        (code,) = oathtool(phone, STEP + turn + off)
        if service.log_in(alice, code).result != PAM_SUCCESS:
            continue
        accepted.append(turn + off)
        for used in accepted:
            for typed in oathtool(phone, STEP + used - 1, 2):
                assert service.log_in(alice, typed).result == PAM_AUTH_ERR
    assert accepted == [31, 34, 55]


def test_resync__codes_with_one_of_another_token_between_are_not_consecutive(
    installed: Installation, pam: Pam, alice: Person
) -> None:
    phone, button = (alice.enrol(installed, "--type=hotp", NO_CODES, f"--name={name}") for name in ("phone", "button"))
    service = pam.service("no_throttle")
    for token, counter, result in (
        (phone, 40, 7),
        (button, 60, 7),
        (phone, 41, 7),
        (button, 61, 7),  # the next code was another token's
        (button, 62, 0),
        (phone, 42, 7),
        (button, 63, 0),  # a success cancels an unfinished pair
        (phone, 43, 7),
        (phone, 44, 0),
        (phone, 43, 7),
        (phone, 44, 7),
    ):
        assert service.log_in(alice, token.hotp_at(counter)).result == result, (token.record["name"], counter)
