"""Exports of the app FreeOTP+: JSON, always in clear, whose keys are arrays of signed bytes. No I/O.

Source: what the app writes, as in `Token` and `ImportExportUtil` of github.com/helloworld1/FreeOTPPlus. Its counter is
the one of the next code.
"""

from __future__ import annotations

from pam_softtoken.errors import Unreadable
from pam_softtoken.interchange.app_document import Fields
from pam_softtoken.interchange.app_entry import Entry, Harvest, harvest
from pam_softtoken.interchange.record import name_from_label


def is_one(document: object) -> bool:
    """Tell the app's exports from others."""
    return isinstance(document, dict) and {"tokens", "tokenOrder"} <= document.keys()


def read(document: object, *, now: int) -> Harvest:
    """Read an export.

    Args:
        document: the JSON.
        now: Unix seconds.

    Raises:
        Unreadable: the file as a whole.
    """
    return harvest(Fields(document, "the export").array("tokens"), name_of=_name, kind_of=_kind, read=_entry, now=now)


def _name(token: Fields) -> str:
    issuers = [token.text(name, "") for name in ("issuerAlt", "issuerInt", "issuerExt")]
    return name_from_label(next(filter(None, issuers), ""), token.text("labelAlt", "") or token.text("label", ""))


def _kind(token: Fields) -> str:
    # The app knows it by this name, and writes it down as TOTP.
    steam = "Steam" in [token.text(name, "") for name in ("issuerInt", "issuerExt")]
    return "steam" if steam else token.text("type")


def _entry(token: Fields) -> Entry:
    return Entry(
        key=_key(token.array("secret")),
        algorithm=token.text("algo", "SHA1"),
        digits=token.integer("digits"),
        period_s=token.integer("period", 30),
        # The app writes -1 for a counter that the service wanted to begin with 0.
        counter=max(0, token.integer("counter", lowest=-1)) if "counter" in token else None,
    )


def _key(numbers: list[object]) -> bytes:
    key = bytearray()
    for number in numbers:
        if type(number) is not int or not -128 <= number <= 127:
            raise Unreadable('"secret" is not an array of signed bytes')
        key.append(number & 0xFF)
    return bytes(key)
