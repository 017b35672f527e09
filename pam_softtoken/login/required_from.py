"""The day from which on everybody needs a code, seen from today, and what those without a token are told until then."""

from __future__ import annotations

import os
import time

from pam_softtoken.config import day_number
from pam_softtoken.otp import hotp

EASTERNMOST_S = 14 * 60 * 60
"""How far the time zone where a day begins first is ahead of UTC."""


def days_left(date: str, *, now: float) -> int:
    """Count the days from today to a date; 0 or less when it has come.

    Args:
        date: `2027-01-15`; the day begins at midnight in the host's time zone.
        now: Unix seconds. A clock that is before the day of this version is wrong, and the day may have come: 0.
    """
    if now < hotp.RELEASED:
        return 0
    # The backend has no TZ. Under pam_python there may be that of a person who wants more time; then the day begins
    # as soon as it does anywhere.
    today = time.gmtime(now + EASTERNMOST_S) if "TZ" in os.environ else time.localtime(now)
    return day_number(date) - day_number(f"{today.tm_year:04}-{today.tm_mon:02}-{today.tm_mday:02}")


def reminder(date: str, days_left: int) -> str:
    """Give the text for somebody who has no token yet."""
    when = "tomorrow" if days_left == 1 else f"in {days_left} days"
    return f"From {date} on, {when}, logging in takes a code. Run softtoken-enroll before that."
