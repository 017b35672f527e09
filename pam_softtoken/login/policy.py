"""Pure decisions: what an answer is worth, counter by counter. The replay rule is here and only here: a counter or time
step at or below the last accepted one is never accepted. Uses no file, clock, socket or log.
"""

from __future__ import annotations

from pam_softtoken.account.state import NEVER
from pam_softtoken.errors import OTPMismatch, OTPReplayed
from pam_softtoken.otp import hotp
from pam_softtoken.otp.token import HOTPToken, Token, TOTPToken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pam_softtoken.account.state import State
    from pam_softtoken.config import Config

    OTPs = dict[int, str]
    Found = tuple[Token, int]

RESYNC_STEPS = 40
"""TOTP: how many time steps from now two consecutive OTPs are found. This is 20 minutes with the usual period."""
RESYNC_COUNTERS = 100
"""HOTP: how many counters ahead two consecutive OTPs are found."""
LOST_COUNTER_RANGE = 10_000
"""The same if a HOTP token's counter was lost: some years of logins."""
NOTED_PERIODS = 3
"""The second of two consecutive TOTPs must follow the first within this many periods."""

ACCEPTED, USED, NOTED, NOTHING = "accepted", "used", "noted", "nothing"
"""The kinds of `Finding`."""


class Limits:
    """The numbers that decide which counters are open.

    Args:
        window: TOTP: time steps on each side of now, 0 to 20.
        look_ahead: HOTP: number of counters, 1 to 100.
        no_drift: do not follow a token's clock.
    """

    __slots__ = ("look_ahead", "no_drift", "window")

    def __init__(self, *, window: int, look_ahead: int, no_drift: bool) -> None:
        self.window = window
        self.look_ahead = look_ahead
        self.no_drift = no_drift

    @classmethod
    def of(cls, config: Config) -> Limits:
        """Return the limits that the settings ask for."""
        return cls(window=config.window, look_ahead=config.look_ahead, no_drift=config.no_drift)


class Finding:
    """The result of one examination of one answer.

    Attributes:
        kind: `ACCEPTED`: acceptable now. `USED`: right, but this code or a later one was used. `NOTED`: right and
            unused, but acceptable only together with the code after it. `NOTHING`: none of these.
        token: the token, for all kinds but `NOTHING`.
        counter: for `ACCEPTED`, its counter or time step. It is used from now on.
        drift: for `ACCEPTED`, how many half time steps the token's clock is assumed to be ahead from now on.
        notes: for `NOTED`, the fingerprints and counters to note.
        spent: for `NOTED`, the fingerprint of `token` and a time step, or None. Codes up to that step are assumed to be
            used from now on. A code of the present window counts as used while it is noted, so that an onlooker cannot
            use it elsewhere. A code that the app shows about now also counts as used afterwards, unless the clock turns
            out to have been ahead.
    """

    __slots__ = ("counter", "drift", "kind", "notes", "spent", "token")

    def __init__(
        self,
        kind: str,
        token: Token | None = None,
        counter: int = NEVER,
        *,
        drift: int = 0,
        notes: tuple[tuple[str, int], ...] = (),
        spent: tuple[str, int] | None = None,
    ) -> None:
        self.kind = kind
        self.token = token
        self.counter = counter
        self.drift = drift
        self.notes = notes
        self.spent = spent


def open_counters(token: Token, state: State, *, now: int, limits: Limits) -> range:
    """Return the counters that could be accepted. Used counters are among them.

    Args:
        token: the token.
        state: has the token's last accepted counter and its drift.
        now: Unix seconds.
        limits: the settings.

    Returns:
        Counters or time steps. Counters at or below the last accepted one are included to tell a replay from a
        mismatch.

    Source:
        RFC 4226, section 7.2 (look-ahead), RFC 6238, section 5.2 (window) and 6 (drift).
    """
    if isinstance(token, TOTPToken):
        if now < 0:
            return range(0)
        step = hotp.time_step(now, token.period_s)
        if not limits.no_drift:
            step += _whole_steps(state.drift.get(token.fingerprint(), 0))
        return range(max(0, step - limits.window), max(0, step + limits.window + 1))
    last = state.last.get(token.fingerprint())
    if not isinstance(token, HOTPToken) or last is None:
        return range(0)
    following = max(token.counter, last + 1)
    return range(max(0, following - limits.look_ahead), following + limits.look_ahead)


def _whole_steps(drift: int) -> int:
    """Return the whole steps of a drift. Half a step does not move the window, because one OTP that was typed late must
    not.
    """
    return drift // 2 if drift >= 0 else -(-drift // 2)


def _is_used(token: Token, last: int, counter: int) -> bool:
    """Check the replay rule: a counter at or below the last accepted one is used."""
    return counter <= last or (isinstance(token, HOTPToken) and counter < token.counter)


