"""A change of a service that goes back by itself: what was there before, until when it has to be confirmed.

`changes/SERVICE/` has the record as `pending`. It is renamed to `confirmed` when the change stays, and to `returning`
when it goes back; no login confirms it then. It is durable before the first file changes, and is removed after the last
one is back and in use. Each step can be done again, so any process that finds the record can finish it.
"""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from pam_softtoken.account import proc, user_path
from pam_softtoken.account.user_path import NamedFiles
from pam_softtoken.admin.common import host_file
from pam_softtoken.admin.common.host_file import Content
from pam_softtoken.errors import AdministrationFailed, ChangeInProgress, PathError
from pam_softtoken.login import login_note

DIRECTORY = login_note.DIRECTORY
LOCK = f"{DIRECTORY}/.lock"  # no service has a name with a dot
LOCK_WAIT_S = 10.0
_LOCK_PAUSE_S = 0.1
PENDING, CONFIRMED, RETURNING = login_note.PENDING, "confirmed", "returning"
_STATES = (PENDING, CONFIRMED, RETURNING)
"""In the order in which a change can come to be one."""
_VERSION = 1
MAX_RECORD_BYTES = 2**24
_STOPPING = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)


class FileChange(NamedTuple):
    """One file, before and after."""

    path: str
    before: Content
    after: Content


class Change(NamedTuple):
    """One change of a service.

    Args:
        identity: no other change has it.
        service: whose.
        files: in the order in which they are written.
        boot: the boot in which it was made.
        deadline_s: when it goes back, on the clock that counts suspend, too.
        state: `PENDING`, `CONFIRMED` or `RETURNING`.
    """

    identity: str
    service: str
    files: tuple[FileChange, ...]
    boot: str
    deadline_s: float
    state: str = PENDING

    @property
    def confirmed(self) -> bool:
        """Whether it stays."""
        return self.state == CONFIRMED

    @property
    def left_s(self) -> float:
        """Seconds until it goes back; none when it does already, or the machine has been restarted since."""
        if self.state == RETURNING or not is_of_this_boot(self):
            return 0.0
        return max(0.0, self.deadline_s - now_s())


def now_s() -> float:
    """Give the time since the machine was started, in seconds, with the time that it was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def new(service: str, files: tuple[FileChange, ...], *, for_s: float) -> Change:
    """Plan a change that has to be confirmed within a time."""
    return Change(os.urandom(8).hex(), service, files, _this_boot(), now_s() + for_s)


def is_of_this_boot(present: Change) -> bool:
    """Check whether the machine has not been restarted since a change was made."""
    return bool(present.boot) and present.boot == _this_boot()


def _this_boot() -> str:
    """Return the name of this boot; empty without /proc, as in a rescue system, where every change is of another."""
    try:
        return proc.boot_id()
    except OSError:
        return ""


@contextmanager
def locked(wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Keep all others from changing any service, for the length of the block; it is never held while somebody types.

    Nor while we are stopped at the terminal: the process that has to put things back meanwhile could not.

    Args:
        wait_s: how long to wait for another process that changes one.

    Raises:
        ChangeInProgress: it takes longer.
        AdministrationFailed: there can be no lock.
    """
    try:
        descriptor = _open_lock()
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise AdministrationFailed(f"{DIRECTORY}: {why}", hint="make it writable, and make room") from None
    except PathError as error:
        hint = "see what stands there, and let only root write it: chown root, chmod go-w"
        raise AdministrationFailed(str(error), hint=hint) from None
    heeded = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        _lock(descriptor, wait_s)
        yield
    finally:
        os.close(descriptor)
        signal.pthread_sigmask(signal.SIG_SETMASK, heeded)


