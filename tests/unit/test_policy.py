"""The replay rule and the windows, as pure decisions."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pam_softtoken import policy
from pam_softtoken.config import Config
from pam_softtoken.errors import MalformedAnswer, OTPMismatch, OTPReplayed, Refused
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
    return policy.match_otp((token,), _state(token, last), otp, now=now, config=config).counter


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
        policy.match_otp((_totp(),), State.new(), _totp().otp_at(STEP), now=NOW, config=CONFIG)


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
        policy.match_otp((_hotp(),), State.new(), _hotp().otp_at(0), now=NOW, config=CONFIG)


@pytest.mark.parametrize("counter", [1, 2, 500, policy.LOST_COUNTER_RANGE - 1])
def test_hotp__two_consecutive_otps_find_a_lost_counter(counter: int) -> None:
    pair = _hotp().otp_at(counter - 1), _hotp().otp_at(counter)
    assert policy.match_two_otps((_hotp(),), State.new(), *pair).counter == counter


@pytest.mark.parametrize("counters", [(5, 5), (6, 5), (5, 7), (0, 2)])
def test_hotp__two_others_do_not(counters: tuple[int, int]) -> None:
    first, second = (_hotp().otp_at(counter) for counter in counters)
    with pytest.raises(OTPMismatch):
        policy.match_two_otps((_hotp(),), State.new(), first, second)


def test_hotp__two_otps_are_no_way_round_a_record() -> None:
    pair = _hotp().otp_at(3), _hotp().otp_at(4)
    with pytest.raises(OTPMismatch):
        policy.match_two_otps((_hotp(),), _state(_hotp(), 10), *pair)


def test_hotp__an_empty_first_answer_does_not_stand_for_the_start() -> None:
    with pytest.raises(OTPMismatch):
        policy.match_two_otps((_hotp(),), State.new(), "", _hotp().otp_at(0))


@settings(max_examples=200)
@given(
    st.lists(st.tuples(st.integers(-100, 100), st.integers(-4, 4), st.booleans()), min_size=1, max_size=40),
    st.integers(0, 4),
)
def test_policy__no_accepted_counter_is_at_or_below_an_earlier_one(
    history: list[tuple[int, int, bool]], window: int
) -> None:
    """The clock jumps, codes come from around it and in any order; whatever is accepted only ever rises."""
    tokens: tuple[Token, ...] = (_totp(), HOTPToken("b", Secret(KEY[::-1]), algorithm="SHA1", digits=8, created=0))
    config = Config(window=window)
    present = State.new()
    for token in tokens:
        present = present.with_last(token.fingerprint(), NEVER)
    accepted: dict[str, list[int]] = {token.fingerprint(): [] for token in tokens}
    for clock_steps, distance, by_counter in history:
        now = NOW + 30 * clock_steps
        token = tokens[by_counter]
        base = present.last[token.fingerprint()] if by_counter else now // 30
        try:
            match = policy.match_otp(tokens, present, token.otp_at(max(0, base + distance)), now=now, config=config)
        except Refused:
            continue
        accepted[match.token.fingerprint()].append(match.counter)
        present = present.with_last(match.token.fingerprint(), match.counter)
    for counters in accepted.values():
        assert counters == sorted(set(counters))


@pytest.mark.parametrize("typed", ["123456", "123 456", " 12 34 56 ", "1234567", "12345678"])
def test_answer__digits_with_spaces_are_an_otp(typed: str) -> None:
    assert policy.read_answer(typed).otp == typed.replace(" ", "")


@pytest.mark.parametrize(
    "typed",
    [
        "",
        " ",
        "1",
        "12345",
        "123456789",
        "12345a",
        "-12345",
        "+123456",
        "1_2_3_4",
        "0x1234",
        "12.3456",
        "\uff11\uff12\uff13\uff14\uff15\uff16",
        "\u0661\u0662\u0663\u0664\u0665\u0666",
        "123\t456",
        "123456\n",
        "123456\x00",
        "123456\udcff",
        "1" * 512,
        " " * 60 + "123456",
    ],
)
def test_answer__anything_else_is_malformed(typed: str) -> None:
    with pytest.raises(MalformedAnswer):
        policy.read_answer(typed)


def test_answer__a_recovery_code_is_one_in_any_spelling() -> None:
    assert policy.read_answer("9kqt 4haw-7xec").recovery_code == "9KQT4HAW7XEC"


def test_starting_point__is_the_present_step_for_totp_and_unknown_for_hotp() -> None:
    assert policy.starting_point(_totp(), now=NOW) == STEP
    assert policy.starting_point(_hotp(), now=NOW) is None
