"""Seal bytes, so that only holders of a key can read, make or move them. This is all of the cryptography of seals.

Encrypt-then-MAC (Bellare and Namprempre, 2000), with HMAC-SHA256 (RFC 2104) as the only primitive: the standard library
has no cipher. HMAC-SHA256 is a pseudorandom function, so its values over a nonce and a counter are a key stream, as in
counter mode (NIST SP 800-38A, 6.5). They are also a tag. A seal key has 32 random bytes. Three values are derived from
it under different labels (NIST SP 800-108, section 4): the stream key, the tag key and the key id. The nonce has 24
random bytes, so a key can seal 2**64 texts before two nonces are likely to be equal.

    sealed  = header | nonce (24) | ciphertext | tag (32)
    header  = "softtoken-sealed 1 " | key id, 16 hexadecimal digits | "\\n"
    derived = HMAC(seal key, "softtoken seal 1 " | label)        labels: "stream", "tag", "id"
    block i = HMAC(stream key, nonce | i, 8 bytes), i from 0     ciphertext = text XOR the blocks
    tag     = HMAC(tag key, P(realm) P(kind) P(name) P(header) P(nonce) P(ciphertext))
    P(x)    = length of x, 8 bytes | x                           integers are big-endian, texts are UTF-8

The tag covers the place of the text, so what is sealed for one place opens nowhere else. It is checked in constant time
before anything is decrypted. The length of the text is not hidden. An older text of the same place opens: those who can
write there can put it back. The caller limits the size. Imports only the HMAC.
"""

from __future__ import annotations

from pam_softtoken.otp.mac import compare_digest, hmac_digest

KEY_BYTES, NONCE_BYTES, TAG_BYTES, ID_DIGITS = 32, 24, 32, 16
MAGIC = b"softtoken-sealed 1 "
HEADER_BYTES = len(MAGIC) + ID_DIGITS + 1
OVERHEAD_BYTES = HEADER_BYTES + NONCE_BYTES + TAG_BYTES

Place = tuple[str, str, str]
"""Realm, kind and name: where a text belongs."""


def key_id(key: bytes) -> str:
    """Return the public name of a seal key: 16 hexadecimal digits."""
    return _derived(key, b"id").hex()[:ID_DIGITS]


def key_id_of(sealed: bytes) -> str:
    """Return the id of the key that opens a sealed text. Raises `ValueError` if it is no sealed text."""
    if len(sealed) < OVERHEAD_BYTES or not sealed.startswith(MAGIC) or sealed[HEADER_BYTES - 1] != ord("\n"):
        raise ValueError("is not sealed")
    return sealed[len(MAGIC) : HEADER_BYTES - 1].decode("latin-1")


def seal(key: bytes, text: bytes, place: Place, *, nonce: bytes) -> bytes:
    """Seal a text for one place. The nonce has 24 random bytes, new for each call."""
    if len(key) != KEY_BYTES or len(nonce) != NONCE_BYTES:
        raise ValueError("the key or the nonce has the wrong length")
    header = MAGIC + key_id(key).encode() + b"\n"
    ciphertext = _crypt(key, nonce, text)
    return header + nonce + ciphertext + _tag(key, place, header, nonce, ciphertext)


def unseal(key: bytes, sealed: bytes, place: Place) -> bytes:
    """Return the text. Raises `ValueError` if it was not sealed with this key for this place, or was changed since."""
    if key_id_of(sealed) != key_id(key):
        raise ValueError("is sealed with another key")
    header, nonce = sealed[:HEADER_BYTES], sealed[HEADER_BYTES : HEADER_BYTES + NONCE_BYTES]
    ciphertext, tag = sealed[HEADER_BYTES + NONCE_BYTES : -TAG_BYTES], sealed[-TAG_BYTES:]
    if not compare_digest(tag, _tag(key, place, header, nonce, ciphertext)):
        raise ValueError("was changed, or belongs elsewhere")
    return _crypt(key, nonce, ciphertext)


def _derived(key: bytes, label: bytes) -> bytes:
    return hmac_digest(key, b"softtoken seal 1 " + label, "SHA256")


def _crypt(key: bytes, nonce: bytes, data: bytes) -> bytes:
    own, blocks = _derived(key, b"stream"), range(-(-len(data) // 32))
    stream = b"".join(hmac_digest(own, nonce + block.to_bytes(8, "big"), "SHA256") for block in blocks)[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(stream, "big")).to_bytes(len(data), "big")


def _tag(key: bytes, place: Place, *parts: bytes) -> bytes:
    covered = (*(word.encode("utf-8", "surrogateescape") for word in place), *parts)
    return hmac_digest(_derived(key, b"tag"), b"".join(len(x).to_bytes(8, "big") + x for x in covered), "SHA256")
