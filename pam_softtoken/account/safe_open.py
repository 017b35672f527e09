"""Checked opens, locks and durable writes, as the user if the files are the user's. No other module opens, locks or
renames a file during a usual login. The rule for every user-owned path: become the user, start at the home directory,
follow no link, and believe only the open descriptor.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time

from pam_softtoken import errors
from pam_softtoken.account.file_faults import kind_of, not_stored, refusal, words_of
from pam_softtoken.errors import ConfigError, InsecureFile, LockTimeout, NotStored, UnusableFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

SAFELY = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
_GROUP_OR_OTHERS_WRITE = 0o022
_GROUP_OR_OTHERS = 0o077
MAX_CONF_BYTES = 16 * 1024
_LOCK_PAUSES_S = (0.001, 0.002, 0.005, 0.01, 0.02)


class Account:
    """A user of this host.

    Args:
        name: canonical login name, `pw_name`, from `user_lookup`. It is never the name as typed.
        uid, gid: the user's ids.
        home: absolute path of the home directory.
    """

    __slots__ = ("gid", "groups", "home", "name", "uid")

    def __init__(self, name: str, uid: int, gid: int, *, home: str) -> None:
        self.name = name
        self.uid = uid
        self.gid = gid
        self.groups = [gid]
        self.home = home

    def look_up_groups(self) -> None:
        """Read the supplementary groups. This is not done in advance, because it may ask every name service of the
        host.
        """
        try:
            self.groups = os.getgrouplist(self.name, self.gid)
        except UnicodeEncodeError:  # it refuses names that are not UTF-8; the user then has no other group for us
            self.groups = [self.gid]


OURSELVES = Account("", 0, 0, home="/")
"""Stands for no change of identity."""


class AsUser:
    """A `with` block in which root is the user: effective uid and gid, and supplementary groups.

    Real and saved ids stay root's, so that the user can neither signal nor trace the process. A process without root
    does not change.
    """

    __slots__ = ("_account", "_before")

    def __init__(self, account: Account) -> None:
        self._account = account
        self._before: tuple[int, list[int]] | None = None

    def __enter__(self) -> None:
        if os.geteuid() != 0 or self._account.uid == 0:
            return
        before = (os.getegid(), os.getgroups())
        os.setgroups(self._account.groups)
        self._before = before
        try:
            os.setegid(self._account.gid)
            os.seteuid(self._account.uid)
        except BaseException:
            self.__exit__(None, None, None)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is None:
            return
        gid, groups = self._before
        os.seteuid(0)
        os.setegid(gid)
        os.setgroups(groups)
        self._before = None


def open_home(account: Account) -> int:
    """Open a home directory as a starting point. Call it as the user.

    Raises:
        InsecureFile: it belongs to another user, or others can write it (as sshd's StrictModes).
        NoHome: it is missing, which by itself proves nothing.
        UnusableFile: it cannot be opened.
    """
    if not account.home.startswith("/"):
        raise UnusableFile(account.home, "the home directory has no absolute path")
    try:
        directory = os.open(account.home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise errors.NoHome(account.home) from None
    except OSError as error:
        raise UnusableFile(
            account.home, words_of(error), kind=kind_of(error), culprit=_closed_above(account.home)
        ) from None
    return _checked_directory(directory, account.home, (0, account.uid))


def _closed_above(path: str) -> str:
    """Return the first directory on the way that cannot be entered; empty if there is none."""
    parts = path.split("/")
    for end in range(2, len(parts) + 1):
        try:
            os.stat("/".join(parts[:end]))
        except PermissionError:
            return "/".join(parts[: end - 1]) or "/"
        except OSError:
            break
    return ""


def open_directory(path: str, *, below: int | None, owner: int) -> int:
    """Open a directory that only its owner may be able to write.

    Args:
        path: absolute.
        below: descriptor of the directory above, from which it is opened. None for a path that no user can exchange.
        owner: uid.

    Raises:
        FileNotFoundError: there is none.
        InsecureFile, UnusableFile: as their names say.
    """
    name = path if below is None else os.path.basename(path)
    try:
        directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | SAFELY, dir_fd=below)
    except FileNotFoundError:
        raise
    except NotADirectoryError as error:  # Linux reports this for a link too, with O_DIRECTORY
        if stat.S_ISLNK(os.lstat(name, dir_fd=below).st_mode):
            raise InsecureFile(path, "is a symbolic link", kind=errors.LINK) from None
        raise refusal(path, error, below=below) from None
    except OSError as error:
        raise refusal(path, error, below=below) from None
    return _checked_directory(directory, path, (owner,))


def make_directory(path: str, *, below: int | None, made: list[str]) -> None:
    """Create a directory with mode 0700, unless it exists.

    Args:
        path: absolute.
        below: as in `open_directory`.
        made: the path is added to it if it was made.

    Raises:
        UnusableFile: it cannot be made.
    """
    try:
        os.mkdir(path if below is None else os.path.basename(path), 0o700, dir_fd=below)
    except FileExistsError:
        return
    except OSError as error:
        raise refusal(path, error, below=below) from None
    made.append(path)


def _checked_directory(directory: int, path: str, owners: tuple[int, ...]) -> int:
    try:
        status = os.fstat(directory)
    except OSError as error:  # with O_PATH even a FUSE file system that is closed to us can be opened
        os.close(directory)
        raise refusal(path, error) from None
    if status.st_uid not in owners:
        why, kind = f"belongs to uid {status.st_uid}", errors.FOREIGN
    elif status.st_mode & _GROUP_OR_OTHERS_WRITE:
        why, kind = f"others can write it (mode {stat.S_IMODE(status.st_mode):04o})", errors.WRITABLE
    else:
        return directory
    os.close(directory)
    raise InsecureFile(path, why, kind=kind, owner=status.st_uid)


def open_file(path: str, flags: int, *, below: int, owner: int) -> int:
    """Open a file. Check on the descriptor that it is regular, and that only its owner can write it.

    Args:
        path: absolute.
        flags: `os.O_RDONLY` or the like. The open never blocks and never follows a link.
        below: descriptor of the directory that it is in, from which it is opened.
        owner: uid.

    Raises:
        FileNotFoundError: there is none.
        InsecureFile, UnusableFile: as their names say.
    """
    try:
        descriptor = os.open(os.path.basename(path), flags | SAFELY, dir_fd=below)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise refusal(path, error, below=below) from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        why, kind = "is not a regular file", errors.NO_FILE
    elif status.st_nlink != 1:
        why, kind = f"has {status.st_nlink} links", errors.HARD_LINKED
    elif status.st_uid != owner:
        why, kind = f"belongs to uid {status.st_uid}", errors.FOREIGN
    elif status.st_mode & _GROUP_OR_OTHERS:
        why, kind = f"is open to others (mode {stat.S_IMODE(status.st_mode):04o})", errors.READABLE
    else:
        return descriptor
    os.close(descriptor)
    raise InsecureFile(path, why, kind=kind, owner=status.st_uid)


def open_or_make_file(path: str, flags: int, *, below: int, owner: int) -> tuple[int, bool]:
    """Open a file as `open_file` does. If there is none, an empty one is made.

    Returns:
        The descriptor, and whether the file is new.

    Raises:
        InsecureFile, UnusableFile: as their names say.
    """
    try:
        return open_file(path, flags, below=below, owner=owner), False
    except FileNotFoundError:
        pass
    try:
        descriptor = os.open(os.path.basename(path), flags | os.O_CREAT | os.O_EXCL | SAFELY, 0o600, dir_fd=below)
    except FileExistsError:
        # Another process made it in between. If it is gone again, that is no reliable absence.
        try:
            return open_file(path, flags, below=below, owner=owner), False
        except FileNotFoundError as error:
            raise refusal(path, error, below=below) from None
    except OSError as error:
        raise refusal(path, error, below=below) from None
    # The mode must not depend on the caller's umask, which could lock the owner out for good.
    os.fchmod(descriptor, 0o600)
    return descriptor, True


def read(descriptor: int, max_bytes: int, *, path: str) -> bytes:
    """Read a file from its start, at most one byte more than `max_bytes`.

    Raises:
        UnusableFile: the system would not read it.
    """
    data = b""
    try:
        # Before an unreadable block a call only ends early, and the next call reports why. So reading goes on.
        # Otherwise a state file could lose its newer record, and a used code would work again. Once `max_bytes` are
        # there, nothing is missing.
        while len(data) < max_bytes and (piece := os.pread(descriptor, max_bytes + 1 - len(data), len(data))):
            data += piece
    except OSError as error:
        raise UnusableFile(path, words_of(error)) from None
    return data


def lock(descriptor: int, timeout_s: float, *, path: str, shared: bool = False) -> None:
    """Lock an open file exclusively. The kernel releases the lock with the descriptor.

    Args:
        timeout_s: seconds to wait for another holder. Our own pauses are counted, so that no clock can lengthen the
            wait.
        shared: others may hold a shared lock at the same time, but no exclusive one.

    Raises:
        LockTimeout: another process held it for longer.
        UnusableFile: the file system has no locks, or has failed.
    """
    waited_s = 0.0
    tries = 0
    kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    while True:
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if waited_s >= timeout_s:
                why = f"another process has held the lock for {timeout_s:g} s"
                raise LockTimeout(path, why, lock=_lock_name(descriptor)) from None
        except OSError as error:
            raise UnusableFile(path, words_of(error)) from None
        pause_s = _LOCK_PAUSES_S[min(tries, len(_LOCK_PAUSES_S) - 1)]
        time.sleep(pause_s)
        waited_s += pause_s
        tries += 1


def _lock_name(descriptor: int) -> str:
    from pam_softtoken.account import proc  # noqa: PLC0415 - nobody needs it who gets the lock

    try:
        return proc.lock_name(descriptor)
    except (OSError, ValueError):
        return ""


def unlock(descriptor: int) -> None:
    """Release the lock before the descriptor is closed."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def is_in_place(descriptor: int, path: str, *, below: int) -> bool:
    """Check whether an open file still has its name in its directory. Call it as the owner.

    The number of links proves less: a renamed file still has one.
    """
    try:
        present = os.stat(os.path.basename(path), dir_fd=below, follow_symlinks=False)
    except OSError:
        return False
    return os.path.samestat(os.fstat(descriptor), present)


def overwrite(descriptor: int, data: bytes, offset: int, *, path: str) -> None:
    """Write in place. On return the data would survive a power failure.

    Raises:
        NotStored: the data may or may not be on the disk.
    """
    try:
        written = 0
        while written < len(data):
            written += os.pwrite(descriptor, data[written:], offset + written)
        os.fdatasync(descriptor)
    except OSError as error:
        raise not_stored(path, error) from None


def fill_new(descriptor: int, data: bytes, *, below: int, path: str) -> None:
    """Write the whole content of an empty file. On return it, and the file's name, would survive a power failure.

    Args:
        below: descriptor of the file's directory.

    Raises:
        NotStored: the file is empty.
    """
    try:
        overwrite(descriptor, data, 0, path=path)
        os.fsync(descriptor)
        os.fsync(below)
    except (NotStored, OSError) as error:
        os.ftruncate(descriptor, 0)
        if isinstance(error, NotStored):
            raise
        raise not_stored(path, error) from None


def read_conf(path: str, required: bool) -> str:
    """Read the administrator's configuration file.

    Args:
        path: absolute.
        required: whether it must exist. Otherwise an absent file counts as empty.

    Raises:
        ConfigError: it cannot be read, or a user other than root and ourselves could have written it.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except FileNotFoundError:
        if required:
            raise ConfigError((f"{path}: no such file",)) from None
        return ""
    except OSError as error:
        raise ConfigError((f"{path}: {words_of(error)}",)) from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigError((f"{path}: is not a regular file",))
        if status.st_uid not in (0, os.geteuid()) or status.st_mode & _GROUP_OR_OTHERS_WRITE:
            raise ConfigError((f"{path}: others own it or can write it",))
        text = read(descriptor, MAX_CONF_BYTES, path=path)
        if len(text) > MAX_CONF_BYTES:
            raise ConfigError((f"{path}: is larger than {MAX_CONF_BYTES} bytes",))
        return text.decode()
    except UnicodeDecodeError:
        raise ConfigError((f"{path}: is not UTF-8",)) from None
    except UnusableFile as error:
        raise ConfigError((str(error),)) from None
    finally:
        os.close(descriptor)
