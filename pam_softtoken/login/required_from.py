"""The day from which every user needs a code: days left until then, and the text for users without a token."""

from __future__ import annotations

import os
import time

from pam_softtoken.option_values import day_number
from pam_softtoken.otp import hotp

EASTERNMOST_S = 14 * 60 * 60
"""How many seconds the easternmost time zone is ahead of UTC. Each day begins there first."""


def days_left(date: str, *, now: float) -> int:
    """Return the number of days from today to a date. It is 0 or less when the date has come.

    Args:
        date: `2027-01-15`; the day begins at midnight in the host's time zone.
        now: Unix seconds. A clock before the day of this version is wrong, so the date may have come: the result is 0.
    """
    if now < hotp.RELEASED:
        return 0
    # The backend has no TZ. Under pam_python a person who wants more time may set it. The day then begins as soon as it
    # does anywhere.
    today = time.gmtime(now + EASTERNMOST_S) if "TZ" in os.environ else time.localtime(now)
    return day_number(date) - day_number(f"{today.tm_year:04}-{today.tm_mon:02}-{today.tm_mday:02}")


def reminder(date: str, days_left: int) -> str:
    """Return the text for a user who has no token yet."""
    when = "tomorrow" if days_left == 1 else f"in {days_left} days"
    return f"From {date} on, {when}, logging in takes a code. Run softtoken-enroll before that."
