"""Read exports of the app FreeOTP+: JSON, always in clear, with keys as arrays of signed bytes. Does no I/O. Its
counter is that of the next code.

Source: what the app writes, as in `Token` and `ImportExportUtil` of github.com/helloworld1/FreeOTPPlus.
"""

from __future__ import annotations

from pam_softtoken.interchange.app_document import Fields
from pam_softtoken.interchange.apps.app_entry import Entry, harvest
from pam_softtoken.interchange.record import Harvest, name_from_label
from pam_softtoken.program_errors import Unreadable


def is_one(document: object) -> bool:
    """Check whether a document is one of the app's exports."""
    return isinstance(document, dict) and {"tokens", "tokenOrder"} <= document.keys()


def read(document: object, *, now: int) -> Harvest:
    """Read an export.

    Args:
        document: the JSON.
        now: Unix seconds.

    Raises:
        Unreadable: the whole file cannot be read.
    """
    return harvest(Fields(document, "the export").array("tokens"), name_of=_name, kind_of=_kind, read=_entry, now=now)


def _name(token: Fields) -> str:
    issuers = [token.text(name, "") for name in ("issuerAlt", "issuerInt", "issuerExt")]
    return name_from_label(next(filter(None, issuers), ""), token.text("labelAlt", "") or token.text("label", ""))


def _kind(token: Fields) -> str:
    # The app recognises Steam tokens by this name, and writes them as TOTP.
    steam = "Steam" in [token.text(name, "") for name in ("issuerInt", "issuerExt")]
    return "steam" if steam else token.text("type")


def _entry(token: Fields) -> Entry:
    return Entry(
        key=_key(token.array("secret")),
        algorithm=token.text("algo", "SHA1"),
        digits=token.integer("digits"),
        period_s=token.integer("period", 30),
        # The app writes -1 for a counter that the service starts at 0.
        counter=max(0, token.integer("counter", lowest=-1)) if "counter" in token else None,
    )


def _key(numbers: list[object]) -> bytes:
    key = bytearray()
    for number in numbers:
        if type(number) is not int or not -128 <= number <= 127:
            raise Unreadable('"secret" is not an array of signed bytes')
        key.append(number & 0xFF)
    return bytes(key)
