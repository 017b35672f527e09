"""The replay rule and the windows, as pure decisions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pam_softtoken.account.proc import Boot
from pam_softtoken.account.state import NEVER, State
from pam_softtoken.errors import CodeExpired, OTPMismatch, OTPReplayed, Refused
from pam_softtoken.login import clock_doubt, lifetime, policy
from pam_softtoken.login.policy import ACCEPTED, NOTED, USED, Finding, Limits
from pam_softtoken.otp import hotp
from pam_softtoken.otp.token import HOTPToken, Secret, Token, TOTPToken
from tests.support import sampling

NOW = 1_700_000_010  # 10 s into step 56666667 of 30 s
STEP = NOW // 30
KEY = b"12345678901234567890"
LIMITS = Limits(window=1, look_ahead=10, no_drift=False)
FIXED = Limits(window=1, look_ahead=10, no_drift=True)
KEYS = ("a" * 24,)


def _totp() -> TOTPToken:
    return TOTPToken("phone", Secret(KEY), algorithm="SHA1", digits=8, created=0)


def _hotp(counter: int = 0) -> HOTPToken:
    return HOTPToken("button", Secret(KEY), algorithm="SHA1", digits=8, created=0, counter=counter)


def _state(token: Token, last: int) -> State:
    return State.new().with_last(token.fingerprint(), last)


def _match(token: Token, last: int, otp: str, *, now: int = NOW, limits: Limits = LIMITS) -> int:
    """Return the counter that an answer is accepted for. Raise the reason if it is refused."""
    return _judged(policy.examine((token,), _state(token, last), {8: otp}, now=now, limits=limits)).counter


def _judged(finding: Finding) -> Finding:
    if finding.kind == USED or finding.spent is not None:
        assert finding.token is not None
        raise OTPReplayed(finding.token.name)
    if finding.kind != ACCEPTED:
        raise OTPMismatch(noted=finding.kind == NOTED)
    return finding


@pytest.mark.parametrize("distance", [-1, 0, 1])
def test_totp__steps_inside_the_window_match(distance: int) -> None:
    assert _match(_totp(), NEVER, _totp().otp_at(STEP + distance)) == STEP + distance


@pytest.mark.parametrize("distance", [-3, -2, 2, 3])
def test_totp__steps_outside_the_window_do_not(distance: int) -> None:
    with pytest.raises(OTPMismatch):
        _match(_totp(), NEVER, _totp().otp_at(STEP + distance))


def test_totp__a_window_of_zero_takes_only_the_present_step() -> None:
    narrow = Limits(window=0, look_ahead=10, no_drift=False)
    assert _match(_totp(), NEVER, _totp().otp_at(STEP), limits=narrow) == STEP
    with pytest.raises(OTPMismatch):
        _match(_totp(), NEVER, _totp().otp_at(STEP + 1), limits=narrow)


@pytest.mark.parametrize("last", [STEP, STEP + 1])
def test_totp__a_step_at_or_below_the_last_one_is_a_replay(last: int) -> None:
    with pytest.raises(OTPReplayed) as caught:
        _match(_totp(), last, _totp().otp_at(STEP))
    assert caught.value.token == "phone"


def test_totp__without_a_record_nothing_matches() -> None:
    with pytest.raises(OTPReplayed):
        _judged(policy.examine((_totp(),), State.new(), {8: _totp().otp_at(STEP)}, now=NOW, limits=LIMITS))


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
        _judged(policy.examine((_hotp(),), State.new(), {8: _hotp().otp_at(0)}, now=NOW, limits=LIMITS))


def _type(
    token: Token,
    state: State,
    otp: str,
    *,
    now: int = NOW,
    limits: Limits = LIMITS,
    keys: tuple[str, ...] = KEYS,
    waiting: bool = False,
) -> State:
    """Process an answer as a login does. If it is refused, raise the reason, with the new state."""
    finding = policy.examine((token,), state, {8: otp}, keys=keys, now=now, limits=limits, waiting=waiting)
    if finding.kind == ACCEPTED:
        state = state.with_accepted(token.fingerprint(), finding.counter, drift=finding.drift, now=now)
        return state.without_notes(keys)
    if finding.kind == USED:
        raise OTPReplayed(token.name)
    if finding.spent is not None:
        state = state.with_assumed(*finding.spent)
    state = state.without_notes(keys)
    if finding.notes:
        state = state.with_note(keys[0], finding.notes, now, held=finding.token is not None)
    raise Wrong(state)


class Wrong(Exception):
    """A wrong answer, with the state that it leaves."""

    def __init__(self, state: State) -> None:
        self.state = state


def _type_wrong(
    token: Token,
    state: State,
    otp: str,
    *,
    now: int = NOW,
    limits: Limits = LIMITS,
    keys: tuple[str, ...] = KEYS,
    waiting: bool = False,
) -> State:
    with pytest.raises(Wrong) as caught:
        _type(token, state, otp, now=now, limits=limits, keys=keys, waiting=waiting)
    return caught.value.state


@pytest.mark.parametrize("ahead", [10, 11, 50, policy.RESYNC_COUNTERS - 2])
def test_hotp__two_consecutive_otps_bring_it_back_from_far_ahead(ahead: int) -> None:
    button = _hotp()
    state = _type_wrong(button, _state(button, 41), button.otp_at(42 + ahead))
    assert _type(button, state, button.otp_at(43 + ahead)).last[button.fingerprint()] == 43 + ahead


@pytest.mark.parametrize("ahead", [policy.RESYNC_COUNTERS - 1, policy.RESYNC_COUNTERS, 5000])
def test_hotp__two_consecutive_otps_from_farther_ahead_are_refused(ahead: int) -> None:
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
def test_hotp__another_answer_between_the_two_ends_the_pair(between: str) -> None:
    button = _hotp()
    state = _type_wrong(button, _state(button, 3), button.otp_at(50))
    state = _type_wrong(button, state, between)
    _type_wrong(button, state, button.otp_at(51))


def test_hotp__two_otps_are_no_way_round_a_record() -> None:
    button = _hotp()
    state = _type_wrong(button, State.new(), button.otp_at(3)).with_last(button.fingerprint(), 50)
    _type_wrong(button, state, button.otp_at(4))


@pytest.mark.parametrize("off", [-39, -2, 2, 20, 39])
def test_totp__two_consecutive_otps_set_a_clock_that_is_minutes_off(off: int) -> None:
    phone = _totp()
    state = _type_wrong(phone, _state(phone, STEP - 100), phone.otp_at(STEP + off))
    state = _type(phone, state, phone.otp_at(STEP + off + 1), now=NOW + 30)
    assert state.last[phone.fingerprint()] == STEP + off + 1
    # From now on, one code is enough. Codes by this machine's time no longer count.
    assert _type(phone, state, phone.otp_at(STEP + off + 9), now=NOW + 270)
    if abs(off) > 2:
        _type_wrong(phone, state, phone.otp_at(STEP + 9), now=NOW + 270)


@pytest.mark.claim(
    "Two codes in a row, or a clock that is followed, bring no used code back, whatever the order of codes and clocks."
)
def test_totp__two_consecutive_otps_typed_too_late_or_too_early_are_refused() -> None:
    phone = _totp()
    state = _type_wrong(phone, _state(phone, STEP - 100), phone.otp_at(STEP - 20))
    _type_wrong(phone, state, phone.otp_at(STEP - 19), now=NOW + 91)
    _type_wrong(phone, state, phone.otp_at(STEP - 19), now=NOW - 1)


@pytest.mark.parametrize("off", [-41, 41, -20, 20])
def test_totp__two_codes_from_too_far_or_with_no_drift_are_refused(off: int) -> None:
    phone = _totp()
    limits = FIXED if abs(off) <= policy.RESYNC_STEPS else LIMITS
    state = _type_wrong(phone, _state(phone, STEP - 100), phone.otp_at(STEP + off), limits=limits)
    _type_wrong(phone, state, phone.otp_at(STEP + off + 1), now=NOW + 30, limits=limits)


def test_drift__follows_a_clock_that_runs_away_step_by_step() -> None:
    phone, state = _totp(), State.new().with_last(_totp().fingerprint(), NEVER)
    for login in range(1, 60):
        ahead = login // 4  # a step in four logins
        state = _type(phone, state, phone.otp_at(STEP + 10 * login + ahead), now=NOW + 300 * login)
    assert state.drift[phone.fingerprint()] >= 2 * 13


def test_drift__one_late_otp_does_not_change_it() -> None:
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
    phone = _totp()
    state = State.new().with_accepted(phone.fingerprint(), 1, drift=8, now=NOW)
    assert _match(phone, NEVER, phone.otp_at(STEP), limits=FIXED) == STEP
    with pytest.raises(OTPMismatch):
        _judged(policy.examine((phone,), state, {8: phone.otp_at(STEP + 4)}, now=NOW, limits=FIXED))


def test_otp__is_compared_by_tokens_of_its_length_only() -> None:
    six = TOTPToken("six", Secret(KEY), algorithm="SHA1", digits=6, created=0)
    eight = _totp()
    state = _state(six, NEVER).with_last(eight.fingerprint(), NEVER)
    typed = {6: six.otp_at(STEP), 8: "00000000"}
    assert _judged(policy.examine((eight, six), state, typed, now=NOW, limits=LIMITS)).token is six


def test_grace__lasts_as_long_as_the_option_says() -> None:
    state = State.new().with_grace("a" * 16, NOW, 1000)
    assert lifetime.in_grace(state, "a" * 16, now=NOW + 59, uptime_s=1059, grace_s=60)
    for name, seconds, grace_s in (("a", 60, 60), ("a", -1, 60), ("b", 1, 60), ("a", 0, 0)):
        times = {"now": NOW + seconds, "uptime_s": 1000 + seconds}
        assert not lifetime.in_grace(state, name * 16, grace_s=grace_s, **times)


@pytest.mark.parametrize(("now", "uptime_s"), [(NOW, 1060), (NOW + 30, 1060), (NOW + 60, 1001), (NOW + 10**9, 1001)])
def test_grace__gets_no_longer_by_a_jump_of_the_clock(now: int, uptime_s: int) -> None:
    state = State.new().with_grace("a" * 16, NOW, 1000)
    assert not lifetime.in_grace(state, "a" * 16, now=now, uptime_s=uptime_s, grace_s=60)


@settings(max_examples=sampling.amount(300, full=3000))
@given(
    st.lists(
        st.tuples(st.integers(-60, 60), st.integers(-45, 45), st.sampled_from((0, 1, 2)), st.booleans(), st.booleans()),
        min_size=1,
        max_size=40,
    ),
    st.integers(0, 4),
    st.booleans(),
)
@pytest.mark.claim(
    "Two codes in a row, or a clock that is followed, bring no used code back, whatever the order of codes and clocks."
)
def test_policy__no_accepted_counter_is_at_or_below_an_earlier_one(
    history: list[tuple[int, int, int, bool, bool]], window: int, no_drift: bool
) -> None:
    """The clock jumps. Codes come from near it in any order, consecutive or not, during a wait or not."""
    tokens: tuple[Token, ...] = (_totp(), HOTPToken("b", Secret(KEY[::-1]), algorithm="SHA1", digits=8, created=0))
    limits = Limits(window=window, look_ahead=10, no_drift=no_drift)
    states: dict[Token, State] = {token: _state(token, NEVER) for token in tokens}
    accepted: dict[Token, list[int]] = {token: [] for token in tokens}
    for clock_steps, distance, following, by_counter, waiting in history:
        now = NOW + 30 * clock_steps
        token: Token = tokens[by_counter]
        base = states[token].last[token.fingerprint()] if by_counter else now // 30
        for counter in range(max(0, base + distance), max(0, base + distance) + 1 + following):
            try:
                otp = token.otp_at(counter)
                states[token] = _type(token, states[token], otp, now=now, limits=limits, waiting=waiting)
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
    """Some services may have followed the token's clock and others not. Any of them may be asked later."""
    phone = _totp()
    state = _state(phone, STEP - 100)
    state = state.with_accepted(phone.fingerprint(), STEP - 100, drift=drift, now=NOW)
    lost = policy.highest_used_before(phone, state, since=NOW, limits=FIXED if no_drift else LIMITS)
    for service in (LIMITS, FIXED):
        assert lost >= policy.open_counters(phone, state, now=NOW, limits=service)[-1]


