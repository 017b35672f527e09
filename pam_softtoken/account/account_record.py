"""What an account was when its last code was accepted: name, uid and home directory. Root keeps it in two records, so
that an account that was changed is still known for one that has enrolled. See `enrolled_mark` for the mark itself.

One record is named after a hash of the name. It finds an account that got another uid, and shows where its files were
before its home was changed. The other is named after a hash of the home directory. It finds an account that got another
name and another uid. It is read only if there is no first one. Only root removes these files.
"""

from __future__ import annotations

import os

from pam_softtoken.account import places, roots_files, user_lookup
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
_MAX_RECORD_BYTES = 8192


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
        return former_by_home(account)
    return found if found.uid != account.uid else None


def former_uid(account: Account) -> int | None:
    """Return the uid of `former`; None if there is none.

    Raises:
        UnusableFile: this is not known.
    """
    found = former(account)
    return found.uid if found is not None else None


def former_by_home(account: Account) -> Known | None:
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
            roots_files.make_directory(directory)
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
    roots_files.remove(record_of(name))


def forget_home(gone: Known) -> None:
    """Remove the record under an account's home directory, unless it is about another account.

    Raises:
        UnusableFile: it is still there.
    """
    path = record_of_home(gone.home)
    found = read_record(path) if path else None
    if found is not None and (found.name, found.uid) == (gone.name, gone.uid):
        roots_files.remove(path)


def forget_former(account: Account) -> None:
    """Remove the record that `former` reads, because it is about another user.

    Raises:
        UnusableFile: it is still there.
    """
    if known(account.name) is not None:
        forget_name(account.name)
    else:
        roots_files.remove(record_of_home(account.home))


def forget_record(path: str) -> None:
    """Remove one record, if it is there.

    Raises:
        UnusableFile: it is still there.
    """
    roots_files.remove(path)
