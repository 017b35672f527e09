"""Seal bytes with a passphrase. The result is unreadable without it. No I/O, and no clock.

A header of 48 bytes comes first. The content follows, encrypted with ChaCha20-Poly1305 (RFC 8439), with the header as
associated data. ChaCha20-Poly1305 is preferred to AES-GCM for two reasons: it takes the same time for every key even on
machines without AES instructions, and every release of `cryptography` has it.

The salt stays as long as the passphrase and the cost stay. So one key derivation serves for opening and for writing.
The nonce is new for each writing: 96 random bits are safe for 2**32 writings under one key.
"""

from __future__ import annotations

import os
import struct
from types import ModuleType
from typing import NamedTuple

from pam_softtoken import platform_facts
from pam_softtoken.program_errors import NotOpened, VaultFailed

MAGIC = b"softtoken vault\n"
VERSION = 1
_HEADER = struct.Struct(">16sBBBB16s12s")  # magic, version, log2 of n, r, p, salt, nonce
TAG_BYTES = 16
MAX_LOG2_N = 20
MAX_MEMORY_BYTES = 2**28
"""Twice what we take ourselves. The writer of a file decides how much it costs to open it. A hostile file must not take
all memory or hours, so n r p is limited to four times our own, too.
"""
MAX_WORK = 2**22
_HINT = (
    "try again; if the passphrase was right, take the file from a backup, or a newer softtoken if that wrote it; "
    "nothing was changed"
)


class Cost(NamedTuple):
    """The cost of scrypt (RFC 7914).

    Args:
        log2_n: 2**log2_n is n, the cost of time and memory.
        r: size of a block. 128 n r bytes are needed.
        p: how often it is done.
    """

    log2_n: int
    r: int
    p: int

    @property
    def is_bearable(self) -> bool:
        """Return whether a file may ask for this cost."""
        if not (1 <= self.log2_n <= MAX_LOG2_N and self.r >= 1 and self.p >= 1):
            return False
        work = self.r << self.log2_n
        return work * 128 <= MAX_MEMORY_BYTES and work * self.p <= MAX_WORK

    def raised_to(self, floor: Cost) -> Cost:
        """Return a cost that is in no part lower than another."""
        return Cost(max(self.log2_n, floor.log2_n), max(self.r, floor.r), max(self.p, floor.p))


COST = Cost(17, 8, 1)
"""128 MiB and a third of a second on a machine of 2020."""


class SealingKey:
    """A key that has been derived from a passphrase.

    Args:
        passphrase: any bytes.
        cost: bearable.
        salt: 16 bytes.
    """

    __slots__ = ("_key", "cost", "salt")

    def __init__(self, passphrase: bytes, cost: Cost, salt: bytes) -> None:
        self.cost = cost
        self.salt = salt
        self._key = _derive(passphrase, cost, salt)

    @classmethod
    def new(cls, passphrase: bytes, cost: Cost = COST) -> SealingKey:
        """Return a key with a new salt."""
        return cls(passphrase, cost, os.urandom(16))

    def fits(self, sealed: bytes) -> bool:
        """Return whether something was sealed with this salt and at this cost."""
        parts = _parts(sealed)
        return parts is not None and (parts.cost, parts.salt) == (self.cost, self.salt)

    def seal(self, content: bytes) -> bytes:
        """Return the content encrypted, with a new nonce."""
        nonce = os.urandom(12)
        header = _HEADER.pack(MAGIC, VERSION, *self.cost, self.salt, nonce)
        return header + bytes(_aead().ChaCha20Poly1305(self._key).encrypt(nonce, content, header))

    def unseal(self, sealed: bytes) -> bytes | None:
        """Return the decrypted content, None if a bit has changed since the sealing."""
        parts = _parts(sealed)
        if parts is None:
            return None
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415

        header, body = sealed[: _HEADER.size], sealed[_HEADER.size :]
        try:
            return bytes(_aead().ChaCha20Poly1305(self._key).decrypt(parts.nonce, body, header))
        except InvalidTag:
            return None


def unseal(sealed: bytes, passphrase: bytes, *, path: str) -> tuple[SealingKey, bytes]:
    """Return the content that was sealed, and the key for writing it again.

    Args:
        sealed: header and ciphertext.
        passphrase: the passphrase it was sealed with.
        path: for the error.

    Raises:
        NotOpened: the passphrase is wrong, or a bit has changed. Nobody can tell which.
        VaultFailed: the library is missing, or there is too little memory.
    """
    parts = _parts(sealed)
    if parts is not None:
        key = SealingKey(passphrase, parts.cost, parts.salt)
        content = key.unseal(sealed)
        if content is not None:
            return key, content
    raise NotOpened(f'cannot open "{path}": the passphrase is wrong, or the file is damaged', hint=_HINT)


class _Parts(NamedTuple):
    cost: Cost
    salt: bytes
    nonce: bytes


def _parts(sealed: bytes) -> _Parts | None:
    if len(sealed) < _HEADER.size + TAG_BYTES:
        return None
    magic, version, log2_n, r, p, salt, nonce = _HEADER.unpack_from(sealed)
    cost = Cost(log2_n, r, p)
    if magic != MAGIC or version != VERSION or not cost.is_bearable:
        return None
    return _Parts(cost, salt, nonce)


def _derive(passphrase: bytes, cost: Cost, salt: bytes) -> bytes:
    _aead()  # raises, with a hint, if the library is missing
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt  # noqa: PLC0415

    try:
        return bytes(Scrypt(salt=salt, length=32, n=2**cost.log2_n, r=cost.r, p=cost.p).derive(passphrase))
    except MemoryError:
        needed = max(1, (128 * cost.r << cost.log2_n) >> 20)
        raise VaultFailed(
            f"there is too little memory for the vault, which takes {needed} MiB; nothing was changed",
            hint="end another program, or raise the limit: ulimit -v shows it",
        ) from None


def _aead() -> ModuleType:
    try:
        from cryptography.hazmat.primitives.ciphers import aead  # noqa: PLC0415 - 30 ms, and not for --help
    except ImportError:
        raise VaultFailed(
            "the vault needs the cryptography library",
            hint=platform_facts.install("cryptography", extra="device"),
        ) from None
    return aead
