"""Replace whole files of the host: write the new file beside the old one, then rename it in one step.

The old file is kept beside the new one under a name of its own, so undoing needs no room on the disk. No program reads
the kept copy: sshd's patterns leave out names that begin with a dot, and no PAM service has such a name.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from typing import NamedTuple

from pam_softtoken.account.replace import sync_directory
from pam_softtoken.account.user_path import NamedFiles, reason
from pam_softtoken.errors import PathError
from pam_softtoken.program_errors import AdministrationFailed

USUAL_MODE = 0o644
MAX_BYTES = 256 * 1024
_NEW, _OLD = ".softtoken-new", ".softtoken-old"
_NO_LINKS = (errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS)
"""The errors of link(2) on a file system without hard links, or with no more allowed."""


class Content(NamedTuple):
    """The state of a file at one moment.

    Args:
        data: its bytes; None if there is no file.
        mode, uid, gid: those of the file, or those for a new one.
    """

    data: bytes | None
    mode: int = USUAL_MODE
    uid: int = 0
    gid: int = 0


def is_beside(name: str) -> bool:
    """Check whether a file name is one that this module creates beside another file."""
    return name.startswith(".") and name.endswith((_NEW, _OLD))


def read(path: str) -> Content:
    """Read a file of the host. A link in place of the file is refused; links to its directory are followed.

    Raises:
        AdministrationFailed: it is not a file that can be replaced.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return Content(None)
    except OSError as error:
        why = "is a symbolic link" if os.path.islink(path) else os.strerror(error.errno or 0)
        raise AdministrationFailed(f"{path}: {why}", hint="put a regular file there") from None
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        data = file.read(MAX_BYTES + 1) if stat.S_ISREG(status.st_mode) else b""
    if not stat.S_ISREG(status.st_mode) or len(data) > MAX_BYTES:
        raise AdministrationFailed(f"{path}: is not a configuration file", hint="correct it by hand")
    return Content(data, stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)


def resolved(path: str) -> str:
    """Return the present path of a file, which may have become a symbolic link since we wrote it.

    Raises:
        AdministrationFailed: a user other than root could redirect the link.
    """
    if not os.path.islink(path):
        return path
    target = os.path.realpath(path)
    if not os.path.lexists(target):
        return target
    try:
        os.close(NamedFiles().open(path))
    except PathError as error:
        raise AdministrationFailed(
            f"{path} has become a link to {target}, which cannot be trusted: {reason(error, target)}",
            hint=f"take the line with pam_softtoken out of {target} by hand, or replace the link by a file",
        ) from None
    return target


def keep(path: str) -> None:
    """Keep a durable copy of a file beside it, for `put_back`.

    Raises:
        AdministrationFailed: it cannot be kept.
    """
    try:
        _remove(_beside(path, _OLD))
        if os.path.lexists(path):
            _link(path, _beside(path, _OLD))
            sync_directory(os.path.dirname(path))
    except OSError as error:
        raise _not_written(path, error) from None


def _link(path: str, kept: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(path, kept, follow_symlinks=False)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _write_beside(kept, path, read(path))


def write(path: str, content: Content) -> None:
    """Write a file durably. At each moment it is completely old or completely new.

    Raises:
        AdministrationFailed: it cannot be written, or not be made durable.
    """
    beside = _beside(path, _NEW)
    try:
        if content.data is None:
            os.unlink(path)
        else:
            _write_beside(beside, path, content)
            os.rename(beside, path)
        sync_directory(os.path.dirname(path))
    except OSError as error:
        with suppress(OSError):
            _remove(beside)  # on a full disk it would take the last room
        raise _not_written(path, error) from None


def put_back(path: str, content: Content) -> None:
    """Restore a file. With a kept copy beside it, this needs no room on the disk.

    A copy with other bytes is not used: it is from an earlier change, or was edited.

    Raises:
        AdministrationFailed: it cannot be restored, or not be made durable.
    """
    kept = _beside(path, _OLD)
    try:
        is_kept = content.data is not None and read(kept).data == content.data
    except AdministrationFailed:
        is_kept = False
    if not is_kept:
        write(path, content)
        return
    try:
        _adopt(kept, path, content)
        os.rename(kept, path)
        sync_directory(os.path.dirname(path))
    except OSError as error:
        raise _not_written(path, error) from None


def _adopt(kept: str, path: str, content: Content) -> None:
    """Set the kept copy's mode and owner, and copy further attributes of the present file."""
    descriptor = os.open(kept, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        if (status.st_uid, status.st_gid) != (content.uid, content.gid):
            os.fchown(descriptor, content.uid, content.gid)
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != content.mode:
            os.fchmod(descriptor, content.mode)
        # An access list may need room that is not available; the file is restored without it.
        with suppress(OSError):
            wanted = {name: os.getxattr(path, name) for name in os.listxattr(path)}
            present = {name: os.getxattr(descriptor, name) for name in os.listxattr(descriptor)}
            for name in present.keys() - wanted.keys():
                os.removexattr(descriptor, name)
            for name in (name for name in wanted if wanted[name] != present.get(name)):
                os.setxattr(descriptor, name, wanted[name])
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def require_replaceable(path: str) -> None:
    """Check, as far as possible without a change, that a file can be replaced or removed.

    Raises:
        AdministrationFailed: it cannot.
    """
    for place in (os.path.dirname(path), path):
        if os.path.lexists(place) and not os.access(place, os.W_OK):
            error = OSError(errno.EROFS if os.statvfs(place).f_flag & os.ST_RDONLY else errno.EPERM, "")
            raise _not_written(path, error)


def tidy(path: str) -> None:
    """Remove the files beside a file: the kept copy, and leftovers of a killed program.

    Raises:
        AdministrationFailed: they cannot be removed.
    """
    try:
        removed = [_remove(_beside(path, ending)) for ending in (_NEW, _OLD)]
        if any(removed):
            sync_directory(os.path.dirname(path))
    except OSError as error:
        raise _not_written(path, error) from None


def _remove(path: str) -> bool:
    """Remove a file if it exists. A missing file is no error, even on a read-only disk."""
    if not os.path.lexists(path):
        return False
    with suppress(FileNotFoundError):
        os.unlink(path)
    return True


def _beside(path: str, ending: str) -> str:
    """Return a name beside a file. It never varies, so the next process finds what a killed one has left."""
    directory, name = os.path.split(path)
    return f"{directory}/.{name}{ending}"


def _not_written(path: str, error: OSError) -> AdministrationFailed:
    why = os.strerror(error.errno or 0)
    return AdministrationFailed(f"{path}: cannot be written: {why}", hint="make room, or make it writable")


def _write_beside(beside: str, path: str, content: Content) -> None:
    _remove(beside)
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with open(descriptor, "wb") as file:
        os.fchown(descriptor, content.uid, content.gid)
        os.fchmod(descriptor, content.mode)
        if os.path.exists(path):
            for attribute in os.listxattr(path):  # an access list, or the label that SELinux uses
                os.setxattr(descriptor, attribute, os.getxattr(path, attribute))
        file.write(content.data or b"")
        file.flush()
        os.fsync(descriptor)
