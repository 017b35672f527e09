"""Write exports of password managers and other apps in their documented formats.

The exports hold the accounts of `published_exports`.

pyotp writes the Key URIs and PyNaCl encrypts, never the tested code.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree

import pyotp
from nacl import bindings

from tests.device.export_maker import PASSPHRASE, SALT
from tests.device.published_exports import ACCOUNTS, STEAM_SECRET, Account

STEAM_URI = f"steam://{STEAM_SECRET}"
DELETED = Account("totp", "Gone", "Nobody", "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", "SHA1", 6, 30)
DELETED_TEXT = "its app has marked it as deleted"
STEAM_TEXT = "a Steam token makes its codes in a way of its own, which is neither HOTP nor TOTP"


def uri_of(account: Account) -> str:
    """Return the account's Key URI as pyotp writes it."""
    digest = getattr(hashlib, account.algorithm.lower())
    if account.kind == "hotp":
        maker = pyotp.HOTP(account.secret, digits=account.digits, digest=digest)
        return maker.provisioning_uri(name=account.name, issuer_name=account.issuer, initial_count=account.counting)
    clock = pyotp.TOTP(account.secret, digits=account.digits, digest=digest, interval=account.counting)
    return clock.provisioning_uri(name=account.name, issuer_name=account.issuer)


def bitwarden(**changes: Any) -> dict[str, Any]:
    """Return an unencrypted export of Bitwarden, with a note and a login without a token before the others."""
    items = [
        {"type": 2, "name": "A note", "notes": "x", "secureNote": {"type": 0}, "deletedDate": None},
        {"type": 1, "name": "No token", "login": {"username": "x", "password": "y", "totp": None}},
        *(_bitwarden(account, uri_of(account)) for account in ACCOUNTS),
        {**_bitwarden(DELETED, uri_of(DELETED)), "deletedDate": "2024-01-01T00:00:00.000Z"},
        _bitwarden(Account("", "Boeing", "Sophia", "", "", 5, 30), STEAM_URI),
    ]
    return {"encrypted": False, "folders": [], "items": items, **changes}


def _bitwarden(account: Account, totp: str) -> dict[str, Any]:
    login = {"uris": [], "username": account.name, "password": "secret", "totp": totp}
    return {"id": "0", "type": 1, "name": account.issuer, "favorite": False, "login": login, "deletedDate": None}


def bitwarden_csv() -> str:
    """Return an export of Bitwarden as CSV. It has no trash."""
    columns = "folder,favorite,type,name,notes,fields,reprompt,login_uri,login_username,login_password,login_totp"
    rows = [["", "", "note", "A note", 'two\nlines, "quoted"', "", "0", "", "", "", ""]]
    rows += [["", "", "login", each.issuer, "", "", "0", "", each.name, "x", uri_of(each)] for each in ACCOUNTS]
    rows += [["", "", "login", "Boeing", "", "", "0", "", "Sophia", "x", STEAM_URI]]
    return _csv(columns.split(","), rows)


def keepassxc_csv() -> str:
    """Return an export of KeePassXC as CSV."""
    columns = ["Group", "Title", "Username", "Password", "URL", "Notes", "TOTP", "Icon", "Last Modified", "Created"]
    rows = [["Root", "No token", "x", "y", "", "", "", "0", "", ""]]
    rows += [["Root/Work", each.issuer, each.name, "x", "", "", uri_of(each), "0", "", ""] for each in ACCOUNTS]
    rows += [["Root/Recycle Bin", DELETED.issuer, DELETED.name, "x", "", "", uri_of(DELETED), "0", "", ""]]
    rows += [["Root", "Boeing", "Sophia", "x", "", "", STEAM_URI, "0", "", ""]]
    return _csv(columns, rows)


def _csv(columns: list[str], rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL).writerows([columns, *rows])
    return text.getvalue()


def keepassxc_xml(*entries: dict[str, str]) -> bytes:
    """Return an export of KeePassXC as XML.

    Args:
        entries: the fields of each entry; without them, those of the accounts.
    """
    root = ElementTree.Element("KeePassFile")
    ElementTree.SubElement(ElementTree.SubElement(root, "Meta"), "RecycleBinUUID").text = "YmluYmluYmluYmluYmluYg=="
    top = ElementTree.SubElement(ElementTree.SubElement(root, "Root"), "Group")
    inner = ElementTree.SubElement(top, "Group")
    plain = [{"Title": each.issuer, "UserName": each.name, "otp": uri_of(each)} for each in ACCOUNTS]
    for fields in entries or plain:
        entry = _entry(inner, fields)
        _entry(ElementTree.SubElement(entry, "History"), {"Title": "old", "otp": uri_of(DELETED)})
    if not entries:
        trash = ElementTree.SubElement(top, "Group")
        ElementTree.SubElement(trash, "UUID").text = "YmluYmluYmluYmluYmluYg=="
        _entry(trash, {"Title": DELETED.issuer, "UserName": DELETED.name, "otp": uri_of(DELETED)})
        _entry(top, {"Title": "No token", "Password": "x"})
        _entry(top, {"Title": "Boeing", "UserName": "Sophia", "TOTP Seed": STEAM_SECRET, "TOTP Settings": "30;S"})
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _entry(group: ElementTree.Element, fields: dict[str, str]) -> ElementTree.Element:
    entry = ElementTree.SubElement(group, "Entry")
    for name, text in fields.items():
        string = ElementTree.SubElement(entry, "String")
        ElementTree.SubElement(string, "Key").text = name
        ElementTree.SubElement(string, "Value", {"ProtectInMemory": "True"}).text = text
    return entry