def _open_lock() -> int:
    base = os.path.dirname(DIRECTORY)
    if not os.path.isdir(base):
        os.makedirs(base, exist_ok=True)
        os.chmod(base, 0o711)  # noqa: S103 - as the mark of enrolled users needs it
    os.makedirs(DIRECTORY, mode=0o700, exist_ok=True)
    os.close(user_path.open_directory(DIRECTORY))
    # Not for writing: what is in /etc can go back while this disk is read-only.
    return os.open(LOCK, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _lock(descriptor: int, wait_s: float) -> None:
    started = time.monotonic()
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() > started + wait_s:
            raise ChangeInProgress(
                "another softtoken-admin is changing a service; nothing was changed", hint="start again when it is done"
            )
        time.sleep(_LOCK_PAUSE_S)


def load(service: str) -> Change | None:
    """Read what is recorded of a service.

    Raises:
        AdministrationFailed: it cannot be read.
    """
    for name in _STATES:
        path = f"{DIRECTORY}/{service}/{name}"
        try:
            if not os.path.lexists(path):
                continue
            # What stands in it is written as root: nobody else may have put it there.
            document = json.loads(NamedFiles().read(path, MAX_RECORD_BYTES))
            if document["version"] != _VERSION:
                raise ValueError("another version")
            files = tuple(
                FileChange(each["path"], _content_of(each["before"]), _content_of(each["after"]))
                for each in document["files"]
            )
            return Change(document["identity"], service, files, document["boot"], document["deadline_s"], name)
        except PathError as error:
            if not os.path.lexists(path):
                continue  # confirmed, or put back, between the two looks
            raise AdministrationFailed(
                f"{path}: cannot be read: {error}", hint=f"look at /etc/pam.d/{service}, then remove it"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise AdministrationFailed(
                f"{path}: cannot be read ({type(error).__name__})", hint=f"look at /etc/pam.d/{service}, then remove it"
            ) from None
    return None


def services() -> list[str]:
    """Name the services of which something is recorded."""
    try:
        return sorted(name for name in os.listdir(DIRECTORY) if not name.startswith("."))
    except FileNotFoundError:
        return []


def begin(change: Change, awaited: str = "") -> None:
    """Record a change durably, and keep beside its files what they are now; it is not applied yet.

    Args:
        change: it.
        awaited: the user whose login confirms it; empty for anybody's.
    """
    earlier = load(change.service)
    place = f"{DIRECTORY}/{change.service}"
    for directory in (DIRECTORY, place):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        host_file.sync_directory(os.path.dirname(directory))
    _remove_notes(place)
    if earlier is not None:
        for each in earlier.files:
            host_file.tidy(each.path)
    for name in _STATES:
        if name != change.state:
            with suppress(FileNotFoundError):
                os.unlink(f"{place}/{name}")
    document = {
        "version": _VERSION,
        "identity": change.identity,
        "boot": change.boot,
        "deadline_s": change.deadline_s,
        "files": [
            {"path": each.path, "before": _document_of(each.before), "after": _document_of(each.after)}
            for each in change.files
        ],
    }
    if awaited:
        host_file.write(f"{place}/{login_note.AWAITED}{awaited}", Content(b"", 0o600))
    host_file.write(f"{place}/{change.state}", Content(json.dumps(document).encode(), 0o600))
    if change.state == PENDING:
        for each in change.files:
            host_file.keep(each.path)


def apply(each: FileChange) -> None:
    """Write a file, unless somebody has changed it since it was looked at.

    Raises:
        AdministrationFailed: somebody has, or it cannot be written.
    """
    if host_file.read(each.path).data != each.before.data:
        raise AdministrationFailed(f"{each.path}: was changed meanwhile", hint="start again")
    host_file.write(each.path, each.after)


def confirm(change: Change) -> None:
    """Let it stay.

    Raises:
        AdministrationFailed: that cannot be recorded.
    """
    place = f"{DIRECTORY}/{change.service}"
    try:
        os.rename(f"{place}/{PENDING}", f"{place}/{CONFIRMED}")
        host_file.sync_directory(place)
        _remove_notes(place)
    except OSError as error:
        raise _not_recorded(place, error) from None


def turn_round(change: Change) -> None:
    """Record that it goes back now, so that no login confirms it any more, if that can be recorded."""
    place = f"{DIRECTORY}/{change.service}"
    with suppress(OSError):
        if change.state != RETURNING:
            os.rename(f"{place}/{change.state}", f"{place}/{RETURNING}")
            host_file.sync_directory(place)
        _remove_notes(place)


def _not_recorded(place: str, error: OSError) -> AdministrationFailed:
    why = os.strerror(error.errno or 0)
    return AdministrationFailed(f"{place}: cannot be written: {why}", hint="make it writable, and make room")


def _remove_notes(place: str) -> None:
    for name in os.listdir(place):
        if name == login_note.NOTE or name.startswith((login_note.ACCEPTED, login_note.AWAITED)):
            with suppress(FileNotFoundError):  # the bridge has renamed it
                os.unlink(f"{place}/{name}")


def has_note(change: Change) -> bool:
    """Check whether somebody has logged in with a code since it was applied, and the whole stack has let them in."""
    return os.path.lexists(f"{DIRECTORY}/{change.service}/{login_note.NOTE}")


def forget(change: Change) -> None:
    """Take the record away, after everything is back and in use.

    Raises:
        AdministrationFailed: it cannot be taken away.
    """
    sweep(change.service)


def sweep(service: str) -> None:
    """Take away all that is noted of a service.

    Raises:
        AdministrationFailed: it cannot be taken away.
    """
    place = f"{DIRECTORY}/{service}"
    try:
        with suppress(FileNotFoundError):
            shutil.rmtree(place)
        host_file.sync_directory(DIRECTORY)
    except OSError as error:
        raise _not_recorded(place, error) from None


def watch(service: str) -> None:
    """Let `is_watched` see, for as long as this process lives, that it sees to a change."""
    with suppress(OSError):
        fcntl.flock(os.open(f"{DIRECTORY}/{service}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), fcntl.LOCK_SH)


def is_watched(service: str) -> bool:
    """Check whether a process sees to a change until it is confirmed or back.

    Raises:
        OSError: nobody can tell.
    """
    descriptor = os.open(f"{DIRECTORY}/{service}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _document_of(content: Content) -> dict[str, Any]:
    data = None if content.data is None else base64.b64encode(content.data).decode()
    return {"data": data, "mode": content.mode, "uid": content.uid, "gid": content.gid}


def _content_of(document: dict[str, Any]) -> Content:
    data = None if document["data"] is None else base64.b64decode(document["data"])
    return Content(data, document["mode"], document["uid"], document["gid"])
