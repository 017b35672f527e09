"""What users are asked and shown while a token is enrolled, and what is recorded of it. `softtoken-enroll` and an
enrolment in a login share these rules and texts. Each has its own way to show and to ask. Imports the standard library
only. A usual login does not load this.
"""

from __future__ import annotations

import os
import time

from pam_softtoken import drawing
from pam_softtoken.account.state import NEVER, State
from pam_softtoken.errors import OTPReplayed, Refused, day_of
from pam_softtoken.login import answer, clock_doubt, policy
from pam_softtoken.otp import key_uri, token
from pam_softtoken.program_errors import EnrolmentFailed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pam_softtoken.account.safe_open import Account
    from pam_softtoken.otp.token import Token

TRIES = 3
QUESTION = "Code that the app shows:"
QUESTION_ABOUT_OTHERS = "Code that the app of {} shows:"
RIGHT = "Right. This code cannot be used again: use the next one to log in."
CODES_TITLE = "Recovery codes, for when the token is lost. Each works once, in place of a code:"
CODES_ADVICE = "They are not shown again. Keep them on paper, away from this machine."
CODES_QUESTION = "Press Enter when you have them:"


class Confirmed:
    """A code that confirmed a token.

    Args:
        finding: the token and the position that the code matched.
        now: time of the confirmation, in Unix seconds.
    """

    __slots__ = ("finding", "now")

    def __init__(self, finding: policy.Finding, *, now: int) -> None:
        self.finding = finding
        self.now = now


def uri_of(new: Token, account: Account) -> str:
    """Return the Key URI, with this host as the issuer."""
    return key_uri.build(new, issuer=os.uname().nodename, account=account.name)


def key_line(new: Token) -> str:
    """Return the line that shows the key."""
    return f"Key:  {drawing.grouped(token.encode_base32(new.secret.reveal()))}"


def uri_line(uri: str) -> str:
    """Return the line that shows the Key URI."""
    return f"URI:  {uri}"


def rows_of(codes: list[str]) -> str:
    """Return the lines that show recovery codes."""
    return "\n".join("    " + "    ".join(codes[place : place + 2]) for place in range(0, len(codes), 2))


def confirm(
    new: Token,
    *,
    limits: policy.Limits,
    state: Callable[[], State],
    ask: Callable[[], str],
    tell: Callable[[str], None],
) -> Confirmed:
    """Ask for a code of a new token, so that a token that was not scanned cannot lock the user out.

    Args:
        new: the token.
        limits: the host's settings.
        state: returns what is recorded at the moment. A login may use a code meanwhile, if the key was enrolled before.
        ask: asks the question, and returns what the user typed.
        tell: shows a text.

    Returns:
        What the code matched. The code is thereby used up.

    Raises:
        EnrolmentFailed: no code was right.
    """
    for left in reversed(range(TRIES)):
        typed = ask()
        now = int(time.time())
        try:
            finding = policy.confirm(new, state(), answer.read_code(typed).otp, now=now, limits=limits)
        except OTPReplayed:
            why = "That code has been used before. Wait for the next one."
        except Refused:
            why = f"That code does not fit. {_mistake_in(typed, new, now)}"
        else:
            tell(RIGHT)
            return Confirmed(finding, now=now)
        tell(f"{why} {left} left to try." if left else why)
    raise EnrolmentFailed(
        "no code was right; nothing was changed", hint="remove the new entry from the app, and start again"
    )


def recorded_in(state: State, new: Token, confirmed: Confirmed | None, *, new_set: str) -> State:
    """Return the state with the confirming code recorded as used, and new recovery codes as new.

    Args:
        state: the state at the moment of writing.
        new: the token.
        confirmed: the code; None if none was asked for.
        new_set: name of the new recovery set; empty if the present one stays. Only the state knows which of its codes
            are spent. If the state is lost, they must not become new again.

    Raises:
        EnrolmentFailed: a login has used the code meanwhile.
    """
    fingerprint = new.fingerprint()
    if confirmed is None:
        state = state.with_last(fingerprint, NEVER)
    else:
        finding = confirmed.finding
        if state.last.get(fingerprint, NEVER) >= finding.counter:
            raise EnrolmentFailed(
                "the code that confirmed was used by a login meanwhile; nothing was changed",
                hint="start again, with the next code",
            )
        state = state.with_accepted(fingerprint, finding.counter, drift=finding.drift, now=confirmed.now)
    return state.with_set(new_set).without_graces() if new_set else state


def _mistake_in(typed: str, new: Token, now: int) -> str:
    digits = answer.otp_in(typed)
    if len(digits) != new.digits:
        return f"It has {new.digits} digits."
    narrow = policy.Limits(window=0, look_ahead=1, no_drift=False)
    doubt = clock_doubt.doubt_of((new,), State.new(), {new.digits: digits}, now=now, limits=narrow)
    if doubt is not None and doubt.kind == doubt.APP:
        side = "ahead of" if doubt.seconds > 0 else "behind"
        return f"The app's clock is about {abs(doubt.seconds)} s {side} this machine's; one of the two is wrong."
    if doubt is not None and doubt.kind == doubt.UNSET:
        return f"This machine's clock says {day_of(doubt.seconds)}. An administrator can set it with timedatectl."
    return "Look at the entry that you have just made in the app."
