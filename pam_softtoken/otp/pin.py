"""A PIN: something the user knows and types in front of the code. The PIN's length stands in the token file beside its
hash. This is how the PIN is told from a password in front of it. The length gives nothing away: anybody who can read
the file has the keys as well. Does no I/O except to read the kernel's random numbers.
"""

from __future__ import annotations

import os

from pam_softtoken.errors import OTPMismatch
from pam_softtoken.otp.mac import HASH_BYTES, SALT_BYTES, SCRYPT_N, check_scrypt, compare_digest, scrypt

MIN_CHARACTERS, MAX_CHARACTERS = 4, 16


class PIN:
    """The hash of a PIN, as the token file keeps it.

    Args:
        salt: 16 bytes.
        digest: 16 bytes.
        length: of the PIN, in characters.
        scrypt_n: scrypt's cost, a power of two.

    Raises:
        ValueError: an argument is out of its range.
    """

    __slots__ = ("digest", "length", "salt", "scrypt_n")

    def __init__(self, salt: bytes, digest: bytes, *, length: int, scrypt_n: int = SCRYPT_N) -> None:
        check_scrypt(salt, scrypt_n)
        if len(digest) != HASH_BYTES:
            raise ValueError(f"a hash has {HASH_BYTES} bytes")
        if not MIN_CHARACTERS <= length <= MAX_CHARACTERS:
            raise ValueError(f"a PIN has {MIN_CHARACTERS} to {MAX_CHARACTERS} characters")
        self.salt = salt
        self.digest = digest
        self.length = length
        self.scrypt_n = scrypt_n

    @classmethod
    def of(cls, text: str) -> PIN:
        """Compute the hash of a new PIN.

        Raises:
            ValueError: it is not 4 to 16 letters and digits.
        """
        salt = cls.unknown(text).salt
        return cls(salt, scrypt(text, salt, scrypt_n=SCRYPT_N), length=len(text))

    @classmethod
    def unknown(cls, text: str) -> PIN:
        """Return a PIN without its hash, which takes as much room. Nothing that is typed verifies it.

        Raises:
            ValueError: it is not 4 to 16 letters and digits.
        """
        if not text.isascii() or not text.isalnum():
            raise ValueError("a PIN has letters and digits only")
        return cls(os.urandom(SALT_BYTES), bytes(HASH_BYTES), length=len(text))

    def verify(self, typed: str) -> None:
        """Check that what was typed is the PIN.

        Raises:
            OTPMismatch: it is not the PIN.
        """
        digest = scrypt(typed, self.salt, scrypt_n=self.scrypt_n)
        if not compare_digest(digest, self.digest):
            raise OTPMismatch
