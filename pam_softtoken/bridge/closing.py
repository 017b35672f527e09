"""Close connections without waiting, for `relay_listener`.

With the last copy of a connection, the kernel closes the files that callers have sent through it. That can take as long
as the caller likes: a TCP socket whose data nobody reads waits for the time of its SO_LINGER option. A process that
ends does not wait. So the last copy here belongs to another process, which does nothing but end. Source: socket(7).
"""

from __future__ import annotations

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import socket
    from typing import NoReturn

MOST = 8
"""How many processes may be ending at once, if ending should take long after all."""
MOST_WAITING = 1024
"""How many connections may wait for one. The unit allows twice as many descriptors."""
A_WHILE_S = 1.0
"""One process is enough for all that have come meanwhile. If it is not done after this time, another one begins."""


class Closer:
    """The connections that are to be closed."""

    def __init__(self) -> None:
        self._waiting: list[socket.socket] = []
        self._at_work: set[int] = set()
        self._began_s = 0.0

    @property
    def is_done(self) -> bool:
        """Whether no connection waits."""
        return not self._waiting

    @property
    def is_full(self) -> bool:
        """Whether it cannot take another connection now."""
        return len(self._waiting) >= MOST_WAITING

    def close(self, connection: socket.socket) -> None:
        """Close a connection now or a little later. It belongs to this object from now on."""
        self._waiting.append(connection)
        self.go_on()

    def forget(self, pid: int) -> None:
        """Stop counting a process that has ended, if it is one of these."""
        self._at_work.discard(pid)

    def go_on(self) -> None:
        """Close all that wait, unless a process that does so has only just begun, or none can be started."""
        if not self._waiting or len(self._at_work) >= MOST:
            return
        if self._at_work and time.monotonic() - self._began_s < A_WHILE_S:
            return
        try:
            self._at_work.add(self._close_all())
        except OSError:
            return  # no descriptor or process is left: it is tried again
        self._began_s = time.monotonic()

    def _close_all(self) -> int:
        """Start a process that has the connections too and ends after ours are closed. Return its pid."""
        reading, writing = os.pipe()
        try:
            pid = os.fork()
            if not pid:
                _end_after(reading, writing)
            while self._waiting:
                self._waiting.pop().close()
        finally:
            os.close(writing)
            os.close(reading)
        return pid


def _end_after(reading: int, writing: int) -> NoReturn:
    """End this process as soon as the one that started it has closed its connections."""
    try:
        os.close(writing)
        os.read(reading, 1)
    finally:
        os._exit(0)
