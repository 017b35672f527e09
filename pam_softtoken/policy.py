"""Pure decisions: what an answer is, which counters are open to it, which it matches. No file, clock, socket or log.

The replay rule is here and only here: a counter or time step at or below the last accepted one is never accepted.
"""

from __future__ import annotations

from pam_softtoken import otp, recovery
from pam_softtoken.errors import MalformedAnswer, OTPMismatch, OTPReplayed
from pam_softtoken.mac import compare_digest
from pam_softtoken.token import HOTPToken, Token, TOTPToken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pam_softtoken.config import Config
    from pam_softtoken.state import State

MAX_ANSWER_CHARACTERS = 64
SEARCHED_STEPS = 120
"""How far from now a refused OTP is searched for, to tell a wrong clock; an hour with the usual period."""
LOST_COUNTER_RANGE = 10_000
"""How far two consecutive OTPs are searched for when a HOTP token's counter has been lost: some years of logins."""


class Match:
    """An OTP that is right: whose it is, and the counter or time step that is now used.

    Args:
        token: the token.
        counter: its counter or time step.
    """

    __slots__ = ("counter", "token")

    def __init__(self, token: Token, counter: int) -> None:
        self.token = token
        self.counter = counter


class Answer:
    """What a person typed, in its canonical form; exactly one of the two is set.

    Args:
        otp: 6 to 8 digits.
        recovery_code: 12 characters.
    """

    __slots__ = ("otp", "recovery_code")

    def __init__(self, *, otp: str = "", recovery_code: str = "") -> None:
        self.otp = otp
        self.recovery_code = recovery_code


def read_answer(text: str) -> Answer:
    """Tell an OTP from a recovery code and from nonsense.

    Args:
        text: as typed. Spaces inside an OTP, and case, spaces and hyphens of a recovery code, do not matter.

    Raises:
        MalformedAnswer: it is neither.
    """
    if len(text) > MAX_ANSWER_CHARACTERS or not text.isascii() or not text.isprintable():
        raise MalformedAnswer
    digits = text.replace(" ", "")
    if digits.isdecimal() and otp.MIN_DIGITS <= len(digits) <= otp.MAX_DIGITS:
        return Answer(otp=digits)
    code = recovery.normalise(text)
    if code is None:
        raise MalformedAnswer
    return Answer(recovery_code=code)


def open_counters(token: Token, last: int | None, *, now: int, config: Config) -> range:
    """Give the counters that could be accepted, used ones among them.

    Args:
        token: the token.
        last: its last accepted counter or time step; None when that is not known.
        now: Unix seconds.
        config: `window` and `look_ahead`.

    Returns:
        Counters or time steps. Those at or below `last` are there to tell a replay from a mismatch.
    """
    if isinstance(token, TOTPToken):
        if now < 0:
            return range(0)
        step = otp.time_step(now, token.period_s)
        return range(max(0, step - config.window), step + config.window + 1)
    if not isinstance(token, HOTPToken) or last is None:
        return range(0)
    following = max(token.counter, last + 1)
    return range(max(0, following - config.look_ahead), following + config.look_ahead)


def starting_point(token: Token, *, now: int) -> int | None:
    """Say where a token starts whose last accepted counter is not recorded.

    Returns:
        TOTP: the present time step, so that the next OTP works and no old one does. HOTP: None; nothing but two
        consecutive OTPs can tell.
    """
    return max(0, now) // token.period_s if isinstance(token, TOTPToken) else None


def highest_used_before(token: Token, *, since: int, config: Config) -> int:
    """Say which counter a token may have reached before a moment of which no record is left.

    Args:
        token: the token.
        since: Unix seconds.
        config: `window`.

    Returns:
        TOTP: the last time step that was open then. HOTP: -1, it is of no help; see `must_last`.
    """
    return max(0, since) // token.period_s + config.window if isinstance(token, TOTPToken) else -1


def must_last(token: Token) -> bool:
    """Tell whether a use has to be remembered for ever: a HOTP never expires by itself, a TOTP does."""
    return not isinstance(token, TOTPToken)


def needs_two_otps(tokens: Iterable[Token], state: State | None) -> bool:
    """Tell whether the person has to be asked for two consecutive OTPs: a HOTP token's counter has been lost."""
    return any(
        isinstance(token, HOTPToken) and (state is None or token.fingerprint() not in state.last) for token in tokens
    )


def match_otp(tokens: Iterable[Token], state: State, answer: str, *, now: int, config: Config) -> Match:
    """Find the token and counter of an OTP, and apply the replay rule.

    All tokens and the whole of their windows are computed whatever is found on the way.

    Args:
        tokens: of this user.
        state: holds a last accepted counter for each token, or the token cannot match.
        answer: 6 to 8 digits.
        now: Unix seconds.
        config: `window` and `look_ahead`.

    Raises:
        OTPReplayed: right, but used, or passed over by a later one.
        OTPMismatch: none of those.
    """
    found: Match | None = None
    replayed: Token | None = None
    typed = answer.encode()
    for token in tokens:
        last = state.last.get(token.fingerprint())
        for counter in token.matching(open_counters(token, last, now=now, config=config), typed):
            if last is None or counter <= last or (isinstance(token, HOTPToken) and counter < token.counter):
                replayed = token
            elif found is None:
                found = Match(token, counter)
    if found is not None:
        return found
    if replayed is not None:
        raise OTPReplayed(replayed.name)
    raise OTPMismatch


def clock_off_s(tokens: Iterable[Token], state: State, answer: str, *, now: int, window: int) -> int:
    """Estimate how wrong a clock is, for the log and for whoever asks why a code was refused; decides nothing.

    Args:
        tokens: of this user.
        state: what has been accepted.
        answer: the refused OTP, 6 to 8 digits.
        now: Unix seconds.
        window: time steps on each side that are right.

    Returns:
        Seconds by which a token's clock is ahead of this machine's; negative when it is behind; 0 when the OTP is of no
        time step near by, and no later one has been accepted.
    """
    for token in tokens:
        if not isinstance(token, TOTPToken):
            continue
        step = max(0, now) // token.period_s
        for counter in token.matching(range(max(0, step - SEARCHED_STEPS), step + SEARCHED_STEPS + 1), answer.encode()):
            if abs(counter - step) > window:
                return (counter - step) * token.period_s
        last = state.last.get(token.fingerprint(), step)
        if last > step + window:
            return (last - step) * token.period_s
    return 0


def match_two_otps(tokens: Iterable[Token], state: State, first: str, second: str) -> Match:
    """Find a HOTP token whose counter has been lost by two consecutive OTPs.

    Raises:
        OTPMismatch: no such token has them one after the other.
    """
    found: Match | None = None
    for token in tokens:
        if not isinstance(token, HOTPToken) or token.fingerprint() in state.last:
            continue
        before = token.otp_at(token.counter).encode()
        for counter in range(token.counter + 1, token.counter + LOST_COUNTER_RANGE):
            this = token.otp_at(counter).encode()
            consecutive = compare_digest(before, first.encode()) & compare_digest(this, second.encode())
            if consecutive and found is None:
                found = Match(token, counter)
            before = this
    if found is None:
        raise OTPMismatch
    return found
