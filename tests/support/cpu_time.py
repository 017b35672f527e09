"""Measure the CPU time of each test, with its fixtures and child processes. A busy machine hardly changes it."""

from __future__ import annotations

import resource
from collections import Counter
from collections.abc import Iterable, Iterator

import pytest


class Meter:
    """The CPU time of this process and of its children that have ended."""

    def __init__(self) -> None:
        self._before_s = self._now_s()

    def lap_s(self) -> float:
        """Return the time since the last call, in seconds."""
        before_s, self._before_s = self._before_s, self._now_s()
        return self._before_s - before_s

    @staticmethod
    def _now_s() -> float:
        usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def summary(reports: Iterable[pytest.TestReport], *, by_test: bool) -> Iterator[str]:
    """List the time of all tests, then that of each file, and with `by_test` that of each test. The longest come first.

    Args:
        reports: each with its seconds as `cpu_s`.
        by_test: list the tests as well.
    """
    files: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    for report in reports:
        files[report.nodeid.partition("::")[0]] += report.cpu_s
        tests[report.nodeid] += report.cpu_s
    yield f"{files.total():7.1f} s of CPU time"
    for times in (files, tests) if by_test else (files,):
        for name, time_s in times.most_common(None if by_test else 10):
            yield f"{time_s:7.1f} {name}"
