"""Accept the programs that connect to `softtoken-login.socket`, and start `relay` in a new process for each.

systemd starts this process at the first connection, and it ends when nobody has come for a while. It reads nothing from
a connection. It counts the connections of each user before it starts anything: if systemd started a unit for each one,
any user could keep the first process of the machine busy.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time

from pam_softtoken.bridge import backend, relay, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

MOST = 512
"""How many programs of all users are served at once."""
IDLE_S = 60
REMEMBERED_S = 5
"""How long a reading of `relay_for` counts for the limits."""
_LISTENER = 0


class Guests:
    """The programs that are being served.

    Args:
        path: of the program that serves one.
    """

    def __init__(self, path: str) -> None:
        self._command = [sys.executable, "-I", "-S", "-B", path]
        self._users: dict[int, int] = {}
        self._limits: dict[int, tuple[float, int]] = {}

    def __len__(self) -> int:
        return len(self._users)

    def forget_ended(self) -> None:
        """Stop counting the processes that have ended."""
        while self._users:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            self._users.pop(pid, None)

    def admit(self, connection: int) -> None:
        """Start a process for a connection, unless too many are served. Then the connection is refused.

        Args:
            connection: its descriptor. It stays open here.
        """
        _, caller = backend.peer_of_socket(connection)
        served = sum(user == caller for user in self._users.values())
        if len(self) >= MOST or (served >= relay.SLOTS and served >= self._limit_of(caller)):
            os.set_blocking(connection, False)
            os.write(connection, wire.encode_result(relay.Relayed.PAM_AUTH_ERR, 0, ""))
            return
        actions = [(os.POSIX_SPAWN_DUP2, connection, 0)]
        pid = os.posix_spawn(self._command[0], self._command, os.environ, file_actions=actions)
        self._users[pid] = caller

    def _limit_of(self, caller: int) -> int:
        """Return how many programs of a user are served. One more gets to `relay`, which says so in the log."""
        read_s, limit = self._limits.get(caller, (-REMEMBERED_S, 0))
        now_s = time.monotonic()
        if now_s - read_s >= REMEMBERED_S:
            limit = 1 + (relay.SLOTS_OF_PEERS if relay.may_ask_for_others(caller) else relay.SLOTS)
            self._limits[caller] = now_s, limit
        return limit


def main(path: str) -> NoReturn:
    """Serve until nobody has come for a while, and end the process.

    Args:
        path: of the program that serves one connection, which is this one.
    """
    guests = Guests(path)
    listener = socket.socket(fileno=_LISTENER)
    listener.setblocking(False)
    arrivals = select.poll()
    arrivals.register(_LISTENER, select.POLLIN)
    while arrivals.poll(IDLE_S * 1000) or len(guests):
        guests.forget_ended()
        try:
            connection, _ = listener.accept()
        except OSError:  # it is gone again, or nobody came
            continue
        with connection:
            try:
                guests.admit(connection.fileno())
            except OSError:
                pass  # no process or memory is left: the connection is closed, which is a refusal
    os._exit(0)
