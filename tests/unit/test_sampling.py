"""Check which cases of a sweep an ordinary run takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import sampling
from tests.support.installation import TREE

MANY = list(range(100))
INNER = """
import pytest
from tests.support.sampling import sampled

@pytest.mark.parametrize("part", sampled(range(20), 0.25))
def test_parts(part):
    pass

@pytest.mark.sampled(0.2)
@pytest.mark.parametrize("one", range(5))
@pytest.mark.parametrize("other", range(4))
def test_marked(one, other):
    assert one != FAIL
"""


@pytest.fixture(autouse=True)
def ordinary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "FULL", False)


def test_sample__has_its_share_in_order_and_never_nothing() -> None:
    assert len(sampling.sampled(MANY, 0.2)) == 20
    assert sampling.sampled(MANY, 0.2) == sorted(sampling.sampled(MANY, 0.2))
    assert len(sampling.sampled(MANY, 0.001)) == 1
    assert sampling.sampled([], 0.5) == []


def test_sample__keeps_the_cases_of_each_run() -> None:
    chosen = sampling.sampled(MANY, 0.1, always=(3, 4))
    assert {3, 4} < set(chosen)
    assert len(chosen) == 12
    assert sampling.sampled("ab", 0, always="b") == ["b"]


def test_sample__depends_on_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = set()
    for seed in range(20):
        monkeypatch.setattr(sampling, "SEED", seed)
        found.update(sampling.sampled(MANY, 0.2))
        assert 5 < sum(sampling.is_sampled(number, 0.2) for number in MANY) < 50
    assert len(found) > 90


def test_full_run__takes_every_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sampling, "FULL", True)
    assert sampling.sampled(MANY, 0.1) == MANY
    assert all(sampling.is_sampled(number, 0) for number in MANY)
    assert sampling.amount(1, full=9) == 9


def _inner(tmp_path: Path, *options: str, fail: str = "-1", **environment: str) -> str:
    """Run pytest with the project's own hooks on a file of two sweeps."""
    (tmp_path / "test_inner.py").write_text(INNER.replace("FAIL", fail))
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    own = {name: value for name, value in os.environ.items() if not name.startswith(("TEST_", "PYTEST_"))}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", str(TREE / "pyproject.toml")]
    command += [f"--rootdir={tmp_path}", *options, str(tmp_path)]
    environment = {**own, "PYTHONPATH": str(TREE), **environment}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment).stdout


def test_run__takes_a_sample_and_says_how_to_repeat_it(tmp_path: Path) -> None:
    first = _inner(tmp_path, "-v", TEST_SEED="42")
    assert "TEST_SEED=42 repeats it" in first
    assert "9 passed, 16 deselected" in first, "5 of 20, and 4 of 20"
    assert _cases(first) == _cases(_inner(tmp_path, "-v", "-n2", TEST_SEED="42"))
    assert _cases(first) != _cases(_inner(tmp_path, "-v", TEST_SEED="41"))


def _cases(output: str) -> set[str]:
    return {word for line in output.splitlines() if "PASSED" in line for word in line.split() if "::" in word}


def test_run__says_with_each_failure_how_to_repeat_the_sample(tmp_path: Path) -> None:
    assert _inner(tmp_path, "-q", fail="one", TEST_SEED="42").count("TEST_SEED=42 repeats it") == 4
    every = _inner(tmp_path, "-q", fail="one", TEST_FULL="yes")
    assert "20 failed, 20 passed" in every
    assert "repeats it" not in every