@pytest.mark.parametrize("distance", [-1, 0, 1])
def test_waiting__one_code_is_used_up_and_the_one_after_it_accepted(distance: int) -> None:
    phone = _totp()
    state = _type_wrong(phone, _state(phone, NEVER), phone.otp_at(STEP + distance), waiting=True)
    assert state.last[phone.fingerprint()] == NEVER
    with pytest.raises(OTPReplayed):
        _type(phone, state.without_notes(KEYS), phone.otp_at(STEP + distance), keys=("c" * 24,))
    after = _type(phone, state, phone.otp_at(STEP + distance + 1), now=NOW + 30, waiting=True)
    assert after.last[phone.fingerprint()] == STEP + distance + 1
    assert after.notes == {}


def test_waiting__noted_code_again_does_not_end_the_pair() -> None:
    phone = _totp()
    state = _type_wrong(phone, _state(phone, NEVER), phone.otp_at(STEP), waiting=True)
    for seconds in (10, 20):
        with pytest.raises(OTPReplayed):
            _type(phone, state, phone.otp_at(STEP), now=NOW + seconds, waiting=True)
    assert _type(phone, state, phone.otp_at(STEP + 1), now=NOW + 30, waiting=True)


@pytest.mark.parametrize("seconds", [-1, 91])
def test_waiting__the_second_code_too_late_or_before_the_first_is_only_noted(seconds: int) -> None:
    phone = _totp()
    wide = Limits(window=4, look_ahead=10, no_drift=False)
    state = _type_wrong(phone, _state(phone, NEVER), phone.otp_at(STEP), limits=wide, waiting=True)
    _type_wrong(phone, state, phone.otp_at(STEP + 1), now=NOW + seconds, limits=wide, waiting=True)


