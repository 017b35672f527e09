"""A change of a service that goes back by itself: what was there before, until when it has to be confirmed.

`changes/SERVICE/` has the record as `pending`, renamed to `confirmed` when it stays. It is durable before the first
file changes, and goes after the last one is back. Each step can be done again, so whoever finds it can finish it.
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

from pam_softtoken import change_note, process, user_path
from pam_softtoken.admin import exempt, host_file
from pam_softtoken.admin.host_file import Content
from pam_softtoken.errors import AdministrationFailed, PathError
from pam_softtoken.pam import installed_libpam, service_file
from pam_softtoken.user_path import NamedFiles

DIRECTORY = change_note.DIRECTORY
LOCK = f"{DIRECTORY}/.lock"  # no service has a name with a dot
_LOCK_TRIES, _LOCK_PAUSE_S = 100, 0.1
PENDING, CONFIRMED = change_note.PENDING, "confirmed"
_VERSION = 1
MAX_RECORD_BYTES = 2**24
_STOPPING = (signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)


class FileChange(NamedTuple):
    """One file, before and after."""

    path: str
    before: Content
    after: Content


class Step(NamedTuple):
    """One file on the way back.

    Args:
        path: of the file.
        present, target: what it is and what it shall be.
        told: what the person has to know of it; empty when all is as it was left.
    """

    path: str
    present: Content
    target: Content
    told: str


class Change(NamedTuple):
    """One change of a service.

    Args:
        identity: no other change has it.
        service: whose.
        files: in the order in which they are written.
        boot: the boot in which it was made.
        deadline_s: when it goes back, on the clock that counts suspend, too.
        confirmed: it stays.
    """

    identity: str
    service: str
    files: tuple[FileChange, ...]
    boot: str
    deadline_s: float
    confirmed: bool = False

    @property
    def left_s(self) -> float:
        """Seconds until it goes back; none when the machine has been restarted since."""
        if not is_of_this_boot(self):
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
        return process.boot_id()
    except OSError:
        return ""


@contextmanager
def locked() -> Iterator[None]:
    """Keep all others from changing any service, for the length of the block; it is never held while somebody types.

    Nor while we are stopped at the terminal: whoever would have to put things back meanwhile could not.

    Raises:
        AdministrationFailed: somebody else does, for longer than it takes.
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
        _lock(descriptor)
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
    return os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _lock(descriptor: int) -> None:
    for _ in range(_LOCK_TRIES):
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        time.sleep(_LOCK_PAUSE_S)
    raise AdministrationFailed(
        "another softtoken-admin is changing a service; nothing was changed", hint="start again when it is done"
    )


def load(service: str) -> Change | None:
    """Read what is recorded of a service.

    Raises:
        AdministrationFailed: it cannot be read.
    """
    for name in (PENDING, CONFIRMED):
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
            return Change(
                document["identity"], service, files, document["boot"], document["deadline_s"], name == CONFIRMED
            )
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
    """Record a change durably; it is not applied yet.

    Args:
        change: it.
        awaited: whose login confirms it; empty for anybody's.
    """
    place = f"{DIRECTORY}/{change.service}"
    for directory in (DIRECTORY, place):
        os.makedirs(directory, mode=0o700, exist_ok=True)
        host_file.sync_directory(os.path.dirname(directory))
    _remove_notes(place)
    with suppress(FileNotFoundError):
        os.unlink(f"{place}/{CONFIRMED}")
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
        host_file.write(f"{place}/{change_note.AWAITED}{awaited}", Content(b"", 0o600))
    host_file.write(f"{place}/{PENDING}", Content(json.dumps(document).encode(), 0o600))


def apply(each: FileChange) -> None:
    """Write a file, unless somebody has changed it since it was looked at.

    Raises:
        AdministrationFailed: somebody has, or it cannot be written.
    """
    if host_file.read(each.path).data != each.before.data:
        raise AdministrationFailed(f"{each.path}: was changed meanwhile", hint="start again")
    host_file.write(each.path, each.after)


def confirm(change: Change) -> None:
    """Let it stay."""
    place = f"{DIRECTORY}/{change.service}"
    os.rename(f"{place}/{PENDING}", f"{place}/{CONFIRMED}")
    host_file.sync_directory(place)
    _remove_notes(place)


def _remove_notes(place: str) -> None:
    for name in os.listdir(place):
        if name == change_note.NOTE or name.startswith((change_note.ACCEPTED, change_note.AWAITED)):
            with suppress(FileNotFoundError):  # the bridge has renamed it
                os.unlink(f"{place}/{name}")


def has_note(change: Change) -> bool:
    """Tell whether somebody has logged in with a code since it was applied, and the whole stack has let him in."""
    return os.path.lexists(f"{DIRECTORY}/{change.service}/{change_note.NOTE}")


def way_back(change: Change) -> list[Step]:
    """Plan to put everything back, as far as nobody else has changed it; where somebody has, only what is ours goes."""
    return [_step_back(each) for each in reversed(change.files)]


def _step_back(each: FileChange) -> Step:
    present = host_file.read(each.path)
    if present.data == each.before.data:
        return Step(each.path, present, present, "")
    if present.data == each.after.data:
        return Step(each.path, present, each.before, "")
    if present.data is None:
        return Step(each.path, present, present, f"{each.path} is gone: somebody else has removed it, and it stays so")
    told = f"{each.path} was changed by somebody else meanwhile: only our lines are taken out"
    return Step(each.path, present, present._replace(data=_without_ours(present.data, each)), told)


def go_back(steps: list[Step]) -> None:
    """Do what `way_back` has planned.

    Raises:
        AdministrationFailed: a file cannot be written; what is left to do can be done again.
    """
    for step in steps:
        if step.present != step.target:
            host_file.write(step.path, step.target)
        else:
            host_file.tidy(step.path)


def forget(change: Change) -> None:
    """Take the record away, after everything is back and in use."""
    place = f"{DIRECTORY}/{change.service}"
    with suppress(FileNotFoundError):
        shutil.rmtree(place)
    host_file.sync_directory(DIRECTORY)


def _without_ours(present: bytes, each: FileChange) -> bytes | None:
    if os.path.dirname(each.path) == service_file.DIRECTORY:
        text = present.decode("utf-8", "surrogateescape")
        return exempt.take_out(text, installed_libpam.dialect()).encode("utf-8", "surrogateescape")
    ours = set((each.after.data or b"").splitlines())
    kept = [line for line in present.splitlines(keepends=True) if line.rstrip(b"\n") not in ours]
    return b"".join(kept) if kept or each.before.data is not None else None


def _document_of(content: Content) -> dict[str, Any]:
    data = None if content.data is None else base64.b64encode(content.data).decode()
    return {"data": data, "mode": content.mode, "uid": content.uid, "gid": content.gid}


def _content_of(document: dict[str, Any]) -> Content:
    data = None if document["data"] is None else base64.b64decode(document["data"])
    return Content(data, document["mode"], document["uid"], document["gid"])
