"""Limit wrong answers, through real libpam."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pam_softtoken.account import state_format
from tests.support.account import Person
from tests.support.client import ERROR_MSG, PAM_AUTH_ERR, PAM_SUCCESS, TEXT_INFO, Service
from tests.support.installation import Installation
from tests.support.pam_scene import Pam
from tests.support.process import WAIT_S
from tests.support.system_log import SystemLog

WRONG = "00000000"  # its length differs from the token's codes, so it cannot be right by chance
HOME, ELSEWHERE = "--item=rhost=192.0.2.7", "--item=rhost=198.51.100.9"


def _guess(service: Service, person: Person, count: int, place: str) -> None:
    outcomes = service.log_in_often(person, *[WRONG] * count, options=[place], attempts=count)
    assert {outcome.result for outcome in outcomes} == {PAM_AUTH_ERR}


def _guess_until_closed(service: Service, person: Person, place: str, log: SystemLog) -> None:
    """Guess until the wait is 8 s. The first waits may be over before the next guess, which is then judged."""
    while log.reasons().count("mismatch") < 8:
        _guess(service, person, 2, place)


@pytest.mark.lockout(
    "somebody guesses until single codes have to wait",
    shows="reason=throttled",
    cure="type two codes in a row",
)
def test_throttle__after_five_wrong_answers_one_code_is_refused_and_the_next_one_accepted(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog
) -> None:
    phone = alice.enrol(installed, "--type=hotp")
    _guess_until_closed(service, alice, ELSEWHERE, system_log)
    code = phone.hotp()
    assert service.log_in(alice, code, options=[ELSEWHERE]).result == PAM_AUTH_ERR
    reasons = system_log.reasons()
    assert reasons[:5] == ["mismatch"] * 5
    assert reasons[-1] == "throttled"
    # An observer of the typed code cannot use it.
    assert service.log_in(alice, code, options=[HOME]).result == PAM_AUTH_ERR
    _guess(service, alice, 2, HOME)
    assert service.log_in(alice, phone.hotp(), options=[ELSEWHERE]).result == PAM_SUCCESS


def test_throttle__the_owner_is_told_of_wrong_codes_from_elsewhere(
    installed: Installation, service: Service, alice: Person
) -> None:
    phone = alice.enrol(installed, "--type=hotp")
    _guess(service, alice, 3, ELSEWHERE)
    _guess(service, alice, 1, HOME)
    told = service.log_in(alice, phone.hotp(), options=[HOME])
    assert told.result == PAM_SUCCESS
    assert [text for style, text in told.messages if style == TEXT_INFO] == [
        f"Since the last login 3 wrong codes were typed elsewhere for {alice.name}."
    ]
    again = service.log_in(alice, phone.hotp(), options=[HOME])
    assert [text for style, text in again.messages if style == TEXT_INFO] == []
    _guess(service, alice, 1, ELSEWHERE)
    quiet = service.log_in(alice, phone.hotp(), options=[HOME, "--silent"])
    assert quiet.result == PAM_SUCCESS
    assert [text for style, text in quiet.messages if style == TEXT_INFO] == []
    later = service.log_in(alice, phone.hotp(), options=[HOME])
    assert [text for style, text in later.messages if style == TEXT_INFO] == [
        f"Since the last login 1 wrong code was typed elsewhere for {alice.name}."
    ]


@pytest.mark.lockout("strangers guess 40 times while the owner is known at an address")
@pytest.mark.claim("Guesses are slowed down, and guesses from elsewhere do not keep the owner out.")
def test_throttle__guesses_from_elsewhere_do_not_keep_out_a_known_source(
    installed: Installation, service: Service, alice: Person
) -> None:
    phone = alice.enrol(installed, "--type=hotp")
    assert service.log_in(alice, phone.hotp(), options=[HOME]).result == PAM_SUCCESS
    _guess(service, alice, 40, ELSEWHERE)
    assert service.log_in(alice, phone.hotp(), options=[HOME]).result == PAM_SUCCESS


def test_throttle__guesses_at_once_are_counted_one_by_one(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog
) -> None:
    alice.enrol(installed, "--type=hotp")
    started = time.monotonic()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: service.log_in(alice, WRONG, options=[ELSEWHERE]), range(24)))
    # Five are free; the next ones come after 1, 2, 4 ... s, by a clock that counts whole seconds.
    elapsed_s = int(time.monotonic() - started) + 1
    allowed = 5 + sum(2**number - 1 <= elapsed_s for number in range(1, 12))
    assert 5 <= system_log.reasons().count("mismatch") <= allowed


def test_throttle__holds_inside_one_connection(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog
) -> None:
    alice.enrol(installed, "--type=hotp")
    _guess(service, alice, 100, ELSEWHERE)
    assert system_log.reasons().count("throttled") > 80


def test_throttle__a_wrong_recovery_code_counts_and_a_replayed_code_does_not(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog
) -> None:
    phone = alice.enrol(installed, "--type=hotp")
    code = phone.hotp()
    assert service.log_in(alice, code, options=[HOME]).result == PAM_SUCCESS
    answers = [code] * 6 + ["AAAA-AAAA-AAAA"] * 5
    service.log_in_often(alice, *answers, options=[ELSEWHERE], attempts=11)
    assert system_log.reasons()[1:] == ["replayed"] * 6 + ["mismatch"] * 5
    # The first waits may be over before the next guess. If nothing had been counted, five more would be judged.
    _guess(service, alice, 1, ELSEWHERE)
    while system_log.reasons()[-1] != "throttled":
        _guess(service, alice, 1, ELSEWHERE)
    assert system_log.reasons()[12:].count("mismatch") < 5


def test_throttle__nothing_is_stored_while_waiting(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog
) -> None:
    alice.enrol(installed, "--type=hotp")
    unchanged: list[bool] = []
    # On a slow machine a wait may be over before the next guess, which is then judged and counted.
    while len(unchanged) < 3:
        before = (alice.store / "state").read_bytes()
        _guess(service, alice, 1, ELSEWHERE)
        if system_log.reasons()[-1] == "throttled":
            unchanged.append((alice.store / "state").read_bytes() == before)
    assert all(unchanged)


def test_throttle__looks_like_a_wrong_code_to_a_remote_user(
    installed: Installation, service: Service, alice: Person
) -> None:
    alice.enrol(installed, "--type=hotp")
    first = service.log_in(alice, WRONG, options=[ELSEWHERE])
    _guess(service, alice, 12, ELSEWHERE)
    throttled = service.log_in(alice, WRONG, options=[ELSEWHERE])
    assert (throttled.result, throttled.messages) == (first.result, first.messages)


def test_throttle__local_user_sees_the_wait_for_the_own_account(
    installed: Installation, service: Service, alice: Person
) -> None:
    alice.enrol(installed, "--type=hotp")
    outcomes = service.log_in_often(alice, *[WRONG] * 12, run_as=alice, attempts=12)
    # A wait of one or two seconds may be over when the next guess comes. Then it is judged.
    told = [text for outcome in outcomes for style, text in outcome.messages if style == ERROR_MSG]
    assert told
    assert all(text.startswith("Too many wrong codes. Type two codes in a row, or wait ") for text in told)
    assert not any(style == ERROR_MSG for outcome in outcomes[:5] for style, _ in outcome.messages)
    quiet = service.log_in(alice, WRONG, run_as=alice, options=["--silent"])
    assert not [text for style, text in quiet.messages if style == ERROR_MSG]


def test_throttle__local_daemon_of_root_reveals_nothing_about_root(
    pam: Pam, outside: Path, system_log: SystemLog
) -> None:
    """A user at a console or a display manager is not root, although these programs are."""
    store = f"--store={outside}/%U"
    words = [str(pam.installed.enroll), "--user=root", "--no-confirm", "--json", "--recovery-codes=0", store]
    subprocess.run(words, check=True, capture_output=True)
    service = pam.service(f"store={outside}/%U")
    outcomes = service.log_in_often("root", *[WRONG] * 12, attempts=12)
    assert "throttled" in system_log.reasons()
    assert len({tuple(outcome.messages) for outcome in outcomes}) == 1


def test_throttle__no_throttle_turns_it_off(
    installed: Installation, make_service: Callable[[str], Service], alice: Person, system_log: SystemLog
) -> None:
    phone = alice.enrol(installed, "--type=hotp")
    service = make_service(installed.line("no_throttle"))
    _guess(service, alice, 20, ELSEWHERE)
    assert service.log_in(alice, phone.hotp(), options=[ELSEWHERE]).result == PAM_SUCCESS
    assert system_log.reasons() == ["mismatch"] * 20 + ["accepted"]


def test_throttle__a_wait_left_by_a_wrong_clock_ends_for_recovery_codes_too(
    installed: Installation, service: Service, alice: Person
) -> None:
    phone = alice.enrol(installed, "--recovery-codes=1")
    path = alice.store / "state"
    sequence, present = state_format.decode(path.read_bytes(), path=str(path))
    spoilt = present.with_wrong("local", 6, int(time.time()) + 365 * 86400)
    with path.open("r+b") as file:
        for number in (sequence + 1, sequence + 2):
            file.seek(state_format.place_of(number))
            file.write(state_format.encode(spoilt, number))
    deadline = time.monotonic() + WAIT_S
    while service.log_in(alice, phone.recovery_codes[0]).result != PAM_SUCCESS:
        assert time.monotonic() < deadline
