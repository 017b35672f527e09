"""Ask `softtoken sign --listen` on the user's laptop, through a Unix socket that ssh forwards. Nothing that comes back
is trusted: it is an answer like one that was typed. Loaded only if there is such a socket.
"""

from __future__ import annotations

import os
import select
import socket
import time

from pam_softtoken.account import safe_open

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.account.safe_open import Account

CONNECT_S = 2.0
MAX_ANSWER_BYTES = 64
ENDED = 1
"""The exit status when sudo has ended."""


def ask(account: Account, path: str, request: str, *, patience_s: float, host: int) -> str | None:
    """Send a request, and wait for the answer.

    The socket is opened as the user, so it reaches nothing that the user cannot reach.

    Args:
        account: the user.
        path: of the socket.
        request: one line.
        patience_s: how long to wait for the answer, in seconds.
        host: descriptor of sudo's socket. The process ends when sudo has ended.

    Returns:
        What was answered; None if nobody did, or the answer was no.
    """
    until_s = time.monotonic() + patience_s
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as laptop:
        try:
            laptop.settimeout(CONNECT_S)
            with safe_open.AsUser(account):
                laptop.connect(path)
            laptop.sendall(f"{request}\n".encode("ascii"))
            answer = _read_line(laptop, until_s, host)
        except OSError:
            return None
    return answer if answer and not answer.isalpha() else None


def _read_line(laptop: socket.socket, until_s: float, host: int) -> str:
    waiting = select.poll()
    waiting.register(laptop, select.POLLIN)
    waiting.register(host, 0)  # tells only that the other end is gone
    data = b""
    while not data.endswith(b"\n") and len(data) < MAX_ANSWER_BYTES:
        ready = waiting.poll(max(0.0, until_s - time.monotonic()) * 1000)
        if any(descriptor == host for descriptor, _ in ready):
            os._exit(ENDED)
        if not ready:
            return ""
        piece = laptop.recv(MAX_ANSWER_BYTES - len(data), socket.MSG_DONTWAIT)
        if not piece:
            return ""
        data += piece
    return data.decode("utf-8", "surrogateescape").strip()
