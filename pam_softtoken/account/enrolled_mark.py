"""The mark that a user has enrolled. It is root's. So `nullok` never takes a user with a deleted token file or an
unmounted home for one who never enrolled. Imports nothing but `os`, the hash, the paths, the look-up and the errors.

There are three files. The first is named after the uid and contains the user's name. Only its existence counts. The
name explains a denial to an administrator when the uid has passed to another user. The second is named after a hash of
the name, and contains the uid and the home directory. It finds the records of an account that got another uid, and
shows where its files were before its home was changed. The third is named after a hash of the home directory and
contains the same. It finds the records of an account that got another name and another uid. It is read only if there
is no second one. Only root removes these files.
"""

from __future__ import annotations

import os

from pam_softtoken.account import places, user_lookup
from pam_softtoken.errors import DENIED, LookUpFailed, UnknownUser, UnusableFile
from pam_softtoken.otp.mac import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.account.safe_open import Account

DIGEST_DIGITS = 32
HOME_PREFIX = "home-"
NOT_A_UID = -1
_NOBODYS_HOMES = frozenset(("/", "/dev/null", "/nonexistent", "/var/empty"))
"""The entry of many accounts, and the home of none."""
_WITH_HOME = "home"
"""The last word of a record by name that has one by home beside it. Older versions wrote none."""
_MAX_NAME_BYTES = 1024
_MAX_RECORD_BYTES = 8192
_MODE = 0o711  # an application without root can check its own user's mark, but cannot list marks


def path_of(uid: int) -> str:
    """Return the mark's path: a file named after the uid."""
    return f"{places.ENROLLED}/{uid}"


def is_set(uid: int) -> bool:
    """Check whether a user was ever accepted.

    Raises:
        UnusableFile: this is not known, which is no proof that the user was not.
    """
    try:
        os.lstat(path_of(uid))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UnusableFile(path_of(uid), os.strerror(error.errno or 0)) from None
    return True


