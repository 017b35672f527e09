"""The process that sudo's plugin starts. It serves one approval over the socket on descriptor 0."""

from __future__ import annotations

import os

from pam_softtoken.bridge import approval_wire, wire
from pam_softtoken.bridge.approval_wire import NOT_CHECKED, NOT_SIGNED, SIGNATURE_REQUIRED, SIGNED, TOO_LONG
from pam_softtoken.bridge.channel import SOCKET, Channel, ConversationError
from pam_softtoken.errors import ConversationFailed, Refused
from pam_softtoken.program_errors import SignedTooLate, StatementTooLong, Unsigned
from pam_softtoken.signing.approval import Approval

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

SPARE_S = 10


class Talk(Channel):
    """The way to the person at sudo."""

    def converse(self, style: int, text: str) -> str | None:
        """Show a text, and wait for the answer.

        Raises:
            ConversationFailed: sudo could not ask.
        """
        try:
            return super().converse(style, text)
        except ConversationError:
            raise ConversationFailed from None

    def wait(self, seconds: int) -> None:
        """Ask sudo and the kernel for more time, in seconds, because somebody else is asked now."""
        self._send_last_line()
        os.write(SOCKET, approval_wire.encode_wait(seconds))
        self.allow(seconds + SPARE_S)


def verdict_of(cause: Exception | None) -> int:
    """Return the verdict for what `Approval.decide` returns."""
    if cause is None:
        return SIGNED
    if isinstance(cause, Unsigned):
        return SIGNATURE_REQUIRED
    if isinstance(cause, StatementTooLong):
        return TOO_LONG
    return NOT_SIGNED if isinstance(cause, (Refused, ConversationFailed, SignedTooLate)) else NOT_CHECKED


def main() -> NoReturn:
    """Serve one approval and end the process."""
    start = approval_wire.decode_start(os.read(SOCKET, approval_wire.MAX_START_BYTES + 1))
    talk = Talk(cpu=None)
    verdict = verdict_of(Approval(talk, start, host=SOCKET).decide())
    os.write(SOCKET, wire.encode_result(verdict, *talk.last_line))
    os._exit(0)
