"""Challenge and response (RFC 6287, OCRA): suites, responses, and the token that signs. Does no I/O and reads no clock:
the time step is an argument. A login never loads this module. A response is bound to its question, so an OCRA token is
no `Token`: it has no one-time passwords.
"""

from __future__ import annotations

from pam_softtoken.otp import hotp, mac
from pam_softtoken.otp.token import Secret, require_name
from pam_softtoken.program_errors import BadSuite

SIGNING_SUITE = "OCRA-1:HOTP-SHA256-8:QH64"
"""The suite that signs statements: the question is a SHA-256 in hexadecimal."""
MAX_SUITE_CHARACTERS = 64
QUESTION_BYTES = 128
FULL = 0
"""The number of digits that stands for a response without truncation."""
_MIN_DIGITS, _MAX_DIGITS = 4, 10
_MIN_QUESTION, _MAX_QUESTION = 4, 64
_MAX_SESSION_BYTES = 512
_PIN_BYTES = {"SHA1": 20, "SHA256": 32, "SHA512": 64}
_STEP_UNITS = {"S": (1, 59), "M": (60, 59), "H": (3600, 48)}
_MAX_64_BITS = 2**64 - 1
_DIGITS = "0123456789"
_QUESTION_CHARACTERS = {
    "A": "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" + _DIGITS,
    "N": _DIGITS,
    "H": _DIGITS + "abcdefABCDEF",
}


class Suite:
    """What goes into a response, and how it is computed. `parse` makes it.

    Attributes:
        text: its only spelling, which is part of what is hashed.
        algorithm: one of `mac.ALGORITHMS`.
        digits: 4 to 10, or `FULL`.
        has_counter: a counter of 8 bytes goes in.
        question_kind: `A` letters and digits, `N` decimal digits, `H` hexadecimal digits.
        question_characters: the longest question of one side, 4 to 64.
        pin_algorithm: hash of the PIN that goes in; empty if none does.
        session_bytes: length of the session's data; 0 if none goes in.
        step_s: seconds of a time step; 0 if no time goes in.
    """

    __slots__ = (
        "algorithm", "digits", "has_counter", "pin_algorithm", "question_characters", "question_kind", "session_bytes",
        "step_s", "text",
    )  # fmt: skip

    def __init__(self, text: str) -> None:
        self.text = text
        self.algorithm, self.digits = "", FULL
        self.has_counter = False
        self.question_kind, self.question_characters = "", 0
        self.pin_algorithm = ""
        self.session_bytes = self.step_s = 0

    def __repr__(self) -> str:
        return f"Suite({self.text})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Suite) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    @classmethod
    def parse(cls, text: str) -> Suite:
        """Read a suite.

        >>> Suite.parse("OCRA-1:HOTP-SHA512-8:C-QN08-PSHA1-S064-T1M").step_s
        60

        Args:
            text: as in RFC 6287, in capital letters.

        Raises:
            BadSuite: the RFC has no such suite. A time step of no hours is refused, too: there is no such step.

        Source:
            RFC 6287, section 6.
        """
        if len(text) > MAX_SUITE_CHARACTERS:
            raise BadSuite(f"a suite has up to {MAX_SUITE_CHARACTERS} characters")
        parts = text.split(":")
        if len(parts) != 3 or parts[0] != "OCRA-1":
            raise BadSuite("a suite is like " + SIGNING_SUITE)
        suite = cls(text)
        suite._read_function(parts[1])
        suite._read_inputs(parts[2].split("-"))
        return suite

    def _read_function(self, text: str) -> None:
        words = text.split("-")
        if len(words) != 3 or words[0] != "HOTP" or words[1] not in mac.ALGORITHMS:
            raise BadSuite("the function is HOTP-SHA1, HOTP-SHA256 or HOTP-SHA512, with the digits behind it")
        self.algorithm = words[1]
        if words[2] != str(FULL):
            self.digits = _number(words[2], "the digits", _MIN_DIGITS, _MAX_DIGITS)

    def _read_inputs(self, words: list[str]) -> None:
        """Read the inputs. Their order is fixed, so each input has one place, and none stands twice."""
        if words[0] == "C":
            self.has_counter = True
            del words[0]
        if not words or words[0][:1] != "Q" or words[0][1:2] not in ("A", "N", "H"):
            raise BadSuite("the question is missing: QA, QN or QH, with its length behind it")
        self.question_kind = words[0][1]
        self.question_characters = _padded(words[0][2:], "the question's length", _MIN_QUESTION, _MAX_QUESTION, width=2)
        del words[0]
        if words and words[0][:1] == "P":
            self.pin_algorithm = words[0][1:]
            if self.pin_algorithm not in _PIN_BYTES:
                raise BadSuite("the PIN is PSHA1, PSHA256 or PSHA512")
            del words[0]
        if words and words[0][:1] == "S":
            self.session_bytes = _padded(words[0][1:], "the session's length", 1, _MAX_SESSION_BYTES, width=3)
            del words[0]
        if words and words[0][:1] == "T":
            unit, most = _STEP_UNITS.get(words[0][-1], (0, 0))
            self.step_s = unit * _number(words[0][1:-1], "the time step", 1, most)
            del words[0]
        if words:
            raise BadSuite("the inputs are C, Q, P, S and T, in this order, none twice")


