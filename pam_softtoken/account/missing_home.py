"""Check whether a missing home directory was never made: nobody but root can have taken it away, and no disk with it is
missing. Loaded only for a user whose home is missing. Imports the standard library only.

A home that is not there looks like a home that is not mounted. What can be seen of the difference is checked here. The
caller has checked root's records of the user.
"""

from __future__ import annotations

import os

from pam_softtoken.account import file_faults
from pam_softtoken.account.checked_walk import OTHERS_WRITE, CheckedWalk
from pam_softtoken.errors import WRITABLE, InsecureFile, UnusableFile

FSTAB, MOUNTS = "/etc/fstab", "/proc/self/mountinfo"
_DISKS = frozenset({"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "reiserfs", "xfs", "zfs"})
"""File systems of this machine, on which an absence is final. A server that is away or an automounter that fails may
show an absence for an error. A tmpfs may hide the homes from one service (`ProtectHome=tmpfs`).
"""
_ESCAPES = (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\"))


def require_never_made(home: str) -> None:
    """Check that only the last part of the path is missing, and that it cannot have been there before without root.

    Args:
        home: absolute path of the home directory.

    Raises:
        InsecureFile, UnusableFile: this is not so, or it cannot be known.
    """
    above, _, name = home.rstrip("/").rpartition("/")
    above = above or "/"
    try:
        with CheckedWalk(above) as walk:
            if walk.rest != ".":
                raise NotADirectoryError
            if os.fstat(walk.directory).st_mode & OTHERS_WRITE:
                raise InsecureFile(above, "others can write it", kind=WRITABLE)
            _require_missing(name, walk.directory, home)
            _require_own_disk(walk.directory, above)
            _require_mounted(home, os.path.join(os.readlink(f"/proc/self/fd/{walk.directory}"), name))
    except OSError as error:
        raise file_faults.refusal(above, error) from None


def _require_missing(name: str, directory: int, home: str) -> None:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return
    raise UnusableFile(home, "is a link that leads nowhere, or was made meanwhile")


def _require_own_disk(directory: int, path: str) -> None:
    with open(f"/proc/self/fdinfo/{directory}", encoding="ascii") as facts:
        number = next(line.split()[1] for line in facts if line.startswith("mnt_id:"))
    kind = next((row[row.index("-") + 1] for row in _rows(MOUNTS) if row[0] == number), "unknown")
    if kind not in _DISKS:
        raise UnusableFile(path, f"is on {kind}, where an absence may be an error")


def _require_mounted(*homes: str) -> None:
    """Check that no file system of fstab(5) is missing that the home would be on.

    Args:
        homes: the home's path, as written and without links.
    """
    mounted = {_unescaped(row[4]) for row in _rows(MOUNTS)}
    for row in _rows(FSTAB):
        place = _unescaped(row[1]) if len(row) > 1 and not row[0].startswith("#") else ""
        if place.rstrip("/") and any(_is_at_or_below(home, place) for home in homes):
            real = os.path.realpath(place)
            if real not in mounted:
                raise UnusableFile(place, f"is not mounted, and is in {FSTAB}")


def _rows(path: str) -> list[list[str]]:
    # A user may choose the name of a mount point, in which other white space is no separator.
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as table:
            lines = [line.rstrip("\n").replace("\t", " ").split(" ") for line in table]
    except FileNotFoundError:
        return []
    return [row for line in lines if (row := [word for word in line if word])]


def _is_at_or_below(path: str, directory: str) -> bool:
    return f"{path.rstrip('/')}/".startswith(f"{directory.rstrip('/')}/")


def _unescaped(path: str) -> str:
    for escape, character in _ESCAPES:
        path = path.replace(escape, character)
    return path