def name_of(uid: int) -> str:
    """Return the name of the user who was accepted with a uid. It is empty if it is not known, for example without
    root.
    """
    try:
        descriptor = os.open(path_of(uid), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return os.read(descriptor, _MAX_NAME_BYTES).decode("utf-8", "surrogateescape")
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def former_name(account: Account) -> str:
    """Return the name under which a uid was accepted, if the account with that uid now has another name.

    It only explains a denial. It never proves that the present user has not enrolled, because accounts are renamed too.
    """
    name = name_of(account.uid)
    return name if name != account.name else ""


class Known:
    """The record under a name or a home directory.

    Attributes:
        name, uid, home: the account's values when its last code was accepted.
        is_whole: the record under the home directory was written, too.
    """

    __slots__ = ("home", "is_whole", "name", "uid")

    def __init__(self, name: str, uid: int, home: str, *, is_whole: bool = False) -> None:
        self.name = name
        self.uid = uid
        self.home = home
        self.is_whole = is_whole

    def described(self, name: str) -> str:
        """Return what this says about an account that has this name now."""
        if self.uid == NOT_A_UID:
            return f"what root recorded about {name} is damaged"
        if self.name == name:
            return f"{name} was enrolled with uid {self.uid}"
        return f"the home directory {self.home} was that of {self.name} (uid {self.uid}), an enrolled user"


def record_of(name: str) -> str:
    """Return the path of the record that is named after a name."""
    return f"{places.NAMES}/{_digest_of(name)}"


def record_of_home(home: str) -> str:
    """Return the path of the record that is named after a home directory. Empty if such a home is nobody's."""
    place = user_lookup.place_of(home)
    return f"{places.NAMES}/{HOME_PREFIX}{_digest_of(place)}" if home and place not in _NOBODYS_HOMES else ""


def is_record(name: str) -> bool:
    """Check whether a file in the directory of the records is one, and not what a killed login has left."""
    return len(name.removeprefix(HOME_PREFIX)) == DIGEST_DIGITS


def _digest_of(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:DIGEST_DIGITS]


def known(name: str) -> Known | None:
    """Return the record under a name; None if there is none.

    Raises:
        UnusableFile: this is not known.
    """
    return read_record(record_of(name))


def read_record(path: str) -> Known | None:
    """Read one record. A damaged record has `NOT_A_UID`, which only proves that there was an account.

    Raises:
        UnusableFile: this is not known.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            data = os.read(descriptor, _MAX_RECORD_BYTES)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        return None
    except OSError as error:
        kind = DENIED if isinstance(error, PermissionError) else ""
        raise UnusableFile(path, os.strerror(error.errno or 0), kind=kind) from None
    words = data.decode("utf-8", "surrogateescape").split("\0")
    if words[3:] not in ([""], [_WITH_HOME, ""]) or not (words[0].isascii() and words[0].isdecimal()):
        return Known("", NOT_A_UID, "")
    return Known(words[1], int(words[0]), words[2], is_whole=len(words) > 4)


def former(account: Account) -> Known | None:
    """Return what an account was when its last code was accepted, if it had another uid then; None if it had not.

    It is found by the name, or else by the home directory. It may be the same user, or a new user who got the name or
    the home directory. Only root knows.

    Raises:
        UnusableFile: this is not known.
    """
    found = known(account.name)
    if found is None:
        return _former_by_home(account)
    return found if found.uid != account.uid else None


def former_uid(account: Account) -> int | None:
    """Return the uid of `former`; None if there is none.

    Raises:
        UnusableFile: this is not known.
    """
    found = former(account)
    return found.uid if found is not None else None


def _former_by_home(account: Account) -> Known | None:
    """Return the account that is gone and had this home directory.

    A home directory that another account has, too, says nothing about any of them.
    """
    path = record_of_home(account.home)
    found = read_record(path) if path else None
    if found is None or found.uid == account.uid:
        return None
    try:
        is_there = found.uid != NOT_A_UID and _is_there(found, account.uid)
    except LookUpFailed as error:
        raise UnusableFile(path, f"names {found.name}, who cannot be looked up: {error}") from None
    return None if is_there or user_lookup.shares_home(account) else found


def _is_there(found: Known, uid: int) -> bool:
    """Check whether a recorded account exists, perhaps with another name or another uid. Raises `LookUpFailed`.

    A new account that got the name or the uid, and has another home directory, is not the recorded one. Neither is the
    account that asks, with `uid`. A directory service may still know it by its former name.
    """
    for key in (found.name, found.uid):
        try:
            present = user_lookup.account_of_name(key) if isinstance(key, str) else user_lookup.account_of_uid(key)
        except UnknownUser:
            continue
        if present.uid == uid:
            continue
        if (present.name, present.uid) == (found.name, found.uid):
            return True
        if user_lookup.place_of(present.home) == user_lookup.place_of(found.home):
            return True
    return False


def was_accepted(account: Account) -> bool:
    """Check whether a code was ever accepted for an account of this uid, or for the account that `former` finds.

    Raises:
        UnusableFile: this is not known, which is no proof that none was.
    """
    return is_set(account.uid) or former(account) is not None


def is_set_for(account: Account) -> bool:
    """Check whether everything is recorded about an accepted user.

    Raises:
        UnusableFile: this is not known.
    """
    if os.geteuid() != 0:
        return is_set(account.uid)
    return _has_mark(account) and not _needs_record(account)


def _has_mark(account: Account) -> bool:
    return is_set(account.uid) and name_of(account.uid) == account.name


def _needs_record(account: Account) -> bool:
    found = known(account.name)
    if found is not None and found.uid == account.uid:
        return found.home != account.home or not found.is_whole
    before = found or _former_by_home(account)
    # This record leads to revocations under the former uid, until root has handed them over.
    return before is None or not os.path.lexists(f"{places.REVOKED}/{before.uid}")


def set_for(account: Account) -> None:
    """Store that a user was accepted. Does nothing if that is known, or if we are not root.

    This does not wait for the disk, as `replace` does. A first login comes here between the record of its code and the
    verdict, and a busy disk could hold it up until the host gives up. What a power failure takes is written again.

    Raises:
        UnusableFile: it could not be stored.
    """
    if os.geteuid() != 0 or is_set_for(account):
        return
    uid = account.uid
    try:
        for directory in (places.DATA, places.ENROLLED):
            make_directory(directory)
        if not _has_mark(account):
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(path_of(uid), flags, 0o600)
            try:
                os.write(descriptor, account.name.encode("utf-8", "surrogateescape"))
            finally:
                os.close(descriptor)
    except OSError as error:
        raise UnusableFile(path_of(uid), os.strerror(error.errno or 0)) from None
    if _needs_record(account):
        record(account)


def record(account: Account) -> None:
    """Store the name, the uid and the home directory, under the name and under the home directory.

    The record under the name is written last, because it says that both are there. If the home directory was changed,
    the record under the former one is removed.

    Raises:
        UnusableFile: the record under the name is unchanged.
    """
    before = known(account.name)
    of_home = record_of_home(account.home)
    text = f"{account.uid}\0{account.name}\0{account.home}\0{_WITH_HOME}\0"
    for path in (of_home, record_of(account.name)):
        if path:
            _write(path, text)
    if before is not None and record_of_home(before.home) != of_home:
        forget_home(before)


def _write(path: str, text: str) -> None:
    new = f"{path}.{os.urandom(8).hex()}"
    try:
        for directory in (places.DATA, places.NAMES):
            make_directory(directory)
        # A screen locker is its user's process and has to read this. The password database shows the same facts.
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        try:
            os.fchmod(descriptor, 0o644)
            os.write(descriptor, text.encode("utf-8", "surrogateescape")[:_MAX_RECORD_BYTES])
        finally:
            os.close(descriptor)
        os.rename(new, path)
    except OSError as error:
        try:
            os.unlink(new)
        except OSError:
            pass
        raise UnusableFile(path, os.strerror(error.errno or 0)) from None


def forget_name(name: str) -> None:
    """Remove the record of a name, if there is one, and the one under its home directory.

    Raises:
        UnusableFile: one of them is still there.
    """
    found = known(name)
    if found is not None:
        forget_home(found)
    _remove(record_of(name))


def forget_home(gone: Known) -> None:
    """Remove the record under an account's home directory, unless it is about another account.

    Raises:
        UnusableFile: it is still there.
    """
    path = record_of_home(gone.home)
    found = read_record(path) if path else None
    if found is not None and (found.name, found.uid) == (gone.name, gone.uid):
        _remove(path)


def forget_former(account: Account) -> None:
    """Remove the record that `former` reads, because it is about another user.

    Raises:
        UnusableFile: it is still there.
    """
    if known(account.name) is not None:
        forget_name(account.name)
    else:
        _remove(record_of_home(account.home))


def forget_record(path: str) -> None:
    """Remove one record, if it is there.

    Raises:
        UnusableFile: it is still there.
    """
    _remove(path)


def forget(uid: int) -> None:
    """Remove a mark, if there is one.

    Raises:
        UnusableFile: it is still there.
    """
    _remove(path_of(uid))


def _remove(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UnusableFile(path, os.strerror(error.errno or 0)) from None


def make_directory(directory: str, *, mode: int = _MODE) -> None:
    """Create a directory of root's with its mode, whatever the umask, unless it exists. Raises `OSError` if that fails.

    A login may be killed between making the directory and setting its mode. The next login could not tell that mode
    from a stricter one that an administrator chose. So the directory gets its name last, and what a killed login left
    is used.
    """
    if os.path.isdir(directory):
        return
    new = f"{directory}.new"
    try:
        os.mkdir(new, 0o700)
    except FileExistsError:
        pass
    try:
        os.chmod(new, mode)
        os.rename(new, directory)
    except OSError:
        if not os.path.isdir(directory):
            raise
        # Another login was quicker.
        try:
            os.rmdir(new)
        except OSError:
            pass
