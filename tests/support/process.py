"""Other processes of this machine, and waiting for something to become true."""

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
        # The name stands in parentheses and can hold anything, even parentheses.
        self.name, _, rest = (directory / "stat").read_text(errors="replace").partition(" (")[2].rpartition(") ")
        self.state, parent = rest.split()[:2]
        self.parent = int(parent)
        self.command = (directory / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()

    def __repr__(self) -> str:
        return f"{self.pid} (child of {self.parent}, {self.state}) {self.command or self.name}"


def processes() -> list[Process]:
    """Give all processes that there are."""
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdecimal():
            try:
                found.append(Process(directory))
            except (FileNotFoundError, ProcessLookupError):
                continue
    return found


def descendants(pid: int) -> list[Process]:
    """Give the children of a process, their children, and so on."""
    everybody = processes()
    family = {pid}
    while more := {each.pid for each in everybody if each.parent in family} - family:
        family |= more
    return [each for each in everybody if each.pid in family - {pid}]


def is_running(pid: int) -> bool:
    """Tell whether a process has not ended; a zombie has, and only waits for its parent."""
    try:
        return Process(Path("/proc", str(pid))).state != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def wait_until(condition: Callable[[], object], what: str, *, within_s: float = WAIT_S) -> None:
    """Wait for a condition, and fail when it does not come true in time.

    Args:
        condition: asked again and again.
        what: completes "waited in vain for ...".
        within_s: seconds.
    """
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain for {what}")
        time.sleep(0.005)


def shortest_s(act: Callable[[], object], *, within_s: float, tries: int = 20) -> float:
    """Give how many seconds it takes at best to do something, which is tried again until it took no longer than it may.

    On a busy machine anything can take long now and then; what waits for too long does so every time.

    Args:
        act: what is done.
        within_s: how long it may take.
        tries: how often at most.
    """
    taken_s: list[float] = []
    while not taken_s or (taken_s[-1] >= within_s and len(taken_s) < tries):
        started = time.monotonic()
        act()
        taken_s.append(time.monotonic() - started)
    return min(taken_s)


def when_left(*command: str | Path) -> None:
    """Run a command on a file system as soon as the last backend, whose verdict came before its end, has left it."""
    wait_until(
        lambda: subprocess.run(command, check=False, capture_output=True).returncode == 0,
        f"{' '.join(map(str, command))} to succeed",
    )
