"""Finish a pending change: keep it after a login with a code, or undo it at the deadline.

The first process that finds the change finishes it. Normally that is a separate process that survives the terminal and
the program, or the program itself. If both were killed, it is the next command, or at the latest the next start of the
machine. The record stays until everything is restored and in use, so a failed step is tried again.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from pam_softtoken import log, null_device
from pam_softtoken.admin.change import record, way_back, wording
from pam_softtoken.admin.change.attempts import Attempts
from pam_softtoken.admin.change.record import Change
from pam_softtoken.admin.common import bounded, deed
from pam_softtoken.errors import UnusableFile
from pam_softtoken.login.login_note import SIGNING
from pam_softtoken.program_errors import AdministrationFailed, ChangeInProgress

Tell = Callable[[str], None]
PAUSE_S = 0.1
WAIT, STAY, GO_BACK = "wait", "stay", "go back"
_LIMIT_S, _LOCK_WAIT_S = 10.0, 2.0
"""How long overdue changes may delay a command that does something else."""


def settle_before(tell: Tell, *, patient: bool) -> None:
    """Finish all pending changes before a command does its own work. Failures do not stop the command.

    Args:
        tell: shows a line to the administrator.
        patient: the command itself is about services, and waits as long as necessary.
    """
    try:
        if patient:
            settle(tell)
        elif overdue():
            for line in bounded.answer_of(_settled, limit_s=_LIMIT_S):
                tell(line)
    except TimeoutError:
        tell(
            f"A change that is overdue was not taken back within {_LIMIT_S:.0f} s; softtoken-admin "
            "roll-back goes on with it."
        )
    except (AdministrationFailed, OSError, ValueError) as error:
        tell(f"A change that is overdue was not taken back; softtoken-admin roll-back says why: {error}")


def _settled() -> list[str]:
    lines: list[str] = []
    settle(lines.append, lock_wait_s=_LOCK_WAIT_S)
    return lines


def overdue() -> list[str]:
    """Return the services whose change can be finished now, or cannot be read."""
    found = []
    for service in record.services():
        try:
            if _fate(record.load(service)) is not WAIT:
                found.append(service)
        except (AdministrationFailed, OSError):
            found.append(service)
    return found


def settle(
    tell: Tell, *, awaited: str = "", attempts: Attempts | None = None, lock_wait_s: float = record.LOCK_WAIT_S
) -> dict[str, AdministrationFailed]:
    """Finish all pending changes: keep those that a login has confirmed, and undo those that are overdue.

    Args:
        tell: shows a line to the administrator.
        awaited: the service whose result the caller reports itself. The watchdog may finish it first, in silence.
        attempts: the earlier failures of this process; None for a process that tries once.
        lock_wait_s: how long to wait for another process that holds the lock, in seconds.

    Returns:
        The failures, by service.
    """
    attempts = attempts or Attempts()
    failed = {}
    for service in record.services():
        if not attempts.is_due(service):
            continue
        try:
            fate = WAIT
            present = record.load(service)
            if present is None or _fate(present) is not WAIT:
                with told_afterwards(tell) as later, record.locked(lock_wait_s):
                    fate = _settle(service, later, say_result=service != awaited)
            attempts.forget(service)
            # Not under the lock: a blocked log would hold up all others.
            if fate is not WAIT:
                _record(fate, service)
        except ChangeInProgress as error:
            if attempts.note(service, error.message):
                tell(f'"{service}": {error.message}')
        except (AdministrationFailed, OSError) as error:
            failed[service] = _as_failure(error)
            if attempts.note(service, failed[service].message):
                tell(f'"{service}" is not as it was before yet: {failed[service].message}; {failed[service].hint}')
                detail = f"{failed[service].message}; {failed[service].hint}"
                deed.record("roll-back-failed", "all", service=service, detail=detail, level=log.ERR)
    return failed


def _record(fate: str, service: str) -> None:
    if fate is STAY:
        deed.record("confirm", "all", service=service, how="signature" if service == SIGNING else "login")
    else:
        deed.record("roll-back", "all", service=service)


def _as_failure(error: AdministrationFailed | OSError) -> AdministrationFailed:
    if isinstance(error, AdministrationFailed):
        return error
    why = os.strerror(error.errno or 0)
    return AdministrationFailed(f"{error.filename or 'a file'}: {why}", hint="make it writable, and make room")


@contextmanager
def told_afterwards(tell: Tell) -> Iterator[Tell]:
    """Collect messages and show them after the block. Otherwise a blocked terminal would make us hold the lock."""
    lines: list[str] = []
    try:
        yield lines.append
    finally:
        for line in lines:
            tell(line)


def _settle(service: str, tell: Tell, *, say_result: bool) -> str:
    """Finish one change, under the lock, and return the result."""
    present = record.load(service)
    if present is None:
        record.sweep(service)
    fate = _fate(present)
    if present is None or fate is WAIT:
        return WAIT
    if fate is STAY:
        record.confirm(present)
        if say_result:
            tell(f'"{service}": confirmed by {wording.confirmation(service)}; the change stays.')
    else:
        if say_result and present.state == record.RETURNING:
            tell(f'"{service}": a change was not taken back as a whole; trying again.')
        elif say_result:
            tell(f'"{service}": not confirmed in time; the change goes back.')
        undo(present, tell)
    return fate


def _fate(present: Change | None) -> str:
    """Return what must happen to a change now. A pending change of an earlier boot is always undone."""
    if present is None or present.confirmed:
        return WAIT
    if present.state == record.RETURNING:
        return GO_BACK
    if record.is_of_this_boot(present) and record.has_note(present):
        return STAY
    return WAIT if present.left_s > 0 else GO_BACK


def undo(present: Change, tell: Tell) -> None:
    """Restore all files, under the lock, and remove the record when sshd uses them, too.

    Raises:
        AdministrationFailed: some files are not restored. The record stays, and the change is overdue from now on.
    """
    record.turn_round(present)
    steps = way_back.plan(present)
    for step in steps:
        if step.told:
            tell(step.told)
    if told := way_back.take(present, steps):
        tell(told)
    record.forget(present)


def undo_now(present: Change, tell: Tell) -> None:
    """Do the same as `undo` for a command. If it fails, see that a process tries again.

    Raises:
        AdministrationFailed: some files are not restored yet.
    """
    try:
        undo(present, tell)
    except AdministrationFailed as error:
        watch_again(present.service)
        raise AdministrationFailed(
            f'"{present.service}" is not as it was before yet: {error.message}',
            hint=f"{error.hint}; the system tries again by itself, and softtoken-admin roll-back tries at once",
        ) from None


def start(planned: Change) -> None:
    """Start the process that watches a change, and return when it does.

    The process has a session of its own, no terminal and none of our descriptors. So it holds no lock and no pipe.

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
            raise AdministrationFailed("the process that takes changes back does not start", hint="start again")


def watch_again(service: str) -> None:
    """Start a watching process for a change that could not be undone, unless there is one."""
    with suppress(AdministrationFailed, OSError, UnusableFile):
        present = record.load(service)
        if present is not None and not present.confirmed and not record.is_watched(service):
            start(present)


def _watch(planned: Change, tells: int) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    os.chdir("/")
    null_device.lead_nowhere(0, 1, 2)
    os.dup2(tells, 3)
    os.closerange(4, os.sysconf("SC_OPEN_MAX"))
    record.watch(planned.service)
    os.write(3, b"+")
    os.close(3)
    attempts = Attempts()
    while True:
        with suppress(AdministrationFailed, OSError):  # an unreadable record is logged below
            if not is_waiting(planned):
                return
        with suppress(OSError):
            settle(lambda text: None, attempts=attempts)
        time.sleep(PAUSE_S)


def is_waiting(planned: Change) -> bool:
    """Check whether this change is still neither confirmed nor completely undone."""
    present = record.load(planned.service)
    return present is not None and present.identity == planned.identity and not present.confirmed
