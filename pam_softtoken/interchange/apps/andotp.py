"""Read backups of the app andOTP: its accounts as JSON, in clear or encrypted with a password. Does no I/O. An
encrypted backup is binary: the number of iterations, a salt, a nonce, and the output of AES-256-GCM. Backups of version
0.6.2 and before have neither of the first two. Nothing distinguishes them from noise.

Source: what the app writes, as in `Entry.toJSON` and `BackupHelper.backupToFile` of github.com/andOTP/andOTP.
"""

from __future__ import annotations

from collections.abc import Callable

from pam_softtoken.interchange import app_document
from pam_softtoken.interchange.app_document import Fields
from pam_softtoken.interchange.apps.app_cipher import MAX_ITERATIONS, NONCE_BYTES, TAG_BYTES, key_from_pbkdf2, unseal
from pam_softtoken.interchange.apps.app_entry import Entry, harvest
from pam_softtoken.interchange.record import Harvest, key_from_base32, name_from_label
from pam_softtoken.program_errors import Unreadable

_COUNT_BYTES, _SALT_BYTES = 4, 12
_FEWEST_ITERATIONS = 1000
_SHORTEST = _COUNT_BYTES + _SALT_BYTES + NONCE_BYTES + len("[]") + TAG_BYTES


def is_one(document: object) -> bool:
    """Check whether a document is one of the app's backups in clear."""
    return isinstance(document, list) and any(
        isinstance(each, dict) and {"secret", "label"} <= each.keys() for each in document
    )


def is_encrypted_one(data: bytes) -> bool:
    """Check whether data is one of the app's encrypted backups, by the number at its start. No text starts with it."""
    return data[:1] == b"\0" and _FEWEST_ITERATIONS <= _iterations(data) <= MAX_ITERATIONS


def read(document: object, *, now: int) -> Harvest:
    """Read a backup.

    Args:
        document: the JSON.
        now: Unix seconds.

    Raises:
        Unreadable: the whole file cannot be read.
    """
    return harvest(app_document.array(document, "the file"), name_of=_name, kind_of=_kind, read=_entry, now=now)


def read_encrypted(data: bytes, *, ask_passphrase: Callable[[], str], now: int) -> Harvest:
    """Read an encrypted backup.

    Args:
        data: the content of the file.
        ask_passphrase: called once. Returns the passphrase.
        now: Unix seconds.

    Raises:
        Unreadable: the whole file cannot be read.
    """
    if len(data) < _SHORTEST:
        raise Unreadable("the file is cut off", hint="see whether all of the backup was copied")
    salt, rest = data[_COUNT_BYTES : _COUNT_BYTES + _SALT_BYTES], data[_COUNT_BYTES + _SALT_BYTES :]
    key = key_from_pbkdf2(ask_passphrase(), salt, algorithm="SHA1", iterations=_iterations(data))
    return read(app_document.parse(unseal(key, rest[:NONCE_BYTES], rest[NONCE_BYTES:])), now=now)


def _iterations(data: bytes) -> int:
    return int.from_bytes(data[:_COUNT_BYTES], "big")


def _name(entry: Fields) -> str:
    return name_from_label(entry.text("issuer", ""), entry.text("label", ""))


def _kind(entry: Fields) -> str:
    # Old versions of the app knew no other type. They wrote neither this field nor most of the following ones.
    return entry.text("type", "TOTP")


def _entry(entry: Fields) -> Entry:
    return Entry(
        key=key_from_base32(entry.text("secret")),
        algorithm=entry.text("algorithm", "SHA1"),
        digits=entry.integer("digits", 6),
        period_s=entry.integer("period", 30),
        counter=entry.integer("counter") if "counter" in entry else None,
    )
