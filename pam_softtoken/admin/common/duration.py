"""Read time spans and moments as typed: `10m`, `8h`, `today`, `2026-11-20 10:00`."""

from __future__ import annotations

import time

from pam_softtoken.program_errors import UsageError

UNIT_S = {"s": 1, "m": 60, "h": 60 * 60, "d": 24 * 60 * 60, "w": 7 * 24 * 60 * 60}


def seconds_of(text: str) -> int | None:
    """Read a number with a unit, in seconds; return None for anything else."""
    number, unit = text[:-1], text[-1:]
    if unit in UNIT_S and number.isascii() and number.isdecimal() and len(number) <= 7:
        return int(number) * UNIT_S[unit]
    return None


def moment(option: str, text: str, now: float) -> float:
    """Read the start of a period: a span before now, `today`, `yesterday`, a date, or a date and a time.

    Returns:
        Unix seconds; dates and times are local time.

    Raises:
        UsageError: the text is none of these.
    """
    seconds = seconds_of(text)
    if seconds is not None:
        return now - seconds
    today = time.localtime(now)
    days_ago = {"today": 0, "yesterday": 1}.get(text)
    if days_ago is not None:
        return time.mktime((today.tm_year, today.tm_mon, today.tm_mday - days_ago, 0, 0, 0, 0, 0, -1))
    for form in ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"):
        try:
            return time.mktime(time.strptime(text, form))
        except (ValueError, OverflowError):
            continue
    raise UsageError(
        f'{option} "{text}" is not a time', hint=f'as in {option} 1h, {option} today or {option} "2026-11-20 10:00"'
    )


def between(option: str, text: str, shortest: str, longest: str) -> int:
    """Read the value of an option, in seconds.

    Raises:
        UsageError: the value is not a time span, or too short or too long.
    """
    seconds = seconds_of(text)
    if seconds is None or not (seconds_of(shortest) or 0) <= seconds <= (seconds_of(longest) or 0):
        raise UsageError(f'{option} "{text}" is not a time from {shortest} to {longest}', hint=f"as in {option} 1h")
    return seconds
