"""The replay rule and the windows, as pure decisions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pam_softtoken import policy
from pam_softtoken.config import Config
from pam_softtoken.errors import OTPMismatch, OTPReplayed, Refused
from pam_softtoken.state import NEVER, State
from pam_softtoken.token import HOTPToken, Secret, Token, TOTPToken

NOW = 1_700_000_010  # 10 s into step 56666667 of 30 s
STEP = NOW // 30
KEY = b"12345678901234567890"
CONFIG = Config()


def _totp() -> TOTPToken:
    return TOTPToken("phone", Secret(KEY), algorithm="SHA1", digits=8, created=0)


def _hotp(counter: int = 0) -> HOTPToken:
    return HOTPToken("button", Secret(KEY), algorithm="SHA1", digits=8, created=0, counter=counter)


def _state(token: Token, last: int) -> State:
    return State.new().with_last(token.fingerprint(), last)


def _match(token: Token, last: int, otp: str, *, now: int = NOW, config: Config = CONFIG) -> int:
    return policy.match_otp((token,), _state(token, last), {8: otp}, now=now, config=config).counter


@pytest.mark.parametrize("distance", [-1, 0, 1])
def test_totp__steps_inside_the_window_match(distance: int) -> None:
    assert _match(_totp(), NEVER, _totp().otp_at(STEP + distance)) == STEP + distance


@pytest.mark.parametrize("distance", [-3, -2, 2, 3])
def test_totp__steps_outside_the_window_do_not(distance: int) -> None:
    with pytest.raises(OTPMismatch):
        _match(_totp(), NEVER, _totp().otp_at(STEP + distance))


def test_totp__a_window_of_zero_takes_only_the_present_step() -> None:
    narrow = Config(window=0)
    assert _match(_totp(), NEVER, _totp().otp_at(STEP), config=narrow) == STEP
    with pytest.raises(OTPMismatch):
        _match(_totp(), NEVER, _totp().otp_at(STEP + 1), config=narrow)


@pytest.mark.parametrize("last", [STEP, STEP + 1])
def test_totp__a_step_at_or_below_the_last_one_is_a_replay(last: int) -> None:
    with pytest.raises(OTPReplayed) as caught:
        _match(_totp(), last, _totp().otp_at(STEP))
    assert caught.value.token == "phone"


def test_totp__without_a_record_nothing_matches() -> None:
    with pytest.raises(OTPReplayed):
        policy.match_otp((_totp(),), State.new(), {8: _totp().otp_at(STEP)}, now=NOW, config=CONFIG)


def test_totp__a_clock_before_1970_matches_nothing() -> None:
    with pytest.raises(OTPMismatch):
        _match(_totp(), NEVER, _totp().otp_at(0), now=-1)


@pytest.mark.parametrize("ahead", [0, 9])
def test_hotp__counters_within_the_look_ahead_match(ahead: int) -> None:
    assert _match(_hotp(), 41, _hotp().otp_at(42 + ahead)) == 42 + ahead


@pytest.mark.parametrize("ahead", [-1, -5, 10, 11])
def test_hotp__counters_outside_do_not(ahead: int) -> None:
    with pytest.raises(Refused):
        _match(_hotp(), 41, _hotp().otp_at(42 + ahead))


def test_hotp__counters_below_the_enrolled_one_never_match() -> None:
    with pytest.raises(OTPReplayed):
        _match(_hotp(counter=100), NEVER, _hotp().otp_at(95))
    assert _match(_hotp(counter=100), NEVER, _hotp().otp_at(100)) == 100


def test_hotp__without_a_record_one_otp_never_matches() -> None:
    with pytest.raises(OTPMismatch):
        policy.match_otp((_hotp(),), State.new(), {8: _hotp().otp_at(0)}, now=NOW, config=CONFIG)


def _type(token: Token, state: State, otp: str, *, now: int = NOW, config: Config = CONFIG) -> State:
    """Do with an answer what a login does; raises what it is refused for, and takes the state of that along."""
    typed = {8: otp}
    try:
        try:
            match = policy.match_otp((token,), state, typed, now=now, config=config)
        except OTPMismatch:
            match = policy.match_following((token,), state, typed, now=now, config=config)
    except OTPMismatch:
        raise Wrong(state.with_near(policy.nearby((token,), state, typed, now=now, config=config), now)) from None
    return state.with_accepted(token.fingerprint(), match.counter, drift=match.drift, now=now)


class Wrong(Exception):
    """A wrong answer, with the state that it leaves."""

    def __init__(self, state: State) -> None:
        self.state = state


def _type_wrong(token: Token, state: State, otp: str, *, now: int = NOW, config: Config = CONFIG) -> State:
    with pytest.raises(Wrong) as caught:
        _type(token, state, otp, now=now, config=config)
    return caught.value.state


@pytest.mark.parametrize("ahead", [10, 11, 50, policy.RESYNC_COUNTERS - 2])
def test_hotp__two_consecutive_otps_bring_it_back_from_far_ahead(ahead: int) -> None:
    button = _hotp()
    state = _type_wrong(button, _state(button, 41), button.otp_at(42 + ahead))
    assert _type(button, state, button.otp_at(43 + ahead)).last[button.fingerprint()] == 43 + ahead


@pytest.mark.parametrize("ahead", [policy.RESYNC_COUNTERS - 1, policy.RESYNC_COUNTERS, 5000])
def test_hotp__from_farther_they_do_not(ahead: int) -> None:
    button = _hotp()
    state = _type_wrong(button, _state(button, 41), button.otp_at(42 + ahead))
    _type_wrong(button, state, button.otp_at(43 + ahead))


@pytest.mark.parametrize("counter", [1, 2, 500, policy.LOST_COUNTER_RANGE - 1])
def test_hotp__two_consecutive_otps_find_a_lost_counter(counter: int) -> None:
    button = _hotp()
    state = _type_wrong(button, State.new(), button.otp_at(counter - 1))
    assert _type(button, state, button.otp_at(counter)).last == {button.fingerprint(): counter}


@pytest.mark.parametrize("last", [None, 3])
@pytest.mark.parametrize("counters", [(50, 50), (51, 50), (50, 52), (14, 16)])
def test_hotp__two_others_do_not(counters: tuple[int, int], last: int | None) -> None:
    button = _hotp()
    state = State.new() if last is None else _state(button, last)
    first, second = (button.otp_at(counter) for counter in counters)
    _type_wrong(button, _type_wrong(button, state, first), second)


@pytest.mark.parametrize("between", ["00000000", ""])
def test_hotp__another_answer_between_the_two_spoils_them(between: str) -> None:
    button = _hotp()
    state = _type_wrong(button, _state(button, 3), button.otp_at(50))
    state = _type_wrong(button, state, between)
    _type_wrong(button, state, button.otp_at(51))


def test_hotp__two_otps_are_no_way_round_a_record() -> None:
    button = _hotp()
    state = _type_wrong(button, State.new(), button.otp_at(3)).with_last(button.fingerprint(), 50)
    with pytest.raises(OTPMismatch):
        policy.match_following((button,), state, {8: button.otp_at(4)}, now=NOW, config=CONFIG)


@pytest.mark.parametrize("off", [-39, -2, 2, 20, 39])
def test_totp__two_consecutive_otps_set_a_clock_that_is_minutes_off(off: int) -> None:
    phone = _totp()
    state = _type_wrong(phone, _state(phone, STEP - 100), phone.otp_at(STEP + off))
    state = _type(phone, state, phone.otp_at(STEP + off + 1), now=NOW + 30)
    assert state.last[phone.fingerprint()] == STEP + off + 1
    # From now on one is enough, and those of this machine's time are none.
    assert _type(phone, state, phone.otp_at(STEP + off + 9), now=NOW + 270)
    if abs(off) > 2:
        _type_wrong(phone, state, phone.otp_at(STEP + 9), now=NOW + 270)


def test_totp__two_consecutive_otps_from_somebodys_notes_do_not() -> None:
    phone = _totp()
    state = _type_wrong(phone, _state(phone, STEP - 100), phone.otp_at(STEP - 20))
    _type_wrong(phone, state, phone.otp_at(STEP - 19), now=NOW + 91)
    _type_wrong(phone, state, phone.otp_at(STEP - 19), now=NOW - 1)


@pytest.mark.parametrize("off", [-41, 41, -20, 20])
def test_totp__none_from_too_far_or_with_no_drift(off: int) -> None:
    phone = _totp()
    config = Config(no_drift=abs(off) <= policy.RESYNC_STEPS)
    state = _type_wrong(phone, _state(phone, STEP - 100), phone.otp_at(STEP + off), config=config)
    _type_wrong(phone, state, phone.otp_at(STEP + off + 1), now=NOW + 30, config=config)


def test_drift__follows_a_clock_that_runs_away_step_by_step() -> None:
    phone, state = _totp(), State.new().with_last(_totp().fingerprint(), NEVER)
    for login in range(1, 60):
        ahead = login // 4  # a step in four logins
        state = _type(phone, state, phone.otp_at(STEP + 10 * login + ahead), now=NOW + 300 * login)
    assert state.drift[phone.fingerprint()] >= 2 * 13


def test_drift__one_otp_that_was_typed_late_moves_nothing() -> None:
    phone = _totp()
    state = _type(phone, _state(phone, NEVER), phone.otp_at(STEP - 1))
    assert _type(phone, state, phone.otp_at(STEP + 11), now=NOW + 300)


def test_drift__ends_at_the_farthest_that_two_otps_reach() -> None:
    phone, state = _totp(), _state(_totp(), NEVER)
    state = state.with_accepted(phone.fingerprint(), 1, drift=2 * policy.RESYNC_STEPS, now=NOW)
    for login in range(1, 9):
        otp = phone.otp_at(STEP + 10 * login + policy.RESYNC_STEPS + 1)
        state = _type(phone, state, otp, now=NOW + 300 * login)
    assert state.drift[phone.fingerprint()] == 2 * policy.RESYNC_STEPS


def test_drift__is_neither_learned_nor_used_with_no_drift() -> None:
    phone, fixed = _totp(), Config(no_drift=True)
    state = State.new().with_accepted(phone.fingerprint(), 1, drift=8, now=NOW)
    assert _match(phone, NEVER, phone.otp_at(STEP), config=fixed) == STEP
    with pytest.raises(OTPMismatch):
        policy.match_otp((phone,), state, {8: phone.otp_at(STEP + 4)}, now=NOW, config=fixed)


def test_otp__is_compared_by_tokens_of_its_length_only() -> None:
    six = TOTPToken("six", Secret(KEY), algorithm="SHA1", digits=6, created=0)
    eight = _totp()
    state = _state(six, NEVER).with_last(eight.fingerprint(), NEVER)
    typed = {6: six.otp_at(STEP), 8: "00000000"}
    assert policy.match_otp((eight, six), state, typed, now=NOW, config=CONFIG).token is six


def test_grace__lasts_as_long_as_the_option_says() -> None:
    state = State.new().with_grace("a" * 16, NOW)
    config = Config(grace=60)
    assert policy.in_grace(state, "a" * 16, now=NOW + 59, config=config)
    for name, now, each in (("a", 60, config), ("a", -1, config), ("b", 1, config), ("a", 0, Config())):
        assert not policy.in_grace(state, name * 16, now=NOW + now, config=each)


@settings(max_examples=300)
@given(
    st.lists(
        st.tuples(st.integers(-60, 60), st.integers(-45, 45), st.sampled_from((0, 1, 2)), st.booleans()),
        min_size=1,
        max_size=40,
    ),
    st.integers(0, 4),
    st.booleans(),
)
def test_policy__no_accepted_counter_is_at_or_below_an_earlier_one(
    history: list[tuple[int, int, int, bool]], window: int, no_drift: bool
) -> None:
    """The clock jumps, codes come from around it in any order, one after the other or not: what is accepted rises."""
    tokens: tuple[Token, ...] = (_totp(), HOTPToken("b", Secret(KEY[::-1]), algorithm="SHA1", digits=8, created=0))
    config = Config(window=window, no_drift=no_drift)
    states: dict[Token, State] = {token: _state(token, NEVER) for token in tokens}
    accepted: dict[Token, list[int]] = {token: [] for token in tokens}
    for clock_steps, distance, following, by_counter in history:
        now = NOW + 30 * clock_steps
        token: Token = tokens[by_counter]
        base = states[token].last[token.fingerprint()] if by_counter else now // 30
        for counter in range(max(0, base + distance), max(0, base + distance) + 1 + following):
            try:
                states[token] = _type(token, states[token], token.otp_at(counter), now=now, config=config)
            except Wrong as wrong:
                states[token] = wrong.state
            except OTPReplayed:
                continue
            else:
                accepted[token].append(counter)
    for counters in accepted.values():
        assert counters == sorted(set(counters))


def test_starting_point__is_the_present_step_for_totp_and_unknown_for_hotp() -> None:
    assert policy.starting_point(_totp(), now=NOW) == STEP
    assert policy.starting_point(_hotp(), now=NOW) is None


@pytest.mark.parametrize("drift", [-80, -9, -1, 0, 1, 9, 80])
@pytest.mark.parametrize("no_drift", [False, True])
def test_lost_record__whatever_any_service_could_have_accepted_counts_as_used(drift: int, no_drift: bool) -> None:
    """One may have followed the token's clock, and another that does not is the one that is asked afterwards."""
    phone = _totp()
    state = _state(phone, STEP - 100)
    state = state.with_accepted(phone.fingerprint(), STEP - 100, drift=drift, now=NOW)
    lost = policy.highest_used_before(phone, state, since=NOW, config=Config(no_drift=no_drift))
    assert lost >= policy.open_counters(phone, state, now=NOW, config=Config())[-1]
