"""The computation behind `scripts/bench --fleet`: what a large site asks of a realm at 9 o'clock."""

from __future__ import annotations

import sys

import pytest

from tests.support.installation import TREE

sys.path.insert(0, str(TREE / "scripts" / "lib"))
from bench_model import Costs, Morning, attempts_of, lines_of, peak_of


def test_morning__has_the_logins_of_all_users_and_the_codes_that_they_mistype() -> None:
    assert len(attempts_of(Morning(users=1000, logins=3, mistyped=0.0))) == 3000
    mistyped = len(attempts_of(Morning(users=1000, logins=3, mistyped=0.5)))
    assert 5500 < mistyped < 6500  # each answer is repeated until it is right: twice on average


def test_morning__is_the_same_in_each_run() -> None:
    assert attempts_of(Morning(users=100)) == attempts_of(Morning(users=100))


def test_peak__is_the_busiest_second_and_minute() -> None:
    peak = peak_of([-0.5, 0.1, 0.9, 1.0, 59.9, 60.0])
    assert (peak.attempts, peak.attempts_per_s) == (6, 2)
    assert peak.minute_per_s == pytest.approx(4 / 60)


def test_peak__of_arrivals_around_one_moment_is_that_of_the_normal_distribution() -> None:
    """Its density at the middle is 0.3989 divided by the deviation."""
    peak = peak_of(attempts_of(Morning(users=50_000, logins=1, mistyped=0.0, spread_min=10.0)))
    assert peak.minute_per_s == pytest.approx(50_000 * 0.3989 / 600, rel=0.1)


def test_lines__multiply_the_measured_figures_by_the_peak() -> None:
    morning = Morning(users=1000, logins=1, mistyped=0.0, spread_min=0.0)  # all in one second
    text = "\n".join(lines_of(morning, Costs(2.0, 3.0, 1048.576, 2097.152, 500.0)))
    assert "so 2000 requests a second" in text
    assert "keep 300% of one processor busy" in text
    assert "0.5 times the busiest second" in text
    assert "together 2 MiB" in text
    assert "adds up to 1 MiB" in text
