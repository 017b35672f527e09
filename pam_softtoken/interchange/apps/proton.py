"""Read exports of Proton Authenticator and Proton Pass: JSON in clear, with Key URIs. Does no I/O. An item of Proton
Pass can have further tokens in fields of its own. The trash is state 2.

Source: what the apps write: `ExportedAuthenticatorEntry` of Proton Authenticator, and `ExportData` of Proton Pass.
"""

from __future__ import annotations

from pam_softtoken.interchange.app_document import Fields
from pam_softtoken.interchange.apps.app_entry import Item, harvest_items
from pam_softtoken.interchange.record import Harvest
from pam_softtoken.program_errors import Unreadable

_TRASHED = 2


def is_one(document: object) -> bool:
    """Check whether a document is an export of Proton Authenticator."""
    if not isinstance(document, dict) or "version" not in document:
        return False
    entries = document.get("entries")
    return isinstance(entries, list) and all(
        isinstance(entry, dict) and isinstance(entry.get("content"), dict) and "entry_type" in entry["content"]
        for entry in entries
    )


def read(document: object, *, now: int) -> Harvest:
    """Read an export of Proton Authenticator.

    Raises:
        Unreadable: the whole file cannot be read.
    """
    return harvest_items(Fields(document, "the export").array("entries"), items_of=_items, now=now)


def _items(entry: object) -> list[Item]:
    content = Fields(entry, "it").inner("content")
    return [Item(content.text("name", ""), content.text("uri", ""))]


def is_pass(document: object) -> bool:
    """Check whether a document is an export of Proton Pass."""
    return isinstance(document, dict) and "version" in document and isinstance(document.get("vaults"), dict)


def read_pass(document: object, *, now: int) -> Harvest:
    """Read an export of Proton Pass.

    Raises:
        Unreadable: the whole file cannot be read.
    """
    export = Fields(document, "the export")
    if export.flag("encrypted", default=False):
        raise Unreadable("the export of Proton Pass is encrypted", hint="export it as JSON in clear")
    entries: list[object] = []
    for vault in export.inner("vaults").values():
        entries += Fields(vault, "a vault").array("items")
    return harvest_items(entries, items_of=_items_of_pass, now=now)


def _items_of_pass(entry: object) -> list[Item]:
    item = Fields(entry, "it")
    if "data" not in item:
        return []
    data = item.inner("data")
    name = data.inner("metadata").text("name", "") if "metadata" in data else ""
    content = data.inner("content") if "content" in data else Fields({}, "it")
    texts = [content.text("totpUri", "")]
    for field in data.array("extraFields") if "extraFields" in data else []:
        extra = Fields(field, "a field")
        if extra.text("type", "") == "totp":
            texts.append(extra.inner("data").text("totpUri", ""))
    return [Item(name, text, is_deleted=item.integer("state", 1) == _TRASHED) for text in texts]
