"""Files that somebody named on a command line, or that lie where users can put things. The only module that opens them.

Root's process must not lend its rights to somebody who plants a link, a pipe or a directory on the way. So there are
three cases. A process without privilege opens what it can open. A process that is root on behalf of a user (`--self`)
opens everything as that user. Root itself walks from `/`, one directory at a time, and checks each one on its open
descriptor: what only root can change is opened as root; from the first part that belongs to the user whom the command
is about, the rest is opened as that user; anything else is refused. Not on the way of a login.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import sys
from contextlib import suppress

from pam_softtoken import files
from pam_softtoken.errors import InsecureFile, PathError, UnusableFile
from pam_softtoken.new_file import NewFile

HINT = "copy it to a directory that only root can write, such as /root, or hand it over on stdin: - <FILE"
HINT_FOR_NEW = "name a new file in a directory that only root can write, or in one of that user's"
MOST_LINKS = 40
"""As many as the kernel follows in one path."""
_OTHERS_WRITE = 0o022
_LOOKING = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_READING = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY
_INHERITED = re.compile(r"/dev/fd/(\d{1,6})|/proc/self/fd/(\d{1,6})")


class NamedFiles:
    """Opens files by the names that somebody gave.

    Args:
        account: the user whom the command is about; None where it is about no user.
        through_sudo: this process is root only on behalf of that user.
    """

    __slots__ = ("_account", "_through_sudo")

    def __init__(self, account: files.Account | None = None, *, through_sudo: bool = False) -> None:
        self._account = account
        self._through_sudo = through_sudo

    def read(self, path: str, max_bytes: int, *, waits: bool = False) -> bytes:
        """Read a file, or stdin for -.

        Args:
            path: absolute, or as seen from the working directory.
            max_bytes: of a longer file the rest is left out.
            waits: read from pipes and devices, too, for as long as they take. Never as root by their names.

        Raises:
            InsecureFile: somebody else could decide what root would read.
            UnusableFile: it cannot be read, or is not a regular file.
        """
        try:
            if path in ("-", "/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"):
                return _read_stdin(path, max_bytes)
            descriptor = self.open(path, waits=waits)
            try:
                data = b""
                while len(data) < max_bytes and (piece := os.read(descriptor, max_bytes - len(data))):
                    data += piece
                return data
            finally:
                os.close(descriptor)
        except OSError as error:
            raise UnusableFile(path, files.words_of(error)) from None

    def open(self, path: str, *, waits: bool = False) -> int:
        """Open a file to read it; see `read`.

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
            with _Walk(path, uid=self._uid) as walk:
                if walk.is_users:
                    return self._open_as_user(walk.rest, path, below=walk.directory)
                descriptor = os.open(walk.rest, _READING | files.SAFELY, dir_fd=walk.directory)
                return _checked(descriptor, path, owners=(0, self._uid))
        except OSError as error:
            raise UnusableFile(path, files.words_of(error)) from None

    def make(self, path: str) -> NewFile:
        """Make a new file, mode 0600, that belongs to the one in whose directory it is; see `NewFile`.

        Raises:
            InsecureFile: somebody else could decide where root would write.
            UnusableFile: it cannot be made, or there is something of that name; nothing has changed.
        """
        if os.geteuid() != 0:
            return NewFile(path)
        if self._through_sudo:
            return NewFile(path, identity=self._as_user())
        if os.path.basename(path) in ("", ".", ".."):
            raise UnusableFile(path, os.strerror(errno.EISDIR))
        try:
            with _Walk(path, uid=self._uid, making="file") as walk:
                identity = self._as_user() if walk.is_users else None
                return NewFile(path, way=walk.rest, below=walk.directory, identity=identity)
        except OSError as error:
            raise UnusableFile(path, files.words_of(error)) from None

    def hint_for(self, error: PathError, *, otherwise: str) -> str:
        """Return what to do where a file cannot be read: what helps root, or what helps anybody."""
        is_refused = isinstance(error, InsecureFile) or (isinstance(error, UnusableFile) and error.denied)
        return HINT if is_refused and os.geteuid() == 0 and not self._through_sudo else otherwise

    @property
    def _uid(self) -> int:
        return 0 if self._account is None else self._account.uid

    def _as_user(self) -> files.AsUser:
        return files.AsUser(self._account or files.OURSELVES)

    def _open_as_user(self, way: str, path: str, *, below: int | None) -> int:
        name = "the user" if self._account is None else self._account.name
        with self._as_user():
            try:
                return _checked(os.open(way, _READING | os.O_NONBLOCK, dir_fd=below), path)
            except OSError as error:
                denied = error.errno == errno.EACCES
                raise UnusableFile(path, f"{files.words_of(error)} (opened as {name})", denied=denied) from None


