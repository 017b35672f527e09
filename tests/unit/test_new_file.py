"""New files of a user: private from the start, complete or gone, and never in place of something else."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from pam_softtoken.account.replace import NewFile
from pam_softtoken.errors import UnusableFile


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sheet"


def test_new_file__has_the_content_and_only_its_owner_reads_it(path: Path) -> None:
    for mask in (0, 0o377):
        old = os.umask(mask)
        try:
            new = NewFile(str(path))
        finally:
            os.umask(old)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        new.fill(b"codes")
        assert path.read_bytes() == b"codes"
        new.discard()
        new.close()
        assert not path.exists()


def test_new_file__never_replaces_a_file(path: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    path.write_bytes(b"mine")
    for taken in (path, tmp_path / "link"):
        with pytest.raises(UnusableFile, match="File exists"):
            NewFile(str(taken))
    assert path.read_bytes() == b"mine"
    assert not (tmp_path / "nowhere").exists()
    with pytest.raises(UnusableFile, match="No such file"):
        NewFile(str(tmp_path / "missing" / "sheet"))


def test_new_file__moved_one_is_emptied_and_another_file_at_its_path_stays(path: Path, tmp_path: Path) -> None:
    new = NewFile(str(path))
    new.fill(b"codes")
    moved = path.rename(tmp_path / "moved")
    path.write_bytes(b"mine")
    new.discard()
    new.close()
    assert (moved.read_bytes(), path.read_bytes()) == (b"", b"mine")
