"""Files that are replaced whole and durably, or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pam_softtoken.account import account_record, places, replace, revoking
from pam_softtoken.account.safe_open import Account
from pam_softtoken.errors import NotStored, NotSynced, UnusableFile

ALICE = Account("alice", 1000, 1000, home="/home/alice")


def _replaced(path: Path) -> None:
    replace.write_for_root(str(path / "file"), b"new", mode=0o644)


def _removed(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY)
    try:
        replace.remove(str(path / "file"), below=directory)
    finally:
        os.close(directory)


def _recorded(path: Path) -> None:
    account_record.record(ALICE)


def _revoked(path: Path) -> None:
    revoking.revoke(1000, fingerprints=["a"], everything=True, now=1)


DURABLE = (_replaced, _revoked)
FAILURES = [
    *((write, call) for write in DURABLE for call in ("open", "fchmod", "pwrite", "fdatasync", "fsync", "rename")),
    *((_recorded, call) for call in ("open", "fchmod", "write", "rename")),
]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Root's directory for its records."""
    for name in ("ENROLLED", "NAMES", "REVOKED"):
        monkeypatch.setattr(places, name, str(tmp_path / name))
    monkeypatch.setattr(places, "DATA", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return tmp_path


def _files(directory: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.mark.parametrize(("write", "call"), FAILURES)
def test_write__that_fails_says_so_and_leaves_nothing_behind(
    write: Callable[[Path], None], call: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (data / "file").write_bytes(b"old")
    real = getattr(os, call)

    def fail(first: object, *rest: object, **more: object) -> object:
        if call == "rename" and os.path.isdir(str(first)):  # a new directory
            return real(first, *rest, **more)
        raise OSError(5, os.strerror(5))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises((NotStored, UnusableFile), match="Input/output error"):
        write(data)
    assert _files(data) == {data / "file": b"old"}


@pytest.mark.parametrize("change", [_replaced, _removed])
def test_change__whose_name_cannot_be_synced_does_not_pass_for_none(
    change: Callable[[Path], None], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who reads that nothing was changed would throw the new token away, and could not log in."""
    (data / "file").write_bytes(b"old")
    fsync = os.fsync

    def fail_for_directories(descriptor: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(5, os.strerror(5))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", fail_for_directories)
    with pytest.raises(NotSynced) as caught:
        change(data)
    assert _files(data) == ({data / "file": b"new"} if change is _replaced else {})
    assert caught.value.aftermath != NotStored("", "").aftermath


@pytest.mark.parametrize("write", DURABLE)
def test_write__is_durable_before_it_returns(
    write: Callable[[Path], None], data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """First the bytes, then the name, then the directory with the name."""
    calls: list[tuple[str, str]] = []
    fsync, rename = os.fsync, os.rename

    def note_sync(descriptor: int) -> None:
        calls.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def note_rename(old: str, new: str, *, src_dir_fd: int | None = None, dst_dir_fd: int | None = None) -> None:
        rename(old, new, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)
        if src_dir_fd is not None:
            directory = os.readlink(f"/proc/self/fd/{src_dir_fd}")
            assert calls[-1] == ("sync", f"{directory}/{old}")
            calls.append(("name", directory))

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "rename", note_rename)
    write(data)
    names = [number for number, (call, _) in enumerate(calls) if call == "name"]
    assert names
    assert all(calls[number + 1] == ("sync", calls[number][1]) for number in names)
