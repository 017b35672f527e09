"""Check the directory that the processes of one test run share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.shared import made_once, shared_directory


def test_shared__directory_is_one_for_all_and_goes_with_the_last(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PYTEST_XDIST_TESTRUNUID", "of-this-test")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made: list[Path] = []
    with shared_directory() as first:
        with shared_directory() as second:
            assert first == second
            assert made_once(first / "thing", made.append) == made_once(second / "thing", made.append)
        assert first.is_dir(), "somebody still uses it"
        assert made == [first / "thing"]
    assert list(tmp_path.iterdir()) == []


def test_shared__that_could_not_be_made_is_made_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PYTEST_XDIST_TESTRUNUID", raising=False)

    def fail(directory: Path) -> None:
        (directory / "half").touch()
        raise OSError

    with shared_directory() as alone:
        with pytest.raises(OSError):  # noqa: PT011  # what it says does not matter
            made_once(alone / "thing", fail)
        made_once(alone / "thing", lambda directory: (directory / "whole").touch())
        assert [path.name for path in (alone / "thing").iterdir()] == ["whole"]
    assert not alone.exists()
