"""A directory that the processes of one test run share, for what takes long to make."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_RUN = "PYTEST_XDIST_TESTRUNUID"
"""xdist sets it in each of its processes, to the same random value."""


@contextmanager
def shared_directory() -> Iterator[Path]:
    """Return the directory for the length of a `with` block. The last process to leave removes it."""
    if _RUN not in os.environ:
        with tempfile.TemporaryDirectory(prefix="softtoken-shared-") as alone:
            Path(alone).chmod(0o755)
            yield Path(alone)
        return
    path = Path(tempfile.gettempdir(), f"softtoken-shared-{os.environ[_RUN]}")
    held = _hold(path)
    try:
        yield path
    finally:
        with suppress(BlockingIOError):
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(path)
        os.close(held)


def made_once(directory: Path, make: Callable[[Path], object]) -> Path:
    """Return a directory of the shared one, which the first process that asks for it makes.

    Args:
        directory: below the shared one.
        make: fills the empty directory.
    """
    with directory.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = directory.with_suffix(".made")
        if not made.exists():
            shutil.rmtree(directory, ignore_errors=True)  # of a process that has failed
            directory.mkdir(mode=0o755)
            make(directory)
            made.touch()
    return directory


def _hold(path: Path) -> int:
    """Create the directory if it is missing, and return a locked descriptor of it."""
    while True:
        path.mkdir(mode=0o755, exist_ok=True)
        with suppress(FileNotFoundError):  # the last process has just removed it
            descriptor = os.open(path, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
            os.close(descriptor)
