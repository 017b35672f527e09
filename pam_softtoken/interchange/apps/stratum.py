"""Read backups of the app Stratum, formerly Authenticator Pro: JSON in clear. Does no I/O. Encrypted backups are
recognised by their first bytes, and refused.

Source: "Backup File Format", doc/BACKUP_FORMAT.md of github.com/stratumauth/app.
"""

from __future__ import annotations

from pam_softtoken.interchange.app_document import Fields
from pam_softtoken.interchange.apps.app_entry import Entry, harvest
from pam_softtoken.interchange.record import Harvest, key_from_base32, name_from_label

ENCRYPTED = (b"AUTHENTICATORPRO", b"AuthenticatorPro")
"""The first bytes of an encrypted backup, of new versions and of old ones."""
_KINDS = {1: "hotp", 2: "totp", 3: "motp", 4: "steam", 5: "yandex"}
_ALGORITHMS = ("SHA1", "SHA256", "SHA512")


def is_one(document: object) -> bool:
    """Check whether a document is one of the app's backups."""
    return isinstance(document, dict) and {"Authenticators", "Categories"} <= document.keys()


def read(document: object, *, now: int) -> Harvest:
    """Read a backup.

    Args:
        document: the JSON.
        now: Unix seconds.

    Raises:
        Unreadable: the whole file cannot be read.
    """
    entries = Fields(document, "the backup").array("Authenticators")
    return harvest(entries, name_of=_name, kind_of=_kind, read=_entry, now=now)


def _name(entry: Fields) -> str:
    return name_from_label(entry.text("Issuer", ""), entry.text("Username", ""))


def _kind(entry: Fields) -> str:
    return _KINDS.get(entry.integer("Type"), "")


def _entry(entry: Fields) -> Entry:
    number = entry.integer("Algorithm", 0)
    return Entry(
        key=key_from_base32(entry.text("Secret")),
        algorithm=_ALGORITHMS[number] if number < len(_ALGORITHMS) else str(number),
        digits=entry.integer("Digits", 6),
        period_s=entry.integer("Period", 30),
        counter=entry.integer("Counter") if "Counter" in entry else None,
    )
