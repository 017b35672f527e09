"""Read exports of the password manager Bitwarden and of Bitwarden Authenticator: JSON, or CSV. Does no I/O. A login
keeps its token as a Key URI or as a key in Base32. Items in the trash have a date of deletion.

Source: "Condition a Bitwarden .csv or .json" in Bitwarden's help, and `ExportJsonData` of its Authenticator.
"""

from __future__ import annotations

from pam_softtoken.interchange.app_document import Fields
from pam_softtoken.interchange.apps.app_entry import Item, harvest_items
from pam_softtoken.interchange.record import Harvest
from pam_softtoken.program_errors import Unreadable

TOTP_COLUMN = "login_totp"
_ENCRYPTED_HINT = "export the vault once more, as .json that is not encrypted"


def is_one(document: object) -> bool:
    """Check whether a document is one of the app's exports."""
    if not isinstance(document, dict) or not isinstance(document.get("encrypted"), bool):
        return False
    return "items" in document or "encKeyValidation_DO_NOT_EDIT" in document


def is_table(columns: list[str]) -> bool:
    """Check whether a CSV file with these columns is one of the app's exports."""
    return {TOTP_COLUMN, "login_username", "name"} <= set(columns)


def read(document: object, *, now: int) -> Harvest:
    """Read an export.

    Args:
        document: the JSON.
        now: Unix seconds.

    Raises:
        Unreadable: the whole file cannot be read.
    """
    export = Fields(document, "the export")
    if export.flag("encrypted"):
        raise Unreadable("the export of Bitwarden is encrypted", hint=_ENCRYPTED_HINT)
    return harvest_items(export.array("items"), items_of=_items, now=now)


def read_table(rows: list[dict[str, str]], *, now: int) -> Harvest:
    """Read the rows of a CSV file."""

    def items_of(row: object) -> list[Item]:
        fields = Fields(row, "it")
        return [Item(_name(fields.text("name", ""), fields.text("login_username", "")), fields.text(TOTP_COLUMN, ""))]

    return harvest_items(rows, items_of=items_of, now=now)


def _items(entry: object) -> list[Item]:
    item = Fields(entry, "it")
    if "login" not in item:
        return []
    login = item.inner("login")
    name = _name(item.text("name", ""), login.text("username", ""))
    return [Item(name, login.text("totp", ""), is_deleted="deletedDate" in item)]


def _name(title: str, user: str) -> str:
    return f"{title} {user}"
