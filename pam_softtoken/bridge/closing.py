"""Close connections without waiting, for `relay_listener`.

With the last copy of a connection, the kernel closes the files that callers have sent through it. That can take as long
as the caller likes. A TCP socket whose data nobody reads waits for the time of its SO_LINGER option, but not where a
process ends; see socket(7). A file of the caller's own FUSE server waits for that server even there. So the last copy
here belongs to another process, which does nothing but end, and may take for ever.
"""

from __future__ import annotations

import os
import resource
import socket
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

FEW = 8
"""While fewer processes than this are ending, another one may begin after each `A_WHILE_S`."""
MANY = 3000
"""If as many connections wait, another process begins in any case. The unit allows more descriptors than that."""
SPARE = 64
"""How many descriptors are left for other things, where the limit of descriptors is lower than in the unit. Half of a
low limit is left: an administrator may have set one, and the unit of an older version has set 64 for a process that
replaces itself after an upgrade.
"""
A_WHILE_S = 1.0
"""One process closes all connections that wait. Usually it ends long before this time."""
SO_PASSRIGHTS = 83
"""Whether descriptors can be sent to a socket. Since Linux 6.16. Source: asm-generic/socket.h."""


def take_no_descriptors(listener: socket.socket) -> None:
    """Refuse descriptors of programs that connect from now on. Older kernels cannot; the rest here is for those."""
    try:
        listener.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)
    except OSError:
        pass


class Closer:
    """The connections that are to be closed."""

    def __init__(self) -> None:
        self._waiting: list[socket.socket] = []
        self._at_work: set[int] = set()
        self._began_s = 0.0
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
        self._many = min(MANY, limit - min(SPARE, limit // 2)) if limit != resource.RLIM_INFINITY else MANY

    @property
    def is_done(self) -> bool:
        """Whether no connection waits."""
        return not self._waiting

    @property
    def is_full(self) -> bool:
        """Whether it cannot take another connection now."""
        return len(self._waiting) >= self._many

    def close(self, connection: socket.socket) -> None:
        """Close a connection now or a little later. It belongs to this object from now on."""
        self._waiting.append(connection)
        self.go_on()

    def forget(self, pid: int) -> None:
        """Stop counting a process that has ended, if it is one of these."""
        self._at_work.discard(pid)

    def go_on(self) -> None:
        """Close all that wait, if it is time for another process that does so."""
        has_waited = time.monotonic() - self._began_s >= A_WHILE_S
        if not self._at_work or (len(self._at_work) < FEW and has_waited) or self.is_full:
            self.close_all()

    def close_all(self) -> None:
        """Close all that wait, unless no process can be started for that. `is_done` says so."""
        if not self._waiting:
            return
        try:
            self._at_work.add(self._hand_over())
        except OSError:
            return  # no descriptor or process is left: it is tried again
        self._began_s = time.monotonic()

    def _hand_over(self) -> int:
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