def test_waiting__answers_from_elsewhere_neither_end_nor_complete_the_pair() -> None:
    phone, elsewhere = _totp(), ("c" * 24,)
    state = _type_wrong(phone, _state(phone, NEVER), phone.otp_at(STEP), waiting=True)
    state = _type_wrong(phone, state, "00000000", keys=elsewhere, waiting=True)
    _type_wrong(phone, state, phone.otp_at(STEP + 1), now=NOW + 30, keys=elsewhere, waiting=True)
    assert _type(phone, state, phone.otp_at(STEP + 1), now=NOW + 30, waiting=True)


def test_waiting__wrong_answer_of_the_same_session_ends_the_pair() -> None:
    phone = _totp()
    state = _type_wrong(phone, _state(phone, NEVER), phone.otp_at(STEP), waiting=True)
    state = _type_wrong(phone, state, "00000000", waiting=True)
    _type_wrong(phone, state, phone.otp_at(STEP + 1), now=NOW + 30, waiting=True)


@pytest.mark.parametrize("off", [-20, -2, 2, 20])
def test_waiting__a_code_outside_the_window_is_not_noted(off: int) -> None:
    """During a wait, a guesser can answer without limit, and would hit one of 81 noted codes much sooner."""
    phone = _totp()
    state = _type_wrong(phone, _state(phone, NEVER), phone.otp_at(STEP + off), waiting=True)
    assert state.notes == {}


