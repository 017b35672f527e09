"""Spans of time as they are typed: `10m`, `8h`, `2d`."""

from __future__ import annotations

from pam_softtoken.errors import UsageError

UNIT_S = {"s": 1, "m": 60, "h": 60 * 60, "d": 24 * 60 * 60, "w": 7 * 24 * 60 * 60}


def seconds_of(text: str) -> int | None:
    """Read a number with a unit; None when it is something else."""
    number, unit = text[:-1], text[-1:]
    if unit in UNIT_S and number.isascii() and number.isdecimal() and len(number) <= 7:
        return int(number) * UNIT_S[unit]
    return None


def between(option: str, text: str, shortest: str, longest: str) -> int:
    """Read what an option was given, in seconds.

    Raises:
        UsageError: it is none, or too short or too long.
    """
    seconds = seconds_of(text)
    if seconds is None or not (seconds_of(shortest) or 0) <= seconds <= (seconds_of(longest) or 0):
        raise UsageError(f'{option} "{text}" is no time from {shortest} to {longest}', hint=f"as in {option} 1h")
    return seconds
