"""The sshd that runs: told to reload its configuration, and its connections from before a change ended."""

from __future__ import annotations

import glob
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pam_softtoken.admin.sshd import server
from pam_softtoken.errors import AdministrationFailed

_LISTENER_TRIES, _PAUSE_S = 50, 0.1
_WAIT_S = 30
_PARTS = (
    server.PROGRAM,
    *(f"/usr/{place}/openssh/sshd-{part}" for place in ("lib", "libexec") for part in ("session", "auth")),
)
"""Since OpenSSH 9.8 connections have programs of their own."""
_UNFINISHED = re.compile(rb"\[(?:accepted|net|preauth)\]|\0-(?:[a-zA-Z0-9]*R)(?:\0|$)")
"""In the command line of a process that serves somebody who has not logged in yet."""


def require_would_follow(new: bytes | None) -> None:
    """Check that sshd would accept its configuration with other bytes in our file, and can be told to reload it.

    Args:
        new: our file; None for a configuration without one.

    Raises:
        AdministrationFailed: it would not, or cannot.
    """
    server.ask("-T")  # what is wrong beside our file is named by its own place
    try:
        with server.staged(new) as config:
            effective = server.ask("-T", "-f", config)
    except OSError as error:
        why = f"{error.filename}: {os.strerror(error.errno or 0)}" if error.filename else str(error)
        raise AdministrationFailed(
            f"sshd's configuration cannot be tried: {why}", hint="make room in /run, and see to the files in /etc/ssh"
        ) from None
    _require_told(effective, _listening())


def reload() -> str:
    """Make sshd reload its configuration, if it accepts it.

    Returns:
        What was done, for the person.

    Raises:
        AdministrationFailed: it cannot be done; sshd goes on with what it has.
    """
    effective = server.ask("-T")
    before = _pid_file(effective)
    if not any(_systemctl("reload", unit) for unit in _active_units()):
        try:
            listener = _listener(effective)
            before = _pid_file(effective)
            os.kill(listener, signal.SIGHUP)
        except (OSError, ValueError):
            return "No sshd runs that could be told; one that is started from now on goes by the new configuration."
    # Until it has made that file anew, nobody can connect.
    started = time.monotonic()
    while before is not None and _pid_file(effective) in (None, before):
        if time.monotonic() > started + _WAIT_S:
            raise AdministrationFailed(
                f"sshd has not reloaded its configuration within {_WAIT_S} s", hint="restart it: systemctl restart ssh"
            )
        time.sleep(_PAUSE_S)
    return "sshd reloaded its configuration."


def end_unfinished() -> None:
    """End the connections of those who have not logged in yet: they go by the configuration of when they began.

    Raises:
        AdministrationFailed: one does not end.
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
    """Check whether a process, by its place in /proc, serves somebody at sshd who has not logged in yet."""
    try:
        if not _runs(process, _PARTS):
            return False
        command = Path(f"{process}/cmdline").read_bytes()
        if _UNFINISHED.search(command):
            return True
        # Just forked, it still has the name of the one that waits for connections.
        return b"[listener]" in command and _listens(f"/proc/{_parent(process)}")
    except (OSError, ValueError, IndexError):
        return False


def _parent(process: str) -> str:
    return Path(f"{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[1]


def _pid_file(effective: dict[str, str]) -> tuple[int, int] | None:
    """Return what distinguishes a running sshd's PidFile from an earlier or later one; None when there is none."""
    try:
        path = Path(effective.get("pidfile", "/run/sshd.pid"))
        status = path.stat()
        return (status.st_ino, status.st_mtime_ns) if _listens(f"/proc/{int(path.read_text())}") else None
    except (OSError, ValueError):
        return None


def require_obedient(effective: dict[str, str]) -> None:
    """Check that no sshd goes on with the configuration that it has now.

    Args:
        effective: all settings, names in lower case.

    Raises:
        AdministrationFailed: one runs that cannot be told to read it anew.
    """
    listening = _listening()
    told = _require_told(effective, listening)
    others = [os.path.basename(each) for each in listening if told and each != f"/proc/{told}"]
    if others:
        raise AdministrationFailed(
            f"another sshd runs (process {', '.join(others)}), where a code without a key could get in: PAM's service "
            "is the same, the configuration is not",
            hint=f"stop it, and let it not come back, or let one sshd listen on all ports ({server.CONFIG})",
        )


def _listening() -> list[str]:
    """Return the processes, by their places in /proc, that wait for connections as sshd."""
    return [each for each in glob.glob("/proc/[0-9]*") if _listens(each) and not _is_unfinished(each)]


def _require_told(effective: dict[str, str], listening: list[str]) -> int:
    """Return which process is told to reload its configuration; 0 where none runs, or systemd tells it.

    Raises:
        AdministrationFailed: one runs that cannot be told.
    """
    if not listening or (len(listening) == 1 and _active_units()):
        return 0
    try:
        return _listener(effective)
    except (OSError, ValueError):
        raise AdministrationFailed(
            "sshd runs and cannot be told to read its configuration anew, so it and PAM would not change together",
            hint="start it with a PidFile in its configuration, or stop it for as long as this takes",
        ) from None


def _active_units() -> list[str]:
    if not os.path.isdir("/run/systemd/system"):
        return []
    # One that is still to be started, after us, would let us wait for it in vain.
    return [unit for unit in ("ssh.service", "sshd.service") if _systemctl("is-active", "--quiet", unit)]


def _listener(effective: dict[str, str]) -> int:
    """Return the process that sshd has put into its PidFile, or raise ValueError when there is none."""
    for _ in range(_LISTENER_TRIES):
        with suppress(OSError, ValueError):
            pid = int(Path(effective.get("pidfile", "/run/sshd.pid")).read_text())
            if _listens(f"/proc/{pid}"):
                return pid
        if not any(map(_is_sshd, glob.glob("/proc/[0-9]*"))):
            break
        # While it reads its configuration anew, it has no PidFile, and a signal would be lost.
        time.sleep(_PAUSE_S)
    raise ValueError("no sshd that could be told")


def _listens(process: str) -> bool:
    """Check whether a process, by its place in /proc, waits for connections as sshd."""
    try:
        return _is_sshd(process) and b"[listener]" in Path(f"{process}/cmdline").read_bytes()
    except OSError:
        return False


def _is_sshd(process: str) -> bool:
    """Check whether a process, by its place in /proc, is sshd, here and not in some container."""
    return _runs(process, (server.PROGRAM,))


def _runs(process: str, programs: Iterable[str]) -> bool:
    """Check whether a process, by its place in /proc, runs one of some programs, here and not in some container."""
    try:
        status = os.stat(f"{process}/exe")
        is_here = os.path.samefile(f"{process}/ns/mnt", "/proc/self/ns/mnt")
    except OSError:
        return False
    return is_here and any(os.path.samestat(status, os.stat(each)) for each in programs if os.path.exists(each))


def _systemctl(*words: str) -> bool:
    try:
        done = subprocess.run(  # noqa: S603 - our own words
            ["/usr/bin/systemctl", *words], input=b"", capture_output=True, check=False, timeout=_WAIT_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
