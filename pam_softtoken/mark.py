"""The mark that a user has enrolled: root's, so that no deleted token file and no unmounted home directory can make
`nullok` take him for somebody who never did.

The file is named after the uid and says the user's name. Only that it is there counts; the name explains a denial to an
administrator when the uid has been given to somebody else. Only root takes a mark away. Imports nothing but `os` and
the errors.
"""

from __future__ import annotations

import os

from pam_softtoken.errors import UnusableFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.files import Account

DIRECTORY = "/var/lib/softtoken/enrolled"
_MAX_NAME_BYTES = 1024
_MODE = 0o711  # an application without root can look for its own user's mark, but nobody can list them


def path_of(uid: int) -> str:
    """Give the mark's path: a file named after the uid."""
    return f"{DIRECTORY}/{uid}"


def is_set(uid: int) -> bool:
    """Tell whether a user has ever been accepted.

    Raises:
        UnusableFile: nobody can tell, which is no proof that he has not.
    """
    try:
        os.lstat(path_of(uid))
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UnusableFile(path_of(uid), os.strerror(error.errno or 0)) from None
    return True


def name_of(uid: int) -> str:
    """Return the name of the user who was accepted with a uid; empty where it is not known, as without root."""
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
    """Return the name under which a uid was accepted, where that is not the name of the account that has it now.

    It only explains a denial. It never proves that the present user has not enrolled: accounts are renamed, too.
    """
    name = name_of(account.uid)
    return name if name != account.name else ""


def is_set_for(account: Account) -> bool:
    """Return whether it is known that a user has been accepted, and under this name.

    Raises:
        UnusableFile: nobody can tell.
    """
    return is_set(account.uid) and (os.geteuid() != 0 or name_of(account.uid) == account.name)


def set_for(account: Account) -> None:
    """Remember that a user has been accepted; does nothing where it is known, or where we are not root.

    Raises:
        UnusableFile: it could not be stored.
    """
    if os.geteuid() != 0 or is_set_for(account):
        return
    uid = account.uid
    try:
        for directory in (os.path.dirname(DIRECTORY), DIRECTORY):
            make_directory(directory)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path_of(uid), flags, 0o600)
        try:
            os.write(descriptor, account.name.encode("utf-8", "surrogateescape"))
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UnusableFile(path_of(uid), os.strerror(error.errno or 0)) from None


def forget(uid: int) -> None:
    """Take a mark away; done where there is none.

    Raises:
        UnusableFile: it is still there.
    """
    try:
        os.unlink(path_of(uid))
    except FileNotFoundError:
        return
    except OSError as error:
        raise UnusableFile(path_of(uid), os.strerror(error.errno or 0)) from None


def make_directory(directory: str, *, mode: int = _MODE) -> None:
    """Make a directory of root's with its mode, whatever the umask, unless it is there; `OSError` when it cannot be.

    Between making it and setting its mode a login may be killed, and the next one could not tell that mode from a
    stricter one that an administrator has chosen. So it gets its name last, and what a killed login left is used.
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