def reason(error: PathError, path: str) -> str:
    """Return why a named file cannot be used, with the part of its path that is to blame."""
    return error.why if error.path == path else f"{error.path} {error.why}"


def open_directory(path: str, *, making: bool = False) -> int:
    """Open a directory that root will write to, of which no part can be changed by anybody else.

    Args:
        path: absolute.
        making: make what is missing, with mode 0700.

    Raises:
        FileNotFoundError: it is missing.
        InsecureFile, UnusableFile: it cannot be trusted, or not be used.
    """
    try:
        with _Walk(path, making="directories" if making else "") as walk:
            directory = os.open(walk.rest, os.O_RDONLY | os.O_DIRECTORY | files.SAFELY, dir_fd=walk.directory)
        if os.fstat(directory).st_mode & _OTHERS_WRITE:
            os.close(directory)
            raise InsecureFile(path, "others can write it")
        return directory
    except FileNotFoundError:
        raise
    except OSError as error:
        raise files.refusal(path, error) from None


def open_regular(path: str) -> int:
    """Open a file of which root shows something to root alone, whatever stands there. It waits for no pipe by its name.

    Raises:
        OSError: it cannot be opened.
        UnusableFile: it is not a regular file.
    """
    if (inherited := _inherited(path)) is not None:
        return inherited
    return _checked(os.open(path, _READING | os.O_NONBLOCK), path)


def _inherited(path: str) -> int | None:
    """Return a copy of a descriptor that the caller has opened, if the path stands for one, as `<(...)` of a shell."""
    found = _INHERITED.fullmatch(path)
    return os.dup(int(found[1] or found[2])) if found else None


class _Walk:
    """Root on its way to a file, one directory at a time, as far as only root can change anything.

    Args:
        path: absolute, or as seen from the working directory.
        uid: of the user whose parts may be on the way; 0 for nobody's.
        making: "file": the last name is not looked at; "directories": those that are missing are made.

    Attributes:
        directory: where it has come to, open until `close`.
        rest: the way from there; one name, unless it is the user's.
        is_users: the rest is to be opened as the user.
    """

    __slots__ = ("_at", "_links", "_making", "_uid", "_words", "directory", "is_users", "rest")

    def __init__(self, path: str, *, uid: int = 0, making: str = "") -> None:
        self._uid = uid
        self._making = making
        self._words = _words(path if path.startswith("/") else f"{os.getcwd()}/{path}")
        self._links = 0
        self.rest, self.is_users = ".", False
        self.directory = -1

    def __enter__(self) -> _Walk:
        """Walk.

        Raises:
            InsecureFile: there is a part that is neither root's alone nor this user's.
            UnusableFile, OSError: it is no way to a file.
        """
        try:
            self._start()
            while self._words:
                if self._making == "file" and len(self._words) == 1:
                    self.rest = self._words.pop()
                else:
                    self._step(self._words.pop(0))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        if self.directory >= 0:
            os.close(self.directory)
            self.directory = -1

    def _start(self) -> None:
        self.__exit__()
        self.directory, self._at = os.open("/", _LOOKING | os.O_DIRECTORY), "/"
        _require_roots_alone(os.fstat(self.directory), "/", above=None)

    def _step(self, name: str) -> None:
        entry = self._look(name)
        try:
            above, status = os.fstat(self.directory), os.fstat(entry)
            path = os.path.join(self._at, name)
            shared = bool(above.st_mode & _OTHERS_WRITE)
            if status.st_uid == self._uid != 0 and (shared or stat.S_ISDIR(status.st_mode)):
                self.rest, self.is_users = "/".join((name, *self._words)), True
                self._words = []
            elif stat.S_ISLNK(status.st_mode) and not shared:
                self._follow(entry)
            elif self._words or stat.S_ISDIR(status.st_mode) or stat.S_ISLNK(status.st_mode):
                _require_roots_alone(status, path, above=above)
                self.directory, entry, self._at = entry, self.directory, path
            else:
                _require_no_strangers(status, path, above=above, uid=self._uid)
                self.rest = name
        finally:
            os.close(entry)

    def _look(self, name: str) -> int:
        try:
            return os.open(name, _LOOKING, dir_fd=self.directory)
        except FileNotFoundError:
            if self._making != "directories":
                raise
        with suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=self.directory)
        return os.open(name, _LOOKING, dir_fd=self.directory)

    def _follow(self, link: int) -> None:
        self._links += 1
        if self._links > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = os.readlink("", dir_fd=link)
        if target.startswith("/"):
            self._start()
        self._words = [*_words(target), *self._words]


