"""One gRPC call at a time over HTTP/2, as pure bytes: what to send, and a strict reader of what comes back. No header
that the server sends is decoded. A message arrived whole, or the call has failed. Does no I/O and imports nothing.

The server is trusted only as far as its certificate goes. So everything that it sends has a limit, and anything that
etcd has no reason to send ends the connection: padding, pushed streams, frames of other streams.

Source:
    RFC 9113 (HTTP/2); RFC 7541, section 6.2.2 (literal header fields that enter no table); the gRPC project's
    "gRPC over HTTP2".
"""

from __future__ import annotations

MAX_FRAME_BYTES = 16_384
MAX_REQUEST_BYTES = 60_000
MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""Only administration asks for lists. The answer to a login has at most 100 KiB."""
MAX_OTHER_FRAMES = 1000
"""Frames without data in one answer. More would only keep us busy."""
LARGEST_WINDOW = 2**31 - 1
_FIRST_WINDOW = 65_535
_HEADER_BYTES = 9
_PREFIX_BYTES = 5

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, HAS_PRIORITY = 0x1, 0x1, 0x4, 0x8, 0x20
_HEADER_TABLE_SIZE, _ENABLE_PUSH, _INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 1, 2, 4, 5
_EXACT_BYTES = {PRIORITY: 5, RST_STREAM: 4, PING: 8, WINDOW_UPDATE: 4}
_OF_CONNECTION = (SETTINGS, PING, GOAWAY)


class BadAnswer(Exception):
    """The server has ended the connection, or does not speak the protocol. The text is for the log."""


class TooLarge(BadAnswer):
    """It has more than `MAX_MESSAGE_BYTES`."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return the bytes of a frame."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def _literal(name: bytes, value: bytes) -> bytes:
    """Return a header field that enters no table. `name` is already encoded."""
    if len(value) > 126:
        raise ValueError("too long for one byte of length")
    return name + bytes((len(value),)) + value


def _new_name(name: bytes) -> bytes:
    return b"\0" + bytes((len(name),)) + name


def request_headers(path: str, timeout_ms: int) -> bytes:
    """Return the encoded headers of a call.

    Args:
        path: the method, such as `/etcdserverpb.KV/Txn`.
        timeout_ms: the server gives up after this time.
    """
    return b"".join((
        b"\x83\x87",  # :method POST, :scheme https
        _literal(b"\x04", path.encode("ascii")),
        _literal(b"\x01", b"etcd"),  # :authority
        _literal(b"\x0f\x10", b"application/grpc"),  # content-type
        _literal(_new_name(b"te"), b"trailers"),
        _literal(_new_name(b"grpc-timeout"), b"%dm" % max(1, min(timeout_ms, 99_999_999))),
    ))  # fmt: skip