def proton_authenticator(**changes: Any) -> dict[str, Any]:
    """Return an export of Proton Authenticator."""
    entries = [_proton(uri_of(each), "Totp", each.name) for each in ACCOUNTS]
    entries.append(_proton(STEAM_URI, "Steam", "Boeing Sophia"))
    return {"version": 1, "entries": entries, **changes}


def _proton(uri: str, kind: str, name: str) -> dict[str, Any]:
    return {"id": "0", "content": {"uri": uri, "entry_type": kind, "name": name}, "note": None}


def proton_pass(**changes: Any) -> dict[str, Any]:
    """Return an export of Proton Pass. The third account is in a field of the second item."""
    logins = [_pass(each, [uri_of(each)]) for each in ACCOUNTS]
    second = _pass(ACCOUNTS[1], [uri_of(ACCOUNTS[1]), uri_of(ACCOUNTS[2])])
    note = {"itemId": "n", "data": {"type": "note", "metadata": {"name": "n"}, "content": {}}, "state": 1}
    items = [note, logins[0], second, *logins[3:], {**_pass(DELETED, [uri_of(DELETED)]), "state": 2}]
    steam = _pass(Account("", "Boeing", "Sophia", "", "", 5, 30), [STEAM_URI])
    vaults = {"a": {"name": "Personal", "items": items}, "b": {"name": "Work", "items": [steam]}}
    return {"version": "1.25.0", "userId": "u", "encrypted": False, "vaults": vaults, **changes}


def _pass(account: Account, uris: list[str]) -> dict[str, Any]:
    fields = [{"fieldName": "more", "type": "totp", "data": {"totpUri": uri}} for uri in uris[1:]]
    fields.append({"fieldName": "x", "type": "text", "data": {"content": "y"}})
    content = {"itemEmail": account.name, "password": "x", "urls": [], "totpUri": uris[0]}
    metadata = {"name": f"{account.issuer} {account.name}", "note": "", "itemUuid": "0"}
    data = {"metadata": metadata, "type": "login", "content": content, "extraFields": fields}
    return {"itemId": "0", "data": data, "state": 1}


def stratum(**changes: Any) -> dict[str, Any]:
    """Return an unencrypted backup of Stratum."""
    entries = [
        {
            "Type": 1 if each.kind == "hotp" else 2, "Icon": None, "Issuer": each.issuer, "Username": each.name,
            "Secret": each.secret, "Pin": None, "Algorithm": ("SHA1", "SHA256", "SHA512").index(each.algorithm),
            "Digits": each.digits, "Period": each.counting if each.kind == "totp" else 30,
            "Counter": each.counting if each.kind == "hotp" else 0, "CopyCount": 0, "Ranking": 0,
        }
        for each in ACCOUNTS
    ]  # fmt: skip
    steam = {**entries[0], "Type": 4, "Issuer": "Boeing", "Username": "Sophia", "Secret": STEAM_SECRET, "Digits": 5}
    unused: dict[str, Any] = {"Categories": [], "AuthenticatorCategories": [], "CustomIcons": []}
    return {"Authenticators": [*entries, steam], **unused, **changes}


def raivo() -> list[dict[str, str]]:
    """Return an export of Raivo, unpacked."""
    entries = [
        {
            "issuer": each.issuer, "account": each.name, "secret": each.secret, "algorithm": each.algorithm,
            "digits": str(each.digits), "kind": each.kind.upper(), "pinned": "false", "iconType": "", "iconValue": "",
            "timer": str(each.counting if each.kind == "totp" else 30),
            "counter": str(each.counting if each.kind == "hotp" else 0),
        }
        for each in ACCOUNTS
    ]  # fmt: skip
    steam = {**entries[0], "issuer": "Boeing", "account": "Sophia", "kind": "STEAM", "digits": "5"}
    return [*entries, steam]


