"""Apply a planned change, then wait until it is confirmed or undone."""

from __future__ import annotations

import os
import time

from pam_softtoken.admin.change import record, watchdog, wording
from pam_softtoken.admin.change.attempts import Attempts
from pam_softtoken.admin.change.plan import WITH_PUBLIC_KEY, Plan
from pam_softtoken.admin.change.record import Change, FileChange
from pam_softtoken.admin.common import host_file
from pam_softtoken.admin.sshd import process, server
from pam_softtoken.program_errors import AdministrationFailed
from pam_softtoken.ui import terminal


def require_none_pending(service: str) -> None:
    """Check that no change of a service is pending or being undone.

    Raises:
        AdministrationFailed: there is such a change.
    """
    present = record.load(service)
    if present is None or present.confirmed:
        return
    if present.state == record.RETURNING:
        raise AdministrationFailed(
            f'an earlier change of "{service}" is not taken back yet', hint="softtoken-admin roll-back says why"
        )
    raise AdministrationFailed(
        f'a change of "{service}" waits to be confirmed, for {present.left_s:.0f} s more',
        hint=f"{wording.confirm_command(service)}, or {wording.disable_command(service)}",
    )


def carry_out(screen: terminal.Terminal, plan: Plan, for_s: float, awaited: str) -> Change:
    """Apply the change of a PAM service; see `put_in_use`."""
    return put_in_use(screen, plan.stack.service, plan.files, for_s, awaited, way=plan.way)


def put_in_use(
    screen: terminal.Terminal, service: str, files: tuple[FileChange, ...], for_s: float, awaited: str, *, way: str = ""
) -> Change:
    """Apply a change, and start the process that undoes it in time.

    Args:
        screen: shows the messages.
        service: what the change is about.
        files: before and after, in the order in which they are written.
        way: what comes before the code, for a PAM service.
        for_s: how long to wait for a login that confirms the change, in seconds.
        awaited: the user whose login confirms it; empty if any user's login does.

    Raises:
        AdministrationFailed: it cannot be applied. What was already done is undone now or later.
    """
    with watchdog.told_afterwards(screen.tell) as tell, record.locked():
        require_none_pending(service)
        planned = record.new(service, files, for_s=for_s)
        try:
            _apply(planned, way, awaited, tell)
        except AdministrationFailed as error:
            _undo(planned, error, tell)
            raise
        except OSError as error:
            why = AdministrationFailed(
                f"cannot go on: {os.strerror(error.errno or 0)}; nothing was changed",
                hint="make room, then start again",
            )
            _undo(planned, why, tell)
            raise why from None
    return planned


def _apply(planned: Change, way: str, awaited: str, tell: watchdog.Tell) -> None:
    record.begin(planned, awaited)
    watchdog.start(planned)
    for each in planned.files:
        record.apply(each)
        if each.path == server.DROP_IN:
            tell(process.reload())
            if way == WITH_PUBLIC_KEY:
                process.end_unfinished()  # PAM will no longer ask these connections for a password


def _undo(planned: Change, why: AdministrationFailed, tell: watchdog.Tell) -> None:
    """Undo the finished part of a change that cannot continue.

    Raises:
        AdministrationFailed: some of it is not undone yet.
    """
    try:
        watchdog.undo(planned, tell)
    except AdministrationFailed as error:
        raise AdministrationFailed(
            f"{why.message.removesuffix('; nothing was changed')}; a part of the change is not taken back yet: "
            f"{error.message}",
            hint=f"{error.hint}; the system tries again by itself, and softtoken-admin roll-back tries at once",
        ) from None


def wait(screen: terminal.Terminal, planned: Change) -> None:
    """Wait until the change is confirmed.

    Raises:
        AdministrationFailed: the change was undone, or the administrator stopped waiting.
    """
    service = planned.service
    attempts = Attempts()
    while watchdog.is_waiting(planned):
        try:
            terminal.checkpoint()
        except KeyboardInterrupt:
            screen.tell()
            keeps, takes_back = wording.confirm_command(service), wording.disable_command(service)
            raise AdministrationFailed(
                f'interrupted; the change of "{service}" goes back by itself in {planned.left_s:.0f} s',
                hint=f"{keeps} keeps it, {takes_back} takes it back now",
            ) from None
        failed = watchdog.settle(screen.tell, awaited=service, attempts=attempts)
        if service in failed:
            raise AdministrationFailed(
                f'the change of "{service}" was not confirmed, and is not taken back yet: {failed[service].message}',
                hint=f"{failed[service].hint}; the system tries again by itself, and softtoken-admin "
                "roll-back tries at once",
            )
        time.sleep(watchdog.PAUSE_S)
    present = record.load(service)
    if present is None or present.identity != planned.identity:
        raise AdministrationFailed(
            f'the change of "{service}" was not confirmed; {_what_is_left(planned)}',
            hint="the system log says what became of the attempts, in lines with pam_softtoken",
        )
    screen.show(wording.kept(service, how_it_ends=True))


def _what_is_left(planned: Change) -> str:
    """Return a sentence about the files after a change was undone."""
    others = [each.path for each in planned.files if not _is_as_before(each)]
    if not others:
        return "everything is as it was before"
    return f"our lines are removed; what somebody else has changed in {', '.join(others)} stays"


def _is_as_before(each: record.FileChange) -> bool:
    try:
        return host_file.read(host_file.resolved(each.path)).data == each.before.data
    except AdministrationFailed:
        return False
