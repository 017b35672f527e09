"""The process that `relay_listener` starts for each connection to `softtoken-login.socket`. It serves one attempt of a
program that does not run as root, over the socket on descriptor 0, with the same backend.

The program at the other end may be any program of that user's, and may lie. So what decides is not the program's: the
caller is the kernel's record of the connection, the account is looked up here, and there is no session, so no time of
grace. A user may ask only about the own account, unless `relay_for` names that user. Nobody enrols here, no change of
a service is confirmed, and this process writes the log lines itself.
"""

from __future__ import annotations

import os
import select
import time

from pam_softtoken import config, errors, log, option_table, system_log
from pam_softtoken.account import safe_open, user_lookup
from pam_softtoken.bridge import backend, wire
from pam_softtoken.bridge.channel import SOCKET, ConversationError
from pam_softtoken.login import outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

PERSON_S = 120
"""How long all answers of a person may take together."""
OURS_S = 10
"""How long the program may take for its first frame."""
LONGEST_S = PERSON_S + 120
"""How long the rest may take: as long as any bridge waits, also if the program has used up `PERSON_S` before it passes
on a password. With less, a guess could be judged and this process end before it is in the log.
"""
_MOST_OF_SERVICE = 64
IDENTIFIER = "softtoken-login"
CLOSED = 1
"""The end of a pipe, which closes when the listener has closed its copy of the connection. See `closing`."""


class Relayed(backend.Handle):
    """A PAM handle for a program without root.

    Args:
        start: what `pinned` returns.
        obstacle: why it may not ask about this user.
        is_peer: it may ask about others, and does.
    """

    is_relayed = True

    def __init__(self, start: wire.Start, *, obstacle: errors.NotRelayed | None = None, is_peer: bool = False) -> None:
        super().__init__(start)
        self._cpu = None  # it is only claimed
        self.is_peer = is_peer
        if obstacle is not None:
            self.account, self.obstacle = None, obstacle
        self._left_s = float(PERSON_S)
        self._log = log_of(self.service or "")

    def log(self, level: int, line: str) -> None:
        """Write a line to the system log. That program could leave it out."""
        self._log(level, line)

    def _exchange(self, question: bytes, meanwhile: Sequence[Callable[[], None]] = ()) -> str | None:
        try:
            return super()._exchange(question, meanwhile)
        except OSError:
            raise ConversationError from None

    def _receive(self) -> bytes:
        """Wait for the next frame as long as the person has time left.

        Raises:
            ConversationError: there is none left, or the program is gone. This process goes on: it has a line to log.
        """
        began_s = time.monotonic()
        frames = select.poll()
        frames.register(SOCKET, select.POLLIN)
        arrived = frames.poll(max(0.0, self._left_s) * 1000)
        self._left_s -= time.monotonic() - began_s
        frame = _taken() if arrived else b""
        if not frame:
            raise ConversationError
        return frame


def pinned(claimed: wire.Start, caller: int, *, rhost: bool) -> wire.Start:
    """Return the first frame with only those claims that may count.

    Args:
        claimed: the frame of that program.
        caller: its user.
        rhost: `PAM_RHOST` counts. Otherwise the caller's wrong answers would be those of any address.

    Returns:
        A frame with our own look-up of the user. The service's name has a slash, as no service of the host has: so the
        log shows where the line comes from, and no file of a service has that name.
    """
    try:
        account = user_lookup.account_of_name(claimed.user)
        known = [account.name, str(account.uid), str(account.gid), account.home]
    except errors.UnknownUser:
        known = ["", "", "", ""]
    except errors.LookUpFailed as error:
        known = ["", "", "", f"!{error}"]
    plain = (claimed.service or "")[:_MOST_OF_SERVICE]
    service = "".join(each if each.isascii() and (each.isalnum() or each in "-_.+@") else "?" for each in plain)
    items = [f"=relay/{service}", f"={claimed.rhost}" if rhost and claimed.rhost else "", "", ""]
    fields = [str(claimed.flags), claimed.user, *known, str(caller), "0", "0", *items, *claimed.arguments]
    return wire.Start(fields)