def test_waiting__hotp_takes_two_consecutive_codes() -> None:
    button = _hotp()
    state = _type_wrong(button, _state(button, 41), button.otp_at(44), waiting=True)
    with pytest.raises(OTPReplayed):
        _type(button, state, button.otp_at(44), keys=("c" * 24,))
    assert _type(button, state, button.otp_at(45), waiting=True).last[button.fingerprint()] == 45


def test_lost_record__two_consecutive_totps_of_the_past_are_not_accepted() -> None:
    """Nobody knows which codes were used, so only codes after the present step count."""
    phone = _totp()
    state = _type_wrong(phone, State.new(), phone.otp_at(STEP - 20))
    assert state.notes == {}
    _type_wrong(phone, state, phone.otp_at(STEP - 19), now=NOW + 1)


def test_lost_record__only_a_right_answer_makes_a_new_one_at_the_present_step() -> None:
    phone = _totp()
    assert _type_wrong(phone, State.new(), "00000000").last == {}
    state = _type_wrong(phone, State.new(), phone.otp_at(STEP - 1))
    assert (state.last, state.assumed) == ({}, {phone.fingerprint(): STEP})
    assert _type(phone, state.without_notes(KEYS), phone.otp_at(STEP + 1), now=NOW + 30)


def test_confirm__says_whether_a_code_is_used_or_wrong() -> None:
    phone = _totp()
    assert policy.confirm(phone, State.new(), phone.otp_at(STEP), now=NOW, limits=LIMITS).counter == STEP
    with pytest.raises(OTPReplayed):
        policy.confirm(phone, _state(phone, STEP), phone.otp_at(STEP), now=NOW, limits=LIMITS)
    with pytest.raises(Refused):
        policy.confirm(phone, State.new(), phone.otp_at(STEP + 20), now=NOW, limits=LIMITS)


