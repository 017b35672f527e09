"""Read encrypted exports of the app Ente Auth: Key URIs, encrypted with a password. Does no I/O. The key is made by
Argon2id, and the text is one message of libsodium's secret stream (XChaCha20-Poly1305). An export in clear is a plain
file of Key URIs, which needs no module of its own.

Source: "Auth Encrypted Export format" in Ente's documentation, version 1; the stream as in Ente's command line program.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pam_softtoken import platform_facts
from pam_softtoken.interchange.app_document import DAMAGED, Fields
from pam_softtoken.interchange.apps.app_cipher import bytes_from_base64, bytes_of_passphrase, wrong_passphrase
from pam_softtoken.interchange.apps.app_entry import Item, harvest_items
from pam_softtoken.interchange.record import Harvest
from pam_softtoken.program_errors import Unreadable

_VERSION = 1
_MAX_MEMORY_BYTES = 2**30
_MAX_PASSES = 16


def is_one(document: object) -> bool:
    """Check whether a document is one of the app's encrypted exports."""
    return isinstance(document, dict) and {"kdfParams", "encryptedData", "encryptionNonce"} <= document.keys()


def read(document: object, *, ask_passphrase: Callable[[], str], now: int) -> Harvest:
    """Read an export.

    Args:
        document: the JSON.
        ask_passphrase: called once, for an export that is otherwise correct. Returns the passphrase.
        now: Unix seconds.

    Raises:
        Unreadable: the whole file cannot be read.
    """
    export = Fields(document, "the export")
    if export.integer("version") != _VERSION:
        raise Unreadable(f"only version {_VERSION} of Ente's encrypted exports is known")
    cost = export.inner("kdfParams")
    memory, passes = cost.integer("memLimit"), cost.integer("opsLimit")
    sodium = _library()
    if not sodium.crypto_pwhash_argon2id_MEMLIMIT_MIN <= memory <= _MAX_MEMORY_BYTES or not 1 <= passes <= _MAX_PASSES:
        raise Unreadable(f"the costs of Argon2id are out of range; here it may take {_MAX_MEMORY_BYTES} bytes")
    salt = bytes_from_base64(cost.text("salt"), '"salt"')
    header = bytes_from_base64(export.text("encryptionNonce"), '"encryptionNonce"')
    sealed = bytes_from_base64(export.text("encryptedData"), '"encryptedData"')
    if len(salt) != sodium.crypto_pwhash_SALTBYTES or len(header) != _header_bytes(sodium):
        raise Unreadable("the salt or the nonce has another length than it should", hint=DAMAGED)
    if len(sealed) < sodium.crypto_secretstream_xchacha20poly1305_ABYTES:
        raise Unreadable("the export is cut off", hint=DAMAGED)
    try:
        key = sodium.crypto_pwhash_alg(
            sodium.crypto_secretstream_xchacha20poly1305_KEYBYTES,
            bytes_of_passphrase(ask_passphrase()),
            salt,
            passes,
            memory,
            sodium.crypto_pwhash_ALG_ARGON2ID13,
        )
    except (MemoryError, RuntimeError):
        raise Unreadable("there is too little memory for the Argon2id of the file") from None
    lines = _unsealed(sodium, key, header, sealed).splitlines()
    return harvest_items(lines, items_of=lambda line: [Item("", str(line))], now=now)


def _unsealed(sodium: Any, key: bytes, header: bytes, sealed: bytes) -> str:
    state = sodium.crypto_secretstream_xchacha20poly1305_state()
    sodium.crypto_secretstream_xchacha20poly1305_init_pull(state, header, key)
    try:
        text, tag = sodium.crypto_secretstream_xchacha20poly1305_pull(state, sealed)
    except RuntimeError:
        raise wrong_passphrase() from None
    if tag != sodium.crypto_secretstream_xchacha20poly1305_TAG_FINAL:
        raise Unreadable("the export is cut off", hint=DAMAGED)
    try:
        return str(text, "utf-8")
    except UnicodeDecodeError:
        raise Unreadable("the export is not UTF-8 text", hint=DAMAGED) from None


def _library() -> Any:
    try:
        from nacl import bindings  # noqa: PLC0415 - a device without it can import everything else
    except ImportError:
        raise Unreadable(
            "reading encrypted exports of Ente Auth needs the nacl library", hint=platform_facts.install("pynacl")
        ) from None
    return bindings


def _header_bytes(sodium: Any) -> int:
    return int(sodium.crypto_secretstream_xchacha20poly1305_HEADERBYTES)
