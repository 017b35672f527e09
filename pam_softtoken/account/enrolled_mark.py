"""The mark that a user has enrolled. It is root's. So `nullok` never takes a user with a deleted token file or an
unmounted home for one who never enrolled. Imports nothing but `os`, the paths, the records of accounts and the errors.

The mark is a file that is named after the uid and contains the user's name. Only its existence counts. The name
explains a denial to an administrator when the uid has passed to another user. `account_record` has what was known of
the account beside it. Only root removes these files.
"""

from __future__ import annotations

import os

from pam_softtoken.account import account_record, places, roots_files
from pam_softtoken.errors import UnusableFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.account.safe_open import Account

_MAX_NAME_BYTES = 1024


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


def was_accepted(account: Account) -> bool:
    """Check whether a code was ever accepted for an account of this uid, or for the account that `former` finds.

    Raises:
        UnusableFile: this is not known, which is no proof that none was.
    """
    return is_set(account.uid) or account_record.former(account) is not None


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
    found = account_record.known(account.name)
    if found is not None and found.uid == account.uid:
        return found.home != account.home or not found.is_whole
    before = found or account_record.former_by_home(account)
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
            roots_files.make_directory(directory)
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
        account_record.record(account)


def forget(uid: int) -> None:
    """Remove a mark, if there is one.

    Raises:
        UnusableFile: it is still there.
    """
    roots_files.remove(path_of(uid))
