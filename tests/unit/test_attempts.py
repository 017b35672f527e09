"""Repeated tries: often enough, without filling the log."""

from __future__ import annotations

from pam_softtoken.admin.change.attempts import LONGEST_PAUSE_S, Attempts


class Clock:
    """A clock that stands still until it is set."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_attempts__of_a_day_are_at_most_seconds_apart_and_leave_few_lines() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    tried = lines = 0
    longest_s = last_s = 0.0
    while clock.now_s < 1000 + 24 * 3600:
        if attempts.is_due("sudo"):
            longest_s, last_s = max(longest_s, clock.now_s - (last_s or clock.now_s)), clock.now_s
            tried += 1
            lines += attempts.note("sudo", "the disk is full")
        clock.now_s += 0.5
    assert longest_s <= LONGEST_PAUSE_S + 0.5
    assert tried > 10_000
    assert 20 < lines < 40


def test_attempts__new_reason_is_reported_at_once_and_success_resets_the_wait() -> None:
    clock = Clock()
    attempts = Attempts(clock)
    assert attempts.note("sudo", "the disk is full")
    assert not attempts.is_due("sudo")
    assert attempts.is_due("su")
    assert not attempts.note("sudo", "the disk is full")
    assert attempts.note("sudo", "the disk is read-only")
    attempts.forget("sudo")
    assert attempts.is_due("sudo")
    assert attempts.note("sudo", "the disk is read-only")
