"""HMAC, SHA-2, scrypt and comparison in constant time. All but scrypt come from what is built into the interpreter.
`hmac` and `hashlib` load OpenSSL, which takes 3 ms of the time before the prompt and 4 ms of a login's CPU, only to
compute a few short hashes. They are used only if an interpreter lacks the built-in modules. Only scrypt needs OpenSSL.
Imports nothing of the package.
"""

from __future__ import annotations

from sys import version_info

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import sha1, sha256, sha512
    from hmac import compare_digest
else:
    # Each has its own replacement. A search for a module that an interpreter lacks would take 70 us.
    try:
        from _operator import _compare_digest as compare_digest
    except ImportError:
        from hmac import compare_digest
    try:
        from _sha1 import sha1
    except ImportError:
        from hashlib import sha1
    try:
        if version_info >= (3, 12):
            from _sha2 import sha256, sha512
        else:
            from _sha256 import sha256
            from _sha512 import sha512
    except ImportError:
        from hashlib import sha256, sha512

__all__ = ["ALGORITHMS", "compare_digest", "hmac_digest", "scrypt", "sha256"]

_HASHES = {"SHA1": (sha1, 64), "SHA256": (sha256, 64), "SHA512": (sha512, 128)}
ALGORITHMS = tuple(_HASHES)
SALT_BYTES = 16
HASH_BYTES = 16
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**14, 8, 1  # 16 MiB and about 40 ms
MIN_SCRYPT_N, MAX_SCRYPT_N = 2**10, 2**15  # a user's own file must not make root's process take a gigabyte
_INNER_PAD = bytes(byte ^ 0x36 for byte in range(256))
_OUTER_PAD = bytes(byte ^ 0x5C for byte in range(256))


def hmac_digest(key: bytes, message: bytes, algorithm: str) -> bytes:
    """Compute an HMAC.

    Args:
        key: any length.
        message: any length.
        algorithm: one of `ALGORITHMS`.

    Returns:
        20, 32 or 64 bytes.

    Source:
        RFC 2104, section 2.
    """
    make, block_bytes = _HASHES[algorithm]
    if len(key) > block_bytes:
        key = make(key).digest()
    key = key.ljust(block_bytes, b"\0")
    inner = make(key.translate(_INNER_PAD) + message).digest()
    return make(key.translate(_OUTER_PAD) + inner).digest()


def check_scrypt(salt: bytes, scrypt_n: int) -> None:
    """Check the parameters of `scrypt`. Raises `ValueError` if we would not write them."""
    if len(salt) != SALT_BYTES:
        raise ValueError(f"a salt has {SALT_BYTES} bytes")
    if scrypt_n.bit_count() != 1 or not MIN_SCRYPT_N <= scrypt_n <= MAX_SCRYPT_N:
        raise ValueError(f"scrypt's n is a power of two from {MIN_SCRYPT_N} to {MAX_SCRYPT_N}")


def prepare_scrypt() -> None:
    """Read OpenSSL into memory now, so that a later `scrypt` is quick."""
    import hashlib  # noqa: F401, PLC0415 - see `scrypt`


def scrypt(text: str, salt: bytes, *, scrypt_n: int) -> bytes:
    """Compute a slow hash of something that a person remembers or keeps on paper.

    Args:
        text: what is hashed. Half of a surrogate pair stands for a byte that was not UTF-8.
        salt: 16 bytes.
        scrypt_n: the cost, a power of two.

    Returns:
        16 bytes.

    Source:
        RFC 7914.
    """
    # Loading OpenSSL takes a tenth of the time of scrypt. A login that does not need scrypt does neither.
    import hashlib  # noqa: PLC0415

    data = text.encode("utf-8", "surrogateescape")
    return hashlib.scrypt(data, salt=salt, n=scrypt_n, r=SCRYPT_R, p=SCRYPT_P, maxmem=2**26, dklen=HASH_BYTES)
