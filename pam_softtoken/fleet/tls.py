"""Connect to one node of the cluster with TLS, certificates on both sides, within a time. `ssl` would load for 20 ms
and `socket` for 5 ms more, so this uses the modules below them. Must not import anything else.
"""

from __future__ import annotations

import _socket
import _ssl
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

ALPN = "h2"
MAX_READ_BYTES = 64 * 1024
_TLS_1_3 = 0x0304
_LONGEST_CONNECT_S = 1.0
"""For one address. A node that drops packets must leave time for the next one."""


class _Socket(_socket.socket):
    """A socket that TLS can refer to weakly, as it wants to."""


class Channel:
    """An encrypted connection.

    Args:
        context: from `context_of`.
        host: name or address, which the node's certificate must have.
        port: its number.
        deadline_s: the end of all waiting, by the monotonic clock.

    Raises:
        OSError: there is no such connection.
    """

    __slots__ = ("_encrypted", "_socket")

    def __init__(self, context: Any, host: str, port: int, *, deadline_s: float) -> None:
        self._socket = _connected(host, port, deadline_s)
        try:
            self._encrypted = context._wrap_socket(self._socket, False, host)
            self._limit(deadline_s)
            self._encrypted.do_handshake()
            if self._encrypted.selected_alpn_protocol() != ALPN:
                raise OSError("this is no gRPC server")
        except BaseException:
            self._socket.close()
            raise

    def send(self, data: bytes, *, deadline_s: float) -> None:
        """Send all of it. Raises `OSError`."""
        while data:
            self._limit(deadline_s)
            data = data[self._encrypted.write(data) :]

    def receive(self, *, deadline_s: float) -> bytes:
        """Return what has come, at least one byte. Raises `OSError`."""
        self._limit(deadline_s)
        data = self._encrypted.read(MAX_READ_BYTES)
        if not data:
            raise OSError("the server has closed the connection")
        return bytes(data)

    def close(self) -> None:
        """End the connection without a word: nobody waits for one."""
        self._socket.close()

    def _limit(self, deadline_s: float) -> None:
        self._socket.settimeout(_left_s(deadline_s))


def context_of(*, authority: str, certificate: str, key: str) -> Any:
    """Return the settings of TLS: both sides show a certificate of the realm's own authority, and no other counts.

    Args:
        authority, certificate, key: paths of files in PEM that only root can change.

    Raises:
        OSError: one of them is not what it should be.
    """
    context: Any = _ssl._SSLContext(_ssl.PROTOCOL_TLS_CLIENT)  # checks the server's certificate and name
    context.minimum_version = _TLS_1_3
    context.load_verify_locations(authority)
    context.load_cert_chain(certificate, key, lambda: "")  # an encrypted key must not ask for a passphrase here
    context._set_alpn_protocols(bytes((len(ALPN),)) + ALPN.encode())
    return context


def _left_s(deadline_s: float) -> float:
    left_s = deadline_s - time.monotonic()
    if left_s <= 0:
        raise TimeoutError("timed out")
    return left_s


def _connected(host: str, port: int, deadline_s: float) -> _Socket:
    problem = OSError("has no address")
    for family, kind, protocol, _, address in _addresses(host, port, deadline_s):
        connection = _Socket(family, kind, protocol)
        try:
            connection.settimeout(min(_left_s(deadline_s), _LONGEST_CONNECT_S))
            connection.connect(address)
            connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        except OSError as error:
            connection.close()
            problem = error
            continue
        return connection
    raise problem


def _addresses(host: str, port: int, deadline_s: float) -> list[Any]:
    """Return the addresses of a host. A name is looked up beside us, because a name server may never answer, and the
    look-up cannot be ended.
    """
    name = host.encode("ascii")  # for text, a codec would be loaded that takes 20 ms
    try:
        return _socket.getaddrinfo(name, port, 0, _socket.SOCK_STREAM, 0, _socket.AI_NUMERICHOST)
    except _socket.gaierror:
        pass
    import _thread  # noqa: PLC0415 - not for addresses

    found: list[Any] = []
    is_done = _thread.allocate_lock()
    is_done.acquire()

    def look_up() -> None:
        try:
            found.extend(_socket.getaddrinfo(name, port, 0, _socket.SOCK_STREAM))
        except OSError as error:
            found.append(error)
        finally:
            is_done.release()

    _thread.start_new_thread(look_up, ())
    if not is_done.acquire(timeout=_left_s(deadline_s)):
        raise TimeoutError("its name was not looked up in time")
    if found and isinstance(found[0], OSError):
        raise found[0]
    return found
