"""Requests and signatures: what a host asks a device to sign, and the code that answers. Host and device share this
module. Does no I/O and reads no clock.

A request carries a MAC under the shared key. So a device shows nothing that somebody else has made up. The code is the
response of RFC 6287 to the SHA-256 of the whole statement.
"""

from __future__ import annotations

from binascii import Error as Base64Error
from binascii import a2b_base64, b2a_base64

from pam_softtoken.otp import mac, ocra
from pam_softtoken.otp.statement import KEY_CHARACTERS, MAX_BYTES, Statement
from pam_softtoken.program_errors import BadRequest, BadStatement

PREFIX = "stq1."
MAC_BYTES = 8
DIGITS = 8
MAX_AGE_S = 180
"""Neither side accepts a request that is older."""
MAX_REQUEST_CHARACTERS = len(PREFIX) + -(-4 * (MAC_BYTES + MAX_BYTES) // 3)
MAX_ANSWER_CHARACTERS = 64
_SUITE = ocra.Suite.parse(ocra.SIGNING_SUITE)
_TO_URL, _FROM_URL = bytes.maketrans(b"+/", b"-_"), bytes.maketrans(b"-_", b"+/")


def key_id(key: bytes) -> str:
    """Return the name of a key in statements: 16 hexadecimal digits, from which nobody learns the key."""
    return mac.sha256(b"softtoken signing key\0" + key).hexdigest()[:KEY_CHARACTERS]


def make_request(key: bytes, statement: Statement) -> str:
    """Return the request to sign a statement, in one line of printable ASCII without spaces.

    Raises:
        StatementTooLong: the statement does not fit into a request.
        ValueError: the statement names another key.
    """
    if statement.key != key_id(key):
        raise ValueError("the statement names another key")
    text = statement.encode()
    encoded = b2a_base64(_mac(key, text) + text, newline=False).rstrip(b"=").translate(_TO_URL)
    return PREFIX + encoded.decode("ascii")


def request_key_id(text: str) -> str:
    """Return the name of the key that a request asks for. Nothing proves that the request is genuine.

    Raises:
        BadRequest: it is no request.
    """
    return _parts(text)[2].key


def read_request(key: bytes, text: str) -> Statement:
    """Return the statement of a genuine request.

    Raises:
        BadRequest: it is no request, is for another key, or was not made with this key.
    """
    code, data, statement = _parts(text)
    if not mac.compare_digest(code, _mac(key, data)):
        raise BadRequest("it was changed on its way, or another host made it")
    if statement.key != key_id(key):
        raise BadRequest("it is for another key")
    return statement


def sign(key: bytes, statement: Statement) -> str:
    """Return the code that signs a statement: 8 digits."""
    return ocra.compute(_SUITE, key, question=mac.sha256(statement.encode()).hexdigest())


def is_signed(key: bytes, statement: Statement, answer: str) -> bool:
    """Return whether an answer is the code that signs a statement. Spaces in it do not count.

    Args:
        key: the shared key.
        statement: the statement that the host itself keeps, never one that came back.
        answer: what was typed.
    """
    if len(answer) > MAX_ANSWER_CHARACTERS:
        return False
    typed = answer.replace(" ", "")
    if len(typed) != DIGITS or typed.strip("0123456789"):
        return False
    return mac.compare_digest(typed.encode("ascii"), sign(key, statement).encode("ascii"))


def grouped(code: str) -> str:
    """Return a code in two groups, as people read it.

    >>> grouped("44719023")
    '4471 9023'
    """
    return f"{code[: DIGITS // 2]} {code[DIGITS // 2 :]}"


def _mac(key: bytes, text: bytes) -> bytes:
    return mac.hmac_digest(key, PREFIX.encode("ascii") + text, "SHA256")[:MAC_BYTES]


def _parts(text: str) -> tuple[bytes, bytes, Statement]:
    """Return the MAC of a request, the text of its statement, and the statement."""
    if not text.startswith(PREFIX) or not text.isascii():
        raise BadRequest(f'a request begins with "{PREFIX}"')
    if len(text) > MAX_REQUEST_CHARACTERS:
        raise BadRequest(f"it has {len(text)} bytes, and a request has at most {MAX_REQUEST_CHARACTERS}")
    encoded = text[len(PREFIX) :].encode("ascii")
    try:
        data = a2b_base64(encoded.translate(_FROM_URL) + b"=" * (-len(encoded) % 4))
    except Base64Error:
        raise BadRequest("it is not complete") from None
    if b2a_base64(data, newline=False).rstrip(b"=").translate(_TO_URL) != encoded:
        raise BadRequest("it is not complete")
    code, statement = data[:MAC_BYTES], data[MAC_BYTES:]
    try:
        return code, statement, Statement.parse(statement)
    except BadStatement:
        raise BadRequest("it is not complete, or a newer version wrote it") from None
