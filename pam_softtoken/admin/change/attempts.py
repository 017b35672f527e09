"""Count repeated failures of one process: the pauses grow, and the log lines become rarer."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 5.0
FIRST_SILENCE_S, LONGEST_SILENCE_S = 60.0, 3600.0


class _Failure(NamedTuple):
    """One thing that has failed.

    Args:
        reason: why it failed the last time.
        pause_s, next_s: the pause before the next attempt, and the time of that attempt, in seconds.
        silence_s, loud_s: how long the same reason is not logged, and the time when it is logged again, in seconds.
    """

    reason: str
    pause_s: float
    next_s: float
    silence_s: float
    loud_s: float


class Attempts:
    """The failures in this process, by name.

    Args:
        now_s: returns the time in seconds, from any fixed start.
    """

    def __init__(self, now_s: Callable[[], float] = time.monotonic) -> None:
        self._now_s = now_s
        self._failures: dict[str, _Failure] = {}

    def is_due(self, name: str) -> bool:
        """Check whether it is time to try something, for the first time or again."""
        failure = self._failures.get(name)
        return failure is None or self._now_s() >= failure.next_s

    def note(self, name: str, reason: str) -> bool:
        """Record a failure.

        Returns:
            Whether to log it: the failure is new, the reason has changed, or the last line was long ago.
        """
        now_s, known = self._now_s(), self._failures.get(name)
        pause_s = FIRST_PAUSE_S if known is None else min(2 * known.pause_s, LONGEST_PAUSE_S)
        if known is None or known.reason != reason:
            silence_s, loud_s, is_news = FIRST_SILENCE_S, now_s + FIRST_SILENCE_S, True
        elif now_s >= known.loud_s:
            silence_s = min(2 * known.silence_s, LONGEST_SILENCE_S)
            loud_s, is_news = now_s + silence_s, True
        else:
            silence_s, loud_s, is_news = known.silence_s, known.loud_s, False
        self._failures[name] = _Failure(reason, pause_s, now_s + pause_s, silence_s, loud_s)
        return is_news

    def forget(self, name: str) -> None:
        """Remove a failure from the list, after a success."""
        self._failures.pop(name, None)
