"""Files that are named on a command line, or that lie where users can put things. This is the only module that opens
them. A login does not load it.

Root's process must not lend its rights to a user who plants a link, a pipe or a directory on the way. So there are
three cases. A process without privilege opens what it can open. A process that is root on behalf of a user (`--self`)
opens everything as that user. Root itself walks from `/`, one directory at a time, and checks each one on its open
descriptor. What only root can change is opened as root. From the first part that belongs to the user of the command,
the rest is opened as that user. Everything else is refused.
"""

from __future__ import annotations

import errno
import os
import stat
import sys

from pam_softtoken.account import file_faults, safe_open
from pam_softtoken.account.checked_walk import OTHERS_WRITE, CheckedWalk
from pam_softtoken.account.replace import NewFile
from pam_softtoken.errors import InsecureFile, PathError, UnusableFile

HINT = "copy it to a directory that only root can write, such as /root, or hand it over on stdin: - <FILE"
HINT_FOR_NEW = "name a new file in a directory that only root can write, or in one of that user's"
_READING = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY
_INHERITED = ("/dev/fd", "/proc/self/fd")


class NamedFiles:
    """Open files by names that a person gave.

    Args:
        account: the user that the command is about; None if it is about no user.
        through_sudo: this process is root only on behalf of that user.
    """

    __slots__ = ("_account", "_through_sudo")

    def __init__(self, account: safe_open.Account | None = None, *, through_sudo: bool = False) -> None:
        self._account = account
        self._through_sudo = through_sudo

    def read(self, path: str, max_bytes: int, *, waits: bool = False) -> bytes:
        """Read a file, or stdin for -.

        Args:
            path: absolute, or as seen from the working directory.
            max_bytes: limit; the rest of a longer file is left out.
            waits: also read from pipes and devices, for as long as they take. Root never opens these by name.

        Raises:
            InsecureFile: another user could decide what root would read.
            UnusableFile: it cannot be read, or is not a regular file.
        """
        try:
            if path in ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"):
                return _read_stdin(path, max_bytes)
            descriptor = self.open(path, waits=waits)
            try:
                data = b""
                while len(data) < max_bytes and (piece := os.read(descriptor, min(max_bytes - len(data), 2**20))):
                    data += piece
                return data
            finally:
                os.close(descriptor)
        except OSError as error:
            raise UnusableFile(path, file_faults.words_of(error)) from None

    def open(self, path: str, *, waits: bool = False) -> int:
        """Open a file for reading; see `read`.

        Raises:
            InsecureFile, UnusableFile: as for `read`.
        """
        try:
            if os.geteuid() != 0:
                return _checked(os.open(path, _READING | (0 if waits else os.O_NONBLOCK)), path, waits=waits)
            if self._through_sudo:
                return self._open_as_user(path, path, below=None)
            if (inherited := _inherited(path)) is not None:
                return inherited
            with CheckedWalk(path, uid=self._uid) as walk:
                if walk.is_users:
                    return self._open_as_user(walk.rest, path, below=walk.directory)
                descriptor = os.open(walk.rest, _READING | safe_open.SAFELY, dir_fd=walk.directory)
                return _checked(descriptor, path, owners=(0, self._uid))
        except OSError as error:
            raise UnusableFile(path, file_faults.words_of(error)) from None

    def make(self, path: str) -> NewFile:
        """Create a new file with mode 0600. It belongs to the owner of its directory. See `NewFile`.

        Raises:
            InsecureFile: another user could decide where root would write.
            UnusableFile: it cannot be made, or the name is taken. Nothing has changed.
        """
        if os.geteuid() != 0:
            return NewFile(path)
        if self._through_sudo:
            return NewFile(path, identity=self._as_user())
        if os.path.basename(path) in ("", ".", ".."):
            raise UnusableFile(path, os.strerror(errno.EISDIR))
        try:
            with CheckedWalk(path, uid=self._uid, making="file") as walk:
                identity = self._as_user() if walk.is_users else None
                return NewFile(path, way=walk.rest, below=walk.directory, identity=identity)
        except OSError as error:
            raise UnusableFile(path, file_faults.words_of(error)) from None

    def hint_for(self, error: PathError, *, otherwise: str) -> str:
        """Return what to do if a file cannot be read: advice for root, or advice for everybody."""
        is_refused = isinstance(error, InsecureFile) or (isinstance(error, UnusableFile) and error.denied)
        return HINT if is_refused and os.geteuid() == 0 and not self._through_sudo else otherwise

    @property
    def _uid(self) -> int:
        return 0 if self._account is None else self._account.uid

    def _as_user(self) -> safe_open.AsUser:
        return safe_open.AsUser(self._account or safe_open.OURSELVES)

    def _open_as_user(self, way: str, path: str, *, below: int | None) -> int:
        name = "the user" if self._account is None else self._account.name
        with self._as_user():
            try:
                return _checked(os.open(way, _READING | os.O_NONBLOCK, dir_fd=below), path)
            except OSError as error:
                why = f"{file_faults.words_of(error)} (opened as {name})"
                raise UnusableFile(path, why, kind=file_faults.kind_of(error)) from None


