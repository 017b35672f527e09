"""How long a time of grace and an issued code last, by two clocks: pure decisions on the state's records.

One clock can be set back, the other one counts from the start of the machine. No file, clock, socket or log.
"""

from __future__ import annotations

from pam_softtoken.errors import CodeExpired

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.account.proc import Boot
    from pam_softtoken.account.state import State


def in_grace(state: State, name: str, *, now: int, uptime_s: int, grace_s: int) -> bool:
    """Check whether a code was accepted from this source for this service so lately that no other is asked for.

    Two clocks must say so: one that is set back makes no time of grace longer.
    """
    when, then_s = state.graces.get(name, (0, 0))
    return name in state.graces and 0 <= now - when < grace_s and 0 <= uptime_s - then_s < grace_s


def without_issued_code_of_later(state: State, *, now: int, boot: Boot) -> State:
    """Return a state without a code that was issued while the clock was ahead and that can be used no more.

    When a TOTP is accepted, the clock agrees with that of its app. The code's time would come once more.
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

    As long as the machine runs, the time since its start counts as well: a clock that is set back makes the code's time
    neither longer nor the code useless. After a restart only the clock is left. Nothing is recorded here, so a jump
    that is taken back ends nothing.

    Raises:
        CodeExpired: its time is over, or has not begun.
    """
    _, since, until, started, then_s, _ = state.issued[set_name]
    has_run_since = boot.name != "" and started == boot.name
    if now >= until or (has_run_since and not 0 <= boot.uptime_s - then_s < until - since):
        raise CodeExpired
    if not has_run_since and now < since:
        raise CodeExpired(begins_in_s=since - now)
