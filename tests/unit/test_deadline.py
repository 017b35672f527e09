"""Days that are left: by the host's calendar, and by none that the caller has chosen."""

from __future__ import annotations

import datetime
import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_softtoken import deadline
from pam_softtoken.config import day_number

DAYS = st.dates(datetime.date(1970, 1, 1), datetime.date(2999, 12, 31))


@given(DAYS, DAYS)
def test_day_number__has_the_distances_of_the_calendar(one: datetime.date, other: datetime.date) -> None:
    assert day_number(one.isoformat()) - day_number(other.isoformat()) == (one - other).days


@pytest.mark.parametrize("zone", ["XXX+24", "XXX+167", "UTC", "America/Los_Angeles", ""])
def test_days_left__somebody_elses_time_zone_gives_no_more_time(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    """On Kiritimati, 14 hours ahead of UTC, a day begins first."""
    first = datetime.datetime(2027, 1, 15, tzinfo=datetime.timezone(datetime.timedelta(hours=14))).timestamp()
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert deadline.days_left("2027-01-15", now=first - 1) == 1
        assert deadline.days_left("2027-01-15", now=first) == 0
    finally:
        os.environ.pop("TZ")
        time.tzset()
