"""Decide how long a time of grace and an issued code last, by two clocks. One clock can be set back; the other counts
from the start of the machine. These are pure decisions on the state's records. Uses no file, clock, socket or log.
"""

from __future__ import annotations

from pam_softtoken.errors import CodeExpired

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.account.proc import Boot
    from pam_softtoken.account.state import State


def in_grace(state: State, name: str, *, now: int, uptime_s: int, grace_s: int) -> bool:
    """Check whether a code was accepted from this source for this service so recently that no other is needed.

    Both clocks must agree. So setting one clock back does not lengthen a time of grace.
    """
    when, then_s = state.graces.get(name, (0, 0))
    return name in state.graces and 0 <= now - when < grace_s and 0 <= uptime_s - then_s < grace_s


def without_issued_code_of_later(state: State, *, now: int, boot: Boot) -> State:
    """Return a state without an issued code that is no longer usable because it was issued while the clock was ahead.

    An accepted TOTP shows that the clock agrees with the app's clock. Otherwise the time of the issued code would come
    once more.
    """
    for name, (_, since, *_) in state.issued.items():
        if since > now:
            try:
                require_issued_code_in_time(state, name, now=now, boot=boot)
            except CodeExpired:
                return state.without_issued()
    return state


def require_issued_code_in_time(state: State, set_name: str, *, now: int, boot: Boot) -> None:
    """Check that an issued code can be used now.

    While the machine runs, the time since its start counts as well. So setting the clock back neither lengthens the
    code's time nor makes the code useless. After a restart only the clock is left. Nothing is recorded here, so a clock
    jump that is undone ends nothing.

    Raises:
        CodeExpired: its time is over, or has not begun.
    """
    _, since, until, started, then_s, _ = state.issued[set_name]
    has_run_since = boot.name != "" and started == boot.name
    if now >= until or (has_run_since and not 0 <= boot.uptime_s - then_s < until - since):
        raise CodeExpired
    if not has_run_since and now < since:
        raise CodeExpired(begins_in_s=since - now)
