"""Record a change that is undone unless it is confirmed: the files before it, and the deadline.

The record is the file `pending` in `changes/SERVICE/`. It is renamed to `confirmed` when the change stays, and to
`returning` when it is undone. From then on no login can confirm it. The record is durable before the first file
changes. It is removed after the last file is restored and in use. Each step can be repeated, so any process that finds
the record can finish it.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from pam_softtoken.account import places, proc, roots_files, safe_open, user_path
from pam_softtoken.account.replace import sync_directory
from pam_softtoken.account.user_path import NamedFiles
from pam_softtoken.admin.change import wording
from pam_softtoken.admin.common import host_file
from pam_softtoken.admin.common.host_file import Content
from pam_softtoken.errors import LockTimeout, PathError, UnusableFile
from pam_softtoken.login import login_note
from pam_softtoken.program_errors import AdministrationFailed, ChangeInProgress

LOCK = f"{places.CHANGES}/.lock"  # no service name contains a dot
LOCK_WAIT_S = 10.0
PENDING, CONFIRMED, RETURNING = login_note.PENDING, "confirmed", "returning"
_STATES = (PENDING, CONFIRMED, RETURNING)
"""The states, in the order in which a change passes through them."""
_VERSION = 1
MAX_RECORD_BYTES = 2**24
_STOPPING = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)


class FileChange(NamedTuple):
    """One file, before and after a change."""

    path: str
    before: Content
    after: Content


class Change(NamedTuple):
    """One change of a service.

    Args:
        identity: a unique identifier of this change.
        service: the name of the service.
        files: in the order in which they are written.
        boot: the boot in which the change was made.
        deadline_s: when it is undone, in seconds of the clock that includes suspend.
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
        """Whether the change stays."""
        return self.state == CONFIRMED

    @property
    def left_s(self) -> float:
        """The seconds until the change is undone; 0 if it is being undone, or if the machine was restarted since."""
        if self.state == RETURNING or not is_of_this_boot(self):
            return 0.0
        return max(0.0, self.deadline_s - now_s())


