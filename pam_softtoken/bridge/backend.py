"""The process that the bridge starts. It serves one attempt over the socket on descriptor 0, with a `pamh` that
forwards. Everything that the verdict needs is imported at the top, before the person is asked.
"""

from __future__ import annotations

import os
import sys
import time

from pam_softtoken import errors, pam_module
from pam_softtoken.account import safe_open
from pam_softtoken.bridge import wire
from pam_softtoken.bridge.channel import SOCKET, Channel, ConversationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

LINGERING_S = 0.002
_UCRED_FIELDS = 3


class _Message:
    """A prompt or a text for the person: `msg_style` as in PAM."""

    __slots__ = ("msg", "msg_style")

    def __init__(self, msg_style: int, msg: str) -> None:
        self.msg_style = msg_style
        self.msg = msg


class Response:
    """What the application returned. `resp` is None if there was nothing."""

    __slots__ = ("resp", "resp_retcode")

    def __init__(self, resp: str | None) -> None:
        self.resp = resp
        self.resp_retcode = 0


class _Environment:
    """PAM's environment, as pam_python shows it. The bridge reads and writes only a few variables.

    Args:
        exchange: sends a frame and returns its answer.
    """

    __slots__ = ("_exchange",)

    def __init__(self, exchange: Callable[[bytes], str | None]) -> None:
        self._exchange = exchange

    def __getitem__(self, name: str) -> str:
        value = self._exchange(wire.encode_get(wire.ENVIRONMENT, name))
        if value is None:
            raise KeyError(name)
        return value

    def __setitem__(self, name: str, value: str) -> None:
        self._exchange(wire.encode_put(wire.ENVIRONMENT, f"{name}={value}"))

    def __delitem__(self, name: str) -> None:
        self._exchange(wire.encode_put(wire.ENVIRONMENT, name))


def peer_of_socket(socket: int = SOCKET) -> tuple[int, int]:
    """Return the pid and the uid of the process at the other end, as the kernel recorded them. Source: unix(7)."""
    import _socket  # noqa: PLC0415 - a usual login does not ask

    host = _socket.socket(fileno=socket)
    try:
        credentials = host.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, 4 * _UCRED_FIELDS)
    finally:
        host.detach()
    pid, uid = (int.from_bytes(credentials[place : place + 4], sys.byteorder) for place in (0, 4))
    return pid, uid


class Handle(Channel):
    """A PAM handle for `pam_module` that forwards to the bridge. The numbers are from Linux-PAM's `_pam_types.h`.

    Args:
        start: the bridge's first frame.
    """

    PAM_SUCCESS = 0
    PAM_SERVICE_ERR = 3
    PAM_AUTH_ERR = 7
    PAM_CONV_ERR = 19
    PAM_IGNORE = 25
    PAM_PROMPT_ECHO_OFF = 1
    PAM_PROMPT_ECHO_ON = 2
    PAM_ERROR_MSG = 3
    PAM_TEXT_INFO = 4
    PAM_AUTHTOK = 6
    exception = ConversationError
    Message = _Message

    def __init__(self, start: wire.Start) -> None:
        super().__init__(cpu=start.cpu)
        self.user = start.user
        self.service = start.service
        self.rhost = start.rhost
        self.tty = start.tty
        self.ruser = start.ruser
        self.caller_uid = start.caller_uid
        self.session = start.session
        self._left_over: list[Callable[[], None]] = []
        self._meanwhile: list[Callable[[], None]] = []
        self.obstacle: errors.SoftTokenError | None = None
        if start.look_up_error:
            self.obstacle = errors.LookUpFailed(start.look_up_error)
        self.account: safe_open.Account | None = None
        if start.uid is not None:
            self.account = safe_open.Account(start.name, start.uid, start.gid, home=start.home)

    def get_user(self, prompt: str | None = None) -> str:
        """Return `PAM_USER` as it was typed. The bridge has asked for it if necessary."""
        return self.user

    @property
    def host_pid(self) -> int:
        """Return the pid of the application. It made the socket, and the kernel records that. Source: unix(7)."""
        return peer_of_socket()[0]

    def conversation(self, message: _Message) -> Response:
        """Show a message and wait for the answer, as long as it takes.

        Raises:
            ConversationError: the application failed.
        """
        works, self._meanwhile = self._meanwhile, []
        return Response(self.converse(message.msg_style, message.msg, meanwhile=works))

    @property
    def authtok(self) -> str | None:
        """Return the password that an earlier module asked for, or None. A value that is set is for the next module.

        Raises:
            ConversationError: PAM refused.
        """
        return self._exchange(wire.encode_get(self.PAM_AUTHTOK))

    @authtok.setter
    def authtok(self, password: str) -> None:
        self._exchange(wire.encode_put(self.PAM_AUTHTOK, password))

    @property
    def env(self) -> _Environment:
        """Return PAM's environment. Using it raises `ConversationError` if PAM refuses, and `KeyError`."""
        return _Environment(self._exchange)

    def meanwhile(self, work: Callable[[], None]) -> None:
        """Store work to be done while the person reads and types. It must end by itself, and must not talk to them."""
        self._meanwhile.append(work)

    def afterwards(self, work: Callable[[], None]) -> None:
        """Store work for later, so that the person need not wait for it."""
        self._left_over.append(work)

    def finish(self) -> None:
        """Run the work that was left for later."""
        for work in self._left_over:
            work()


def main(path: str) -> NoReturn:
    """Run one attempt and end the process.

    Args:
        path: this program's own path. It comes first in the module arguments.
    """
    start = wire.decode_start(os.read(SOCKET, wire.MAX_FRAME_BYTES + 1))
    serve(Handle(start), start, path)


def serve(handle: Handle, start: wire.Start, path: str) -> NoReturn:
    """Run the attempt of a handle, send its verdict and end the process.

    Args:
        handle: made from `start`.
        start: the first frame.
        path: as for `main`.
    """
    enter = pam_module.pam_sm_acct_mgmt if start.account_phase else pam_module.pam_sm_authenticate
    code = enter(handle, start.flags, [path, *start.arguments])
    os.write(SOCKET, wire.encode_result(code, *handle.last_line))
    handle.finish()
    # If we ended now, the host could have to wait, on our processor, until our memory is freed. If we waited for the
    # host to close its end, it would have to wake us. Then leave the interpreter as it is: no cleaning up is needed.
    time.sleep(LINGERING_S)
    os._exit(0)
