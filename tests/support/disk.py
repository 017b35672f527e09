"""Small separate disks for home directories."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.account import Person
from tests.support.process import when_left


@contextmanager
def disk_as_home(person: Person, size: str = "size=128k") -> Iterator[None]:
    """Mount a new, empty disk in memory as a person's home, for as long as the block lasts.

    Args:
        size: options of tmpfs(5) for its size.
    """
    options = f"{size},mode=755,uid={person.uid},gid={person.gid}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", person.home], check=True)
    try:
        yield
    finally:
        when_left("umount", person.home)


def fill(directory: Path) -> Path:
    """Use the last block of a file system. Return the file that has it."""
    path = directory / "filler"
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(b"\0" * 4096):
                pass
        except OSError as error:
            _require_full(error)
    return path


def take_all_files(directory: Path) -> None:
    """Use the last inode of a file system."""
    try:
        for number in range(10_000):
            (directory / f"filler-{number}").touch()
    except OSError as error:
        _require_full(error)
        return
    raise AssertionError("there is room for any number of files")


def _require_full(error: OSError) -> None:
    if error.errno != errno.ENOSPC:
        raise error
