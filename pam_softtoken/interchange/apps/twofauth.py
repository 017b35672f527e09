"""Read exports of the web app 2FAuth: JSON in clear, with fields of its own or with Key URIs. Does no I/O.

Source: what the app writes, as in `TwoFAccountExportCollection` of github.com/Bubka/2FAuth.
"""

from __future__ import annotations

from pam_softtoken.interchange.app_document import Fields
from pam_softtoken.interchange.apps.app_entry import Entry, Item, harvest, harvest_items
from pam_softtoken.interchange.record import Harvest, key_from_base32, name_from_label

_APP = "2fauth"


def is_one(document: object) -> bool:
    """Check whether a document is one of the app's exports."""
    app = document.get("app") if isinstance(document, dict) else None
    return isinstance(app, str) and app.lower().startswith(_APP)


def read(document: object, *, now: int) -> Harvest:
    """Read an export.

    Args:
        document: the JSON.
        now: Unix seconds.

    Raises:
        Unreadable: the whole file cannot be read.
    """
    entries = Fields(document, "the export").array("data")
    if entries and all(isinstance(entry, str) for entry in entries):
        return harvest_items(entries, items_of=lambda entry: [Item("", str(entry))], now=now)
    return harvest(entries, name_of=_name, kind_of=_kind, read=_entry, now=now)


def _name(account: Fields) -> str:
    return name_from_label(account.text("service", ""), account.text("account", ""))


def _kind(account: Fields) -> str:
    return account.text("otp_type")


def _entry(account: Fields) -> Entry:
    return Entry(
        key=key_from_base32(account.text("secret")),
        algorithm=account.text("algorithm", "SHA1"),
        digits=account.integer("digits", 6),
        period_s=account.integer("period", 30),
        counter=account.integer("counter") if "counter" in account else None,
    )
