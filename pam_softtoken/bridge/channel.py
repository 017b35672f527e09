"""The Python side's end of the socket to C, for one attempt: questions, answers and log lines."""

from __future__ import annotations

import os

try:
    from _signal import alarm  # type: ignore[import-not-found,unused-ignore]
except ImportError:  # `signal` wraps it, but needs 2 ms more to load `enum`
    from signal import alarm

from pam_softtoken import errors
from pam_softtoken.bridge import wire

SOCKET = 0


class ConversationError(Exception):
    """The host's conversation with the person failed. pam_python calls this `pamh.exception`."""


class Channel:
    """The socket on descriptor 0.

    Args:
        cpu: number of the processor that the host runs on; None if it is not known.

    Attributes:
        last_line: severity and text of the last log line. It goes with the verdict.
    """

    def __init__(self, *, cpu: int | None) -> None:
        self._cpu = cpu
        self.last_line = (0, "")

    def converse(self, style: int, text: str) -> str | None:
        """Show a text, and wait for the answer as long as it takes.

        Args:
            style: as in PAM.
            text: the question or the message.

        Returns:
            The answer; None if there was none.

        Raises:
            ConversationError: the host failed.
        """
        left_s = alarm(0)  # now the person's time counts, not ours
        try:
            return self._exchange(wire.encode_converse(style, text))
        finally:
            alarm(left_s or 1)

    def log(self, level: int, line: str) -> None:
        """Write a line to the system log, through C and in the host's name. The last line goes with the verdict."""
        self._send_last_line()
        self.last_line = (level, line)

    @staticmethod
    def allow(seconds: int) -> None:
        """Set how long the process may run from now, in seconds."""
        alarm(seconds)

    def _exchange(self, question: bytes) -> str | None:
        self._send_last_line()
        os.write(SOCKET, question)
        self._move_to_the_host()
        frame = self._receive()
        if not frame:
            os._exit(1)  # the host is gone
        try:
            return wire.decode_answer(frame)
        except errors.ProtocolError as error:
            raise ConversationError from error

    def _receive(self) -> bytes:
        """Wait for the next frame as long as it takes. It is empty if the host is gone."""
        return os.read(SOCKET, wire.MAX_FRAME_BYTES + 1)

    def _move_to_the_host(self) -> None:
        """Wait on the host's processor. Waking another one costs the person a tenth of a millisecond."""
        try:
            if self._cpu is not None:
                os.sched_setaffinity(0, (self._cpu,))
        except OSError:
            pass

    def _send_last_line(self) -> None:
        level, line = self.last_line
        if line:
            os.write(SOCKET, wire.encode_log(level, line))
            self.last_line = (0, "")
