"""When a refusal comes: at one of few times after the answer, whatever was refused and why."""

from __future__ import annotations

import time

from pam_softtoken.login import answer

STEP_S = 0.1
"""A refusal comes this long after the answer, or a multiple of it, so that its time does not say what was looked at.
Longer than a disk needs to store that an answer was wrong, others to give the lock back, or a recovery code its hash.
An answer whose form leaves room for more hashes, such as that of a PIN, is refused after `LONG_STEPS` of these.
"""
LONG_STEPS = 3


def wait_out(answered_s: float, typed: str, *, combined: bool) -> None:
    """Wait until the next time at which a refusal may come.

    Args:
        answered_s: `time.monotonic()` when the answer came.
        typed: the answer.
        combined: a password can stand in front of the code.
    """
    steps = LONG_STEPS if answer.most_hashes(typed, combined=combined) > 1 else 1
    pause_s = steps * STEP_S
    time.sleep(pause_s - (time.monotonic() - answered_s) % pause_s)
