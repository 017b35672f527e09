"""Run work in a child process and end it with everything that it has started. No other module starts processes, except
two with another job: `watchdog` starts one that lives on, and `through_sudo` hands the terminal over to sudo.

A child has a process group of its own, so a key at the terminal reaches only this program, which then ends the child.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, NamedTuple

from pam_softtoken import null_device

MAX_BYTES = 64 * 1024 * 1024
"""The most that is read from one child."""
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "LANG": "C.UTF-8"}
_AT_ONCE = 1 << 16
_CHECK_S = 0.2
_END_S, _PAUSE_S = 1.0, 0.001

Write = Callable[[bytes], None]


class Answer(NamedTuple):
    """What a program printed, and its exit status."""

    returncode: int
    stdout: str
    stderr: str


class Worker:
    """A copy of this process that does some work and reports with bytes.

    Args:
        work: gets the function that reports. Its exceptions are lost.
    """

    def __init__(self, work: Callable[[Write], None]) -> None:
        self._reports, reports = os.pipe()
        self._left = b""
        self._pid = os.fork()
        if self._pid == 0:
            _work(work, reports)
        os.close(reports)

    def line(self, *, limit_s: float, meanwhile: Callable[[], None]) -> bytes | None:
        """Return the next line of the reports; None if there is no more, or if it does not come in time.

        Args:
            limit_s: the time limit in seconds.
            meanwhile: is called several times a second.
        """
        deadline = time.monotonic() + limit_s
        while b"\n" not in self._left:
            meanwhile()
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                return None
            if select.select([self._reports], [], [], min(left_s, _CHECK_S))[0]:
                piece = os.read(self._reports, _AT_ONCE)
                if not piece or len(self._left) > MAX_BYTES:
                    return None
                self._left += piece
        line, _, self._left = self._left.partition(b"\n")
        return line

    def everything(self, *, limit_s: float) -> bytes:
        """Return all reports, up to the end of the work.

        Args:
            limit_s: the time limit in seconds.

        Raises:
            TimeoutError: the work takes longer.
            ValueError: there is too much to read.
        """
        return _read([self._reports], time.monotonic() + limit_s)[0]

    def end(self) -> None:
        """Kill the process, if it has not ended, and whatever it has started."""
        os.close(self._reports)
        _kill(self._pid)
        # A process that waits for a dead disk cannot be killed, so do not wait for it. It ends when the disk answers.
        deadline = time.monotonic() + _END_S
        while not os.waitpid(self._pid, os.WNOHANG)[0] and time.monotonic() < deadline:
            time.sleep(_PAUSE_S)


def _work(work: Callable[[Write], None], reports: int) -> None:
    def write(data: bytes) -> None:
        while data:
            data = data[os.write(reports, data) :]

    try:
        os.setsid()
        # A reader of our output must not wait for the end of a hanging process.
        null_device.lead_nowhere(0, 1, 2)
        work(write)
    finally:
        os._exit(0)  # for any exception: the reports are not complete, and the reader finds out


@contextmanager
def running(
    command: tuple[str, ...], *, errors: IO[bytes] | int, given: bytes = b""
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program for the length of the block, or until it ends.

    Args:
        command: the words of the command. No shell reads them.
        errors: where its error messages go.
        given: its standard input, less than a pipe holds.

    Raises:
        OSError: it cannot be run.
    """
    process = subprocess.Popen(  # noqa: S603 - fixed words; only names of files and users come from outside
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        env=ENVIRONMENT,
        cwd="/",
        process_group=0,  # not a session: with requiretty, sudo -l needs the terminal
    )
    try:
        with suppress(OSError):
            _stream(process.stdin).write(given)
        with suppress(OSError):
            _stream(process.stdin).close()
        yield process
    finally:
        if process.returncode is None:  # otherwise another process may have its number
            _kill(process.pid)
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)


def run(*command: str, limit_s: float, given: bytes = b"") -> Answer:
    """Run a program to its end, and return what it printed.

    Args:
        command: the words of the command. No shell reads them.
        limit_s: the time limit in seconds.
        given: its standard input, less than a pipe holds. A secret goes here, and not into the words.

    Raises:
        OSError: it cannot be run. `TimeoutError`: it takes longer.
        ValueError: it prints too much.
    """
    deadline = time.monotonic() + limit_s
    with running(command, errors=subprocess.PIPE, given=given) as process:
        streams = [_stream(each).fileno() for each in (process.stdout, process.stderr)]
        out, errors = (data.decode("utf-8", "replace") for data in _read(streams, deadline))
        try:
            return Answer(process.wait(max(0.0, deadline - time.monotonic())), out, errors)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"takes longer than {limit_s:g} s") from None


def _read(descriptors: list[int], deadline: float) -> list[bytes]:
    found = {each: bytearray() for each in descriptors}
    unread = set(descriptors)
    while unread:
        ready = select.select(unread, [], [], max(0.0, deadline - time.monotonic()))[0]
        if not ready:
            raise TimeoutError("does not answer in time")
        for each in ready:
            piece = os.read(each, _AT_ONCE)
            found[each] += piece
            if not piece:
                unread.remove(each)
            if len(found[each]) > MAX_BYTES:
                raise ValueError("prints too much")
    return [bytes(each) for each in found.values()]


def _stream(stream: IO[bytes] | None) -> IO[bytes]:
    assert stream is not None  # noqa: S101 - for the type checker
    return stream


def _kill(leader: int) -> None:
    # The group alone is not enough: the child may not have made it yet.
    for kill in (os.killpg, os.kill):
        with suppress(OSError):
            kill(leader, signal.SIGKILL)
