"""List what a directory holds, down to the last byte, so that a test can show that nothing was changed."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def listing(directory: Path) -> dict[str, tuple[object, ...]]:
    """List everything below a directory.

    Returns:
        For each path below it: kind and mode, owner, inode, and the content of a file or the target of a link. Access
        times are left out. So are the times and sizes of directories, which any temporary file changes.
    """
    found: dict[str, tuple[object, ...]] = {}
    for path in [directory, *sorted(directory.rglob("*"))]:
        status = path.lstat()
        content: object = None
        if stat.S_ISREG(status.st_mode):
            content = (path.read_bytes(), status.st_mtime_ns)
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        mode = stat.filemode(status.st_mode)
        found[str(path.relative_to(directory))] = (mode, status.st_uid, status.st_gid, status.st_ino, content)
    return found
