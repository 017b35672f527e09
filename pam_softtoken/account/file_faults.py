"""Our errors for what the system refuses to do with a file, in words that say what helps. Imports only the errors."""

from __future__ import annotations

import errno
import os

from pam_softtoken import errors
from pam_softtoken.errors import InsecureFile, NotStored, NotSynced, UnusableFile

_REMEDIES = {
    errno.EFBIG: "; raise the limit of file sizes of this service (fsize)",
    errno.EMFILE: "; raise the limit of open files of this service (nofile)",
    errno.ENFILE: "; raise fs.file-max",
}
_KINDS = {
    errno.EACCES: errors.DENIED,
    errno.EPERM: errors.IMMUTABLE,
    errno.EROFS: errors.READ_ONLY,
    errno.ENOSPC: errors.FULL,
    errno.EDQUOT: errors.FULL,
    errno.ENOENT: errors.MISSING,
    errno.ENOTDIR: errors.NO_DIRECTORY,
    errno.EISDIR: errors.NO_FILE,
    errno.ENXIO: errors.NO_FILE,
}


def words_of(error: OSError) -> str:
    """Return the system's message for a failed call, and what to do about it if that is known."""
    return os.strerror(error.errno) + _REMEDIES.get(error.errno, "") if error.errno else "cannot be used"


def kind_of(error: OSError) -> str:
    """Return the kind of an error for `cure`; empty if nothing helps against it."""
    return _KINDS.get(error.errno or 0, "")


def refusal(path: str, error: OSError, *, below: int | None = None) -> InsecureFile | UnusableFile:
    """Return our error for a system error.

    Args:
        path: absolute.
        error: the system error.
        below: descriptor of the directory from which the path was opened, if that may be the closed one.
    """
    if error.errno == errno.ELOOP:
        return InsecureFile(path, "is a symbolic link", kind=errors.LINK)
    culprit, owner = path, -1
    if below is not None and error.errno in (errno.EACCES, errno.EPERM):
        culprit, owner = _closed(path, below)
    return UnusableFile(path, words_of(error), kind=kind_of(error), culprit=culprit, owner=owner)


def _closed(path: str, below: int) -> tuple[str, int]:
    """Return the path that is closed, a file or its directory, and its owner's uid."""
    try:
        return path, os.stat(os.path.basename(path), dir_fd=below, follow_symlinks=False).st_uid
    except OSError:
        pass
    try:
        return os.path.dirname(path), os.fstat(below).st_uid
    except OSError:
        return path, -1


def not_synced(path: str, error: OSError) -> NotSynced:
    """Return our error for a directory that cannot be synced after a change of its names."""
    return NotSynced(path, words_of(error), kind=kind_of(error))


def not_stored(path: str, error: OSError, *, below: int | None = None) -> NotStored:
    """Return our error for a file that cannot be written.

    Args:
        path: absolute.
        error: the system error.
        below: as in `refusal`.
    """
    found = refusal(path, error, below=below)
    return NotStored(path, words_of(error), kind=kind_of(error), culprit=found.culprit, owner=found.owner)
