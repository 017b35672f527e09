"""The process that the bridge starts. It serves one attempt over the socket on descriptor 0, with a `pamh` that
forwards. Everything that the verdict needs is imported at the top, before the person is asked.
"""

from __future__ import annotations

import os
import sys
import time

try:
    from _signal import alarm  # type: ignore[import-not-found,unused-ignore]
except ImportError:  # `signal` wraps it, but needs 2 ms more to load `enum`
    from signal import alarm

from pam_softtoken import errors, pam_module
from pam_softtoken.account import safe_open
from pam_softtoken.bridge import wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

SOCKET = 0
LINGERING_S = 0.002
_UCRED_BYTES = 12


class PamError(Exception):
    """The application's conversation failed. pam_python calls this `pamh.exception`."""


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


class Handle:
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
    exception = PamError
    Message = _Message

    def __init__(self, start: wire.Start) -> None:
        self.user = start.user
        self.service = start.service
        self.rhost = start.rhost
        self.tty = start.tty
        self.ruser = start.ruser
        self.caller_uid = start.caller_uid
        self.session = start.session
        self._cpu = start.cpu
        self.last_line = (0, "")
        self._left_over: list[Callable[[], None]] = []
        self._meanwhile: list[Callable[[], None]] = []
        self.look_up_error = start.look_up_error
        self.account: safe_open.Account | None = None
        if start.uid is not None:
            self.account = safe_open.Account(start.name, start.uid, start.gid, home=start.home)

    def get_user(self, prompt: str | None = None) -> str:
        """Return `PAM_USER` as it was typed. The bridge has asked for it if necessary."""
        return self.user

    @property
    def host_pid(self) -> int:
        """Return the pid of the application. It made the socket, and the kernel records that. Source: unix(7)."""
        import _socket  # noqa: PLC0415 - asked once in the life of an account

        host = _socket.socket(fileno=SOCKET)
        try:
            credentials = host.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _UCRED_BYTES)
        finally:
            host.detach()
        return int.from_bytes(credentials[:4], sys.byteorder)

    def conversation(self, message: _Message) -> Response:
        """Show a message and wait for the answer, as long as it takes.

        Raises:
            PamError: the application failed.
        """
        left_s = alarm(0)  # now the person's time counts, not ours
        try:
            if self._meanwhile:
                return Response(self._exchange_and_work(wire.encode_converse(message.msg_style, message.msg)))
            return Response(self._exchange(wire.encode_converse(message.msg_style, message.msg)))
        finally:
            alarm(left_s or 1)

    @property
    def authtok(self) -> str | None:
        """Return the password that an earlier module asked for, or None. A value that is set is for the next module.

        Raises:
            PamError: PAM refused.
        """
        return self._exchange(wire.encode_get(self.PAM_AUTHTOK))

    @authtok.setter
    def authtok(self, password: str) -> None:
        self._exchange(wire.encode_put(self.PAM_AUTHTOK, password))

    @property
    def env(self) -> _Environment:
        """Return PAM's environment. Using it raises `PamError` if PAM refuses, and `KeyError`."""
        return _Environment(self._exchange)

    def meanwhile(self, work: Callable[[], None]) -> None:
        """Store work to be done while the person reads and types. It must end by itself, and must not talk to them."""
        self._meanwhile.append(work)

    def _exchange_and_work(self, question: bytes) -> str | None:
        self._send_last_line()
        os.write(SOCKET, question)
        works, self._meanwhile = self._meanwhile, []
        for work in works:
            work()
        return self._answer()

    def _exchange(self, question: bytes) -> str | None:
        self._send_last_line()
        os.write(SOCKET, question)
        return self._answer()

    def _answer(self) -> str | None:
        self._move_to_the_host()
        frame = os.read(SOCKET, wire.MAX_FRAME_BYTES + 1)
        if not frame:
            os._exit(1)  # the host is gone
        try:
            return wire.decode_answer(frame)
        except errors.ProtocolError as error:
            raise PamError from error

    def _move_to_the_host(self) -> None:
        """Wait on the host's processor. Waking another one costs the person a tenth of a millisecond."""
        try:
            os.sched_setaffinity(0, (self._cpu,))
        except OSError:
            pass

    def log(self, level: int, line: str) -> None:
        """Write a line to the system log, through the bridge and in the host's name. The last line goes with the
        verdict.
        """
        self._send_last_line()
        self.last_line = (level, line)

    def afterwards(self, work: Callable[[], None]) -> None:
        """Store work for later, so that the person need not wait for it."""
        self._left_over.append(work)

    def finish(self) -> None:
        """Run the work that was left for later."""
        for work in self._left_over:
            work()

    def _send_last_line(self) -> None:
        level, line = self.last_line
        if line:
            os.write(SOCKET, wire.encode_log(level, line))
            self.last_line = (0, "")


def main(path: str) -> NoReturn:
    """Run one attempt and end the process.

    Args:
        path: this program's own path. It comes first in the module arguments.
    """
    start = wire.decode_start(os.read(SOCKET, wire.MAX_FRAME_BYTES + 1))
    handle = Handle(start)
    enter = pam_module.pam_sm_acct_mgmt if start.account_phase else pam_module.pam_sm_authenticate
    code = enter(handle, start.flags, [path, *start.arguments])
    os.write(SOCKET, wire.encode_result(code, *handle.last_line))
    handle.finish()
    # If we ended now, the host could have to wait, on our processor, until our memory is freed. If we waited for the
    # host to close its end, it would have to wake us. Then leave the interpreter as it is: no cleaning up is needed.
    time.sleep(LINGERING_S)
    os._exit(0)
