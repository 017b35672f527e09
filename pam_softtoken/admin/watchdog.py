"""What becomes of a change that waits: it stays once somebody has logged in with a code, else it goes back in time.

Whoever comes first sees to it: a process of its own that survives terminal and program, the program itself, or, when
both were killed, the next command, at the latest when the machine starts.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from pam_softtoken.admin import change, deed, sshd
from pam_softtoken.admin.change import Change
from pam_softtoken.errors import AdministrationFailed

Tell = Callable[[str], None]
PAUSE_S = 0.1
WAIT, STAY, GO_BACK = "wait", "stay", "go back"


def settle(tell: Tell, *, awaited: str = "") -> list[str]:
    """See to all changes that wait: what a login has confirmed stays, what is overdue goes back.

    Args:
        tell: takes a line for the person.
        awaited: the service whose result the caller says itself; the watchdog may see to it first, in silence.

    Returns:
        The services whose change could not be seen to.
    """
    failed = []
    for service in change.services():
        try:
            if _fate(change.load(service)) is not WAIT:
                with told_afterwards(tell) as later, change.locked():
                    _settle(service, later, say_result=service != awaited)
        except AdministrationFailed as error:
            tell(f"{service}: {error.message}")
            failed.append(service)
    return failed


@contextmanager
def told_afterwards(tell: Tell) -> Iterator[Tell]:
    """Keep what is told until the block is over: a terminal that takes nothing must not have us hold the lock."""
    lines: list[str] = []
    try:
        yield lines.append
    finally:
        for line in lines:
            tell(line)


def _settle(service: str, tell: Tell, *, say_result: bool) -> None:
    present = change.load(service)
    fate = _fate(present)
    if present is None or fate is WAIT:
        return
    if fate is STAY:
        change.confirm(present)
        deed.record("confirm", "all", service=service, how="login")
        if say_result:
            tell(f'"{service}": confirmed by a login with a code; the change stays.')
    else:
        if say_result:
            tell(f'"{service}": not confirmed in time; the change goes back.')
        undo(present, tell)
        deed.record("roll-back", "all", service=service)


def _fate(present: Change | None) -> str:
    """Say what is to become of a change now. One of an earlier boot goes back, whatever came of it."""
    if present is None or present.confirmed:
        return WAIT
    if change.is_of_this_boot(present) and change.has_note(present):
        return STAY
    return WAIT if present.left_s > 0 else GO_BACK


def undo(present: Change, tell: Tell) -> None:
    """Put everything back, under the lock, and forget it."""
    steps = change.way_back(present)
    for step in steps:
        if step.told:
            tell(step.told)
    change.go_back(steps)
    if any(each.path == sshd.DROP_IN for each in present.files):
        try:
            tell(sshd.reload())
        except AdministrationFailed as error:
            tell(f"sshd goes on with the configuration that it has: {error.message}")
    change.forget(present)


def start(planned: Change) -> None:
    """Start the process that sees to a change, and return when it does.

    It has a session of its own, no terminal and none of our descriptors, so that it holds neither lock nor pipe.

    Raises:
        AdministrationFailed: it does not start.
    """
    told, tells = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            if os.fork() == 0:
                _watch(planned, tells)
        finally:
            os._exit(0)
    os.close(tells)
    os.waitpid(child, 0)
    with open(told, "rb") as pipe:
        if pipe.read(1) != b"+":
            raise AdministrationFailed("the process that would put things back does not start", hint="start again")


def _watch(planned: Change, tells: int) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.dup2(tells, 3)
    os.closerange(4, os.sysconf("SC_OPEN_MAX"))
    os.write(3, b"+")
    os.close(3)
    while True:
        with suppress(AdministrationFailed, OSError):
            if not is_waiting(planned):
                return
            settle(lambda text: None)
        time.sleep(PAUSE_S)


def is_waiting(planned: Change) -> bool:
    """Tell whether this very change is still neither confirmed nor gone."""
    present = change.load(planned.service)
    return present is not None and present.identity == planned.identity and not present.confirmed