def twofauth(**changes: Any) -> dict[str, Any]:
    """Return an export of 2FAuth."""
    accounts = [
        {
            "otp_type": each.kind, "account": each.name, "service": each.issuer, "icon": None, "icon_mime": None,
            "icon_file": None, "secret": each.secret, "digits": each.digits, "algorithm": each.algorithm.lower(),
            "period": each.counting if each.kind == "totp" else None,
            "counter": each.counting if each.kind == "hotp" else None, "legacy_uri": "otpauth://totp/x",
        }
        for each in ACCOUNTS
    ]  # fmt: skip
    steam = {**accounts[0], "otp_type": "steamtotp", "service": "Boeing", "account": "Sophia", "digits": 5}
    start = {"app": "2fauth_v5.4.3", "schema": 1, "datetime": "2025-01-01T00:00:00.000000Z"}
    return {**start, "data": [*accounts, steam], **changes}


def onepassword(content: bytes | None = None, *, member: str = "export.data", form: int = zipfile.ZIP_STORED) -> bytes:
    """Return an export of 1Password.

    Args:
        content: of the file in it; without it, the accounts.
        member: name of that file.
        form: how it is compressed.
    """
    items = [{"state": "active", "overview": {"title": "No token"}, "details": {"loginFields": []}}]
    items += [_onepassword(each, uri_of(each)) for each in ACCOUNTS]
    items.append(_onepassword(Account("", "Boeing", "Sophia", "", "", 5, 30), STEAM_URI))
    document = {"accounts": [{"attrs": {}, "vaults": [{"attrs": {}, "items": items}]}]}
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(zipfile.ZipInfo("export.attributes"), '{"version":3}')
        archive.writestr(zipfile.ZipInfo(member), json.dumps(document).encode() if content is None else content, form)
    return data.getvalue()


def _onepassword(account: Account, totp: str) -> dict[str, Any]:
    field = {"title": "one-time password", "id": "TOTP_1", "value": {"totp": totp}}
    sections = [{"title": "", "fields": [{"title": "x", "id": "x", "value": {"string": "y"}}, field]}]
    details = {"loginFields": [], "sections": sections, "notesPlain": ""}
    return {"state": "active", "overview": {"title": f"{account.issuer} {account.name}"}, "details": details}


def ente(text: str | None = None, **changes: Any) -> dict[str, Any]:
    """Return an encrypted export of Ente Auth, with a small cost for many runs.

    Args:
        text: its plain text; without it, the accounts.
        changes: other fields.
    """
    trashed = uri_of(DELETED) + "&codeDisplay=%7B%22pinned%22%3Afalse%2C%22trashed%22%3Atrue%7D"
    shown = "&codeDisplay=%7B%22pinned%22%3Afalse%2C%22trashed%22%3Afalse%2C%22tags%22%3A%5B%5D%7D"
    steam = f"otpauth://steam/Boeing:Sophia?secret={STEAM_SECRET}"
    lines = [*(uri_of(each) + shown for each in ACCOUNTS), trashed, steam]
    plain = "\n".join(lines) if text is None else text
    memory, passes = bindings.crypto_pwhash_argon2id_MEMLIMIT_MIN, 1
    algorithm = bindings.crypto_pwhash_ALG_ARGON2ID13
    key = bindings.crypto_pwhash_alg(32, PASSPHRASE.encode(), SALT[:16], passes, memory, algorithm)
    state = bindings.crypto_secretstream_xchacha20poly1305_state()
    header = bindings.crypto_secretstream_xchacha20poly1305_init_push(state, key)
    final = bindings.crypto_secretstream_xchacha20poly1305_TAG_FINAL
    sealed = bindings.crypto_secretstream_xchacha20poly1305_push(state, plain.encode(), tag=final)
    cost = {"memLimit": memory, "opsLimit": passes, "salt": base64.b64encode(SALT[:16]).decode()}
    texts = {"encryptedData": base64.b64encode(sealed).decode(), "encryptionNonce": base64.b64encode(header).decode()}
    return {"version": 1, "kdfParams": cost, **texts, **changes}


def _as_json(make: Callable[[], Any]) -> Callable[[], bytes]:
    return lambda: json.dumps(make()).encode()


MAKERS: dict[str, Callable[[], bytes]] = {
    "bitwarden": _as_json(bitwarden),
    "bitwarden as CSV": lambda: bitwarden_csv().encode(),
    "keepassxc as CSV": lambda: keepassxc_csv().encode(),
    "keepassxc as XML": keepassxc_xml,
    "proton authenticator": _as_json(proton_authenticator),
    "proton pass": _as_json(proton_pass),
    "stratum": _as_json(stratum),
    "raivo": _as_json(raivo),
    "2fauth": _as_json(twofauth),
    "1password": onepassword,
    "ente": _as_json(ente),
}
WITH_TRASH = ("bitwarden", "keepassxc as CSV", "keepassxc as XML", "proton pass", "ente")
