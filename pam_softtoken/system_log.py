"""The system log for Python processes: our programs, and the module under pam_python. The bridge has its own way.
syslog(3) waits without end for a daemon that hangs. Here each line is one message, and the process waits one second at
most. Loaded only where a line is written. Imports nothing of the package.
"""

from __future__ import annotations

import _socket
import os
import sys
import time

PATH = "/dev/log"
PATIENCE_S = 1.0
AUTHPRIV = 10 << 3
WARNING = 4
_EPROTOTYPE = 91


class SystemLog:
    """The system log of one process. Raises nothing: if the log is gone or hangs, nothing else changes.

    Args:
        identifier: the start of each line: the name of a program or of a PAM service.

    Attributes:
        lost: the number of lines in a row that the log did not take. The next line that it takes follows a line with
            this number.
    """

    def __init__(self, identifier: str) -> None:
        self._identifier = identifier
        self._left_s = PATIENCE_S
        self.lost = 0

    def write(self, level: int, text: str) -> None:
        """Write one line.

        Args:
            level: syslog severity.
            text: ASCII without control characters.
        """
        if self.lost and self._send(WARNING, f"{self._identifier}: log lines lost before this one: {self.lost}"):
            self.lost = 0
        self.lost = 0 if self._send(level, text) else self.lost + 1

    def _send(self, level: int, text: str) -> bool:
        line = f"<{AUTHPRIV | level}>{self._identifier}[{os.getpid()}]: {text}".encode("ascii", "backslashreplace")
        began_s = time.monotonic()
        try:
            try:
                self._send_to(_socket.SOCK_DGRAM, line)
            except OSError as error:
                if error.errno != _EPROTOTYPE:
                    raise
                self._send_to(_socket.SOCK_STREAM, line + b"\0")  # some daemons listen for streams
        except OSError:
            self._left_s = max(0.0, self._left_s - (time.monotonic() - began_s))
            return False
        self._left_s = PATIENCE_S
        return True

    def _send_to(self, kind: int, line: bytes) -> None:
        # Without our effective ids the kernel sends the real ones. In su and sudo those are the caller's.
        ids = (os.getpid(), os.geteuid(), os.getegid())
        identity = b"".join(number.to_bytes(4, sys.byteorder) for number in ids)
        receiver = _socket.socket(_socket.AF_UNIX, kind)
        try:
            receiver.settimeout(self._left_s)
            receiver.connect(PATH)
            receiver.sendmsg([line], [(_socket.SOL_SOCKET, _socket.SCM_CREDENTIALS, identity)], _socket.MSG_NOSIGNAL)
        finally:
            receiver.close()