def may_ask_for_others(caller: int) -> bool:
    """Check whether `relay_for` names a user. If the file is wrong, it names nobody."""
    try:
        names = config.load([], safe_open.read_conf).relay_for
    except errors.ConfigError:
        return False
    return any(user_lookup.uid_of_name(name) == caller for name in names.split())


def _has_name(caller: int) -> bool:
    """Check whether a caller is a user at all. Nothing is accepted from a uid of a user namespace that is nobody's, and
    its owner has thousands of them: each could hold places here for as long as a person may take.
    """
    try:
        return bool(user_lookup.entry_of_uid(caller).pw_name)
    except errors.UnknownUser:
        return False
    except errors.LookUpFailed:
        return True


def log_of(service: str) -> Callable[[int, str], None]:
    """Return what writes lines of this service to the system log."""
    ours, head = system_log.SystemLog(IDENTIFIER), log.head(service, "auth")

    def send(level: int, line: str) -> None:
        ours.write(level, head + line)

    return send


def report(send: Callable[[int, str], None], caller: int, error: Exception) -> None:
    """Write why a caller was asked nothing."""
    record = log.Log(send)
    record.uid = str(caller)
    outcome.write(record, error)


def _taken() -> bytes:
    """Wait for a frame and return it; empty if the program is gone, or has sent descriptors with it.

    The bridge sends none. The kernel would close them during the read. A caller can make that take for ever, and this
    process would judge the answer after all, perhaps long after an upgrade. So such a frame is left where it is.
    """
    import _socket  # noqa: PLC0415 - as in `backend`

    ours = _socket.socket(fileno=SOCKET)
    try:
        _, _, flags, _ = ours.recvmsg(1, 0, _socket.MSG_PEEK)
    finally:
        ours.detach()
    return b"" if flags & _socket.MSG_CTRUNC else os.read(SOCKET, wire.MAX_FRAME_BYTES + 1)


def _refuse(caller: int, error: Exception) -> NoReturn:
    """Write why nothing was asked, and refuse."""
    report(log_of(IDENTIFIER), caller, error)
    os.set_blocking(SOCKET, False)
    try:
        _taken()  # a frame that is left unread would end the connection too early
    except OSError:
        pass
    os.write(SOCKET, wire.encode_result(Relayed.PAM_AUTH_ERR, 0, ""))
    os._exit(0)


def is_listening() -> bool:
    """Check whether descriptor 0 is a socket that others connect to."""
    import _socket  # noqa: PLC0415 - as in `backend`

    ours = _socket.socket(fileno=SOCKET)
    try:
        return bool(ours.getsockopt(_socket.SOL_SOCKET, _socket.SO_ACCEPTCONN))
    finally:
        ours.detach()


def main(path: str) -> NoReturn:
    """Serve one attempt and end the process.

    Args:
        path: this program's own path. It comes first in the module arguments.
    """
    backend.Handle.allow(OURS_S)
    try:
        os.read(CLOSED, 1)
    except OSError:
        pass  # something else has started this process
    _, caller = backend.peer_of_socket()
    try:
        if caller == 0:
            raise errors.NotRelayed("root needs no help")
        if not _has_name(caller):
            raise errors.NotRelayed("no user of this host has its uid")
        claimed = wire.decode_start(_taken())
        if claimed.account_phase:
            raise errors.NotRelayed("nobody enrols here")
        start = pinned(claimed, caller, rhost=False)
        obstacle, is_peer = None, False
        if start.uid != caller:
            is_peer = may_ask_for_others(caller)
            if is_peer:
                start = pinned(claimed, caller, rhost=True)
            elif start.uid is not None:
                obstacle = errors.NotRelayed(
                    f"only relay_for in {option_table.DEFAULT_CONF} lets it ask about other users"
                )
        handle = Relayed(start, obstacle=obstacle, is_peer=is_peer)
    except Exception as error:
        _refuse(caller, error)
    handle.allow(LONGEST_S)
    backend.serve(handle, start, path)
