"""Accept the programs that connect to `softtoken-login.socket`, and start `relay` in a new process for each.

systemd starts this process at the first connection, and it ends when nobody has come for a while. It reads nothing from
a connection. It counts the connections of each user before it starts anything: if systemd started a unit for each one,
any user could keep the first process of the machine busy. After an upgrade it replaces itself, and goes on counting.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import threading
import time
from contextlib import suppress

from pam_softtoken import errors
from pam_softtoken.bridge import backend, closing, relay, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

SLOTS, SLOTS_OF_PEERS = 8, 64
"""How many programs of one user are served at once. A server that `relay_for` names has many people at it."""
MOST = 512
"""How many programs of all users are served at once."""
IDLE_S = 60
REAP_S = 5
"""How soon the end of a process is noticed where nobody else comes."""
REMEMBERED_S = 5
"""How long a reading of `relay_for` counts for the limits, and the log need not say again that a user is refused."""
A_MOMENT_S = 2
"""How long the others wait for that. A directory that knows the users of `relay_for` may hang."""
SOON_S = 0.1
"""How soon those are looked at again that are to be closed."""
SUBORDINATE_IDS = "/etc/subuid"
_LISTENER = 0
_NOBODY = -1


class Guests:
    """The programs that are being served.

    Args:
        path: of the program that serves one.
        already: those that this process serves already, each as "PID:UID".
    """

    def __init__(self, path: str, already: Sequence[str] = ()) -> None:
        self._path = path
        self._command = [sys.executable, "-I", "-S", "-B", path]
        self._made = self._inode()
        self._users: dict[int, tuple[int, str]] = {}
        for pid, uid in (map(int, each.split(":")) for each in already):
            self._users[pid] = uid, holder_of(uid)
        self._limits: dict[int, tuple[float, int]] = {}
        self._reading: threading.Thread | None = None
        self._written: dict[str, float] = {}
        self._closer = closing.Closer()
        self._log = relay.log_of(relay.IDENTIFIER)

    def __len__(self) -> int:
        return len(self._users)

    @property
    def patience_s(self) -> float:
        """How long to wait for the next one, in seconds."""
        if not self._closer.is_done:
            return SOON_S
        return REAP_S if _has_children() else IDLE_S

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to do here, and no process is left. systemd waits for such a process, and starts
        nothing meanwhile.
        """
        return not self._users and self._closer.is_done and not _has_children()

    @property
    def may_come(self) -> bool:
        """Whether another one can be taken now."""
        return not self._closer.is_full

    def forget_ended(self) -> None:
        """Stop counting the processes that have ended. Write about each that could not log its own end."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            self._closer.forget(pid)
            caller, _ = self._users.pop(pid, (_NOBODY, ""))
            if caller != _NOBODY and os.WIFSIGNALED(status):
                what = f"signal {os.WTERMSIG(status)} has ended the process that served it"
                relay.report(self._log, caller, errors.NotRelayed(what))
        self._closer.go_on()

    def renew(self) -> None:
        """Replace this process with a new one if the program is another than at its start, as after an upgrade."""
        if self._inode() in (None, self._made):
            return
        self._closer.close_all()
        if self._closer.is_done:
            users = [f"{pid}:{caller}" for pid, (caller, _) in self._users.items()]
            try:
                os.execv(self._command[0], [*self._command, *users])  # noqa: S606 - our own program
            except OSError:
                pass  # no memory is left: the old one goes on, and tries again

    def _inode(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self._path)
        except OSError:
            return None  # dpkg is at work, or the package is gone
        return status.st_ino, status.st_mtime_ns

    def admit(self, connection: socket.socket) -> None:
        """Start a process for a connection, unless too many are served. Then the connection is refused.

        Args:
            connection: is closed here, or soon will be.
        """
        try:
            _, caller = backend.peer_of_socket(connection.fileno())
            holder = holder_of(caller)
            why = self._why_not(caller, holder)
            if not why:
                self._users[self._start(connection)] = caller, holder
                return
            connection.setblocking(False)
            connection.send(wire.encode_result(relay.Relayed.PAM_AUTH_ERR, 0, ""))
            self._write_seldom(why, caller, holder)
        except (OSError, RuntimeError):
            # No process, thread or memory is left. The end of the connection refuses. Closing it can take time.
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._closer.close(connection)

    def _start(self, connection: socket.socket) -> int:
        """Start a process that serves a connection, and return its pid. It waits until ours is closed."""
        reading, writing = os.pipe()
        try:
            actions = [(os.POSIX_SPAWN_DUP2, connection.fileno(), 0), (os.POSIX_SPAWN_DUP2, reading, relay.CLOSED)]
            pid = os.posix_spawn(self._command[0], self._command, os.environ, file_actions=actions)
            connection.close()
        finally:
            os.close(writing)
            os.close(reading)
        return pid

    def _why_not(self, caller: int, holder: str) -> str:
        if len(self) >= MOST:
            return f"{MOST} programs of all users are being served"
        served = [user for user, _ in self._users.values()].count(caller)
        if served >= SLOTS and served >= self._limit_of(caller):
            return f"{served} programs of this user are being served"
        if holder and [name for _, name in self._users.values()].count(holder) >= SLOTS_OF_PEERS:
            return f"{SLOTS_OF_PEERS} programs in user namespaces of {holder} are being served"
        return ""

    def _limit_of(self, caller: int) -> int:
        """Return the limit as it was when it was last read, or reads it anew if that takes no more than a moment."""
        read_s, limit = self._limits.get(caller, (-REMEMBERED_S, SLOTS))
        if time.monotonic() - read_s >= REMEMBERED_S and (self._reading is None or not self._reading.is_alive()):
            self._reading = threading.Thread(target=self._read_limit, args=(caller,), daemon=True)
            self._reading.start()
            self._reading.join(A_MOMENT_S)
            limit = self._limits.get(caller, (0, limit))[1]
        return limit

    def _read_limit(self, caller: int) -> None:
        limit = SLOTS_OF_PEERS if relay.may_ask_for_others(caller) else SLOTS
        self._limits[caller] = time.monotonic(), limit

    def _write_seldom(self, why: str, caller: int, holder: str) -> None:
        now_s, name = time.monotonic(), holder or str(caller)
        if now_s - self._written.get(name, -REMEMBERED_S) >= REMEMBERED_S:
            self._written[name] = now_s
            relay.report(self._log, caller, errors.NotRelayed(why))


def _has_children() -> bool:
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def holder_of(uid: int) -> str:
    """Return the user to whom `/etc/subuid` gives a uid; "" if it is nobody's. In a user namespace, that user can be
    each of many such uids, and each would have a count of its own. Source: subuid(5).
    """
    try:
        with open(SUBORDINATE_IDS, encoding="utf-8", errors="replace") as lines:
            ranges = [line.strip().split(":") for line in lines]
    except OSError:
        return ""
    for name, first, count in (each for each in ranges if len(each) == 3):
        plain = first.isascii() and first.isdecimal() and count.isascii() and count.isdecimal()
        if plain and int(first) <= uid < int(first) + int(count):
            return name
    return ""


def main(path: str, already: Sequence[str] = ()) -> NoReturn:
    """Serve until nobody has come for a while, and end the process.

    Args:
        path: of the program that serves one connection, which is this one.
        already: as for `Guests`.
    """
    guests = Guests(path, already)
    listener = socket.socket(fileno=_LISTENER)
    listener.setblocking(False)
    closing.take_no_descriptors(listener)
    arrivals = select.poll()
    arrivals.register(_LISTENER, select.POLLIN)
    while arrivals.poll(1000 * guests.patience_s) or not guests.is_idle:
        guests.forget_ended()
        guests.renew()
        if not guests.may_come:
            time.sleep(SOON_S)
            continue
        try:
            connection, _ = listener.accept()
        except OSError:  # it is gone again, or nobody came
            continue
        guests.admit(connection)
    os._exit(0)
