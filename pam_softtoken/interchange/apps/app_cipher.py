"""What encrypted exports have in common: a key from a passphrase, AES-256-GCM, and Base64 around it. The library is
loaded only here, and only if an export is encrypted. The work that a file may ask for is limited before the person is
asked for the passphrase. Does no I/O.
"""

from __future__ import annotations

import base64
import binascii
from typing import NamedTuple

from pam_softtoken import platform_facts
from pam_softtoken.interchange.app_document import DAMAGED
from pam_softtoken.program_errors import Unreadable

KEY_BYTES, NONCE_BYTES, TAG_BYTES = 32, 12, 16
MAX_SCRYPT_WORK = 2**21
"""The limit of n * r * p: less than a second, and 256 MiB. Aegis uses an eighth of it."""
MAX_ITERATIONS = 10**6
"""The limit for PBKDF2: half a second."""


class ScryptCost(NamedTuple):
    """The costs of scrypt (RFC 7914, section 2)."""

    n: int
    r: int
    p: int


def require_scrypt_cost(cost: ScryptCost) -> None:
    """Check costs of scrypt. Raises `Unreadable` if they are invalid or would keep the machine busy."""
    n, r, p = cost
    if n < 2 or n & (n - 1) or r < 1 or p < 1 or n * r * p > MAX_SCRYPT_WORK:
        raise Unreadable(f"the costs of scrypt are out of range; n * r * p may be {MAX_SCRYPT_WORK} here")


def key_from_scrypt(passphrase: str, salt: bytes, cost: ScryptCost) -> bytes:
    """Compute a key with scrypt. The caller has checked `cost`.

    Raises:
        Unreadable: the library is not installed, or there is too little memory.
    """
    try:
        from cryptography.hazmat.primitives.kdf.scrypt import Scrypt  # noqa: PLC0415 - see above

        return Scrypt(salt=salt, length=KEY_BYTES, n=cost.n, r=cost.r, p=cost.p).derive(bytes_of_passphrase(passphrase))
    except ImportError:
        raise _library_missing() from None
    except MemoryError:
        raise Unreadable("there is too little memory for the scrypt of the file") from None


def key_from_pbkdf2(passphrase: str, salt: bytes, *, algorithm: str, iterations: int) -> bytes:
    """Compute a key with PBKDF2.

    Args:
        passphrase: what the person typed.
        salt: any length.
        algorithm: "SHA1" or "SHA256".
        iterations: 1 to `MAX_ITERATIONS`.

    Raises:
        Unreadable: the library is not installed, or there are too many iterations.
    """
    if not 1 <= iterations <= MAX_ITERATIONS:
        raise Unreadable(f"PBKDF2 takes 1 to {MAX_ITERATIONS} iterations here")
    try:
        from cryptography.hazmat.primitives import hashes  # noqa: PLC0415
        from cryptography.hazmat.primitives.kdf.pbkdf2 import PBKDF2HMAC  # noqa: PLC0415
    except ImportError:
        raise _library_missing() from None
    function = {"SHA1": hashes.SHA1, "SHA256": hashes.SHA256}[algorithm]()
    return PBKDF2HMAC(function, KEY_BYTES, salt, iterations).derive(bytes_of_passphrase(passphrase))


def unseal(key: bytes, nonce: bytes, sealed: bytes) -> bytes:
    """Return the plain text of what AES-256-GCM has sealed.

    Args:
        key: `KEY_BYTES`.
        nonce: `NONCE_BYTES`.
        sealed: the ciphertext, followed by the tag.

    Raises:
        Unreadable: the library is not installed, the key is wrong, or the data is damaged. The last two cannot be told
            apart.
    """
    try:
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415
    except ImportError:
        raise _library_missing() from None
    try:
        return AESGCM(key).decrypt(nonce, sealed, None)
    except InvalidTag:
        raise wrong_passphrase() from None


def wrong_passphrase() -> Unreadable:
    """Return the error for a passphrase that does not open a file. A damaged file looks the same."""
    return Unreadable(
        "wrong passphrase, or a damaged file", hint="it is the passphrase that was set in the app for the export"
    )


def bytes_from_base64(text: str, what: str) -> bytes:
    """Read Base64 with padding.

    Raises:
        Unreadable: the text is anything else.
    """
    try:
        data = base64.b64decode(text.encode("ascii"), validate=True)
    except (UnicodeEncodeError, binascii.Error, ValueError):
        raise Unreadable(f"{what} is not Base64", hint=DAMAGED) from None
    if base64.b64encode(data).decode() != text:
        raise Unreadable(f"{what} is not Base64 of whole bytes", hint=DAMAGED)
    return data


def bytes_of_passphrase(passphrase: str) -> bytes:
    """Return the bytes of a passphrase, as it was typed."""
    return passphrase.encode("utf-8", "surrogateescape")


def _library_missing() -> Unreadable:
    return Unreadable(
        "reading an encrypted export needs the cryptography library", hint=platform_facts.install("cryptography")
    )
