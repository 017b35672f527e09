"""Do the same work for many accounts in several processes at once. Each change waits for the disk several times, and a
disk completes the writes of several processes together.

They are processes and not threads: a change touches a user's files as that user, and the ids of one thread are those of
all.
"""

from __future__ import annotations

import json
import os
import select
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import NamedTuple

from pam_softtoken.program_errors import EnrolmentFailed
from pam_softtoken.ui import terminal

AT_ONCE = 16
FEWEST_EACH = 8
"""Work for fewer accounts is done before the processes have started."""
_LOOK_MS = 500
_PIECE_BYTES = 65536


class Outcome(NamedTuple):
    """What became of one piece of work.

    Args:
        number: which piece.
        done: what was done, as text for the user.
        error: why it was not done; None if it was.
    """

    number: int
    done: str
    error: BaseException | None


class Crew:
    """Runs `work(number)` for the numbers from 0 to `total`. Use it in a `with` block, and iterate over the outcomes.

    Args:
        total: how many pieces.
        work: does one piece and returns what was done. It raises `EnrolmentFailed` or `KeyboardInterrupt` if it could
            not, and nothing was changed then. It prints nothing.
    """

    def __init__(self, total: int, work: Callable[[int], str]) -> None:
        self._total = total
        self._work = work
        self._workers: dict[int, int] = {}  # the end of each process's pipe, and its number
        self._pieces: dict[int, bytes] = {}  # what has come through the pipes that are open, up to a line's end
        self._ready: deque[Outcome] = deque()
        self._left: Iterable[int] = range(total)  # what no process has, and is done here
        self._go_on, self._stop = os.pipe()
        self._is_stopped = False

    def __enter__(self) -> Crew:
        count = min(AT_ONCE, self._total // FEWEST_EACH)
        for first in range(count if count > 1 else 0):
            try:
                self._start(first, count)
            except OSError:  # no more processes or descriptors: the others go on, and the rest is done here
                self._left = sorted(
                    number for late in range(first, count) for number in range(late, self._total, count)
                )
                return self
            self._left = ()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        os.close(self._go_on)
        for end in self._workers:
            os.close(end)
        for worker in self._workers.values():
            os.waitpid(worker, 0)

    def stop(self) -> None:
        """Begin no more pieces. Those that have begun are finished, and their outcomes can be read."""
        if not self._is_stopped:
            self._is_stopped = True
            os.close(self._stop)

    def __iter__(self) -> Iterator[Outcome]:
        """Yield the outcomes as they come. A piece without an outcome was not begun, or its process was killed.

        Raises:
            KeyboardInterrupt: the user, or somebody else, wants the program to stop.
        """
        while self._ready or self._pieces:
            while self._ready:
                yield self._ready.popleft()
            if not self._is_stopped:
                terminal.checkpoint()
            self._receive()
        for number in self._left:
            if self._is_stopped:
                return
            yield _outcome(number, self._work)

    def _receive(self) -> None:
        ends = select.poll()
        for end in self._pieces:
            ends.register(end, select.POLLIN)
        for end, _event in ends.poll(_LOOK_MS):
            data = os.read(end, _PIECE_BYTES)
            if not data:
                del self._pieces[end]
                continue
            *lines, self._pieces[end] = (self._pieces[end] + data).split(b"\n")
            self._ready += map(_decoded, lines)

    def _start(self, first: int, step: int) -> None:
        end, own = os.pipe()
        try:
            worker = os.fork()
        except OSError:
            os.close(end)
            os.close(own)
            raise
        if worker:
            os.close(own)
            self._workers[end] = worker
            self._pieces[end] = b""
            return
        status = 1
        try:
            for descriptor in (self._stop, end, *self._workers):
                os.close(descriptor)
            for number in range(first, self._total, step):
                if select.select([self._go_on], [], [], 0)[0]:  # the other end is closed, also if we are alone now
                    break
                outcome = _outcome(number, self._work)
                os.write(own, _encoded(outcome))
            status = 0
        finally:
            os._exit(status)


def _outcome(number: int, work: Callable[[int], str]) -> Outcome:
    try:
        return Outcome(number, work(number), None)
    except (EnrolmentFailed, KeyboardInterrupt) as error:
        return Outcome(number, "", error)


def _encoded(outcome: Outcome) -> bytes:
    error = outcome.error
    about = [error.message, error.hint] if isinstance(error, EnrolmentFailed) else None if error is None else []
    return json.dumps([outcome.number, outcome.done, about]).encode() + b"\n"


def _decoded(line: bytes) -> Outcome:
    number, done, about = json.loads(line)
    if about is None:
        return Outcome(number, done, None)
    return Outcome(number, done, EnrolmentFailed(about[0], hint=about[1]) if about else KeyboardInterrupt())
