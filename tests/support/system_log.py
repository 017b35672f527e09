"""The system log of a test: everything that arrives at /dev/log while it runs."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import socket
import threading
import time
from pathlib import Path

from tests.support import leak

DEBUG = "<87>"  # authpriv.debug
DEV_LOG = Path("/dev/log")
ASIDE = Path("/dev/log.before-softtoken-test")


def fields_of(lines: list[str]) -> list[dict[str, str]]:
    """Return the fields of `result=` lines."""
    return [dict(re.findall(r'(\w+)=("[^"]*"|\S+)', line)) for line in lines if "result=" in line]


class SystemLog:
    """Replaces the machine's log daemon, and restores everything at the end."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        # Another test run with the same /dev waits until this one has finished.
        self._turn = os.open(DEV_LOG.parent, os.O_RDONLY)
        fcntl.flock(self._turn, fcntl.LOCK_EX)
        if DEV_LOG.is_symlink() or DEV_LOG.exists():
            DEV_LOG.rename(ASIDE)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(DEV_LOG))
        DEV_LOG.chmod(0o666)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        while data := self._socket.recv(65536):
            self.lines.append(data.decode("utf-8", "replace"))

    def close(self) -> None:
        """Restore /dev/log."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"", str(DEV_LOG))
        self._thread.join(5)
        try:
            self._lines_seen()
        finally:
            # In any case: a program that writes to a log without a reader waits for ever.
            self._socket.close()
            DEV_LOG.unlink(missing_ok=True)
            if ASIDE.is_symlink() or ASIDE.exists():
                os.rename(ASIDE, DEV_LOG)
            os.close(self._turn)

    def ours(self) -> list[str]:
        """Return our module's lines without date and process, in order, without debugging. Wait for the last one."""
        self._settle()
        lines = [line for line in self.lines if "pam_softtoken(" in line and not line.startswith(DEBUG)]
        return [line[line.index("pam_softtoken(") :] for line in lines]

    def outcomes(self) -> list[dict[str, str]]:
        """Return the fields of our `result=` lines."""
        return fields_of(self.ours())

    def reasons(self) -> list[str]:
        """Return the logged reasons, in order."""
        return [fields["reason"] for fields in self.outcomes()]

    def clear(self) -> None:
        """Drop what has been logged so far."""
        self._settle()
        self._lines_seen()
        self.lines.clear()

    def _lines_seen(self) -> None:
        """Check all that was logged, including lines for debugging, before it is dropped."""
        leak.refuse(self.lines)

    def _settle(self) -> None:
        """Wait for a mark of our own. A datagram socket keeps the order, so everything before it has been read then."""
        mark = f"mark {time.monotonic_ns()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(mark.encode(), str(DEV_LOG))
        deadline = time.monotonic() + 60
        while mark not in self.lines:
            if time.monotonic() > deadline:
                raise AssertionError("the log does not answer")
            time.sleep(0.001)
        self.lines.remove(mark)
