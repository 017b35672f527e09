"""Pure decisions: which counters are open to an OTP, which it matches, what it tells of the token's clock.

The replay rule is here and only here: a counter or time step at or below the last accepted one is never accepted. No
file, clock, socket or log.
"""

from __future__ import annotations

from pam_softtoken import otp
from pam_softtoken.errors import OTPMismatch, OTPReplayed
from pam_softtoken.token import HOTPToken, Token, TOTPToken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pam_softtoken.config import Config
    from pam_softtoken.state import State

    OTPs = dict[int, str]

RESYNC_STEPS = 40
"""TOTP: how far from now two consecutive OTPs are found; 20 minutes with the usual period."""
RESYNC_COUNTERS = 100
"""HOTP: how far ahead two consecutive OTPs are found."""
LOST_COUNTER_RANGE = 10_000
"""The same when a HOTP token's counter has been lost: some years of logins."""
SEARCHED_STEPS = 120
"""How far from now a refused OTP is searched for, to tell a wrong clock; an hour with the usual period."""


class Match:
    """An OTP that is right: whose it is, the counter or time step that is now used, and what it tells of the clock.

    Args:
        token: the token.
        counter: its counter or time step.
        drift: by how many half time steps the token's clock is taken to be ahead from now on.
    """

    __slots__ = ("counter", "drift", "token")

    def __init__(self, token: Token, counter: int, *, drift: int = 0) -> None:
        self.token = token
        self.counter = counter
        self.drift = drift


def open_counters(token: Token, state: State, *, now: int, config: Config) -> range:
    """Give the counters that could be accepted, used ones among them.

    Args:
        token: the token.
        state: holds its last accepted counter, and its drift.
        now: Unix seconds.
        config: `window`, `look_ahead` and `no_drift`.

    Returns:
        Counters or time steps. Those at or below the last accepted one are there to tell a replay from a mismatch.

    Source:
        RFC 4226, section 7.2 (look-ahead), RFC 6238, section 5.2 (window) and 6 (drift).
    """
    if isinstance(token, TOTPToken):
        if now < 0:
            return range(0)
        step = otp.time_step(now, token.period_s)
        if not config.no_drift:
            step += _whole_steps(state.drift.get(token.fingerprint(), 0))
        return range(max(0, step - config.window), max(0, step + config.window + 1))
    last = state.last.get(token.fingerprint())
    if not isinstance(token, HOTPToken) or last is None:
        return range(0)
    following = max(token.counter, last + 1)
    return range(max(0, following - config.look_ahead), following + config.look_ahead)


def _whole_steps(drift: int) -> int:
    """Give the whole steps of a drift. Half a step does not move the window: one OTP that was typed late must not."""
    return drift // 2 if drift >= 0 else -(-drift // 2)


def _is_used(token: Token, last: int, counter: int) -> bool:
    """Apply the replay rule."""
    return counter <= last or (isinstance(token, HOTPToken) and counter < token.counter)


def starting_point(token: Token, *, now: int) -> int | None:
    """Say where a token starts whose last accepted counter is not recorded.

    Returns:
        TOTP: the present time step, so that the next OTP works and no old one does. HOTP: None; nothing but two
        consecutive OTPs can tell.
    """
    return max(0, now) // token.period_s if isinstance(token, TOTPToken) else None


def highest_used_before(token: Token, state: State, *, since: int, config: Config) -> int:
    """Say which counter a token may have reached before a moment of which no record is left.

    Args:
        token: the token.
        state: its drift, which is recorded only where records last.
        since: Unix seconds.
        config: `window` and `no_drift`.

    Returns:
        TOTP: the last time step that was open then, to any service. HOTP: -1, it is of no help; see `must_last`.
    """
    if not isinstance(token, TOTPToken):
        return -1
    drift = _whole_steps(state.drift.get(token.fingerprint(), 0))
    if config.no_drift:
        drift = max(0, drift)  # another service may have followed the token's clock
    return otp.time_step(max(0, since), token.period_s) + drift + config.window


def must_last(token: Token) -> bool:
    """Tell whether a use has to be remembered for ever: a HOTP never expires by itself, a TOTP does."""
    return not isinstance(token, TOTPToken)


def match_otp(tokens: Iterable[Token], state: State, typed: OTPs, *, now: int, config: Config) -> Match:
    """Find the token and counter of an OTP, and apply the replay rule.

    All tokens and the whole of their windows are computed whatever is found on the way.

    Args:
        tokens: of this user.
        state: holds a last accepted counter for each token, or the token cannot match.
        typed: the OTP that was typed, for each number of digits that it could have; a token looks at one.
        now: Unix seconds.
        config: `window`, `look_ahead` and `no_drift`.

    Raises:
        OTPReplayed: right, but used, or passed over by a later one.
        OTPMismatch: none of those.
    """
    found: Match | None = None
    replayed: Token | None = None
    for token in tokens:
        last = state.last.get(token.fingerprint())
        for counter in token.matching(open_counters(token, state, now=now, config=config), _typed(token, typed)):
            if last is None or _is_used(token, last, counter):
                replayed = token
            elif found is None:
                found = _match(token, state, counter, now=now)
    if found is not None:
        return found
    if replayed is not None:
        raise OTPReplayed(replayed.name)
    raise OTPMismatch


