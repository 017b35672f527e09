"""Work that must not hang or fall over: with a limit of time, and of what is read."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

from pam_softtoken import null_device
from pam_softtoken.account import user_path
from pam_softtoken.admin.common.finding import Finding, Report
from pam_softtoken.errors import AdministrationFailed, ProgramError
from pam_softtoken.ui import terminal

LIMIT_S = 60.0
WORK_LIMIT_S = 10.0
"""For a change of a user's files. Half of it may go by until the lock is had."""
MAX_FILE_BYTES = 256 * 1024
MOST_READS = 400
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "LANG": "C.UTF-8"}


def run(check: Callable[[], Report], what: str, *, limit_s: float = LIMIT_S) -> Report:
    """Have a check done in a process of its own.

    Args:
        check: what is done.
        what: names it where it could not be done.
        limit_s: how long it may take; a dead file server must not hold the others up.
    """
    try:
        findings, looked_at, not_looked_at = answer_of(check, limit_s=limit_s)
    except TimeoutError:
        return Report(not_looked_at=(f"{what}: it took longer than {limit_s:g} s",))
    except ValueError:
        return Report(not_looked_at=(f"{what}: the check itself ended before it was through",))
    return Report(tuple(Finding(*each) for each in findings), tuple(looked_at), tuple(not_looked_at))


def answer_of(work: Callable[[], object], *, limit_s: float) -> Any:
    """Return the answer of a piece of work, done in a process of its own that is killed when it takes too long.

    Args:
        work: returns what JSON can hold. What it raises is lost.
        limit_s: how long it may take.

    Raises:
        TimeoutError: it took longer.
        ValueError: it ended before it was through.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        _serve(work, writing)
    os.close(writing)
    try:
        text = _read_until(reading, time.monotonic() + limit_s)
    finally:
        os.close(reading)
        _end(child)
    if text is None:
        raise TimeoutError
    return json.loads(text)


def work_for(user: str, work: Callable[[], object], *, limit_s: float = WORK_LIMIT_S) -> Any:
    """Return the answer of work on a user's files, which may lie on a disk that does not answer, or never will.

    A signal that comes before the work begins interrupts the program; later the work is done as a whole.

    Args:
        user: whose files.
        work: as for `answer_of`. What a person shall read of its failures it raises as a `ProgramError`.
        limit_s: how long it may take.

    Raises:
        AdministrationFailed: the work has failed, or took longer.
        KeyboardInterrupt: see above.
    """
    terminal.checkpoint()
    try:
        answer, failure, hint = answer_of(lambda: _answer_or_failure(work), limit_s=limit_s)
    except TimeoutError:
        raise AdministrationFailed(
            f"the disk with the files of {user} does not answer; this command has not waited longer than {limit_s:g} s",
            hint=hint_for_dead_disk(user),
        ) from None
    except ValueError:
        raise AdministrationFailed(
            f"the work on the files of {user} ended before it was through", hint="start again"
        ) from None
    if failure:
        raise AdministrationFailed(failure, hint=hint)
    return answer


def hint_for_dead_disk(user: str) -> str:
    """Return what to do when the disk with a user's files does not answer."""
    return f"start again when it answers; softtoken-admin revoke {user} works without the disk"


def _answer_or_failure(work: Callable[[], object]) -> tuple[object, str, str]:
    try:
        return work(), "", ""
    except ProgramError as error:
        return None, error.message, error.hint


def _serve(check: Callable[[], object], writing: int) -> None:
    try:
        os.setsid()
        null_device.lead_nowhere(0, 1, 2)
        data = json.dumps(check()).encode()
        while data:
            data = data[os.write(writing, data) :]
    finally:
        os._exit(0)  # whatever was raised, nothing has been written, and that is told


def _read_until(descriptor: int, deadline: float) -> str | None:
    data = b""
    while True:
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not select.select([descriptor], [], [], left_s)[0]:
            return None
        piece = os.read(descriptor, 65536)
        if not piece:
            return data.decode()
        data += piece


def _end(child: int) -> None:
    for kill in (os.killpg, os.kill):
        try:
            kill(child, signal.SIGKILL)
        except OSError:
            pass
    # One that waits for a dead disk cannot be killed; it is not waited for, either.
    for _ in range(1000):
        if os.waitpid(child, os.WNOHANG)[0]:
            return
        time.sleep(0.001)


class Answer(subprocess.CompletedProcess[str]):
    """What a command wrote, and its exit status."""


def ask(*command: str, limit_s: float = 20.0) -> Answer | None:
    """Run a command that only tells something; None where it is missing or takes too long."""
    try:
        done = subprocess.run(  # noqa: S603 - a list of words, none of them from outside but names of files
            command,
            input=b"",
            capture_output=True,
            env=_ENVIRONMENT,
            timeout=limit_s,
            check=False,
            cwd="/",
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    out, errors = (stream.decode("utf-8", "replace") for stream in (done.stdout, done.stderr))
    return Answer(command, done.returncode, out, errors)


def read(path: str, max_bytes: int = MAX_FILE_BYTES, *, from_end: bool = False) -> str:
    """Read a text file, whatever it is.

    Args:
        path: absolute.
        max_bytes: at most; of a larger one the rest is left out.
        from_end: leave out the beginning, not the end.

    Raises:
        OSError: it cannot be opened or read, or is no regular file.
    """
    descriptor = user_path.open_regular(path)
    try:
        if from_end and os.fstat(descriptor).st_size > max_bytes:
            os.lseek(descriptor, -max_bytes, os.SEEK_END)
        data = b""
        while len(data) < max_bytes and (piece := os.read(descriptor, max_bytes - len(data))):
            data += piece
        return data.decode("utf-8", "surrogateescape")
    finally:
        os.close(descriptor)


class Reading:
    """Reads files for one purpose, each once, and not without end.

    Attributes:
        refused: what could not be read, by path.
    """

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        self._texts: dict[str, str | None] = {}
        self._reads = 0

    def text(self, path: str) -> str | None:
        """Give a file's text; None where there is none, it cannot be read, or too much has been read."""
        self._reads += 1
        if self._reads > MOST_READS:
            self.refused[path] = "files include each other too often"
            return None
        if path not in self._texts:
            try:
                self._texts[path] = read(path)
            except FileNotFoundError:
                self._texts[path] = None
            except (OSError, ValueError) as error:
                # What libpam reads of a directory is nothing.
                self._texts[path] = "" if os.path.isdir(path) else None
                self.refused[path] = str(getattr(error, "strerror", None) or "cannot be read")
        return self._texts[path]

    def again(self) -> None:
        """Begin to count anew."""
        self._reads = 0

    def line(self, path: str, number: int) -> str:
        """Give one line of a file that was read."""
        lines = (self._texts.get(path) or "").split("\n")
        return lines[number - 1].strip() if 1 <= number <= len(lines) else ""

    @property
    def reader(self) -> Callable[[str], str | None]:
        """The same as a function."""
        return self.text
