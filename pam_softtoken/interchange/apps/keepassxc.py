"""Read exports of the password manager KeePassXC, and of KeePass 2: CSV, or XML of the KeePass format. Does no I/O. An
entry keeps its token as a Key URI, or in fields of older plugins. Earlier versions of an entry are not read; entries in
the recycle bin count as deleted.

Source: what KeePassXC writes, `CsvExporter` and `KdbxXmlWriter` in github.com/keepassxreboot/keepassxc. The fields
`TimeOtp-...` and `HmacOtp-...` are from "Placeholders" in KeePass's help.
"""

from __future__ import annotations

import base64
import binascii
from urllib.parse import quote
from xml.etree import ElementTree

from pam_softtoken.interchange import key_uri_reader
from pam_softtoken.interchange.apps.app_entry import Item, harvest_items
from pam_softtoken.interchange.record import Harvest
from pam_softtoken.program_errors import Unreadable

TOTP_COLUMN = "TOTP"
ROOT = b"KeePassFile"
_BIN = "Recycle Bin"
_OF_KEEOTP = frozenset({"key", "type", "step", "size", "counter", "encoding", "otphashmode"})
_MAX_DEPTH = 64


def is_table(columns: list[str]) -> bool:
    """Check whether a CSV file with these columns is one of the app's exports."""
    return {"Group", "Title", "Username", TOTP_COLUMN} <= set(columns)


def read_table(rows: list[dict[str, str]], *, now: int) -> Harvest:
    """Read the rows of a CSV file."""

    def items_of(row: object) -> list[Item]:
        assert isinstance(row, dict)  # noqa: S101 - the caller made it
        name = f"{row['Title']} {row['Username']}"
        return [Item(name, row[TOTP_COLUMN], is_deleted=_BIN in row["Group"].split("/"))]

    return harvest_items(rows, items_of=items_of, now=now)


def read(data: bytes, *, now: int) -> Harvest:
    """Read an XML file.

    Args:
        data: the content.
        now: Unix seconds.

    Raises:
        Unreadable: the whole file cannot be read.
    """
    root = _parsed(data)
    top = root.find("Root")
    if root.tag != ROOT.decode() or top is None:
        raise Unreadable("XML of no app that is known here")
    bin_id = root.findtext("Meta/RecycleBinUUID", "")
    entries: list[tuple[ElementTree.Element, bool]] = []
    waiting = [(group, False) for group in reversed(top.findall("Group"))]
    while waiting:
        group, is_deleted = waiting.pop()
        is_deleted |= bool(bin_id) and group.findtext("UUID", "") == bin_id
        entries += [(entry, is_deleted) for entry in group.findall("Entry")]
        waiting += [(inner, is_deleted) for inner in reversed(group.findall("Group"))]
    return harvest_items(entries, items_of=_items, now=now)


class _Builder(ElementTree.TreeBuilder):
    """Builds the tree. Refuses a document type, which could make the file grow, and deep nesting."""

    def __init__(self) -> None:
        super().__init__()
        self._depth = 0

    def doctype(self, *_about: object) -> None:
        """Refuse it."""
        raise Unreadable("the XML has a document type, which could make the file grow without end")

    def start(self, tag: str, attributes: dict[str, str]) -> ElementTree.Element:
        """Begin an element."""
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise Unreadable(f"the XML is nested more than {_MAX_DEPTH} deep")
        return super().start(tag, attributes)

    def end(self, tag: str) -> ElementTree.Element:
        """End an element."""
        self._depth -= 1
        return super().end(tag)


def _parsed(data: bytes) -> ElementTree.Element:
    parser = ElementTree.XMLParser(target=_Builder())  # noqa: S314 - without a document type it has no entities
    try:
        parser.feed(data)
        root = parser.close()
    except ElementTree.ParseError as error:
        raise Unreadable(f"line {error.position[0]}: not XML") from None
    except (LookupError, ValueError):
        raise Unreadable("the XML is in an encoding that is not known here") from None
    if not isinstance(root, ElementTree.Element):
        raise Unreadable("the XML is empty")
    return root


def _items(found: object) -> list[Item]:
    assert isinstance(found, tuple)  # noqa: S101 - the caller made it
    entry, is_deleted = found
    fields: dict[str, str] = {}
    for string in entry.findall("String"):
        value = string.find("Value")
        if value is not None and value.get("Protected") == "True":
            continue  # encrypted inside; an export has none
        fields[string.findtext("Key", "")] = (value.text or "") if value is not None else ""
    name = f"{fields.get('Title', '')} {fields.get('UserName', '')}".strip()
    texts = [_uri(fields, name), _from_seed(fields, name), _from_keepass(fields, name)]
    return [Item(name, text, is_deleted=is_deleted) for text in texts]


def _uri(fields: dict[str, str], name: str) -> str:
    """Return the Key URI of an entry. The plugin KeeOtp writes the parameters alone, under names of its own."""
    text = fields.get("otp", "").strip()
    if not text or "://" in text:
        return text
    old = key_uri_reader.parameters_of(text, _OF_KEEOTP)
    if old.get("encoding", "base32").lower() != "base32":
        raise Unreadable("the key of the plugin KeeOtp is not in Base32", hint="show it in Base32 there")
    known = {
        "secret": old.get("key", ""), "period": old.get("step", ""), "digits": old.get("size", ""),
        "algorithm": old.get("otphashmode", ""), "counter": old.get("counter", ""),
    }  # fmt: skip
    return _built(quote(old.get("type", "totp").lower(), safe=""), name, known)


def _from_seed(fields: dict[str, str], name: str) -> str:
    """Return a Key URI from the fields of KeeTrayTOTP: the settings are period and digits, or S for Steam."""
    seed = fields.get("TOTP Seed", "").strip()
    period, _, rest = fields.get("TOTP Settings", "30;6").partition(";")
    digits = rest.split(";")[0]
    if not seed:
        return ""
    return (
        f"steam://{seed}"
        if digits == "S"
        else _built("totp", name, {"secret": seed, "period": period, "digits": digits})
    )


def _from_keepass(fields: dict[str, str], name: str) -> str:
    """Return a Key URI from the fields of KeePass 2 itself."""
    for prefix, kind in (("TimeOtp", "totp"), ("HmacOtp", "hotp")):
        secret = _secret(fields, prefix)
        if secret:
            known = {
                "secret": secret,
                "period": fields.get(f"{prefix}-Period", ""),
                "digits": fields.get(f"{prefix}-Length", ""),
                "algorithm": fields.get(f"{prefix}-Algorithm", ""),
                "counter": fields.get(f"{prefix}-Counter", ""),
            }
            return _built(kind, name, known)
    return ""


def _secret(fields: dict[str, str], prefix: str) -> str:
    """Return the key in Base32. KeePass keeps it as text, or in hexadecimal, Base32 or Base64."""
    if fields.get(f"{prefix}-Secret-Base32"):
        return fields[f"{prefix}-Secret-Base32"]
    text, hexadecimal, base64_ = (fields.get(f"{prefix}-Secret{form}", "") for form in ("", "-Hex", "-Base64"))
    try:
        key = text.encode() or bytes.fromhex(hexadecimal) or base64.b64decode(base64_, validate=True)
    except (ValueError, binascii.Error):
        raise Unreadable("the key is neither hexadecimal nor Base64") from None
    return base64.b32encode(key).decode().rstrip("=")


def _built(kind: str, name: str, parameters: dict[str, str]) -> str:
    query = "&".join(f"{key}={quote(value, safe='')}" for key, value in parameters.items() if value)
    return f"otpauth://{kind}/{quote(name, safe='')}?{query}"
