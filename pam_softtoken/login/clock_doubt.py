"""Estimate which clock is or was wrong, from a refused code or from a record in the future. Decides nothing. The result
is for the log, and for people who may know why a code was refused. Uses no file, clock, socket or log.
"""

from __future__ import annotations

from pam_softtoken.account.state import NEVER
from pam_softtoken.errors import ClockDoubt
from pam_softtoken.login.policy import open_counters
from pam_softtoken.otp import hotp
from pam_softtoken.otp.token import TOTPToken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pam_softtoken.account.state import State
    from pam_softtoken.login.policy import Limits, OTPs
    from pam_softtoken.otp.token import Token

SEARCHED_STEPS = 120
"""How many time steps from now a refused OTP is searched for, to estimate a clock error. This is an hour with the usual
period.
"""


def doubt_of(tokens: Iterable[Token], state: State, typed: OTPs, *, now: int, limits: Limits) -> ClockDoubt | None:
    """Return which clock seems wrong, for the log and for people who may know why a code was refused. Decides nothing.

    This is slow: call it without the lock.

    Args:
        tokens: of this user.
        state: what has been accepted.
        typed: the refused OTP, as for `examine`.
        now: Unix seconds.
        limits: the settings.

    Returns:
        None when nothing shows a wrong clock.
    """
    doubt: ClockDoubt | None = None
    for token in tokens:
        if not isinstance(token, TOTPToken):
            continue
        step = max(0, now) // token.period_s
        usual = open_counters(token, state, now=now, limits=limits)
        digits = typed.get(token.digits, "").encode()
        around = range(max(0, step - limits.window), step + limits.window + 1)
        right_now = max((*token.matching(usual, digits), *token.matching(around, digits)), default=NEVER)
        if right_now == NEVER:
            searched = range(max(0, step - SEARCHED_STEPS), step + SEARCHED_STEPS + 1)
            for counter in token.matching(searched, digits):
                return ClockDoubt(ClockDoubt.APP, (counter - step) * token.period_s)
        if now < hotp.RELEASED:
            doubt = ClockDoubt(ClockDoubt.UNSET, now)
            continue
        later = state.last.get(token.fingerprint(), NEVER) - right_now
        if right_now != NEVER and later > 2 * limits.window:
            return ClockDoubt(ClockDoubt.RECORD, later * token.period_s)
        ahead_s = max(record_ahead_s(token, state, now=now, limits=limits), token.created - now)
        if right_now == NEVER and ahead_s > 0:
            doubt = doubt or ClockDoubt(ClockDoubt.UNCLEAR, ahead_s)
    return doubt


def record_ahead_s(token: Token, state: State, *, now: int, limits: Limits) -> int:
    """Return how far the last accepted code of a token is ahead of what can be accepted now.

    Returns:
        Seconds. 0 when it is not ahead. It is ahead only if the clock was set back.
    """
    if not isinstance(token, TOTPToken):
        return 0
    last = state.last.get(token.fingerprint(), NEVER)
    if last < open_counters(token, state, now=now, limits=limits).stop:
        return 0
    return last * token.period_s - now
