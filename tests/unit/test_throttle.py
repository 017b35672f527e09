"""Wrong answers: the delays, the sources that are slowed down, and the odds of guessing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_softtoken.account.state import State
from pam_softtoken.login import throttle
from pam_softtoken.login.throttle import Source

NOW = 1_700_000_000
DAY_S = 24 * 60 * 60
HOME = throttle.source_of("192.0.2.7", 0)
ELSEWHERE = throttle.source_of("198.51.100.9", 0)
CODES_OF_A_WINDOW = 3
ANSWERS_PER_S = 50
"""More than three times what sshd manages on two cores."""


def _left_s(state: State, source: Source, *, now: int, with_pin: bool = False) -> int:
    return throttle.left_s(state, throttle.bucket_of(state, source, now=now), now=now, with_pin=with_pin)


def _after_wrong(state: State, source: Source, *, now: int) -> State:
    return throttle.after_wrong_answer(state, source, throttle.bucket_of(state, source, now=now), now=now)


def _after_success(state: State, source: Source, *, now: int) -> State:
    return throttle.after_success(state, source, throttle.bucket_of(state, source, now=now), now=now)


def _guesses(source: Source, days: int, *, with_pin: bool = False) -> int:
    """Guess wrong whenever a single code is checked. Return the number of guesses."""
    state, now, guesses = State.new(), NOW, 0
    while now < NOW + days * DAY_S:
        left_s = _left_s(state, source, now=now, with_pin=with_pin)
        if left_s:
            now += left_s
            continue
        state = _after_wrong(state, source, now=now)
        guesses += 1
    return guesses


def _guesses_beside_the_owner(days: int, logins_a_day: int) -> int:
    """Guess wrong in the same way, from a place where the owner logs in with one right code at a time."""
    state, now, guesses = _after_success(State.new(), HOME, now=NOW), NOW, 0
    login = NOW
    while now < NOW + days * DAY_S:
        left_s = _left_s(state, HOME, now=now)
        if not left_s:
            state = _after_wrong(state, HOME, now=now)
            guesses += 1
            continue
        now = min(now + left_s, login + DAY_S // logins_a_day)
        if now == login + DAY_S // logins_a_day:
            state, login = _after_success(state, HOME, now=now), now
    return guesses


def _odds(guesses: int) -> float:
    """Return the odds of guessing one TOTP token: single codes, and two in a row at the highest rate all the time."""
    return guesses * CODES_OF_A_WINDOW / 10**6


def _pair_odds(days: int) -> float:
    return days * DAY_S * ANSWERS_PER_S * CODES_OF_A_WINDOW / 10**6 / 10**6


@pytest.mark.claim("Guesses are slowed down, and guesses from elsewhere do not keep the owner out.")
def test_odds__single_codes_for_a_day_and_a_year() -> None:
    day, year = _guesses(ELSEWHERE, 1), _guesses(ELSEWHERE, 365)
    assert (day, year) == (21, 385)
    assert _odds(day) < 1e-4
    assert _odds(year) < 0.0012


def test_odds__two_codes_in_a_row_at_50_answers_a_second_for_a_day_and_a_year() -> None:
    assert _pair_odds(1) == pytest.approx(1.3e-5, rel=0.01)
    assert _pair_odds(365) < 0.005


def test_odds__patience_does_not_pay() -> None:
    """A guesser that stays away until a bucket is forgotten has fewer guesses than one that goes on."""
    going_on = _guesses(ELSEWHERE, 3650)
    rounds = 3650 * DAY_S // throttle.FORGOTTEN_AFTER_S
    until_the_longest_wait = next(n for n in range(100) if throttle.wait_s(n) == throttle.LONGEST_WAIT_S)
    assert rounds * until_the_longest_wait < going_on


@pytest.mark.parametrize("logins_a_day", [1, 3, 10, 100])
def test_odds__beside_the_owner_are_not_raised_by_each_login(logins_a_day: int) -> None:
    """A program of the owner's, or somebody on the same network, answers from the owner's place of login."""
    assert _guesses_beside_the_owner(1, logins_a_day) < 30
    assert _odds(_guesses_beside_the_owner(365, logins_a_day)) < 0.0045


def test_throttle__four_mistyped_codes_a_day_cause_no_wait_after_a_login() -> None:
    state = _after_success(State.new(), HOME, now=NOW)
    for day in range(1, 60):
        for _ in range(4):
            assert _left_s(state, HOME, now=NOW + day * DAY_S) == 0
            state = _after_wrong(state, HOME, now=NOW + day * DAY_S)
        state = _after_success(state, HOME, now=NOW + day * DAY_S)


def test_odds__behind_a_pin_a_day_has_less_than_a_hundred_guesses() -> None:
    assert _guesses(ELSEWHERE, 1, with_pin=True) < 110


def test_throttle__five_answers_are_free_then_the_wait_doubles_up_to_a_day() -> None:
    waits = [throttle.wait_s(wrong) for wrong in range(24)]
    assert waits == [0] * 5 + [2**number for number in range(17)] + [DAY_S] * 2


def test_throttle__behind_a_pin_the_wait_ends_after_15_minutes() -> None:
    assert [throttle.wait_s(wrong, with_pin=True) for wrong in (13, 14, 15, 99)] == [256, 512, 900, 900]


def test_throttle__guesses_from_elsewhere_leave_a_known_source_open() -> None:
    state = _after_success(State.new(), HOME, now=NOW)
    for number in range(10_000):
        state = _after_wrong(state, ELSEWHERE, now=NOW + number)
    assert _left_s(state, HOME, now=NOW + 10_000) == 0
    assert _left_s(state, ELSEWHERE, now=NOW + 10_000) > 0


def test_throttle__unknown_sources_share_one_bucket_so_that_many_addresses_do_not_help() -> None:
    buckets = {throttle.bucket_of(State.new(), throttle.source_of(f"198.51.100.{n}", 0), now=NOW) for n in range(99)}
    assert buckets == {throttle.REMOTE}


def test_throttle__another_local_user_does_not_close_the_owners_bucket() -> None:
    owner, other = throttle.source_of("", 1000), throttle.source_of("", 1001)
    state = throttle.after_success(State.new(), owner, throttle.LOCAL, now=NOW)
    assert throttle.bucket_of(state, owner, now=NOW) != throttle.bucket_of(state, other, now=NOW) == throttle.LOCAL


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:DB8:1:2:0:0:0:2", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%eth0", "fe80::2", True),
        ("::ffff:192.0.2.7", "192.0.2.7", True),
        ("::ffff:192.0.2.7", "::ffff:192.0.2.8", False),
        ("192.0.2.7", "192.0.2.8", False),
        ("not:an:address", "not:an:address", True),
        ("not:an:address", "2001:db8::", False),
        ("host.example", "other.example", False),
        ("x:\0", "x:\udc80", False),
    ],
)
def test_source__of_an_ipv6_address_is_its_network(one: str, other: str, *, same: bool) -> None:
    assert (throttle.source_of(one, 0).name == throttle.source_of(other, 0).name) is same


def test_source__notes_of_other_sessions_count_once_these_have_ended() -> None:
    one, other = (throttle.source_of("192.0.2.7", 0, session=number) for number in (11, 12))
    neighbour = throttle.source_of("192.0.2.8", 0, session=11)
    assert one.name == other.name
    state = State.new()
    for source in (one, other, neighbour):
        state = state.with_note(source.key, (("f" * 32, 1),), NOW)
    assert throttle.note_keys(state, one, lambda session: True) == (one.key,)
    assert throttle.note_keys(state, one, lambda session: session != 12) == (one.key, other.key)
    assert throttle.note_keys(State.new(), one, lambda session: True) == (one.key,)


def test_throttle__a_source_is_known_for_30_days() -> None:
    state = throttle.after_success(State.new(), HOME, throttle.REMOTE, now=NOW)
    assert throttle.bucket_of(state, HOME, now=NOW + 30 * DAY_S - 1) == HOME.name
    assert throttle.bucket_of(state, HOME, now=NOW + 30 * DAY_S) == throttle.REMOTE


def test_throttle__the_last_eight_sources_are_known() -> None:
    state = State.new()
    sources = [throttle.source_of(f"192.0.2.{number}", 0) for number in range(9)]
    for source in sources:
        state = throttle.after_success(state, source, throttle.REMOTE, now=NOW)
    buckets = [throttle.bucket_of(state, source, now=NOW) for source in sources]
    assert buckets == [throttle.REMOTE, *(source.name for source in sources[1:])]


def test_throttle__a_success_opens_its_own_bucket_only() -> None:
    state = _after_success(State.new(), HOME, now=NOW)
    for _ in range(9):
        state = throttle.after_wrong_answer(state, ELSEWHERE, throttle.REMOTE, now=NOW)
        state = _after_wrong(state, HOME, now=NOW)
    state = _after_success(state, HOME, now=NOW)
    assert throttle.left_s(state, HOME.name, now=NOW) == 0
    assert throttle.left_s(state, throttle.REMOTE, now=NOW) > 0


@given(st.integers(1, 10_000), st.integers(-40_000_000, 40_000_000), st.booleans())
def test_throttle__jump_of_the_clock_makes_no_wait_longer(wrong: int, jump_s: int, with_pin: bool) -> None:
    now = NOW + jump_s
    state = throttle.set_right(State.new().with_wrong(throttle.REMOTE, wrong, NOW), now=now)
    left_s = throttle.left_s(state, throttle.REMOTE, now=now, with_pin=with_pin)
    assert 0 <= left_s <= throttle.wait_s(wrong, with_pin=with_pin)
    assert throttle.left_s(state, throttle.REMOTE, now=now + left_s, with_pin=with_pin) == 0


def test_throttle__a_clock_that_is_set_back_does_not_open_a_bucket() -> None:
    state = throttle.set_right(State.new().with_wrong(throttle.REMOTE, 20, NOW), now=NOW - DAY_S)
    assert throttle.left_s(state, throttle.REMOTE, now=NOW - DAY_S) == throttle.wait_s(20)


def test_throttle__thirty_quiet_days_are_forgiven() -> None:
    state = State.new().with_wrong(throttle.REMOTE, 20, NOW)
    assert _after_wrong(state, ELSEWHERE, now=NOW + 30 * DAY_S).wrong[throttle.REMOTE][0] == 1
    assert _after_wrong(state, ELSEWHERE, now=NOW + 30 * DAY_S - 1).wrong[throttle.REMOTE][0] == 21


def test_throttle__success_clears_the_owners_bucket_and_no_shared_one() -> None:
    state = State.new()
    for bucket in (throttle.REMOTE, HOME.name):
        for _ in range(throttle.FREE_ANSWERS):
            state = throttle.after_wrong_answer(state, HOME, bucket, now=NOW)
    assert throttle.after_success(state, HOME, throttle.REMOTE, now=NOW).wrong == state.wrong
    assert throttle.after_success(state, HOME, HOME.name, now=NOW).wrong == {throttle.REMOTE: (5, NOW)}


def test_notice__counts_wrong_answers_from_elsewhere_since_the_last_success() -> None:
    state = State.new()
    for number in range(7):
        state = _after_wrong(state, throttle.source_of(f"198.51.100.{number}", 0), now=NOW)
    for _ in range(2):
        state = _after_wrong(state, HOME, now=NOW)
    assert throttle.missed_elsewhere(state, HOME) == 7
    assert throttle.missed_elsewhere(_after_success(state, HOME, now=NOW), HOME) == 0


def test_notice__unseen_one_is_kept_for_the_next_success() -> None:
    state = _after_wrong(_after_wrong(State.new(), ELSEWHERE, now=NOW), HOME, now=NOW)
    state = throttle.after_success(state, HOME, throttle.REMOTE, now=NOW, told=False)
    laptop = throttle.source_of("", 1000)
    assert throttle.missed_elsewhere(state, laptop) == 1


@pytest.mark.parametrize("guesses_there", [0, 1, 40])
def test_throttle__jump_of_a_year_and_back_makes_no_wait_longer_than_the_maximum(guesses_there: int) -> None:
    before = State.new().with_wrong(throttle.REMOTE, 12, NOW).with_wrong(throttle.LOCAL, 12, NOW)
    state = before
    for _ in range(guesses_there):
        state = _after_wrong(state, ELSEWHERE, now=NOW + 366 * DAY_S)
    state = throttle.set_right(state, now=NOW + 1)
    left_s = throttle.left_s(state, throttle.REMOTE, now=NOW + 1)
    assert left_s <= throttle.wait_s(guesses_there or 12)
    assert throttle.left_s(state, throttle.REMOTE, now=NOW + 1 + left_s) == 0
    # If nobody answered meanwhile, everything is as if the clock had never jumped.
    assert throttle.left_s(state, throttle.LOCAL, now=NOW + 1) == throttle.wait_s(12) - 1


@pytest.mark.parametrize("jump_s", [-NOW, -366 * DAY_S, 366 * DAY_S])
def test_throttle__jump_of_the_clock_and_back_gains_few_guesses(jump_s: int) -> None:
    """An attacker that can make the clock jump would gain what 30 quiet days give, each time."""
    state, guesses = State.new().with_wrong(throttle.REMOTE, 30, NOW), 0
    for now in (NOW + jump_s, NOW):
        state = throttle.set_right(state, now=now)
        while not throttle.left_s(state, throttle.REMOTE, now=now):
            state = _after_wrong(state, ELSEWHERE, now=now)
            guesses += 1
    assert guesses <= throttle.FREE_ANSWERS


@pytest.mark.parametrize("wrong", [1, throttle.FORGIVEN_A_DAY])
def test_throttle__success_that_clears_all_gives_no_further_free_answers(wrong: int) -> None:
    state = _after_success(State.new(), HOME, now=NOW)
    for _ in range(wrong):
        state = _after_wrong(state, HOME, now=NOW)
    state = _after_success(state, HOME, now=NOW + DAY_S)
    assert state.wrong == {}
    for _ in range(throttle.FREE_ANSWERS):
        state = _after_wrong(state, HOME, now=NOW + DAY_S)
    assert _left_s(state, HOME, now=NOW + DAY_S) == 1
