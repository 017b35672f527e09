"""Read exports of the password manager 1Password (`.1pux`): a ZIP file with a JSON document in it. Does no I/O. A token
is a field of an item, as a Key URI or as a key in Base32. Archived items are read, too.

Source: "1Password Unencrypted Export (.1pux) format" in 1Password's help.
"""

from __future__ import annotations

import io
import zipfile
import zlib

from pam_softtoken.interchange import app_document
from pam_softtoken.interchange.app_document import DAMAGED, Fields
from pam_softtoken.interchange.apps.app_entry import Item, harvest_items
from pam_softtoken.interchange.record import Harvest
from pam_softtoken.program_errors import Unreadable

ZIP = b"PK\x03\x04"
_DOCUMENT = "export.data"
_DELETED = "deleted"
_FORMS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""How a member may be compressed. `zipfile` unpacks the other forms without a limit: a few bytes fill the memory."""


def read(data: bytes, *, now: int) -> Harvest:
    """Read an export.

    Args:
        data: the ZIP file.
        now: Unix seconds.

    Raises:
        Unreadable: the whole file cannot be read.
    """
    export = Fields(app_document.parse(_document(data)), "the export")
    entries: list[object] = []
    for account in export.array("accounts"):
        for vault in Fields(account, "an account").array("vaults"):
            entries += Fields(vault, "a vault").array("items")
    return harvest_items(entries, items_of=_items, now=now)


def _document(data: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            member = archive.getinfo(_DOCUMENT)
            if member.flag_bits & 1:
                raise Unreadable("the ZIP file is encrypted", hint="unpack it first")
            if member.compress_type not in _FORMS:
                raise Unreadable("the ZIP file is compressed in an unusual way", hint="export the vault once more")
            with archive.open(member) as document:
                content = document.read(app_document.MAX_BYTES + 1)  # its header may claim another size
    except KeyError:
        raise Unreadable("a ZIP file of no app that is known here", hint="unpack it first") from None
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, ValueError, OSError, RuntimeError):
        raise Unreadable("the ZIP file is damaged", hint=DAMAGED) from None
    if len(content) > app_document.MAX_BYTES:
        raise Unreadable(f'"{_DOCUMENT}" is larger than {app_document.MAX_BYTES} bytes')
    return content


def _items(entry: object) -> list[Item]:
    item = Fields(entry, "it")
    name = item.inner("overview").text("title", "") if "overview" in item else ""
    details = item.inner("details") if "details" in item else Fields({}, "it")
    texts = []
    for section in details.array("sections") if "sections" in details else []:
        of_section = Fields(section, "a section")
        for field in of_section.array("fields") if "fields" in of_section else []:
            of_field = Fields(field, "a field")
            value = of_field.inner("value") if "value" in of_field else Fields({}, "it")
            texts.append(value.text("totp", ""))
    return [Item(name, text, is_deleted=item.text("state", "") == _DELETED) for text in texts]
