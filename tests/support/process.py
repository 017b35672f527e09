"""Look at other processes of this machine, and wait for conditions."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

WAIT_S = 60.0
"""No claim about how long anything takes: only what hangs takes longer, even on a slow and busy machine."""


class Process:
    """A process as /proc shows it at one moment.

    Attributes:
        state: one letter; `Z` is a zombie.
        command: its arguments, joined by spaces; empty for a zombie.
    """

    def __init__(self, directory: Path) -> None:
        self.pid = int(directory.name)
        # The name is in parentheses and can contain anything, even parentheses.
        self.name, _, rest = (directory / "stat").read_text(errors="replace").partition(" (")[2].rpartition(") ")
        self.state, parent = rest.split()[:2]
        self.parent = int(parent)
        self.command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()

    def __repr__(self) -> str:
        return f"{self.pid} (child of {self.parent}, {self.state}) {self.command or self.name}"


def processes() -> list[Process]:
    """Return all existing processes."""
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdecimal():
            try:
                found.append(Process(directory))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def descendants(pid: int) -> list[Process]:
    """Return the children of a process, their children, and so on."""
    everybody = processes()
    family = {pid}
    while more := {each.pid for each in everybody if each.parent in family} - family:
        family |= more
    return [each for each in everybody if each.pid in family - {pid}]


def is_running(pid: int) -> bool:
    """Return whether a process has not ended. A zombie has ended, and only waits for its parent."""
    try:
        return Process(Path("/proc", str(pid))).state != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Callable[[], object], what: str, *, within_s: float = WAIT_S) -> None:
    """Wait for a condition. Fail if it does not become true in time.

    Args:
        condition: called again and again.
        what: completes "waited in vain for ...".
        within_s: seconds.
    """
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.005)


def shortest_s(act: Callable[[], object], *, within_s: float, tries: int = 20) -> float:
    """Return the shortest time in seconds that an action takes. It is repeated until it was within the limit.

    On a busy machine, anything can take long now and then. An action that waits too long does so every time.

    Args:
        act: the action.
        within_s: the limit in seconds.
        tries: the highest number of tries.
    """
    taken_s: list[float] = []
    while not taken_s or (taken_s[-1] >= within_s and len(taken_s) < tries):
        started = time.monotonic()
        act()
        taken_s.append(time.monotonic() - started)
    return min(taken_s)


def when_left(*command: str | Path) -> None:
    """Run a command on a file system when the last backend has left it. Its verdict comes before its end."""
    wait_until(
        lambda: subprocess.run(command, check=False, capture_output=True).returncode == 0,
        f"{' '.join(map(str, command))} to succeed",
    )
