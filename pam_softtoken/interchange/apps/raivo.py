"""Read exports of the app Raivo OTP: JSON in which every value is a text. Does no I/O. The app puts it into a ZIP file
with a password, from which it must be taken first.

Source: what the app writes, as in `DataExportFeature` of github.com/raivo-otp/ios-application.
"""

from __future__ import annotations

from pam_softtoken.interchange import app_document
from pam_softtoken.interchange.app_document import Fields
from pam_softtoken.interchange.apps.app_entry import Entry, harvest
from pam_softtoken.interchange.record import Harvest, key_from_base32, name_from_label, number

_MARKS = {"secret", "kind", "timer", "account"}
_MAX_COUNTER = 2**62 - 1


def is_one(document: object) -> bool:
    """Check whether a document is one of the app's exports."""
    return isinstance(document, list) and any(isinstance(each, dict) and each.keys() >= _MARKS for each in document)


def read(document: object, *, now: int) -> Harvest:
    """Read an export.

    Args:
        document: the JSON.
        now: Unix seconds.

    Raises:
        Unreadable: the whole file cannot be read.
    """
    return harvest(app_document.array(document, "the file"), name_of=_name, kind_of=_kind, read=_entry, now=now)


def _name(entry: Fields) -> str:
    return name_from_label(entry.text("issuer", ""), entry.text("account", ""))


def _kind(entry: Fields) -> str:
    return entry.text("kind")


def _entry(entry: Fields) -> Entry:
    return Entry(
        key=key_from_base32(entry.text("secret")),
        algorithm=entry.text("algorithm", "SHA1"),
        digits=number(entry.text("digits", "6"), "digits", highest=99),
        period_s=number(entry.text("timer", "30"), "the timer", highest=_MAX_COUNTER),
        counter=number(entry.text("counter"), "the counter", highest=_MAX_COUNTER) if "counter" in entry else None,
    )
