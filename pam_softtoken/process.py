"""What the kernel says of processes: the only reader of /proc."""

from __future__ import annotations

import os


def start_ticks(pid: int) -> int:
    """Give when a process was started, in clock ticks since the machine was.

    Raises:
        OSError, ValueError: nobody can tell.

    Source:
        proc(5): the 22nd field of `stat`; the second, in brackets, can hold spaces.
    """
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if len(fields) < 20:
        raise ValueError("not a line of /proc/PID/stat")
    return int(fields[19])


def boot_id() -> str:
    """Give a name for the time since the machine was started that no other such time has.

    Raises:
        OSError: nobody can tell.
    """
    return _read("/proc/sys/kernel/random/boot_id").strip()


def _read(path: str) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, 4096).decode("ascii", "replace")
    finally:
        os.close(descriptor)
