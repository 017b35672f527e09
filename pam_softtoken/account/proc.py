"""The kernel's facts about processes. This is the only reader of /proc. Imports nothing of the package."""

from __future__ import annotations

import os
import time

_BOOT_DIGITS = 16


class Boot:
    """How long this machine has run, whatever happens to its clock.

    Attributes:
        name: 16 hexadecimal digits, different for each start of a machine; empty if not known.
        uptime_s: seconds since then, including sleep.
    """

    __slots__ = ("name", "uptime_s")

    def __init__(self, name: str, uptime_s: int) -> None:
        self.name = name
        self.uptime_s = uptime_s


def boot() -> Boot:
    """Return how long this machine has run."""
    try:
        name = boot_id().replace("-", "")[:_BOOT_DIGITS]
    except OSError:
        name = ""
    is_one = len(name) == _BOOT_DIGITS and not name.strip("0123456789abcdef")
    return Boot(name if is_one else "", max(0, int(time.clock_gettime(time.CLOCK_BOOTTIME))))


_MOST_MOUNTS_BYTES = 2**20


def start_ticks(pid: int) -> int:
    """Return when a process was started, in clock ticks since the machine was.

    Raises:
        OSError, ValueError: it is not known.

    Source:
        proc(5): the 22nd field of `stat`. The second field, in brackets, can have spaces.
    """
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    if len(fields) < 20:
        raise ValueError("not a line of /proc/PID/stat")
    return int(fields[19])


def boot_id() -> str:
    """Return a name of the time since the machine was started. No other start has the same name.

    Raises:
        OSError: it is not known.
    """
    return _read("/proc/sys/kernel/random/boot_id").strip()


def all_pids() -> list[int]:
    """Return the numbers of all processes that we may see.

    Raises:
        OSError: they cannot be read.
    """
    pids = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    if os.getpid() not in pids:
        raise FileNotFoundError(0, "/proc is not there")
    return pids


def real_uid(pid: int) -> int:
    """Return the real uid of a process.

    Raises:
        OSError, ValueError: it is not known. The process may have ended.
    """
    for line in _read(f"/proc/{pid}/status").split("\n"):
        if line.startswith("Uid:"):
            return int(line.split()[1])
    raise ValueError("no uid in /proc/PID/status")


def name(pid: int) -> str:
    """Return the name that a process sets for itself. It can be any text.

    Raises:
        OSError: it is not known. The process may have ended.
    """
    return _read(f"/proc/{pid}/comm").removesuffix("\n")


def lock_name(descriptor: int) -> str:
    """Return an open file's name in the kernel's list of locks: device and inode, such as `08:01:5678`.

    `st_dev` is not that device on btrfs and overlayfs, where each part of a file system has its own. The list of mounts
    has the right one.

    Raises:
        OSError, ValueError: it is not known.

    Source:
        proc_pid_fdinfo(5): `mnt_id:`. proc_pid_mountinfo(5): fields 1 and 3.
    """
    for line in _read(f"/proc/self/fdinfo/{descriptor}").split("\n"):
        name, _, mount = line.partition(":")
        if name == "mnt_id":
            major, minor = _device_of_mount(mount.strip())
            return f"{major:02x}:{minor:02x}:{os.fstat(descriptor).st_ino}"
    raise ValueError("no mnt_id in /proc/self/fdinfo")


def _device_of_mount(number: str) -> tuple[int, int]:
    for line in _read("/proc/self/mountinfo", max_bytes=_MOST_MOUNTS_BYTES).split("\n"):
        fields = line.split(" ", 3)
        if fields[0] == number and len(fields) == 4:
            major, _, minor = fields[2].partition(":")
            return int(major), int(minor)
    raise ValueError("not a mount of ours")


def has_lock(pid: int, name: str) -> bool:
    """Check whether a process has a file open whose lock (flock) is taken. False if it is not known.

    Args:
        pid: its number.
        name: the file's name, as `lock_name` returns it.

    Source:
        proc_pid_fdinfo(5): `lock:` and a line as in /proc/locks.
    """
    directory = f"/proc/{pid}/fdinfo"
    try:
        descriptors = os.listdir(directory)
    except OSError:
        return False
    for descriptor in descriptors:
        try:
            lines = _read(f"{directory}/{descriptor}").split("\n")
        except OSError:
            continue
        if any(_is_lock_of(line.split()[1:], name) for line in lines if line.startswith("lock:")):
            return True
    return False


def _is_lock_of(words: list[str], name: str) -> bool:
    """Check whether a line is a held lock of a file, such as `1: FLOCK ADVISORY WRITE 1234 08:01:5678 0 EOF`."""
    return len(words) >= 6 and words[1] == "FLOCK" and words[5] == name


def _read(path: str, *, max_bytes: int = 4096) -> str:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = b""
        while len(data) < max_bytes and (piece := os.read(descriptor, max_bytes - len(data))):
            data += piece
        return data.decode("utf-8", "replace")
    finally:
        os.close(descriptor)
