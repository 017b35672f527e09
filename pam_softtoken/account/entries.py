"""List directories whose entries may vanish while somebody looks: users are removed, moved and revoked all the time.
A survey of root's uses nothing else, so that one entry never costs the others. Must not import what a login does not
need.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator

from pam_softtoken.account.location import split


def names_in(directory: str) -> list[str]:
    """Return the sorted names of a directory. A directory that is gone or cannot be read has none."""
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []


def status_of(path: str) -> os.stat_result | None:
    """Return the status of an entry, not of what a link leads to. None if it is gone or cannot be seen."""
    try:
        return os.lstat(path)
    except OSError:
        return None


def present_in(directory: str) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the name and the status of each entry that is still there when it is looked at."""
    for name in names_in(directory):
        status = status_of(f"{directory}/{name}")
        if status is not None:
            yield name, status


def directories_in(directory: str) -> list[str]:
    """Return the sorted names of the directories in a directory."""
    return [name for name, status in present_in(directory) if stat.S_ISDIR(status.st_mode)]


def stores_in(template: str) -> list[str]:
    """Return the directories that a `store` option outside the homes leads to, for whatever user or uid.

    Args:
        template: the option. Stores in home directories are not listed.
    """
    start, words = split(template)
    if start == "%h":
        return []
    paths = [start.rstrip("/")]
    for word in words:
        if _has_variable(word):
            paths = [f"{path}/{name}" for path in paths for name in directories_in(path or "/")]
        else:
            paths = [f"{path}/{word.replace('%%', '%')}" for path in paths]
    return paths


def user_of(path: str, template: str) -> str | None:
    """Return the name or the uid, as text, of the user whose place a directory would be; None if it is nobody's.

    Args:
        path: one of `stores_in`.
        template: the same as there.
    """
    start, words = split(template)
    pattern = "/".join(_pattern(word) for word in words)
    found = re.fullmatch(f"{re.escape(start.rstrip('/'))}/{pattern}", path)
    if found is None:
        return None
    users = set(found.groups())
    return users.pop() if len(users) == 1 else None


def _has_variable(word: str) -> bool:
    return "%" in word.replace("%%", "")


def _pattern(word: str) -> str:
    pieces = [re.escape(piece) for piece in word.split("%%")]
    return "%".join(piece.replace("%U", "([0-9]+)").replace("%u", "([^/]+)") for piece in pieces)
