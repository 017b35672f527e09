"""Wrong answers: how slow they get, whom they slow down, and what a day of guessing is worth."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_softtoken import throttle
from pam_softtoken.config import Config
from pam_softtoken.errors import Throttled
from pam_softtoken.state import State

NOW = 1_700_000_000
DAY_S = 24 * 60 * 60
HOME = throttle.source_of("192.0.2.7", 0)
ELSEWHERE = throttle.source_of("198.51.100.9", 0)


def _guess_all_day(state: State, source: throttle.Source) -> int:
    """Guess wrong whenever it is allowed, for a day; count the guesses."""
    now, guesses = NOW, 0
    while now < NOW + DAY_S:
        bucket = throttle.bucket_of(state, source, now=now)
        try:
            throttle.require_open(state, bucket, now=now)
        except Throttled as error:
            now += error.retry_after_s
            continue
        state = throttle.after_wrong_answer(state, bucket, now=now)
        guesses += 1
    return guesses


def test_throttle__a_day_of_guessing_succeeds_with_less_than_4_in_10_000() -> None:
    guesses = _guess_all_day(State.new(), ELSEWHERE)
    codes_right_at_once = 2 * Config().window + 1
    assert guesses > 50  # it really guessed
    assert guesses * codes_right_at_once / 10**6 < 4e-4


def test_throttle__five_answers_are_free_then_the_wait_doubles_up_to_15_minutes() -> None:
    waits = [throttle.wait_s(wrong) for wrong in range(17)]
    assert waits == [0, 0, 0, 0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]


def test_throttle__what_may_be_no_answer_is_judged_only_while_it_leaves_the_bucket_open() -> None:
    state = State.new()
    for number in range(4):
        throttle.require_spare(state, throttle.REMOTE, now=NOW)
        state = throttle.after_wrong_answer(state, throttle.REMOTE, now=NOW + number)
    throttle.require_open(state, throttle.REMOTE, now=NOW + 4)
    with pytest.raises(Throttled):
        throttle.require_spare(state, throttle.REMOTE, now=NOW + 4)
    throttle.require_spare(state, throttle.REMOTE, now=NOW + 3 + DAY_S)


def test_throttle__guesses_from_elsewhere_leave_a_known_source_open() -> None:
    state = throttle.after_success(State.new(), HOME, throttle.REMOTE, now=NOW)
    for number in range(10_000):
        state = throttle.after_wrong_answer(state, throttle.bucket_of(state, ELSEWHERE, now=NOW), now=NOW + number)
    now = NOW + 10_000
    throttle.require_open(state, throttle.bucket_of(state, HOME, now=now), now=now)
    with pytest.raises(Throttled):
        throttle.require_open(state, throttle.bucket_of(state, ELSEWHERE, now=now), now=now)


def test_throttle__unknown_sources_share_one_bucket_so_that_many_addresses_do_not_help() -> None:
    buckets = {throttle.bucket_of(State.new(), throttle.source_of(f"198.51.100.{n}", 0), now=NOW) for n in range(99)}
    assert buckets == {throttle.REMOTE}


def test_throttle__another_local_user_does_not_close_the_owners_bucket() -> None:
    owner, other = throttle.source_of("", 1000), throttle.source_of("", 1001)
    state = throttle.after_success(State.new(), owner, throttle.LOCAL, now=NOW)
    assert throttle.bucket_of(state, owner, now=NOW) != throttle.bucket_of(state, other, now=NOW) == throttle.LOCAL


def test_throttle__a_source_is_known_for_30_days() -> None:
    state = throttle.after_success(State.new(), HOME, throttle.REMOTE, now=NOW)
    assert throttle.bucket_of(state, HOME, now=NOW + 30 * DAY_S - 1) == HOME[0]
    assert throttle.bucket_of(state, HOME, now=NOW + 30 * DAY_S) == throttle.REMOTE


def test_throttle__the_last_eight_sources_are_known() -> None:
    state = State.new()
    sources = [throttle.source_of(f"192.0.2.{number}", 0) for number in range(9)]
    for source in sources:
        state = throttle.after_success(state, source, throttle.REMOTE, now=NOW)
    buckets = [throttle.bucket_of(state, source, now=NOW) for source in sources]
    assert buckets == [throttle.REMOTE, *(name for name, _ in sources[1:])]


def test_throttle__a_success_opens_its_own_bucket_only() -> None:
    state = throttle.after_success(State.new(), HOME, throttle.REMOTE, now=NOW)
    for _ in range(9):
        state = throttle.after_wrong_answer(state, throttle.REMOTE, now=NOW)
        state = throttle.after_wrong_answer(state, HOME[0], now=NOW)
    state = throttle.after_success(state, HOME, HOME[0], now=NOW)
    throttle.require_open(state, HOME[0], now=NOW)
    with pytest.raises(Throttled):
        throttle.require_open(state, throttle.REMOTE, now=NOW)


@given(st.integers(1, 10_000), st.integers(-40_000_000, 40_000_000))
def test_throttle__no_jump_of_the_clock_closes_a_bucket_for_longer_than_its_wait(wrong: int, jump_s: int) -> None:
    state = State.new().with_wrong(throttle.REMOTE, wrong, NOW)
    now = NOW + jump_s
    state = throttle.set_right(state, now=now)
    left_s = 0
    try:
        throttle.require_open(state, throttle.REMOTE, now=now)
    except Throttled as error:
        left_s = error.retry_after_s
    assert 0 <= left_s <= throttle.wait_s(wrong)
    throttle.require_open(state, throttle.REMOTE, now=now + left_s)


def test_throttle__a_clock_that_is_set_back_does_not_open_a_bucket() -> None:
    state = throttle.set_right(State.new().with_wrong(throttle.REMOTE, 20, NOW), now=NOW - DAY_S)
    with pytest.raises(Throttled):
        throttle.require_open(state, throttle.REMOTE, now=NOW - DAY_S)


def test_throttle__a_quiet_day_is_forgiven() -> None:
    state = State.new().with_wrong(throttle.REMOTE, 20, NOW)
    assert throttle.after_wrong_answer(state, throttle.REMOTE, now=NOW + DAY_S).wrong[throttle.REMOTE][0] == 1
    assert throttle.after_wrong_answer(state, throttle.REMOTE, now=NOW + DAY_S - 1).wrong[throttle.REMOTE][0] == 21


def test_throttle__success_leaves_the_wrong_answers_of_a_shared_bucket_and_opens_the_owners_own() -> None:
    state = State.new()
    for bucket in (throttle.REMOTE, HOME[0]):
        for _ in range(throttle.FREE_ANSWERS):
            state = throttle.after_wrong_answer(state, bucket, now=NOW)
    assert throttle.after_success(state, HOME, throttle.REMOTE, now=NOW).wrong == state.wrong
    assert throttle.after_success(state, HOME, HOME[0], now=NOW).wrong == {throttle.REMOTE: (5, NOW)}