def match_following(tokens: Iterable[Token], state: State, typed: OTPs, *, now: int, config: Config) -> Match:
    """Find the token whose OTP was typed right after the one before it: two consecutive OTPs, both out of the window.

    Raises:
        OTPMismatch: no token has them one after the other.

    Source:
        RFC 4226, section 7.4.
    """
    found: Match | None = None
    for token in tokens:
        when, *counters = state.near.get(token.fingerprint(), (0,))
        last = state.last.get(token.fingerprint(), -1)
        for counter in counters:
            following = counter + 1
            fits = token.matching(range(following, following + 1), _typed(token, typed))
            reachable = following in _resync_counters(token, state, now=now, config=config)
            if fits and reachable and not _is_used(token, last, following) and _in_step(token, now - when):
                found = found or _match(token, state, following, now=now, resync=True)
    if found is None:
        raise OTPMismatch
    return found


def nearby(
    tokens: Iterable[Token], state: State, typed: OTPs, *, now: int, config: Config
) -> dict[str, tuple[int, ...]]:
    """Find for which counters out of the window a refused OTP is right, so that the next one can bring the token there.

    Returns:
        For each fingerprint the counters or time steps, none of them used.
    """
    found = {}
    for token in tokens:
        last = state.last.get(token.fingerprint(), -1)
        reachable = _resync_counters(token, state, now=now, config=config)
        counters = [each for each in token.matching(reachable, _typed(token, typed)) if not _is_used(token, last, each)]
        if counters:
            found[token.fingerprint()] = tuple(counters)
    return found


def _typed(token: Token, typed: OTPs) -> bytes:
    return typed.get(token.digits, "").encode()


def _match(token: Token, state: State, counter: int, *, now: int, resync: bool = False) -> Match:
    """Say what an accepted OTP tells of the token's clock.

    The drift follows by half a step at a time, and at once where two consecutive OTPs have shown it.
    """
    if not isinstance(token, TOTPToken):
        return Match(token, counter)
    seen = 2 * (counter - otp.time_step(now, token.period_s))
    drift = state.drift.get(token.fingerprint(), 0)
    drift = seen if resync else drift + (seen > drift) - (seen < drift)
    return Match(token, counter, drift=max(-2 * RESYNC_STEPS, min(drift, 2 * RESYNC_STEPS)))


def _resync_counters(token: Token, state: State, *, now: int, config: Config) -> range:
    if isinstance(token, TOTPToken):
        if now < 0 or config.no_drift:
            return range(0)
        step = otp.time_step(now, token.period_s)
        return range(max(0, step - RESYNC_STEPS), step + RESYNC_STEPS + 1)
    last = state.last.get(token.fingerprint())
    start = token.counter if isinstance(token, HOTPToken) else 0
    if last is None:
        return range(start, start + LOST_COUNTER_RANGE)
    start = max(start, last + 1)
    return range(start, start + RESYNC_COUNTERS)


def _in_step(token: Token, elapsed_s: int) -> bool:
    """Tell whether two consecutive TOTPs came as an app shows them, and not from somebody's notes."""
    return not isinstance(token, TOTPToken) or 0 <= elapsed_s <= 3 * token.period_s


def clock_off_s(tokens: Iterable[Token], state: State, typed: OTPs, *, now: int, config: Config) -> int:
    """Estimate how wrong a clock is, for the log and for whoever asks why a code was refused; decides nothing.

    Args:
        tokens: of this user.
        state: what has been accepted.
        typed: the refused OTP, as for `match_otp`.
        now: Unix seconds.
        config: `window` and `no_drift`.

    Returns:
        Seconds by which a token's clock is ahead of this machine's; negative when it is behind; 0 when the OTP is of no
        time step near by, and no later one has been accepted.
    """
    for token in tokens:
        if not isinstance(token, TOTPToken):
            continue
        step = max(0, now) // token.period_s
        usual = open_counters(token, state, now=now, config=config)
        searched = range(max(0, step - SEARCHED_STEPS), step + SEARCHED_STEPS + 1)
        for counter in token.matching(searched, _typed(token, typed)):
            if counter not in usual:
                return (counter - step) * token.period_s
        last = state.last.get(token.fingerprint(), step)
        if last not in usual and last > step:
            return (last - step) * token.period_s
    return 0


def in_grace(state: State, name: str, *, now: int, config: Config) -> bool:
    """Tell whether a code was accepted from this source for this service so lately that no other is asked for."""
    when = state.graces.get(name)
    return when is not None and 0 <= now - when < config.grace
