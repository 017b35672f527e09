"""Control the running sshd: reload its configuration, and end connections that started before a change."""

from __future__ import annotations

import glob
import os
import re
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pam_softtoken.admin.common import child
from pam_softtoken.admin.sshd import server
from pam_softtoken.pam import host_program
from pam_softtoken.program_errors import AdministrationFailed

_LISTENER_TRIES, _PAUSE_S = 50, 0.1
_WAIT_S = 30
_PARTS = (
    server.PROGRAM,
    *(path.replace("-session", f"-{part}") for path in host_program.SESSIONS for part in ("session", "auth")),
)
"""Since OpenSSH 9.8, connections run in separate programs."""
_UNFINISHED = re.compile(rb"\[(?:accepted|net|preauth)\]|\0-(?:[a-zA-Z0-9]*R)(?:\0|$)")
"""A mark in the command line of a process whose user has not logged in yet."""


def require_would_follow(new: bytes | None) -> None:
    """Check that sshd would accept its configuration with new content in our file, and that it can be reloaded.

    Args:
        new: our file; None for a configuration without it.

    Raises:
        AdministrationFailed: sshd would not accept it, or cannot be reloaded.
    """
    server.ask("-T")  # a mistake outside our file is reported with its own place
    try:
        with server.staged(new) as config:
            effective = server.ask("-T", "-f", config)
    except OSError as error:
        why = f"{error.filename}: {os.strerror(error.errno or 0)}" if error.filename else str(error)
        raise AdministrationFailed(
            f"sshd's configuration cannot be tried: {why}", hint="make room in /run, and check the files in /etc/ssh"
        ) from None
    _require_told(effective, _listening())


def reload() -> str:
    """Reload the configuration of sshd, if sshd accepts it.

    Returns:
        What was done, for the administrator.

    Raises:
        AdministrationFailed: sshd refuses its configuration, or does not reload it in time.
    """
    effective = server.ask("-T")
    before = _pid_file(effective)
    if not any(_systemctl("reload", unit) for unit in _active_units()):
        try:
            listener = _listener(effective)
            before = _pid_file(effective)
            os.kill(listener, signal.SIGHUP)
        except (OSError, ValueError):
            return "No running sshd was found; one that starts from now on uses the new configuration."
    # Until sshd has written that file again, nobody can connect.
    started = time.monotonic()
    while before is not None and _pid_file(effective) in (None, before):
        if time.monotonic() > started + _WAIT_S:
            raise AdministrationFailed(
                f"sshd has not reloaded its configuration within {_WAIT_S} s", hint="restart it: systemctl restart ssh"
            )
        time.sleep(_PAUSE_S)
    return "sshd reloaded its configuration."


def end_unfinished() -> None:
    """End the connections of users who have not logged in yet. They still use the former configuration.

    Raises:
        AdministrationFailed: a connection does not end.
    """
    unfinished = [place for place in glob.glob("/proc/[0-9]*") if _is_unfinished(place)]
    for place in unfinished:
        with suppress(ProcessLookupError):
            os.kill(int(os.path.basename(place)), signal.SIGKILL)
    started = time.monotonic()
    while any(map(_is_unfinished, unfinished)):
        if time.monotonic() > started + _WAIT_S:
            raise AdministrationFailed(
                "a connection from before the change does not end, and would get in without a key",
                hint="restart sshd, then start again",
            )
        time.sleep(_PAUSE_S)


def _is_unfinished(process: str) -> bool:
    """Check whether a process (its path in /proc) serves an sshd user who has not logged in yet."""
    try:
        if not _runs(process, _PARTS):
            return False
        command = Path(f"{process}/cmdline").read_bytes()
        if _UNFINISHED.search(command):
            return True
        # Right after the fork, it still has the name of the listening process.
        return b"[listener]" in command and _listens(f"/proc/{_parent(process)}")
    except (OSError, ValueError, IndexError):
        return False