def _number(text: str, what: str, least: int, most: int) -> int:
    if not 1 <= len(text) <= 3 or text.strip(_DIGITS) or text[0] == "0" or not least <= int(text) <= most:
        raise BadSuite(f"{what} must be a number from {least} to {most}" if most else f"{what} has no such unit")
    return int(text)


def _padded(text: str, what: str, least: int, most: int, *, width: int) -> int:
    if len(text) != width or text.strip(_DIGITS) or not least <= int(text) <= most:
        raise BadSuite(f"{what} must be a number of {width} digits from {least:0{width}} to {most:0{width}}")
    return int(text)


def compute(
    suite: Suite,
    key: bytes,
    *,
    question: str,
    counter: int | None = None,
    pin_hash: bytes | None = None,
    session: bytes | None = None,
    time_step: int | None = None,
) -> str:
    """Compute a response.

    >>> compute(Suite.parse("OCRA-1:HOTP-SHA1-6:QN08"), b"12345678901234567890", question="11111111")
    '243178'

    Args:
        suite: decides which of the other arguments must be given. The others must be None.
        key: the shared key.
        question: the challenge. For a mutual one, both sides' questions in the order of RFC 6287, section 7.2.
        counter: 0 to 2**64 - 1.
        pin_hash: the hash of the PIN, as long as its algorithm makes it.
        session: the session's data, up to the suite's length.
        time_step: the number of time steps since the Unix epoch, 0 to 2**64 - 1.

    Returns:
        The digits, zeros kept. Without truncation, the whole MAC in lower-case hexadecimal.

    Raises:
        ValueError: an argument is missing, is not for this suite, or is out of its range.

    Source:
        RFC 6287, sections 5.1 and 5.2.
    """
    _require((counter is not None) == suite.has_counter, "counter")
    _require((pin_hash is not None) == bool(suite.pin_algorithm), "PIN")
    _require((session is not None) == bool(suite.session_bytes), "session")
    _require((time_step is not None) == bool(suite.step_s), "time step")
    message = suite.text.encode("ascii") + b"\0"
    if counter is not None:
        _require(0 <= counter <= _MAX_64_BITS, "counter")
        message += counter.to_bytes(8, "big")
    message += _question_bytes(suite, question)
    if pin_hash is not None:
        _require(len(pin_hash) == _PIN_BYTES[suite.pin_algorithm], "PIN")
        message += pin_hash
    if session is not None:
        _require(len(session) <= suite.session_bytes, "session")
        message += session.rjust(suite.session_bytes, b"\0")
    if time_step is not None:
        _require(0 <= time_step <= _MAX_64_BITS, "time step")
        message += time_step.to_bytes(8, "big")
    digest = mac.hmac_digest(key, message, suite.algorithm)
    if suite.digits == FULL:
        return digest.hex()
    return str(hotp.dynamic_truncate(digest) % 10**suite.digits).zfill(suite.digits)


def _require(holds: bool, what: str) -> None:
    if not holds:
        raise ValueError(f"{what}: missing, out of range, or not for this suite")


def _question_bytes(suite: Suite, question: str) -> bytes:
    """Return the 128 bytes of a question. Numbers become hexadecimal digits, and zeros fill up the end.

    Two questions of mutual authentication stand behind each other, so there can be twice as many characters.
    """
    allowed = _QUESTION_CHARACTERS[suite.question_kind]
    _require(1 <= len(question) <= 2 * suite.question_characters and not question.strip(allowed), "question")
    if suite.question_kind == "A":
        return question.encode("ascii").ljust(QUESTION_BYTES, b"\0")
    digits = f"{int(question):x}" if suite.question_kind == "N" else question
    return bytes.fromhex(digits.ljust(2 * QUESTION_BYTES, "0"))


class OCRAToken:
    """The record of a key that answers challenges. It is used only to sign statements.

    Args:
        name: the owner's name for it, 1 to 64 visible characters.
        secret: the key that device and host share.
        suite: how a response is computed.
        created: Unix seconds.

    Raises:
        ValueError: an argument is out of its range.
    """

    __slots__ = ("created", "name", "secret", "suite")
    kind = "ocra"

    def __init__(self, name: str, secret: Secret, *, suite: Suite, created: int) -> None:
        require_name(name)
        if created < 0:
            raise ValueError("created is before 1970")
        self.name = name
        self.secret = secret
        self.suite = suite
        self.created = created

    def fingerprint(self) -> str:
        """Return the token's name in records: 32 hexadecimal digits, which cover the key and the suite."""
        scope = f"{self.kind} {self.suite.text}".encode()
        return mac.sha256(scope + b"\0" + self.secret.reveal()).hexdigest()[:32]
