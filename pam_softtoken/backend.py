"""The process that the bridge starts: one attempt over the socket on descriptor 0, with a `pamh` that forwards.

Everything that the verdict needs is imported at the top, before the person is asked.
"""

from __future__ import annotations

import os

try:
    from _signal import alarm  # type: ignore[import-not-found,unused-ignore]
except ImportError:  # `signal` wraps it, and costs 2 ms more for `enum`
    from signal import alarm

from pam_softtoken import errors, files, pam_module, wire

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

SOCKET = 0
DEFAULT_TIMEOUT_S = 10


class PamError(Exception):
    """The application's conversation failed; what pam_python calls `pamh.exception`."""


class _Message:
    """A prompt or a text for the person: `msg_style` as in PAM."""

    __slots__ = ("msg", "msg_style")

    def __init__(self, msg_style: int, msg: str) -> None:
        self.msg_style = msg_style
        self.msg = msg


class Response:
    """What the application gave back: `resp` is None when it had nothing."""

    __slots__ = ("resp", "resp_retcode")

    def __init__(self, resp: str | None) -> None:
        self.resp = resp
        self.resp_retcode = 0


class Handle:
    """A PAM handle as `pam_module` uses it, forwarding to the bridge. Numbers are Linux-PAM's, `_pam_types.h`.

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
    exception = PamError
    Message = _Message

    def __init__(self, start: wire.Start) -> None:
        self.user = start.user
        self.service = start.service
        self.rhost = start.rhost
        self.tty = start.tty
        self.ruser = start.ruser
        self.caller_uid = start.caller_uid
        self.account: files.Account | None = None
        if start.uid is not None:
            self.account = files.Account(start.user, start.uid, start.gid, home=start.home)

    def get_user(self, prompt: str | None = None) -> str:
        """Give `PAM_USER`; the bridge has asked for it where it had to."""
        return self.user

    def conversation(self, message: _Message) -> Response:
        """Show a message and wait, as long as it takes, for what comes back.

        Raises:
            PamError: the application would not.
        """
        left_s = alarm(0)  # the time is the person's now, not ours
        os.write(SOCKET, wire.encode_converse(message.msg_style, message.msg))
        frame = os.read(SOCKET, wire.MAX_FRAME_BYTES + 1)
        alarm(left_s or 1)
        if not frame:
            os._exit(1)  # the host is gone
        try:
            return Response(wire.decode_answer(frame))
        except errors.ProtocolError as error:
            raise PamError from error

    def log(self, level: int, line: str) -> None:
        """Have the bridge write a line to the system log, in the host's name."""
        os.write(SOCKET, wire.encode_log(level, line))


def main(path: str) -> NoReturn:
    """Serve one attempt and end.

    Args:
        path: this program's own, which stands first among the module arguments.
    """
    start = wire.decode_start(os.read(SOCKET, wire.MAX_FRAME_BYTES + 1))
    code = pam_module.pam_sm_authenticate(Handle(start), start.flags, [path, *start.arguments])
    os.write(SOCKET, wire.encode_result(code))
    # Wait for the bridge to close its end: if we ended now, the host could find itself waiting, on our processor, until
    # our memory is taken down. Then leave the interpreter as it is; nobody needs it tidy.
    os.read(SOCKET, 1)
    os._exit(0)
