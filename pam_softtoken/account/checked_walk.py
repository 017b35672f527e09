"""Root's walk along a path that another user may partly control. It opens one directory at a time and checks each open
one. It ends before the last name, or where the user's own part begins. It follows no link unless only root can have put
it there. Imports the standard library only.
"""

from __future__ import annotations

import errno
import os
import stat

from pam_softtoken.errors import FOREIGN, LINK, NO_FILE, WRITABLE, InsecureFile, UnusableFile

OTHERS_WRITE = 0o022
MOST_LINKS = 40
"""The kernel follows as many in one path."""
_LOOKING = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class CheckedWalk:
    """A walk. Use it in a `with` block, which closes the directory that was reached.

    Args:
        path: absolute, or as seen from the working directory.
        uid: uid of the user whose parts may be on the way; 0 for no user.
        making: "file": the last name is not looked at. "directories": missing directories are made.

    Attributes:
        directory: descriptor of the directory that was reached.
        rest: the rest of the path from there. It is one name, unless it is the user's.
        is_users: the rest must be opened as the user.
    """

    __slots__ = ("_at", "_links", "_making", "_uid", "_words", "directory", "is_users", "rest")

    def __init__(self, path: str, *, uid: int = 0, making: str = "") -> None:
        self._uid = uid
        self._making = making
        self._words = _words(path if path.startswith("/") else f"{os.getcwd()}/{path}")
        self._links = 0
        self.rest, self.is_users = ".", False
        self.directory = -1

    def __enter__(self) -> CheckedWalk:
        """Open the directories on the way, one after another.

        Raises:
            InsecureFile: a part is neither root's alone nor this user's.
            UnusableFile, OSError: the path does not lead to a file.
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
            shared = bool(above.st_mode & OTHERS_WRITE)
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
            return self._open(name)
        except FileNotFoundError:
            if self._making != "directories":
                raise
        try:
            os.mkdir(name, 0o700, dir_fd=self.directory)
        except FileExistsError:
            pass
        return self._open(name)

    def _open(self, name: str) -> int:
        try:
            # With O_DIRECTORY the kernel also mounts what an automounter mounts on use.
            return os.open(name, _LOOKING | os.O_DIRECTORY, dir_fd=self.directory)
        except NotADirectoryError:
            return os.open(name, _LOOKING, dir_fd=self.directory)

    def _follow(self, link: int) -> None:
        self._links += 1
        if self._links > MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = os.readlink("", dir_fd=link)
        if target.startswith("/"):
            self._start()
        self._words = [*_words(target), *self._words]


def _writable(path: str, status: os.stat_result) -> InsecureFile:
    why = f"others can write it (mode {stat.S_IMODE(status.st_mode):04o})"
    return InsecureFile(path, why, kind=WRITABLE, owner=status.st_uid)


def _words(path: str) -> list[str]:
    return [word for word in path.split("/") if word not in ("", ".")]


def _require_roots_alone(status: os.stat_result, path: str, *, above: os.stat_result | None) -> None:
    """Check a directory. Root's directory inside root's sticky one, such as /tmp, cannot be moved or exchanged."""
    if not stat.S_ISDIR(status.st_mode):
        if stat.S_ISLNK(status.st_mode):
            raise InsecureFile(path, "is a symbolic link in a directory that others can write", kind=LINK)
        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    if status.st_uid != 0:
        raise InsecureFile(path, f"belongs to uid {status.st_uid}", kind=FOREIGN, owner=status.st_uid)
    if status.st_mode & OTHERS_WRITE and not status.st_mode & stat.S_ISVTX:
        raise _writable(path, status)
    _require_mounted_by_root(status, path, above)


def _require_no_strangers(status: os.stat_result, path: str, *, above: os.stat_result, uid: int) -> None:
    """Check the file itself."""
    if above.st_mode & OTHERS_WRITE:
        # Sticky or not: another user may have moved or linked a file of root's there.
        raise InsecureFile(path, "is in a directory that users other than root can write")
    if status.st_uid not in (0, uid):
        raise InsecureFile(path, f"belongs to uid {status.st_uid}", kind=FOREIGN, owner=status.st_uid)
    if status.st_mode & OTHERS_WRITE:
        raise _writable(path, status)
    if not stat.S_ISREG(status.st_mode):
        raise UnusableFile(path, "is not a regular file", kind=NO_FILE)
    _require_mounted_by_root(status, path, above)


def _require_mounted_by_root(status: os.stat_result, path: str, above: os.stat_result | None) -> None:
    """Check that no user's program invents what is there. In FUSE it can call any file root's. Source: fuse(4)."""
    if above is None or status.st_dev == above.st_dev:
        return
    number = f"{os.major(status.st_dev)}:{os.minor(status.st_dev)}"
    # A user may choose the name of a mount point, which can contain a carriage return.
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as table:
        for line in table:
            mount, _, rest = line.rstrip("\n").partition(" - ")
            # The user chooses the name between the two, as in fsname=user_id=0. It has no spaces of its own.
            kind, _, options = rest.split(" ", 2)
            is_users = kind.startswith("fuse") and "user_id=0" not in options.split(",")
            if is_users and mount.split()[2] == number:
                raise InsecureFile(path, "is a file system that a user has mounted")