def now_s() -> float:
    """Return the time since the machine was started, in seconds, suspend included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def new(service: str, files: tuple[FileChange, ...], *, for_s: float) -> Change:
    """Return a new change that must be confirmed within `for_s` seconds."""
    return Change(os.urandom(8).hex(), service, files, _this_boot(), now_s() + for_s)


def is_of_this_boot(present: Change) -> bool:
    """Check whether a change was made in the present boot."""
    return bool(present.boot) and present.boot == _this_boot()


def _this_boot() -> str:
    """Return the identifier of this boot.

    It is empty without /proc, as in a rescue system. Every change then counts as one of another boot.
    """
    try:
        return proc.boot_id()
    except OSError:
        return ""


@contextmanager
def locked(wait_s: float = LOCK_WAIT_S) -> Iterator[None]:
    """Hold the lock on all services for the length of the block.

    Never hold it while the administrator types. A process that is stopped at the terminal must not hold it either: the
    process that undoes changes could then not work. For this, the stop signals are blocked meanwhile.

    Args:
        wait_s: how long to wait for another process that holds the lock, in seconds.

    Raises:
        ChangeInProgress: the other process takes longer.
        AdministrationFailed: the lock cannot be created.
    """
    try:
        descriptor = _open_lock()
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise AdministrationFailed(f"{places.CHANGES}: {why}", hint="make it writable, and make room") from None
    except PathError as error:
        hint = "see what is there, and let only root write it: chown root, chmod go-w"
        raise AdministrationFailed(str(error), hint=hint) from None
    heeded = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
    try:
        _lock(descriptor, wait_s)
        yield
    finally:
        os.close(descriptor)
        signal.pthread_sigmask(signal.SIG_SETMASK, heeded)


def _open_lock() -> int:
    roots_files.make_directory(places.DATA)
    os.makedirs(places.CHANGES, mode=0o700, exist_ok=True)
    os.close(user_path.open_directory(places.CHANGES))
    # Open for reading only: files in /etc can be restored even while this disk is read-only.
    return os.open(LOCK, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _lock(descriptor: int, wait_s: float) -> None:
    try:
        safe_open.lock(descriptor, wait_s, path=LOCK)
    except LockTimeout:
        raise ChangeInProgress(
            "another softtoken-admin is changing a service; nothing was changed", hint="start again when it is done"
        ) from None
    except UnusableFile as error:
        raise AdministrationFailed(str(error), hint="its file system must have locks") from None


def load(service: str) -> Change | None:
    """Read the record of a service; return None if there is none.

    Raises:
        AdministrationFailed: it cannot be read.
    """
    for name in _STATES:
        path = f"{places.CHANGES}/{service}/{name}"
        try:
            if not os.path.lexists(path):
                continue
            # Its content is later written as root, so only root may have created it.
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
                continue  # confirmed or undone since the check above
            raise AdministrationFailed(
                f"{path}: cannot be read: {error}", hint=f"look at {wording.main_file(service)}, then remove it"
            ) from None
        except (ValueError, KeyError, TypeError) as error:
            raise AdministrationFailed(
                f"{path}: cannot be read ({type(error).__name__})",
                hint=f"look at {wording.main_file(service)}, then remove it",
            ) from None
    return None


def services() -> list[str]:
    """Return the names of the services that have a record."""
    try:
        return sorted(name for name in os.listdir(places.CHANGES) if not name.startswith("."))
    except FileNotFoundError:
        return []


def begin(change: Change, awaited: str = "") -> None:
    """Record a change durably, with a copy of each file beside it. The change is not applied yet.

    Args:
        change: the change.
        awaited: the user whose login confirms it; empty if any user's login does.
    """
    earlier = load(change.service)
    place = f"{places.CHANGES}/{change.service}"
    for directory in (places.CHANGES, place):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        sync_directory(os.path.dirname(directory))
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
    """Write a file, unless it was changed since it was read.

    Raises:
        AdministrationFailed: it was changed, or it cannot be written.
    """
    if host_file.read(each.path).data != each.before.data:
        raise AdministrationFailed(f"{each.path}: was changed meanwhile", hint="start again")
    host_file.write(each.path, each.after)


def confirm(change: Change) -> None:
    """Record that a change stays.

    Raises:
        AdministrationFailed: this cannot be recorded.
    """
    place = f"{places.CHANGES}/{change.service}"
    try:
        os.rename(f"{place}/{PENDING}", f"{place}/{CONFIRMED}")
        sync_directory(place)
        _remove_notes(place)
    except OSError as error:
        raise _not_recorded(place, error) from None


def turn_round(change: Change) -> None:
    """Record, if possible, that a change is now being undone. No login can confirm it after that."""
    place = f"{places.CHANGES}/{change.service}"
    with suppress(OSError):
        if change.state != RETURNING:
            os.rename(f"{place}/{change.state}", f"{place}/{RETURNING}")
            sync_directory(place)
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
    """Check whether a user has logged in with a code since the change, and the whole stack has accepted the login."""
    return os.path.lexists(f"{places.CHANGES}/{change.service}/{login_note.NOTE}")


def forget(change: Change) -> None:
    """Remove the record, after everything is restored and in use.

    Raises:
        AdministrationFailed: it cannot be removed.
    """
    sweep(change.service)


def sweep(service: str) -> None:
    """Remove all records of a service.

    Raises:
        AdministrationFailed: they cannot be removed.
    """
    place = f"{places.CHANGES}/{service}"
    try:
        with suppress(FileNotFoundError):
            shutil.rmtree(place)
        sync_directory(places.CHANGES)
    except OSError as error:
        raise _not_recorded(place, error) from None


def watch(service: str) -> None:
    """Mark a change as watched by this process, for as long as the process lives; see `is_watched`."""
    path = f"{places.CHANGES}/{service}"
    with suppress(OSError, PathError):
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        safe_open.lock(descriptor, LOCK_WAIT_S, path=path, shared=True)  # `is_watched` holds it for a moment


def is_watched(service: str) -> bool:
    """Check whether a process watches a change until it is confirmed or undone.

    Raises:
        OSError, UnusableFile: this cannot be found out.
    """
    path = f"{places.CHANGES}/{service}"
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        safe_open.lock(descriptor, 0, path=path)
    except LockTimeout:
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
