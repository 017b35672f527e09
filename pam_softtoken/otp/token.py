"""The enrolled record of a soft token: its key, its counter or clock, and its names. Does no I/O except to read the
kernel's random numbers. The classes are written by hand: importing `dataclasses` takes as long as starting the
interpreter, and the person at the prompt would wait for it.
"""

from __future__ import annotations

import os

from pam_softtoken.otp import hotp
from pam_softtoken.otp.mac import compare_digest, sha256

MIN_KEY_BYTES, MAX_KEY_BYTES = 16, 128  # RFC 4226, section 4, R6: at least 128 bits
KEY_BYTES = {"SHA1": 20, "SHA256": 32, "SHA512": 64}  # as long as the MAC: RFC 6238, section 5.1
MAX_NAME_CHARACTERS = 64
DEFAULT_NAME = "phone"
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_TO_RADIX_32 = str.maketrans(_BASE32, "0123456789abcdefghijklmnopqrstuv")


def encode_base32(data: bytes) -> str:
    """Return bytes in Base32 without padding, as Key URIs use it. Source: RFC 4648, section 6."""
    length = -(-len(data) * 8 // 5)
    number = int.from_bytes(data, "big") << (length * 5 - len(data) * 8)
    return "".join(_BASE32[number >> 5 * place & 31] for place in reversed(range(length)))


def decode_base32(text: str) -> bytes:
    """Read Base32 in its one canonical spelling: upper case, no padding, unused bits zero.

    Raises:
        ValueError: any other spelling.

    Source:
        RFC 4648, section 6. `base64` is not used, because it imports `re` and `struct`.
    """
    spare = len(text) * 5 % 8
    if not text or spare > 4 or text.strip(_BASE32):
        raise ValueError("not canonical Base32")
    number = int(text.translate(_TO_RADIX_32), 32)
    if number & ((1 << spare) - 1):
        raise ValueError("not canonical Base32")
    return (number >> spare).to_bytes(len(text) * 5 // 8, "big")


class Secret:
    """Key bytes that cannot be printed, formatted or pickled by accident.

    Args:
        key: the bytes.
        min_bytes: the fewest bytes allowed. A host draws its own keys. Only a soft token accepts shorter ones, because
            other services choose its keys.

    Raises:
        ValueError: there are fewer or more bytes.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes, *, min_bytes: int = MIN_KEY_BYTES) -> None:
        if not min_bytes <= len(key) <= MAX_KEY_BYTES:
            raise ValueError(f"a key has {min_bytes} to {MAX_KEY_BYTES} bytes")
        self._key = bytes(key)

    @classmethod
    def random(cls, algorithm: str) -> Secret:
        """Return a new key from the kernel's random numbers, as long as the algorithm asks for."""
        return cls(os.urandom(KEY_BYTES[algorithm]))

    def reveal(self) -> bytes:
        """Return the key, to compute with it or to show it to its owner."""
        return self._key

    def __repr__(self) -> str:
        return f"Secret({len(self._key)} bytes)"

    def __str__(self) -> str:
        raise TypeError("a secret has no text")

    def __reduce__(self) -> str:
        raise TypeError("a secret cannot be pickled")


def require_name(name: str) -> None:
    """Check that a text can be a token's name. Raises `ValueError` if it cannot."""
    if not 1 <= len(name) <= MAX_NAME_CHARACTERS or not name.isprintable() or name != name.strip():
        raise ValueError(f"a name has 1 to {MAX_NAME_CHARACTERS} visible characters")


class Token:
    """What HOTP and TOTP tokens have in common.

    Args:
        name: the owner's name for it, 1 to 64 visible characters.
        secret: the key shared with the app.
        algorithm: one of `hotp.ALGORITHMS`.
        digits: 6 to 8.
        created: Unix seconds.

    Raises:
        ValueError: an argument is out of its range.
    """

    __slots__ = ("_fingerprint", "_otps", "algorithm", "created", "digits", "name", "secret")
    kind = ""

    def __init__(self, name: str, secret: Secret, *, algorithm: str, digits: int, created: int) -> None:
        require_name(name)
        if algorithm not in hotp.ALGORITHMS:
            raise ValueError("the algorithm is " + ", ".join(hotp.ALGORITHMS[:-1]) + " or " + hotp.ALGORITHMS[-1])
        if not hotp.MIN_DIGITS <= digits <= hotp.MAX_DIGITS:
            raise ValueError(f"a code has {hotp.MIN_DIGITS} to {hotp.MAX_DIGITS} digits")
        if created < 0:
            raise ValueError("created is before 1970")
        self.name = name
        self.secret = secret
        self.algorithm = algorithm
        self.digits = digits
        self.created = created
        self._fingerprint = ""
        self._otps: dict[int, bytes] = {}

    def _scope(self) -> str:
        raise NotImplementedError

    def fingerprint(self) -> str:
        """Return the token's name in the state file. It does not depend on the token's own name or its file's.

        Returns:
            32 hexadecimal digits. They cover the key, the kind and the period. If a key is enrolled again with another
            period, counters of another scale do not hold it back.
        """
        if not self._fingerprint:
            self._fingerprint = sha256(self._scope().encode() + b"\0" + self.secret.reveal()).hexdigest()[:32]
        return self._fingerprint

    def otp_at(self, counter: int) -> str:
        """Compute the OTP of a counter (HOTP) or time step (TOTP). Raises `ValueError` if it is out of range."""
        return hotp.hotp(self.secret.reveal(), counter, algorithm=self.algorithm, digits=self.digits)

    def matching(self, counters: range, typed: bytes) -> list[int]:
        """Return the counters whose OTP was typed. All counters are always compared, even after a match.

        The OTPs are kept, so that OTPs computed before the person answered need not be computed again.
        """
        known = self._otps
        found = []
        for counter in counters:
            if counter not in known:
                known[counter] = self.otp_at(counter).encode()
            if compare_digest(known[counter], typed):
                found.append(counter)
        return found


class HOTPToken(Token):
    """A token that counts (RFC 4226). `counter` is the first one that it will use."""

    __slots__ = ("counter",)
    kind = "hotp"

    def __init__(
        self, name: str, secret: Secret, *, algorithm: str, digits: int, created: int, counter: int = 0
    ) -> None:
        super().__init__(name, secret, algorithm=algorithm, digits=digits, created=created)
        if not 0 <= counter < 2**62:
            raise ValueError("the counter is out of range")
        self.counter = counter

    def _scope(self) -> str:
        return "hotp"


class TOTPToken(Token):
    """A token that follows the clock (RFC 6238). `period_s` is the length of a time step in seconds."""

    __slots__ = ("period_s",)
    kind = "totp"

    def __init__(
        self, name: str, secret: Secret, *, algorithm: str, digits: int, created: int, period_s: int = 30
    ) -> None:
        super().__init__(name, secret, algorithm=algorithm, digits=digits, created=created)
        if not hotp.MIN_PERIOD_S <= period_s <= hotp.MAX_PERIOD_S:
            raise ValueError(f"a period is {hotp.MIN_PERIOD_S} to {hotp.MAX_PERIOD_S} seconds")
        self.period_s = period_s

    def _scope(self) -> str:
        return f"totp {self.period_s}"