class Conversation:
    """One connection: a call, its answer, the next call.

    Attributes:
        has_ended: the answer to the present call is there.
        message: the answer; None when the call has failed. The server has then said why in headers that we do not read:
            no right, no quorum, too late.
    """

    __slots__ = (
        "_body", "_continues", "_first_window", "_got_settings", "_has_headers", "_input", "_other_frames", "_received",
        "_stream", "_window", "has_ended", "message",
    )  # fmt: skip

    def __init__(self) -> None:
        self._input = b""
        self._body: list[bytes] = []
        self._stream = -1
        self._window = self._first_window = _FIRST_WINDOW
        self._received = self._other_frames = 0
        self._got_settings = self._has_headers = self.has_ended = False
        self._continues = 0  # flags of a header block that goes on in the next frame
        self.message: bytes | None = None

    @staticmethod
    def greeting() -> bytes:
        """Return what a client sends first. Our windows are so large that no answer can fill them."""
        settings = b"".join(
            number.to_bytes(2, "big") + value.to_bytes(4, "big")
            for number, value in ((_HEADER_TABLE_SIZE, 0), (_ENABLE_PUSH, 0), (_INITIAL_WINDOW_SIZE, LARGEST_WINDOW))
        )
        wider = (LARGEST_WINDOW - _FIRST_WINDOW).to_bytes(4, "big")
        return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0, settings) + frame(WINDOW_UPDATE, 0, 0, wider)

    def call(self, path: str, message: bytes, *, timeout_ms: int) -> bytes:
        """Return the bytes of the next call. The answer to the one before must have ended.

        Raises:
            BadAnswer: the server has not yet made room for so many bytes. A new connection has room.
        """
        body = b"\0" + len(message).to_bytes(4, "big") + message
        if len(body) > MAX_REQUEST_BYTES:
            raise ValueError("a request is too large")
        if len(body) > min(self._window, self._first_window):
            raise BadAnswer("no room for another request")
        self._window -= len(body)
        self._stream += 2
        self._body, self.message = [], None
        self._has_headers = self.has_ended = False
        self._other_frames = 0
        frames = [frame(HEADERS, END_HEADERS, self._stream, request_headers(path, timeout_ms))]
        if self._received:
            frames.append(frame(WINDOW_UPDATE, 0, 0, self._received.to_bytes(4, "big")))
            self._received = 0
        for start in range(0, len(body), MAX_FRAME_BYTES):
            piece = body[start : start + MAX_FRAME_BYTES]
            is_last = start + len(piece) == len(body)
            frames.append(frame(DATA, END_STREAM if is_last else 0, self._stream, piece))
        return b"".join(frames)

    def feed(self, data: bytes) -> bytes:
        """Read what the server has sent.

        Returns:
            What to send back: acknowledgements, or nothing.

        Raises:
            BadAnswer: the connection is of no more use.
        """
        self._input += data
        replies = []
        while len(self._input) >= _HEADER_BYTES:
            length = int.from_bytes(self._input[:3], "big")
            if length > MAX_FRAME_BYTES:
                raise BadAnswer("a frame is too large")
            if len(self._input) < _HEADER_BYTES + length:
                break
            kind, flags = self._input[3], self._input[4]
            stream = int.from_bytes(self._input[5:9], "big") & LARGEST_WINDOW
            payload = self._input[_HEADER_BYTES : _HEADER_BYTES + length]
            self._input = self._input[_HEADER_BYTES + length :]
            replies.append(self._take(kind, flags, stream, payload))
        return b"".join(replies)

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        self._check(kind, flags, stream, payload)
        if kind == DATA:
            self._take_data(flags, payload)
        elif kind in (HEADERS, CONTINUATION):
            self._take_headers(kind, flags)
        elif kind == SETTINGS:
            return self._take_settings(flags, payload)
        elif kind == PING and not flags & ACK:
            return frame(PING, ACK, 0, payload)
        elif kind == WINDOW_UPDATE:
            self._take_window(stream, payload)
        elif kind == RST_STREAM and stream == self._stream:
            raise BadAnswer("the server has dropped the call")
        elif kind == GOAWAY:
            raise BadAnswer("the server ends the connection")
        return b""

    def _check(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Check what holds for all frames of a kind."""
        if not self._got_settings and (kind != SETTINGS or flags & ACK):
            raise BadAnswer("this is not HTTP/2")
        if bool(self._continues) != (kind == CONTINUATION):
            raise BadAnswer("a header block has a gap")
        if kind == PUSH_PROMISE or (kind in (DATA, HEADERS) and flags & (PADDED | HAS_PRIORITY)):
            raise BadAnswer("a frame is of a form that we have not allowed")
        if (kind in _OF_CONNECTION and stream != 0) or len(payload) != _EXACT_BYTES.get(kind, len(payload)):
            raise BadAnswer("a frame is malformed")
        if kind in (DATA, HEADERS, CONTINUATION) and (stream != self._stream or self.has_ended):
            raise BadAnswer("a frame belongs to no call")
        if kind != DATA or not payload:
            self._other_frames += 1
            if self._other_frames > MAX_OTHER_FRAMES:
                raise BadAnswer("too many frames without data")

    def _take_data(self, flags: int, payload: bytes) -> None:
        if not self._has_headers:
            raise BadAnswer("data came before its headers")
        if flags & END_STREAM:
            raise BadAnswer("an answer ended without its status")
        self._received += len(payload)
        self._body.append(payload)
        if self._received > _PREFIX_BYTES + MAX_MESSAGE_BYTES:
            raise TooLarge("an answer is too large")

    def _take_headers(self, kind: int, flags: int) -> None:
        if kind == HEADERS:
            if self._has_headers and not flags & END_STREAM:
                raise BadAnswer("an answer has headers twice")
            self._continues = flags | ACK << 7  # never 0
        if not flags & END_HEADERS:
            return
        ends = bool(self._continues & END_STREAM)
        self._continues = 0
        self._has_headers = True
        if ends:
            self._end()

    def _end(self) -> None:
        """Read the whole answer. gRPC sends a message only if the call has succeeded."""
        body = b"".join(self._body)
        self.has_ended = True
        if not body:
            return
        if body[0] != 0 or len(body) < _PREFIX_BYTES or int.from_bytes(body[1:5], "big") != len(body) - _PREFIX_BYTES:
            raise BadAnswer("an answer is not one whole message")
        self.message = body[_PREFIX_BYTES:]

    def _take_settings(self, flags: int, payload: bytes) -> bytes:
        if flags & ACK:
            if payload:
                raise BadAnswer("a frame is malformed")
            return b""
        if len(payload) % 6:
            raise BadAnswer("a frame is malformed")
        self._got_settings = True
        for start in range(0, len(payload), 6):
            number = int.from_bytes(payload[start : start + 2], "big")
            value = int.from_bytes(payload[start + 2 : start + 6], "big")
            if number == _INITIAL_WINDOW_SIZE:
                if value > LARGEST_WINDOW:
                    raise BadAnswer("a setting is out of range")
                self._first_window = value
            elif number == _MAX_FRAME_SIZE and not MAX_FRAME_BYTES <= value < 2**24:
                raise BadAnswer("a setting is out of range")
        return frame(SETTINGS, ACK, 0)

    def _take_window(self, stream: int, payload: bytes) -> None:
        more = int.from_bytes(payload, "big") & LARGEST_WINDOW
        if more == 0 or (stream == 0 and self._window + more > LARGEST_WINDOW):
            raise BadAnswer("a window is out of range")
        if stream == 0:
            self._window += more
