"""Read backups of the app 2FAS: JSON with a list of accounts in clear, or encrypted with a password. Does no I/O. The
encryption is PBKDF2 with 10000 iterations and AES-256-GCM, as those who read it first have published it. It is written
as three Base64 texts with colons between them: sealed text, salt, nonce.

Source: what the app writes, as in `BackupContent` and `BackupService` of github.com/twofas/2fas-android, schemas 1 to
4.
"""

from __future__ import annotations

from collections.abc import Callable

from pam_softtoken.interchange import app_document
from pam_softtoken.interchange.app_document import Fields
from pam_softtoken.interchange.apps.app_cipher import NONCE_BYTES, bytes_from_base64, key_from_pbkdf2, unseal
from pam_softtoken.interchange.apps.app_entry import Entry, harvest
from pam_softtoken.interchange.record import Harvest, key_from_base32, name_from_label
from pam_softtoken.program_errors import Unreadable

_VERSIONS = (1, 2, 3, 4)
_ITERATIONS = 10_000
_MAX_SALT_BYTES = 1024
_SEALED = "servicesEncrypted"


def is_one(document: object) -> bool:
    """Check whether a document is one of the app's backups."""
    return isinstance(document, dict) and "schemaVersion" in document and bool({"services", _SEALED} & document.keys())


def read(document: object, *, ask_passphrase: Callable[[], str], now: int) -> Harvest:
    """Read a backup.

    Args:
        document: the JSON.
        ask_passphrase: called once, for an encrypted backup that is otherwise correct. Returns the passphrase.
        now: Unix seconds.

    Raises:
        Unreadable: the whole file cannot be read.
    """
    backup = Fields(document, "the backup")
    if backup.integer("schemaVersion") not in _VERSIONS:
        raise Unreadable("only schema versions 1 to 4 of 2FAS's backups are known")
    sealed = backup.text(_SEALED, "")
    services = backup.array("services") if "services" in backup else []
    if sealed and services:
        raise Unreadable("the backup has accounts in clear and encrypted ones")
    if sealed:
        services = app_document.array(app_document.parse(_decrypted(sealed, ask_passphrase)), "the list of accounts")
    return harvest(services, name_of=_name, kind_of=_kind, read=_entry, now=now)


def _decrypted(text: str, ask_passphrase: Callable[[], str]) -> bytes:
    parts = text.split(":")
    if len(parts) != 3:
        raise Unreadable(f'"{_SEALED}" does not have three parts', hint="see whether all of the backup was copied")
    sealed, salt, nonce = (bytes_from_base64(part, f'"{_SEALED}"') for part in parts)
    if not 1 <= len(salt) <= _MAX_SALT_BYTES or len(nonce) != NONCE_BYTES:
        raise Unreadable(f'"{_SEALED}" has a salt or a nonce of another length than it should')
    return unseal(key_from_pbkdf2(ask_passphrase(), salt, algorithm="SHA256", iterations=_ITERATIONS), nonce, sealed)


def _name(service: Fields) -> str:
    otp = service.inner("otp")
    account = otp.text("account", "") or otp.text("label", "")
    return name_from_label(otp.text("issuer", "") or service.text("name", ""), account)


def _kind(service: Fields) -> str:
    # Before the app wrote the type, it treated every account as TOTP. It still does not write defaults.
    return service.inner("otp").text("tokenType", "TOTP")


def _entry(service: Fields) -> Entry:
    otp = service.inner("otp")
    return Entry(
        key=key_from_base32(service.text("secret")),
        algorithm=otp.text("algorithm", "SHA1"),
        digits=otp.integer("digits", 6),
        period_s=otp.integer("period", 30),
        counter=otp.integer("counter") if "counter" in otp else None,
    )