def starting_point(token: Token, *, now: int) -> int | None:
    """Return the starting point of a token without a recorded last accepted counter.

    Returns:
        TOTP: the present time step, so that the next OTP works and no old one does. HOTP: None, because only two
        consecutive OTPs can show it.
    """
    return max(0, now) // token.period_s if isinstance(token, TOTPToken) else None


def last_used(token: Token, state: State, *, now: int) -> int:
    """Return the last accepted counter, or the assumed one if none is recorded."""
    last = state.last.get(token.fingerprint())
    if last is None:
        last = starting_point(token, now=now)
    return NEVER if last is None else last


def believed(tokens: Iterable[Token], state: State, *, now: int, limits: Limits) -> State:
    """Return a state for one decision, in which assumed uses count as uses.

    An assumption about a future time step was made while the clock was ahead. It counts for nothing until that step
    comes, because it did not come from an accepted code. If nothing else is known of the token, nobody can tell which
    of its codes are used.
    """
    if not state.assumed:
        return state
    for token in tokens:
        name = token.fingerprint()
        step = state.assumed.get(name)
        if step is None:
            continue
        wide = Limits(window=max(1, limits.window), look_ahead=0, no_drift=False)
        if step <= highest_used_before(token, state, since=now, limits=wide):
            state = state.with_last(name, step)
        elif state.last.get(name) == NEVER:
            state = state.without_last(name)
    return state.without_assumed()


def highest_used_before(token: Token, state: State, *, since: int, limits: Limits) -> int:
    """Return the counter that a token may have reached before a moment from which no record is left.

    Args:
        token: the token.
        state: has the token's drift, which is recorded only where records last.
        since: Unix seconds.
        limits: the settings.

    Returns:
        TOTP: the last time step that was open then to any service. HOTP: -1, because time does not help; see
        `must_last`.
    """
    if not isinstance(token, TOTPToken):
        return NEVER
    # One service may follow the token's clock while another does not.
    drift = max(0, _whole_steps(state.drift.get(token.fingerprint(), 0)))
    return hotp.time_step(max(0, since), token.period_s) + drift + limits.window


def must_last(token: Token) -> bool:
    """Check whether a use must be remembered for ever. A HOTP never expires by itself; a TOTP does."""
    return not isinstance(token, TOTPToken)


def examine(
    tokens: Iterable[Token],
    state: State,
    typed: OTPs,
    *,
    keys: Iterable[str] = (),
    now: int,
    limits: Limits,
    waiting: bool = False,
) -> Finding:
    """Compute the one finding about an answer, and apply the replay rule.

    All tokens and their whole windows are always computed, even after a match.

    Args:
        tokens: of this user.
        state: what was accepted and what was noted. If a token has no last accepted counter, nobody can tell which of
            its codes are used. Its codes up to the present time step are then only noted.
        typed: for each possible number of digits, the OTP that was typed. A token looks at one of them.
        keys: keys of this source's notes, see `throttle.note_keys`.
        now: Unix seconds.
        limits: the settings.
        waiting: the source has to wait, so one code alone is not accepted. A code outside the window is not noted
            either, because guessers can answer as often as they like here.

    Source:
        RFC 4226, section 7.4, for two consecutive codes.
    """
    present: Found | None = None
    following: Found | None = None
    unknown: Found | None = None
    used: Token | None = None
    state = believed(tokens, state, now=now, limits=limits)
    for token in tokens:
        last = last_used(token, state, now=now)
        digits = _typed(token, typed)
        for counter in token.matching(open_counters(token, state, now=now, limits=limits), digits):
            held = _is_held(token, counter, state)
            if not held and not _is_used(token, last, counter):
                present = present or (token, counter)
            elif held or token.fingerprint() in state.last:
                used = token
            else:
                unknown = token, counter
        for counter in _following(token, state, keys, now=now, limits=limits):
            if token.matching(range(counter, counter + 1), digits):
                following = following or (token, counter)
    if present is not None and not waiting:
        return _accepted(present, state, now=now)
    if following is not None:
        return _accepted(following, state, now=now, resync=following != present)
    if present is not None:
        return _noted(present, present[1] if _is_shown_now(present, state, now=now, limits=limits) else None)
    if unknown is not None:
        return _noted(unknown, max(unknown[1], last_used(unknown[0], state, now=now)))
    if used is not None:
        return Finding(USED, used)
    notes = () if waiting else tuple(_nearby(tokens, state, typed, now=now, limits=limits))
    return Finding(NOTED if notes else NOTHING, notes=notes)


