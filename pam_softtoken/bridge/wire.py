"""Frames between the bridge and the backend: strict and versioned. `bridge/pam_softtoken.c` has the other half. Does no
I/O.

A frame is one message of a SOCK_SEQPACKET socket: one byte of protocol version, one byte of type, and a payload. It has
at most 4096 bytes. The bridge opens with START, or with ACCOUNT when it is called to manage an account. Then the
backend sends CONVERSE, LOG and at last RESULT. Each CONVERSE is answered by one ANSWER, and so are GET and PUT. These
read and change the password that PAM modules share, and PAM's environment. RESULT brings the log line of the outcome
along, so that the bridge is woken only once for both.
"""

from __future__ import annotations

from pam_softtoken.errors import ProtocolError

VERSION = 1
MAX_FRAME_BYTES = 4096
MAX_ANSWER_BYTES = 512
"""The bridge cuts an answer at this length. It is `PAM_MAX_RESP_SIZE`, which counts the NUL at the end."""
MAX_NUMBER = 2**32 - 1
START, ACCOUNT, ANSWER, CONVERSE, GET, PUT, LOG, RESULT = b"S", b"M", b"A", b"C", b"G", b"P", b"L", b"R"
ENVIRONMENT = 0
"""In GET and PUT, means a variable of PAM's environment instead of the number of an item."""
_FIXED_FIELDS = 13
MAX_NAME_BYTES = 255
"""The limit of a canonical name, because the name becomes part of a path."""
_GIVEN, _MISSING = (bytes((VERSION,)) + ANSWER + status for status in (b"=", b"-"))


class Start:
    """The first frame: the user, the application and the arguments.

    Args:
        account_phase: the application has authenticated the user, and asks whether they may come in.
        flags: PAM flags.
        user: `PAM_USER`, as it was typed.
        name, uid, gid, home: the bridge's own look-up of the user. `name` is the canonical name. `uid` is None if there
            is no such user.
        look_up_error: why the host could not look the user up; empty if it could.
        caller_uid: real uid of the application.
        cpu: number of the processor that the application runs on.
        session: the application's session (`getsid`); 0 if it is not known.
        service, rhost, tty, ruser: PAM items; None if not set.
        arguments: the module arguments.
    """

    __slots__ = (
        "account_phase",
        "arguments",
        "caller_uid",
        "cpu",
        "flags",
        "gid",
        "home",
        "look_up_error",
        "name",
        "rhost",
        "ruser",
        "service",
        "session",
        "tty",
        "uid",
        "user",
    )

    def __init__(self, fields: list[str], *, account_phase: bool = False) -> None:
        self.account_phase = account_phase
        self.flags = _number(fields[0])
        self.user = fields[1]
        self.name, uid, gid, home = fields[2:6]
        known = self.name != ""
        if not known and (uid or gid or home == "!" or home[:1] not in ("", "!")):
            raise ProtocolError("an account without a name")
        if len(self.name.encode("utf-8", "surrogateescape")) > MAX_NAME_BYTES:
            raise ProtocolError("a name that is too long")
        self.uid = _number(uid) if known else None
        self.gid = _number(gid) if known else 0
        self.home = home if known else ""
        self.look_up_error = "" if known else home[1:]
        self.caller_uid = _number(fields[6])
        self.cpu = _number(fields[7])
        self.session = _number(fields[8])
        self.service, self.rhost, self.tty, self.ruser = (_item(field) for field in fields[9:_FIXED_FIELDS])
        self.arguments = fields[_FIXED_FIELDS:]


def decode_start(frame: bytes) -> Start:
    """Read the first frame.

    Raises:
        ProtocolError: it is not a first frame.
    """
    account_phase = frame[1:2] == ACCOUNT
    payload = _payload(frame, ACCOUNT if account_phase else START)
    if not payload.endswith(b"\0"):
        raise ProtocolError("a field has no end")
    fields = [field.decode("utf-8", "surrogateescape") for field in payload[:-1].split(b"\0")]
    if len(fields) < _FIXED_FIELDS:
        raise ProtocolError("a field is missing")
    return Start(fields, account_phase=account_phase)


def decode_answer(frame: bytes) -> str | None:
    """Read the person's answer.

    Returns:
        The answer, or None if the application had none. It is empty if the bridge may have cut it: the rest may end
        like a code by chance, and is no whole password. PAM's own limit leaves room for this.

    Raises:
        ProtocolError: it is not an answer, or the conversation failed.
    """
    if frame.startswith(_GIVEN) and len(frame) <= len(_GIVEN) + MAX_ANSWER_BYTES:
        answer = frame[len(_GIVEN) :]
        return answer.decode("utf-8", "surrogateescape") if len(answer) < MAX_ANSWER_BYTES else ""
    if frame == _MISSING:
        return None
    raise ProtocolError("the conversation failed")


def encode_converse(style: int, text: str) -> bytes:
    """Return a frame that asks the application to show a prompt or message. `style` is as in PAM. `text` is cut to what
    fits.
    """
    return _frame(CONVERSE, style, text)


def encode_get(item: int, name: str = "") -> bytes:
    """Return a frame that asks for `PAM_AUTHTOK`, the only PAM item that can be read, or for a variable by its name."""
    return _frame(GET, item, name)


def encode_put(item: int, text: str) -> bytes:
    """Return a frame that changes `PAM_AUTHTOK` or a variable. A variable is `NAME=VALUE`, or `NAME` alone to remove
    it.

    The answer has no text.
    """
    return _frame(PUT, item, text)


def encode_log(level: int, text: str) -> bytes:
    """Return a frame that asks the bridge to write a log line at a syslog severity."""
    return _frame(LOG, level, text)


def encode_result(code: int, level: int, text: str) -> bytes:
    """Return the frame of the verdict: a PAM return code and a last line for the log. An empty line is not logged."""
    verdict = _frame(RESULT, code, "")
    return (verdict + _frame(LOG, level, text)[2:])[:MAX_FRAME_BYTES] if text else verdict


def _frame(kind: bytes, number: int, text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape").replace(b"\0", b"?")
    return (bytes((VERSION,)) + kind + bytes((number,)) + data)[:MAX_FRAME_BYTES]


def _payload(frame: bytes, kind: bytes) -> bytes:
    if not 2 <= len(frame) <= MAX_FRAME_BYTES or frame[:2] != bytes((VERSION,)) + kind:
        raise ProtocolError("not the frame that was due")
    return frame[2:]


def _number(text: str) -> int:
    plain = text.isascii() and text.isdecimal() and len(text) <= 10 and (text == "0" or text[0] != "0")
    if not plain or int(text) > MAX_NUMBER:
        raise ProtocolError("not a number")
    return int(text)


def _item(field: str) -> str | None:
    if field and not field.startswith("="):
        raise ProtocolError("not an item")
    return field[1:] if field else None
