"""Files of the host that a change replaces as a whole: written beside the old one, put in its place in one step."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import NamedTuple

from pam_softtoken.errors import AdministrationFailed

USUAL_MODE = 0o644
MAX_BYTES = 256 * 1024


class Content(NamedTuple):
    """What a file is at one moment.

    Args:
        data: its bytes; None where there is no file.
        mode, uid, gid: its own, or those of a new one.
    """

    data: bytes | None
    mode: int = USUAL_MODE
    uid: int = 0
    gid: int = 0


def read(path: str) -> Content:
    """Read a file, wherever it may have been put by an administrator.

    Raises:
        AdministrationFailed: it is none that can be replaced.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return Content(None)
    except OSError as error:
        why = "is a symbolic link" if os.path.islink(path) else os.strerror(error.errno or 0)
        raise AdministrationFailed(f"{path}: {why}", hint="it has to be a file that can be replaced") from None
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        data = file.read(MAX_BYTES + 1) if stat.S_ISREG(status.st_mode) else b""
    if not stat.S_ISREG(status.st_mode) or len(data) > MAX_BYTES:
        raise AdministrationFailed(f"{path}: is no configuration file", hint="put it right by hand")
    return Content(data, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)


def write(path: str, content: Content) -> None:
    """Make a file what it shall be, durably; at each moment it is wholly the old one or wholly the new one.

    Raises:
        AdministrationFailed: it is as it was.
    """
    directory, beside = os.path.dirname(path), _beside(path)
    try:
        if content.data is None:
            tidy(path)
            os.unlink(path)
        else:
            _write_beside(beside, path, content)
            os.rename(beside, path)
        sync_directory(directory)
    except OSError as error:
        raise AdministrationFailed(
            f"{path}: cannot be written: {os.strerror(error.errno or 0)}", hint="make room, or make it writable"
        ) from None


def tidy(path: str) -> None:
    """Take away what a killed program left beside a file."""
    with suppress(FileNotFoundError):
        os.unlink(_beside(path))


def _beside(path: str) -> str:
    """Name the new file: the same each time, so that whoever comes next finds what a killed one left."""
    directory, name = os.path.split(path)
    return f"{directory}/.{name}.softtoken-new"


def _write_beside(beside: str, path: str, content: Content) -> None:
    tidy(path)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        os.fchown(descriptor, content.uid, content.gid)
        os.fchmod(descriptor, content.mode)
        if os.path.exists(path):
            for attribute in os.listxattr(path):  # an access list, or what SELinux goes by
                os.setxattr(descriptor, attribute, os.getxattr(path, attribute))
        file.write(content.data or b"")
        file.flush()
        os.fsync(descriptor)


def sync_directory(directory: str) -> None:
    """Make names durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
