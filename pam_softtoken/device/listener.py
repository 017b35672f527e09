"""`softtoken sign --listen`: take requests from a Unix socket that ssh forwards from a host, one at a time.

Nothing that comes through the socket is trusted: the length and the time of each read are limited, and only processes
of the same user may connect. A client sends one line, and gets one line: the code, or `no`.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import stat
import struct
import time
from collections.abc import Iterator, Sequence

from pam_softtoken.device import signing_request
from pam_softtoken.device.entry import Entry
from pam_softtoken.otp import signing
from pam_softtoken.otp.ocra import OCRAToken
from pam_softtoken.program_errors import UsageError, VaultFailed
from pam_softtoken.ui import terminal

MAX_LINE_BYTES = 4096
PATIENCE_S = 5.0
"""How long a client may take to send its request, and to take its answer."""
_WAITING_CLIENTS = 4
_REFUSED = b"no\n"
_MAX_PATH_BYTES = 107  # of sun_path, with the NUL
_MOST = signing.MAX_REQUEST_CHARACTERS
_CREDENTIALS = struct.Struct("3i")


def serve(screen: terminal.Terminal, signers: Sequence[tuple[Entry, OCRAToken]], path: str) -> None:
    """Answer requests until the user stops.

    Raises:
        VaultFailed: the socket cannot be made.
        EnrolmentFailed: the input has ended.
    """
    path = os.path.abspath(path)
    if len(os.fsencode(path)) > _MAX_PATH_BYTES:
        raise UsageError("the path of the socket is too long", hint=f"it can have {_MAX_PATH_BYTES} bytes")
    with _listening(path) as listening:
        screen.tell(f"Listening. Connect a host: ssh -R /run/user/UID/softtoken-sign:{shlex.quote(path)} HOST")
        screen.tell("UID is your user id on the host. Ctrl-C ends this.")
        try:
            while True:
                _serve_one(screen, signers, listening)
        except KeyboardInterrupt:
            screen.tell()
            screen.tell("No longer listening.")


@contextlib.contextmanager
def _listening(path: str) -> Iterator[socket.socket]:
    """Yield a socket that only its owner can use. Remove it at the end."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as listening:
        try:
            _check_directory(os.path.dirname(path))
            _remove_left_over(path)
            before = os.umask(0o177)
            try:
                listening.bind(path)
            finally:
                os.umask(before)
            own = os.lstat(path)
            listening.listen(_WAITING_CLIENTS)
        except OSError as error:
            raise VaultFailed(
                f'cannot listen on "{path}": {os.strerror(error.errno or 0)}',
                hint="give a path in a directory of yours",
            ) from None
        try:
            yield listening
        finally:
            with contextlib.suppress(OSError):
                if os.path.samestat(own, os.lstat(path)):
                    os.unlink(path)


def _check_directory(directory: str) -> None:
    """Check that nobody else can put another socket in the place of ours."""
    found = os.stat(directory)
    others_write = found.st_mode & 0o022 and not found.st_mode & stat.S_ISVTX
    if others_write or found.st_uid not in (0, os.geteuid()):
        raise VaultFailed(
            f'other users can change the directory "{directory}"', hint="give a path in a directory of yours"
        )


def _remove_left_over(path: str) -> None:
    """Remove the socket of a program that was killed."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.geteuid():
        raise VaultFailed(f'"{path}" exists, and is no socket of yours', hint="give another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(PATIENCE_S)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise VaultFailed(f'another program listens on "{path}"', hint="end it, or give another path")


def _serve_one(screen: terminal.Terminal, signers: Sequence[tuple[Entry, OCRAToken]], listening: socket.socket) -> None:
    """Wait for one client, and answer it."""
    with terminal.interruptible():
        client, _ = listening.accept()
    with client:
        client.settimeout(PATIENCE_S)
        answer = _REFUSED
        try:
            if not _is_own(client):
                screen.tell("Refused: a process of another user asked.")
                return
            with terminal.interruptible():
                line = _read_line(client)
            answer = _answer(screen, signers, line)
        except VaultFailed as error:
            screen.tell(f"Refused: {error.message.removeprefix('not signed: ')}.")
        finally:
            was_sent = _send(client, answer)
        if answer != _REFUSED:
            screen.tell("Signed." if was_sent else "Signed, but the host no longer waits.")


def _answer(screen: terminal.Terminal, signers: Sequence[tuple[Entry, OCRAToken]], line: str) -> bytes:
    request = signing_request.check(line, signers, now=int(time.time()))
    code = signing_request.confirm(screen, request)
    if code is None:
        screen.tell("Not signed.")
        return _REFUSED
    return f"{code}\n".encode("ascii")


def _is_own(client: socket.socket) -> bool:
    data = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return bool(_CREDENTIALS.unpack(data)[1] == os.geteuid())


def _read_line(client: socket.socket) -> str:
    """Read one line, with nothing behind it.

    Raises:
        VaultFailed: there is none, or not in time.
    """
    hint = f'a request is one line that begins with "{signing.PREFIX}"'
    until = time.monotonic() + PATIENCE_S
    data = b""
    try:
        while not data.endswith(b"\n") and len(data) < MAX_LINE_BYTES:
            client.settimeout(max(0.001, until - time.monotonic()))
            piece = client.recv(MAX_LINE_BYTES - len(data))
            if not piece or time.monotonic() > until:
                break
            data += piece
    except OSError:
        data = b""
    if len(data) == MAX_LINE_BYTES:
        raise VaultFailed(f"a client sent {len(data)} bytes or more, and a request has at most {_MOST}", hint=hint)
    if not data.endswith(b"\n") or data.count(b"\n") != 1:
        raise VaultFailed("a client sent no request", hint=hint)
    return data[:-1].decode("utf-8", "surrogateescape")


def _send(client: socket.socket, answer: bytes) -> bool:
    """Send the answer. Return whether the client took it."""
    try:
        client.settimeout(PATIENCE_S)
        client.sendall(answer)
    except OSError:
        return False
    return True
