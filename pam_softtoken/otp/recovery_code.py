"""Recovery codes: their form, their hashes, and which one of a set was typed. Does no I/O except to read the kernel's
random numbers.
"""

from __future__ import annotations

import os

from pam_softtoken.errors import OTPMismatch
from pam_softtoken.otp.mac import HASH_BYTES, SALT_BYTES, SCRYPT_N, check_scrypt, compare_digest, scrypt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

ALPHABET = "34679ACDEFGHJKMNPQRTWXY"
"""23 characters. None looks like another in any common typeface (no 0 O, 1 I L, 2 Z, 5 S, 8 B, U V)."""
LENGTH = 12
"""12 characters of 23 are 54.3 random bits."""
GROUP = 4
MAX_CODES = 24
USUAL_CODES = 10
SCRATCH_LENGTH = 8
"""Digits of a scratch code, google-authenticator's name for a recovery code. Only an import brings them."""


def generate(count: int) -> list[str]:
    """Return new recovery codes, drawn from the kernel's random numbers.

    Args:
        count: how many, 0 to 24.

    Returns:
        Texts such as `"9KQT-4HAW-7XEC"`. Each has at least one letter, so that none is taken for an OTP.
    """
    if not 0 <= count <= MAX_CODES:
        raise ValueError(f"there can be 0 to {MAX_CODES} recovery codes")
    codes: list[str] = []
    while len(codes) < count:
        code = "".join(_draw_character() for _ in range(LENGTH))
        if not code.isdecimal() and code not in codes:
            codes.append(code)
    return ["-".join(code[place : place + GROUP] for place in range(0, LENGTH, GROUP)) for code in codes]


def _draw_character() -> str:
    usable = 256 - 256 % len(ALPHABET)  # a higher byte would make the first characters likelier
    while True:
        byte = os.urandom(1)[0]
        if byte < usable:
            return ALPHABET[byte % len(ALPHABET)]


def normalise(answer: str) -> str | None:
    """Return a typed recovery code in its canonical form, whatever its case, spaces and hyphens.

    Returns:
        The 12 characters as they were hashed, or None when the answer is no recovery code.
    """
    code = answer.upper().replace(" ", "").replace("-", "")
    if len(code) != LENGTH or code.isdecimal() or not all(character in ALPHABET for character in code):
        return None
    return code


class RecoverySet:
    """The recovery codes of one enrolment, as the token file keeps them.

    One salt serves the whole set, so that an answer is hashed once and not once for each code. The codes are random
    enough to need no salt of their own.

    Args:
        salt: 16 bytes.
        hashes: 16 bytes for each code.
        scrypt_n: scrypt's cost, a power of two.
        scratch: the set has scratch codes, so 8 digits can be one.

    Raises:
        ValueError: an argument is out of its range.
    """

    __slots__ = ("hashes", "salt", "scratch", "scrypt_n")

    def __init__(
        self, salt: bytes, hashes: tuple[bytes, ...], *, scrypt_n: int = SCRYPT_N, scratch: bool = False
    ) -> None:
        check_scrypt(salt, scrypt_n)
        if any(len(entry) != HASH_BYTES for entry in hashes):
            raise ValueError(f"a hash has {HASH_BYTES} bytes")
        if len(hashes) > MAX_CODES or len({self.name_of(entry) for entry in hashes}) != len(hashes):
            raise ValueError(f"there are up to {MAX_CODES} different hashes")
        self.salt = salt
        self.scratch = scratch
        self.hashes = hashes
        self.scrypt_n = scrypt_n

    @classmethod
    def of(cls, codes: list[str], *, mapped: Callable[..., Iterable[bytes]] = map) -> RecoverySet:
        """Compute the hashes of new codes or scratch codes, with a new salt.

        Args:
            codes: as `generate` returns them, or scratch codes of 8 digits.
            mapped: applies the hash to each code as `map` does. It may hash several at once.
        """
        empty = cls(os.urandom(SALT_BYTES), ())
        scratch = any(code.isdecimal() for code in codes)
        return cls(empty.salt, tuple(mapped(empty.digest, [code.replace("-", "") for code in codes])), scratch=scratch)

    @classmethod
    def unknown(cls, count: int) -> RecoverySet:
        """Return a set that takes as much room as one of `count` codes. Real hashes take a while to compute."""
        return cls(bytes(SALT_BYTES), tuple(number.to_bytes(4, "big") * 4 for number in range(count)))

    def digest(self, code: str) -> bytes:
        """Compute the hash of a code with the salt of this set. The code need not be one of the set.

        Args:
            code: 12 characters, as `normalise` returns them, or the 8 digits of a scratch code.
        """
        return scrypt(code, self.salt, scrypt_n=self.scrypt_n)

    def identify(self, digest: bytes) -> str:
        """Return the name of the code that was typed.

        Args:
            digest: hash of what was typed, 16 bytes.

        Returns:
            8 hexadecimal digits of its hash. Under this name the state file records it as spent.

        Raises:
            OTPMismatch: it was none of the set.
        """
        found = [entry for entry in self.hashes if compare_digest(entry, digest)]
        if not found:
            raise OTPMismatch
        return self.name_of(found[0])

    @property
    def name(self) -> str:
        """Return the set's name in the state file: 16 hexadecimal digits of its salt."""
        return self.salt.hex()[:16]

    def names(self) -> tuple[str, ...]:
        """Return the names of all codes, spent or not."""
        return tuple(self.name_of(entry) for entry in self.hashes)

    @staticmethod
    def name_of(entry: bytes) -> str:
        """Return the name of a code from its hash."""
        return entry.hex()[:8]
