"""Create directories and remove files where only root can write. Imports nothing but `os` and the errors."""

from __future__ import annotations

import os

from pam_softtoken.errors import UnusableFile

MODE = 0o711  # an application without root can check its own user's mark, but cannot list marks


def make_directory(directory: str, *, mode: int = MODE) -> None:
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


def remove(path: str) -> None:
    """Remove a file of root's, if it is there.

    Raises:
        UnusableFile: it is still there.
    """
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise UnusableFile(path, os.strerror(error.errno or 0)) from None
