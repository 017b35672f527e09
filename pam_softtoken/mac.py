"""HMAC, SHA-2 and comparison in constant time, from what is built into the interpreter.

`hmac` and `hashlib` load OpenSSL, which takes 3 ms of the time before the prompt and 4 ms of a login's CPU, to compute
a few hashes of a few bytes. They stand in where an interpreter lacks these modules; `recovery` needs OpenSSL's scrypt.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from hashlib import sha1, sha256, sha512
    from hmac import compare_digest
else:
    try:
        from _operator import _compare_digest as compare_digest
        from _sha1 import sha1
        from _sha256 import sha256
        from _sha512 import sha512
    except ImportError:
        from hashlib import sha1, sha256, sha512
        from hmac import compare_digest

__all__ = ["ALGORITHMS", "compare_digest", "hmac_digest", "sha256"]

_HASHES = {"SHA1": (sha1, 64), "SHA256": (sha256, 64), "SHA512": (sha512, 128)}
ALGORITHMS = tuple(_HASHES)
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