def reason(error: PathError, path: str) -> str:
    """Return why a named file cannot be used. The text names the part of the path that is to blame."""
    return error.why if error.path == path else f"{error.path} {error.why}"


def open_directory(path: str, *, making: bool = False) -> int:
    """Open a directory for root to write to. No other user may be able to change any part of its path.

    Args:
        path: absolute.
        making: missing directories are made with mode 0700.

    Raises:
        FileNotFoundError: it is missing.
        InsecureFile, UnusableFile: it cannot be trusted or used.
    """
    try:
        with CheckedWalk(path, making="directories" if making else "") as walk:
            directory = os.open(walk.rest, os.O_RDONLY | os.O_DIRECTORY | safe_open.SAFELY, dir_fd=walk.directory)
        if os.fstat(directory).st_mode & OTHERS_WRITE:
            os.close(directory)
            raise InsecureFile(path, "others can write it")
        return directory
    except FileNotFoundError:
        raise
    except OSError as error:
        raise file_faults.refusal(path, error) from None


def require_no_way_in(path: str) -> None:
    """Check that root can make the missing parts of a path, and that no other user can redirect it.

    Raises:
        InsecureFile, UnusableFile: another user can, or it is not known.
    """
    if os.geteuid() != 0:
        return
    try:
        with CheckedWalk(path):
            pass
    except FileNotFoundError:
        pass
    except OSError as error:
        raise file_faults.refusal(path, error) from None


def open_regular(path: str) -> int:
    """Open a file whose content root shows only to root. It can have any owner. A pipe is never waited for.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    if (inherited := _inherited(path)) is not None:
        return inherited
    try:
        return _checked(os.open(path, _READING | os.O_NONBLOCK), path)
    except UnusableFile as error:
        raise OSError(0, error.why, path) from None


def _inherited(path: str) -> int | None:
    """Return a copy of a descriptor of the caller, if the path stands for one, as a shell's `<(...)` does."""
    directory, _, number = path.rpartition("/")
    is_one = directory in _INHERITED and number.isascii() and number.isdecimal() and len(number) < 7
    return os.dup(int(number)) if is_one else None


def _checked(descriptor: int, path: str, *, waits: bool = False, owners: tuple[int, ...] = ()) -> int:
    """Check an open file once more on its descriptor. The descriptor is closed if the file is refused."""
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) and (not waits or stat.S_ISDIR(status.st_mode)):
            if stat.S_ISDIR(status.st_mode):
                raise UnusableFile(path, os.strerror(errno.EISDIR))
            raise UnusableFile(path, "is not a regular file")
        if owners and (status.st_uid not in owners or status.st_mode & OTHERS_WRITE):
            raise InsecureFile(path, "others can write it")
    except PathError:
        os.close(descriptor)
        raise
    return descriptor


def _read_stdin(path: str, max_bytes: int) -> bytes:
    """Read from the stream, not the descriptor. If stdin was closed, another file may have its number."""
    if sys.stdin is None:
        raise UnusableFile(path, os.strerror(errno.EBADF))
    return sys.stdin.buffer.read(max_bytes)