def _parent(process: str) -> str:
    return Path(f"{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]


def _pid_file(effective: dict[str, str]) -> tuple[int, int] | None:
    """Return what distinguishes the PidFile of a running sshd from an earlier or later one; None if there is none."""
    try:
        path = Path(effective.get("pidfile", "/run/sshd.pid"))
        status = path.stat()
        return (status.st_ino, status.st_mtime_ns) if _listens(f"/proc/{int(path.read_text())}") else None
    except (OSError, ValueError):
        return None


def require_obedient(effective: dict[str, str]) -> None:
    """Check that no running sshd would keep its present configuration.

    Args:
        effective: all settings, names in lower case.

    Raises:
        AdministrationFailed: an sshd runs that cannot be reloaded.
    """
    listening = _listening()
    told = _require_told(effective, listening)
    others = [os.path.basename(each) for each in listening if told and each != f"/proc/{told}"]
    if others:
        raise AdministrationFailed(
            f"another sshd runs (process {', '.join(others)}), where a code without a key could get in: PAM's service "
            "is the same, the configuration is not",
            hint=f"stop it for good, or let one sshd listen on all ports ({server.CONFIG})",
        )


def _listening() -> list[str]:
    """Return the sshd processes (their paths in /proc) that wait for connections."""
    return [each for each in glob.glob("/proc/[0-9]*") if _listens(each) and not _is_unfinished(each)]


def _require_told(effective: dict[str, str], listening: list[str]) -> int:
    """Return the process that is told to reload its configuration; 0 if none runs, or if systemd tells it.

    Raises:
        AdministrationFailed: one runs that cannot be told.
    """
    if not listening or (len(listening) == 1 and _active_units()):
        return 0
    try:
        return _listener(effective)
    except (OSError, ValueError):
        raise AdministrationFailed(
            "sshd runs and cannot be told to reload its configuration, so it and PAM would not change together",
            hint="start it with a PidFile in its configuration, or stop it for the time of this change",
        ) from None


def _active_units() -> list[str]:
    if not os.path.isdir("/run/systemd/system"):
        return []
    # If sshd starts only after this check, we would wait for it in vain.
    return [unit for unit in ("ssh.service", "sshd.service") if _systemctl("is-active", "--quiet", unit)]


def _listener(effective: dict[str, str]) -> int:
    """Return the process in sshd's PidFile; raise ValueError if there is none."""
    for _ in range(_LISTENER_TRIES):
        with suppress(OSError, ValueError):
            pid = int(Path(effective.get("pidfile", "/run/sshd.pid")).read_text())
            if _listens(f"/proc/{pid}"):
                return pid
        if not any(map(_is_sshd, glob.glob("/proc/[0-9]*"))):
            break
        # While sshd reads its configuration again, there is no PidFile, and a signal would be lost.
        time.sleep(_PAUSE_S)
    raise ValueError("no sshd that could be told")


def _listens(process: str) -> bool:
    """Check whether a process (its path in /proc) waits for connections as sshd."""
    try:
        return _is_sshd(process) and b"[listener]" in Path(f"{process}/cmdline").read_bytes()
    except OSError:
        return False


def _is_sshd(process: str) -> bool:
    """Check whether a process (its path in /proc) is sshd, outside containers."""
    return _runs(process, (server.PROGRAM,))


def _runs(process: str, programs: Iterable[str]) -> bool:
    """Check whether a process (its path in /proc) runs one of some programs, outside containers."""
    try:
        status = os.stat(f"{process}/exe")
        is_here = os.path.samefile(f"{process}/ns/mnt", "/proc/self/ns/mnt")
    except OSError:
        return False
    return is_here and any(os.path.samestat(status, os.stat(each)) for each in programs if os.path.exists(each))


def _systemctl(*words: str) -> bool:
    try:
        return child.run("/usr/bin/systemctl", *words, limit_s=_WAIT_S).returncode == 0
    except (OSError, ValueError):
        return False
