"""Choose when a refusal comes. It comes at one of few times after the answer, whatever was refused and why."""

from __future__ import annotations

import time

from pam_softtoken.login import answer

STEP_S = 0.1
"""A refusal comes this many seconds after the answer, or a multiple of it. So its time does not reveal what was
checked. The step is longer than each of these takes: the disk stores a wrong answer, others give the lock back, a
recovery code is hashed. The form of some answers leaves room for more hashes, for example with a PIN. They are refused
after `LONG_STEPS` steps.
"""
LONG_STEPS = 3


def wait_out(answered_s: float, typed: str, *, combined: bool) -> None:
    """Return at the next time at which a refusal may come.

    Args:
        answered_s: `time.monotonic()` when the answer came.
        typed: the answer.
        combined: a password can stand in front of the code.
    """
    steps = LONG_STEPS if answer.most_hashes(typed, combined=combined) > 1 else 1
    pause_s = steps * STEP_S
    time.sleep(pause_s - (time.monotonic() - answered_s) % pause_s)