def _words(path: str) -> list[str]:
    return [word for word in path.split("/") if word not in ("", ".")]


def _require_roots_alone(status: os.stat_result, path: str, *, above: os.stat_result | None) -> None:
    """Check a directory. One of root's in a sticky one of root's, such as /tmp, can be neither moved nor exchanged."""
    if not stat.S_ISDIR(status.st_mode):
        if stat.S_ISLNK(status.st_mode):
            raise InsecureFile(path, "is a symbolic link in a directory that others can write")
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if status.st_uid != 0:
        raise InsecureFile(path, f"belongs to uid {status.st_uid}")
    if status.st_mode & _OTHERS_WRITE and not status.st_mode & stat.S_ISVTX:
        raise InsecureFile(path, f"others can write it (mode {stat.S_IMODE(status.st_mode):04o})")
    _require_mounted_by_root(status, path, above)


def _require_no_strangers(status: os.stat_result, path: str, *, above: os.stat_result, uid: int) -> None:
    """Check the file itself."""
    if above.st_mode & _OTHERS_WRITE:
        # Sticky or not: a file of root's may have been moved or linked there by somebody else.
        raise InsecureFile(path, "is in a directory that others than root can write")
    if status.st_uid not in (0, uid):
        raise InsecureFile(path, f"belongs to uid {status.st_uid}")
    if status.st_mode & _OTHERS_WRITE:
        raise InsecureFile(path, f"others can write it (mode {stat.S_IMODE(status.st_mode):04o})")
    if not stat.S_ISREG(status.st_mode):
        raise UnusableFile(path, "is not a regular file")
    _require_mounted_by_root(status, path, above)


def _require_mounted_by_root(status: os.stat_result, path: str, above: os.stat_result | None) -> None:
    """Check that no program of a user says what is there: in FUSE (fuse(4)) it can call anything root's."""
    if above is None or status.st_dev == above.st_dev:
        return
    number = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            mount, _, source = line.partition(" - ")
            kind, _, options = source.partition(" ")
            is_users = kind.startswith("fuse") and "user_id=0" not in re.split("[ ,\n]", options)
            if is_users and mount.split()[2] == number:
                raise InsecureFile(path, "is a file system that a user has mounted")


def _checked(descriptor: int, path: str, *, waits: bool = False, owners: tuple[int, ...] = ()) -> int:
    """Check an open file once more on its descriptor, which is closed if it is refused."""
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) and (not waits or stat.S_ISDIR(status.st_mode)):
            if stat.S_ISDIR(status.st_mode):
                raise UnusableFile(path, os.strerror(errno.EISDIR))
            raise UnusableFile(path, "is not a regular file")
        if owners and (status.st_uid not in owners or status.st_mode & _OTHERS_WRITE):
            raise InsecureFile(path, "others can write it")
    except PathError:
        os.close(descriptor)
        raise
    return descriptor


def _read_stdin(path: str, max_bytes: int) -> bytes:
    """Read from the stream, not the descriptor: when stdin was closed, its number may be some other file's."""
    if sys.stdin is None:
        raise UnusableFile(path, os.strerror(errno.EBADF))
    return sys.stdin.buffer.read(max_bytes)
