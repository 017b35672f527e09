"""Do work that must not hang or crash the program: with limits on time and bytes. `child` has the processes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from pam_softtoken.account import user_path
from pam_softtoken.admin.common import child
from pam_softtoken.admin.common.finding import Finding, Report
from pam_softtoken.program_errors import AdministrationFailed, ProgramError
from pam_softtoken.ui import terminal

LIMIT_S = 60.0
WORK_LIMIT_S = 10.0
"""The limit for a change of a user's files, in seconds. Up to half of it may pass before the lock is held."""
MAX_FILE_BYTES = 256 * 1024
MOST_READS = 400


def run(check: Callable[[], Report], what: str, *, limit_s: float = LIMIT_S) -> Report:
    """Run a check in a separate process.

    Args:
        check: the check.
        what: its name in the report if it fails.
        limit_s: the time limit in seconds; a dead file server must not delay the other checks.
    """
    try:
        findings, looked_at, not_looked_at = answer_of(check, limit_s=limit_s)
    except TimeoutError:
        return Report(not_looked_at=(f"{what}: it took longer than {limit_s:g} s",))
    except ValueError:
        return Report(not_looked_at=(f"{what}: the check ended before it was complete",))
    return Report(tuple(Finding(*each) for each in findings), tuple(looked_at), tuple(not_looked_at))


def answer_of(work: Callable[[], object], *, limit_s: float) -> Any:
    """Return the result of work in a separate process, which is killed after the time limit.

    Args:
        work: returns a value that JSON can hold. Its exceptions are lost.
        limit_s: the time limit in seconds.

    Raises:
        TimeoutError: the work took longer.
        ValueError: the process ended before the work was done.
    """
    worker = child.Worker(lambda write: write(json.dumps(work()).encode()))
    try:
        text = worker.everything(limit_s=limit_s)
    finally:
        worker.end()
    return json.loads(text)


def work_for(user: str, work: Callable[[], object], *, limit_s: float = WORK_LIMIT_S) -> Any:
    """Return the result of work on a user's files, even if their disk answers late or never.

    A signal before the work begins interrupts the program. After that, the work is completed.

    Args:
        user: the owner of the files.
        work: as for `answer_of`. It raises a `ProgramError` for a failure that the administrator should read.
        limit_s: the time limit in seconds.

    Raises:
        AdministrationFailed: the work has failed, or took longer.
        KeyboardInterrupt: a signal came before the work began.
    """
    terminal.checkpoint()
    try:
        answer, failure, hint = answer_of(lambda: _answer_or_failure(work), limit_s=limit_s)
    except TimeoutError:
        raise AdministrationFailed(
            f"the disk with the files of {user} does not answer; this command waited no longer than {limit_s:g} s",
            hint=hint_for_dead_disk(user),
        ) from None
    except ValueError:
        raise AdministrationFailed(
            f"the work on the files of {user} ended before it was complete", hint="start again"
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


def ask(*command: str, limit_s: float = 20.0) -> child.Answer | None:
    """Run a command that only prints information; return None if it is missing or too slow."""
    try:
        return child.run(*command, limit_s=limit_s)
    except (OSError, ValueError):
        return None


def read(path: str, max_bytes: int = MAX_FILE_BYTES, *, from_end: bool = False) -> str:
    """Read a text file of any content.

    Args:
        path: absolute path.
        max_bytes: the limit; the rest of a larger file is left out.
        from_end: leave out the beginning, not the end.

    Raises:
        OSError: it cannot be opened or read, or is not a regular file.
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
    """Read files for one purpose, each file once, with a limit on the total.

    Attributes:
        refused: the files that could not be read, by path, with the reason.
    """

    def __init__(self) -> None:
        self.refused: dict[str, str] = {}
        self._texts: dict[str, str | None] = {}
        self._reads = 0

    def text(self, path: str) -> str | None:
        """Return a file's text; None if it does not exist, cannot be read, or the limit is reached."""
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
                # libpam reads a directory as an empty file.
                self._texts[path] = "" if os.path.isdir(path) else None
                self.refused[path] = str(getattr(error, "strerror", None) or "cannot be read")
        return self._texts[path]

    def again(self) -> None:
        """Start the count again."""
        self._reads = 0

    def line(self, path: str, number: int) -> str:
        """Return one line of a file that was read."""
        lines = (self._texts.get(path) or "").split("\n")
        return lines[number - 1].strip() if 1 <= number <= len(lines) else ""

    @property
    def reader(self) -> Callable[[str], str | None]:
        """The same as a function."""
        return self.text
