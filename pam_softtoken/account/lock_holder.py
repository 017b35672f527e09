"""Find the process that holds the lock of a file, for an administrator whose login or command waited for it in vain.
Reads only /proc, and never the files that a process has open, because one of them may lie on a disk that hangs. A login
loads this only after it could not get the lock.
"""

from __future__ import annotations

import os

from pam_softtoken import log
from pam_softtoken.account import proc, user_lookup
from pam_softtoken.errors import LockTimeout, LookUpFailed, UnknownUser

MOST_NAMED = 3


class Holder:
    """A process that holds a lock.

    Args:
        pid: its number.
        uid: its real uid.
        program: its name, as the process sets it.
    """

    __slots__ = ("pid", "program", "uid")

    def __init__(self, pid: int, uid: int, program: str) -> None:
        self.pid = pid
        self.uid = uid
        self.program = program

    def __str__(self) -> str:
        try:
            name = f"{user_lookup.account_of_uid(self.uid).name}, "
        except (LookUpFailed, UnknownUser):
            name = ""
        return f"process {self.pid} ({log.escape(self.program)}; {name}uid {self.uid})"


def find(lock: str) -> list[Holder] | None:
    """Return the processes that hold a lock of a file.

    A lock belongs to an open file, which processes can share and hand on. So this looks for processes that have that
    file open. /proc/locks only names the process that took the lock, which may be gone.

    Args:
        lock: the file's name, as `proc.lock_name` returns it.

    Returns:
        None if the kernel does not show it.
    """
    try:
        pids = proc.all_pids()
    except OSError:
        return None
    holders = []
    for pid in pids:
        if proc.has_lock(pid, lock):
            try:
                holders.append(Holder(pid, proc.real_uid(pid), proc.name(pid)))
            except (OSError, ValueError):
                continue  # it has just ended
    return holders


def advice(error: LockTimeout) -> str:
    """Return a hint: which process holds a lock, and what to do next. Only root is told, who could find out anyway."""
    if os.geteuid() != 0:
        return "a login or another program is using it; start again"
    holders = _holders(error)
    if not holders:
        return f"{_named(holders)}; start again"
    pids = " ".join(str(holder.pid) for holder in holders[:MOST_NAMED])
    return f"{_named(holders)}. If that does not end by itself: kill -KILL {pids}, then start again"


def describe(error: LockTimeout) -> str:
    """Return which process holds a lock, for root: `process 4242 (python3; alice, uid 1000) holds the lock`."""
    return _named(_holders(error))


def _holders(error: LockTimeout) -> list[Holder] | None:
    return find(error.lock) if error.lock else None


def _named(holders: list[Holder] | None) -> str:
    if holders is None:
        return "it is not known who holds the lock, because /proc does not say"
    if not holders:
        return "the process that held the lock has ended, or is in another container"
    named = " and ".join(str(holder) for holder in holders[:MOST_NAMED])
    more = f" and {len(holders) - MOST_NAMED} more" if len(holders) > MOST_NAMED else ""
    return f"{named}{more} {'holds' if len(holders) == 1 else 'hold'} the lock"