def test_totp__code_typed_too_early_is_accepted_at_its_time() -> None:
    phone = _totp()
    state = _type_wrong(phone, _state(phone, NEVER), phone.otp_at(STEP + 2))
    assert state.notes != {}
    assert _type(phone, state, phone.otp_at(STEP + 2), now=NOW + 30).last[phone.fingerprint()] == STEP + 2


def test_hotp__code_too_far_ahead_for_one_service_works_for_a_wider_look_ahead() -> None:
    button = _hotp()
    state = _type_wrong(button, _state(button, 3), button.otp_at(20))
    far = Limits(window=1, look_ahead=20, no_drift=False)
    assert _type(button, state, button.otp_at(20), limits=far).last[button.fingerprint()] == 20


@pytest.mark.parametrize("window", [0, 1, 20])
@pytest.mark.parametrize("last", [NEVER, STEP - 100])
def test_assumed__steps_are_used_until_the_clock_turns_out_to_have_been_ahead(window: int, last: int) -> None:
    phone, limits = _totp(), Limits(window=window, look_ahead=10, no_drift=False)
    ahead = STEP + 2880  # a day
    state = _state(phone, last)
    wrong = NOW + 30 * 2880
    state = _type_wrong(phone, state, phone.otp_at(ahead), now=wrong, limits=limits, waiting=True).without_notes(KEYS)
    with pytest.raises(OTPReplayed):
        _type(phone, state, phone.otp_at(ahead), now=wrong, limits=limits)
    if last == NEVER:  # now nothing is known for certain
        state = _type_wrong(phone, state, phone.otp_at(STEP), limits=limits)
        assert state.last == {phone.fingerprint(): NEVER}
    else:
        with pytest.raises(OTPReplayed):
            _type(phone, state, phone.otp_at(ahead), now=wrong, limits=limits)
    after = _type(phone, state, phone.otp_at(STEP + 1), now=NOW + 30, limits=limits)
    assert after.last == {phone.fingerprint(): STEP + 1}


@pytest.mark.parametrize("ahead", [1, 30, 2880, 10**6])
def test_confirm__accepts_a_code_if_only_an_assumption_from_the_future_is_left(ahead: int) -> None:
    phone = _totp()
    state = _state(phone, NEVER).with_assumed(phone.fingerprint(), STEP + 1 + ahead)
    assert policy.confirm(phone, state, phone.otp_at(STEP), now=NOW, limits=LIMITS).counter == STEP


def _doubt(state: State, otp: str, *, now: int = NOW, created: int = 0) -> tuple[str, int] | None:
    phone = TOTPToken("phone", Secret(KEY), algorithm="SHA1", digits=8, created=created)
    doubt = clock_doubt.doubt_of((phone, _hotp()), state, {8: otp}, now=now, limits=LIMITS)
    return (doubt.kind, doubt.seconds) if doubt is not None else None


TODAY = 2_000_000_010  # 30 s into a step
DAY_S = 86_400


