"""The moments between two system calls, which no other test can control."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pam_softtoken.account import safe_open
from pam_softtoken.errors import InsecureFile, UnusableFile


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[int]:
    """An open directory."""
    descriptor = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield descriptor
    os.close(descriptor)


class OtherProcess:
    """Creates something just before our code would create a file there.

    Args:
        path: of the file.
        leads_to: create a link to this path instead of a file.
        stays: do not remove it again just after.
    """

    def __init__(self, path: Path, *, leads_to: Path | None = None, stays: bool = True) -> None:
        self._path = path
        self._leads_to = leads_to
        self._stays = stays
        self._open = os.open

    def open(self, path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        """Replace `os.open`."""
        if not flags & os.O_CREAT:
            return self._open(path, flags, mode, dir_fd=dir_fd)
        if self._leads_to:
            self._path.symlink_to(self._leads_to)
        else:
            self._path.write_bytes(b"")
            self._path.chmod(0o600)
        try:
            return self._open(path, flags, mode, dir_fd=dir_fd)
        finally:
            if not self._stays:
                self._path.unlink()


def test_open_or_make__file_made_by_another_process_meanwhile_is_opened(
    tmp_path: Path, directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    monkeypatch.setattr(os, "open", OtherProcess(state).open)
    descriptor, is_new = safe_open.open_or_make_file(str(state), os.O_RDWR, below=directory, owner=os.geteuid())
    assert not is_new
    assert os.fstat(descriptor).st_ino == state.stat().st_ino
    os.close(descriptor)


def test_open_or_make__file_removed_meanwhile_does_not_count_as_never_made(
    tmp_path: Path, directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `nullok`, a FileNotFoundError lets a user in as never enrolled. It must not be raised here."""
    state = tmp_path / "state"
    monkeypatch.setattr(os, "open", OtherProcess(state, stays=False).open)
    with pytest.raises(UnusableFile, match="No such file"):
        safe_open.open_or_make_file(str(state), os.O_RDWR, below=directory, owner=os.geteuid())
    assert list(tmp_path.iterdir()) == []


def test_open_or_make__link_put_there_in_between_is_refused(
    tmp_path: Path, directory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    state, outside = tmp_path / "state", tmp_path / "outside"
    monkeypatch.setattr(os, "open", OtherProcess(state, leads_to=outside).open)
    with pytest.raises(InsecureFile, match="is a symbolic link"):
        safe_open.open_or_make_file(str(state), os.O_RDWR, below=directory, owner=os.geteuid())
    assert not outside.exists()
