"""The mark that a user has enrolled: root's, so that no deleted token file and no unmounted home directory can make
`nullok` take him for somebody who never did.

Only root takes a mark away. Imports nothing but `os` and the errors.
"""

from __future__ import annotations

import os

from pam_softtoken.errors import UnusableFile

DIRECTORY = "/var/lib/softtoken/enrolled"
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


def set_for(uid: int) -> None:
    """Remember that a user has been accepted; does nothing where it is known, or where we are not root.

    Raises:
        UnusableFile: it could not be stored.
    """
    if os.geteuid() != 0 or is_set(uid):
        return
    try:
        for directory in (os.path.dirname(DIRECTORY), DIRECTORY):
            make_directory(directory)
        os.close(os.open(path_of(uid), os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
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
