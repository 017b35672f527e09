"""Days that are left: by the host's calendar, never by one that the caller chooses."""

from __future__ import annotations

import datetime
import email.utils
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_softtoken.errors import day_of
from pam_softtoken.login import required_from
from pam_softtoken.option_values import day_number
from pam_softtoken.otp import hotp

DAYS = st.dates(datetime.date(1970, 1, 1), datetime.date(2999, 12, 31))


@given(DAYS, DAYS)
def test_day_number__has_the_distances_of_the_calendar(one: datetime.date, other: datetime.date) -> None:
    assert day_number(one.isoformat()) - day_number(other.isoformat()) == (one - other).days


@given(DAYS, st.integers(0, 86_399))
def test_day_of__is_that_of_the_calendar(day: datetime.date, second: int) -> None:
    seconds = (day - datetime.date(1970, 1, 1)).days * 86_400 + second
    assert day_of(seconds) == day.isoformat()


@pytest.mark.parametrize("now", [0, hotp.RELEASED - 1])
def test_days_left__are_zero_by_a_clock_that_was_never_set(now: int) -> None:
    assert required_from.days_left("2999-01-15", now=now) == 0


def test_released__is_the_day_of_the_version() -> None:
    changelog = Path(__file__).resolve().parents[2] / "debian" / "changelog"
    line = next(line for line in changelog.read_text().splitlines() if line.startswith(" -- "))
    made = email.utils.parsedate_to_datetime(line.rpartition("  ")[2])
    assert day_of(hotp.RELEASED) == f"{made.astimezone(datetime.UTC):%Y-%m-%d}"
    assert hotp.RELEASED % 86_400 == 0


@pytest.mark.parametrize("zone", ["XXX+24", "XXX+167", "UTC", "America/Los_Angeles", ""])
@pytest.mark.claim("`required_from` ends at midnight in the host's time zone, whatever the caller's time zone is.")
def test_days_left__time_zone_of_the_caller_gives_no_more_time(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    """On Kiritimati, 14 hours ahead of UTC, a day begins first."""
    first = datetime.datetime(2027, 1, 15, tzinfo=datetime.timezone(datetime.timedelta(hours=14))).timestamp()
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert required_from.days_left("2027-01-15", now=first - 1) == 1
        assert required_from.days_left("2027-01-15", now=first) == 0
    finally:
        os.environ.pop("TZ")
        time.tzset()