def confirm(token: Token, state: State, typed: str, *, now: int, limits: Limits) -> Finding:
    """Return the finding for a code of a token that is being enrolled.

    Args:
        token: the new token.
        state: records of the same key from an earlier enrolment.
        typed: the OTP.
        now: Unix seconds.
        limits: the settings.

    Raises:
        OTPReplayed: the code is right, but used.
        OTPMismatch: the code is wrong.
    """
    state = believed((token,), state, now=now, limits=limits)
    state = state.with_last(token.fingerprint(), NEVER)  # no counter goes back: only an unknown token becomes known
    finding = examine((token,), state, {token.digits: typed}, now=now, limits=limits)
    if finding.kind == USED:
        raise OTPReplayed(token.name)
    if finding.kind != ACCEPTED:
        raise OTPMismatch
    return finding


def _noted(found: Found, used_up_to: int | None) -> Finding:
    token, counter = found
    name = token.fingerprint()
    spent = (name, used_up_to) if used_up_to is not None else None
    return Finding(NOTED, token, counter, notes=((name, counter),), spent=spent)


def _is_held(token: Token, counter: int, state: State) -> bool:
    """Check whether a code was noted during a wait. A code outside the window is not held, because its time comes."""
    return any(held and (token.fingerprint(), counter) in noted for _, noted, held in state.notes.values())


def _is_shown_now(found: Found, state: State, *, now: int, limits: Limits) -> bool:
    """Check whether the app shows a code about now. For a token that counts, nobody can tell.

    Only a code that is shown now is used up by being noted. A guesser who goes on all day during a wait gets a right
    code noted now and then. That must not use up codes that the owner will soon see, nor codes of a token that counts,
    which would be lost for good.
    """
    token, counter = found
    window = open_counters(token, state, now=now, limits=limits)
    return isinstance(token, TOTPToken) and counter <= window.stop - limits.window


def _following(token: Token, state: State, keys: Iterable[str], *, now: int, limits: Limits) -> Iterator[int]:
    """List the counters right after those of this source's last answer, if they can be accepted."""
    if not state.notes:
        return
    last = last_used(token, state, now=now)
    for key in keys:
        when, noted, _ = state.notes.get(key, (0, (), False))
        for fingerprint, counter in noted:
            if fingerprint != token.fingerprint() or not _in_step(token, now - when):
                continue
            window = open_counters(token, state, now=now, limits=limits)
            reachable = counter + 1 in window or counter + 1 in _resync_counters(token, state, now=now, limits=limits)
            if reachable and not _is_used(token, last, counter + 1):
                yield counter + 1


def _nearby(
    tokens: Iterable[Token], state: State, typed: OTPs, *, now: int, limits: Limits
) -> Iterator[tuple[str, int]]:
    """List the unused counters outside the window whose OTP was refused."""
    for token in tokens:
        last = last_used(token, state, now=now)
        reachable = _resync_counters(token, state, now=now, limits=limits)
        for counter in token.matching(reachable, _typed(token, typed)):
            if not _is_used(token, last, counter):
                yield token.fingerprint(), counter


def _typed(token: Token, typed: OTPs) -> bytes:
    return typed.get(token.digits, "").encode()


def _accepted(found: Found, state: State, *, now: int, resync: bool = False) -> Finding:
    """Return an acceptance, with what it shows about the token's clock.

    The drift follows by half a step at a time. If two consecutive OTPs have shown it, it follows at once.
    """
    token, counter = found
    if not isinstance(token, TOTPToken):
        return Finding(ACCEPTED, token, counter)
    seen = 2 * (counter - hotp.time_step(now, token.period_s))
    drift = state.drift.get(token.fingerprint(), 0)
    drift = seen if resync else drift + (seen > drift) - (seen < drift)
    return Finding(ACCEPTED, token, counter, drift=max(-2 * RESYNC_STEPS, min(drift, 2 * RESYNC_STEPS)))


def _resync_counters(token: Token, state: State, *, now: int, limits: Limits) -> range:
    if isinstance(token, TOTPToken):
        if now < 0 or limits.no_drift:
            return range(0)
        step = hotp.time_step(now, token.period_s)
        return range(max(0, step - RESYNC_STEPS), step + RESYNC_STEPS + 1)
    last = state.last.get(token.fingerprint())
    start = token.counter if isinstance(token, HOTPToken) else 0
    if last is None:
        return range(start, start + LOST_COUNTER_RANGE)
    start = max(start, last + 1)
    return range(start, start + RESYNC_COUNTERS)


def _in_step(token: Token, elapsed_s: int) -> bool:
    """Check whether two consecutive TOTPs came at the pace of an app, and not from written notes."""
    return not isinstance(token, TOTPToken) or 0 <= elapsed_s <= NOTED_PERIODS * token.period_s
