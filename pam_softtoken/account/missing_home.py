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
AUTOMOUNTS = "/etc/auto.master"
UNITS = (
    "/etc/systemd/system", "/run/systemd/system", "/run/systemd/generator", "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system", "/run/systemd/generator.early", "/run/systemd/generator.late",
)  # fmt: skip
"""systemd looks here for mounts that fstab does not name. Source: systemd.unit(5), systemd-gpt-auto-generator(8)."""
_DISKS = frozenset({"bcachefs", "btrfs", "ext2", "ext3", "ext4", "f2fs", "jfs", "overlay", "reiserfs", "xfs"})
"""File systems of this machine, on which an absence is final. A server that is away or an automounter that fails may
show an absence for an error. ZFS removes the mount point of a home that is not mounted. A tmpfs may hide the homes from
one service (`ProtectHome=tmpfs`).
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
    """Check that no file system is missing that the home would be on: of fstab(5), systemd.mount(5), auto.master(5).

    Args:
        homes: the home's path, as written and without links.
    """
    mounted = {_unescaped(row[4]) for row in _rows(MOUNTS)}
    for place, source in (*_places(), *_places_of_units(homes)):
        concerns_it = place.rstrip("/") and any(_is_at_or_below(home, place) for home in homes)
        if concerns_it and os.path.realpath(place) not in mounted:
            raise UnusableFile(place, f"is not mounted, and is in {source}")


def _places() -> list[tuple[str, str]]:
    """Return each mount point that a table names, with the table's path."""
    found = [(_unescaped(row[1]), FSTAB) for row in _rows(FSTAB) if len(row) > 1 and not row[0].startswith("#")]
    tables = [AUTOMOUNTS]
    try:
        tables += [f"{AUTOMOUNTS}.d/{name}" for name in os.listdir(f"{AUTOMOUNTS}.d") if name.endswith(".autofs")]
    except FileNotFoundError:
        pass
    # A direct map (`/-`) names its mount points elsewhere.
    found += [(row[0], table) for table in tables for row in _rows(table) if row[0].startswith("/") and row[0] != "/-"]
    return found


def _places_of_units(homes: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return each mount point at or above a home that systemd knows, with its unit's path."""
    found = []
    for home in homes:
        place = os.path.normpath(home)
        while place.strip("/"):
            for kind in ("mount", "automount"):
                names = [f"{directory}/{_unit_of(place)}.{kind}" for directory in UNITS]
                # The first one counts. A link to /dev/null masks it.
                unit = next(filter(os.path.lexists, names), "")
                if unit and os.path.realpath(unit) != "/dev/null":
                    found.append((place, unit))
            place = os.path.dirname(place)
    return found


def _unit_of(path: str) -> str:
    """Return the name of a mount's unit without its ending, as systemd-escape(1) does with `--path`."""
    plain = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789:_."
    name = ""
    for place, byte in enumerate(os.fsencode(path.strip("/"))):
        is_plain = byte in plain and (place > 0 or byte != ord("."))
        name += "-" if byte == ord("/") else chr(byte) if is_plain else f"\\x{byte:02x}"
    return name


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
