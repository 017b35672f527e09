"""The one look-up of a user. It returns the account under the host's own name for it, whatever spelling was typed.
Directory services know one person under several names, such as `carol`, `CORP\\carol` and `carol@corp.example`. The
canonical name is `pw_name`, and everything that is named after a user is named after that. Imports nothing but `os`,
`pwd`, the errors and `safe_open`, because a login loads it.
"""

from __future__ import annotations

import os
import pwd

from pam_softtoken.account.safe_open import Account
from pam_softtoken.errors import LookUpFailed, UnknownUser

NO_NAME = "the name service returns no name for this user"


def account_of_name(typed: str) -> Account:
    """Return the account of a user, by any spelling of the name.

    Raises:
        UnknownUser: this host knows no such user.
        LookUpFailed: it cannot tell.
    """
    return account_of(entry_of_name(typed))


def uid_of_name(typed: str) -> int | None:
    """Return the uid of a user, by any spelling of the name; None if the host knows no such user, or cannot tell."""
    try:
        return account_of_name(typed).uid
    except (UnknownUser, LookUpFailed):
        return None


def entry_of_name(typed: str) -> pwd.struct_passwd:
    """Return a user's entry in the password database, by any spelling of the name.

    Raises:
        UnknownUser: this host knows no such user.
        LookUpFailed: it cannot tell.
    """
    try:
        return pwd.getpwnam(typed)
    except (KeyError, ValueError):  # no user has a name with a NUL or without a byte form
        raise UnknownUser from None
    except OSError as error:
        raise LookUpFailed(error.strerror or "cannot be asked") from None


def account_of_uid(uid: int) -> Account:
    """Return the account of a user, by the uid.

    Raises:
        UnknownUser: this host knows no such user.
        LookUpFailed: it cannot tell.
    """
    return account_of(entry_of_uid(uid))


def entry_of_uid(uid: int) -> pwd.struct_passwd:
    """Return a user's entry in the password database, by the uid.

    Raises:
        UnknownUser: this host knows no such user.
        LookUpFailed: it cannot tell.
    """
    try:
        return pwd.getpwuid(uid)
    except (KeyError, OverflowError):
        raise UnknownUser from None
    except OSError as error:
        raise LookUpFailed(error.strerror or "cannot be asked") from None


def account_of(entry: pwd.struct_passwd) -> Account:
    """Return the account of an entry of the password database.

    Raises:
        LookUpFailed: the entry has no name.
    """
    if not entry.pw_name:
        raise LookUpFailed(NO_NAME)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid, home=entry.pw_dir)


def place_of(home: str) -> str:
    """Return the one spelling of a home directory."""
    return f"/{os.path.normpath(home).strip('/')}"


def shares_home(account: Account) -> bool:
    """Check whether the host lists an account with the same home directory and another uid.

    This reads all accounts, which a directory service may do slowly. A service that does not answer lists none.
    """
    place = place_of(account.home)
    return any(each.pw_uid != account.uid and place_of(each.pw_dir) == place for each in pwd.getpwall())


def canonical_name(typed: str) -> str:
    """Return the canonical name of a user. An unknown user's name is returned as typed."""
    try:
        return account_of_name(typed).name
    except (UnknownUser, LookUpFailed):
        return typed


def is_login(word: str) -> bool:
    """Check whether a word is known to be a login name of this host."""
    return uid_of_name(word) is not None