def test_clock_doubt__distinguishes_a_record_from_the_future_and_a_wrong_clock() -> None:
    phone = _totp()
    today = TODAY // 30
    ahead = _state(phone, today + 2880)
    assert _doubt(ahead, phone.otp_at(today), now=TODAY) == ("record", 2880 * 30 - TODAY % 30)
    assert _doubt(ahead, "00000000", now=TODAY) == ("unclear", 2880 * 30 - TODAY % 30)
    for off in (-100, -9, 9, 100):
        assert _doubt(_state(phone, today - 200), phone.otp_at(today + off), now=TODAY) == ("app", 30 * off)
        assert _doubt(ahead, phone.otp_at(today + off), now=TODAY) == ("app", 30 * off)
    assert _doubt(_state(phone, today - 5), "00000000", now=TODAY, created=TODAY + DAY_S) == ("unclear", DAY_S)


@pytest.mark.parametrize("now", [0, 10 * DAY_S, hotp.RELEASED - 1])
def test_clock_doubt__names_a_clock_that_was_never_set_for_any_answer(now: int) -> None:
    for typed in ("00000000", _totp().otp_at(now // 30)):
        assert _doubt(_state(_totp(), TODAY // 30), typed, now=now) == ("unset", now)


def test_clock_doubt__is_none_for_a_wrong_code_while_the_clock_is_right() -> None:
    phone = _totp()
    today = TODAY // 30
    for last in (NEVER, today - 1, today, today + 1):  # the last one of an app that is a little ahead
        for typed in ("00000000", phone.otp_at(today - 1), phone.otp_at(today)):
            assert _doubt(_state(phone, last), typed, now=TODAY, created=TODAY) is None


BOOT, OTHER_BOOT, NO_BOOT = Boot("e" * 16, 5000), Boot("f" * 16, 10), Boot("", 5000)


@pytest.mark.parametrize(
    ("clock", "uptime_s", "boot", "is_valid"),
    [
        (0, 0, BOOT, True),
        (3599, 3599, BOOT, True),
        (3600, 3600, BOOT, False),
        (10**8, 60, BOOT, False),  # during a jump forward
        (120, 120, BOOT, True),  # after it
        (-(10**8), 60, BOOT, True),  # after a jump back
        (-(10**8), 3600, BOOT, False),
        (10, -10, BOOT, False),
        (3599, 0, OTHER_BOOT, True),
        (3600, 0, OTHER_BOOT, False),
        (-1, 0, OTHER_BOOT, False),
        (-(10**8), 60, NO_BOOT, False),
        (60, 60, NO_BOOT, True),
    ],
)
def test_issued_code__is_valid_by_two_clocks_as_long_as_the_machine_runs(
    clock: int, uptime_s: int, boot: Boot, *, is_valid: bool
) -> None:
    state = State.new().with_issued("a" * 16, "b" * 32, since=NOW, until=NOW + 3600, boot=BOOT.name, uptime_s=5000)
    later = Boot(boot.name, 5000 + uptime_s)
    if is_valid:
        lifetime.require_issued_code_in_time(state, "a" * 16, now=NOW + clock, boot=later)
        return
    with pytest.raises(CodeExpired) as caught:
        lifetime.require_issued_code_in_time(state, "a" * 16, now=NOW + clock, boot=later)
    assert (caught.value.begins_in_s > 0) == (clock < 0 and boot is not BOOT)


def test_issued_code__two_unknown_starts_of_the_machine_are_not_the_same() -> None:
    state = State.new().with_issued("a" * 16, "b" * 32, since=NOW, until=NOW + 3600)
    with pytest.raises(CodeExpired):
        lifetime.require_issued_code_in_time(state, "a" * 16, now=NOW - 1, boot=Boot("", 0))


def test_issued_code__from_a_clock_ahead_expires_once_a_code_shows_the_right_time() -> None:
    state = State.new().with_issued("a" * 16, "b" * 32, since=NOW, until=NOW + 3600, boot=BOOT.name, uptime_s=5000)
    assert lifetime.without_issued_code_of_later(state, now=NOW - 9, boot=BOOT) is state
    assert lifetime.without_issued_code_of_later(state, now=NOW + 9, boot=OTHER_BOOT) is state
    assert lifetime.without_issued_code_of_later(state, now=NOW - 9, boot=OTHER_BOOT).issued == {}
