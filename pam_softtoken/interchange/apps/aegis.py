"""Read and write exports of the app Aegis: its vault as JSON. An export is read in clear or encrypted with a password,
and written in clear; many apps read it. Does no I/O. An encrypted vault has a random master key, which is wrapped once
for each password ("slot"). Slots of other types, such as fingerprints, need the phone and are ignored.

Source: "Aegis Vault", docs/vault.md of github.com/beemdevelopment/Aegis, vault version 1, content versions 1 to 3.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable
from typing import NamedTuple

from pam_softtoken.interchange import app_document
from pam_softtoken.interchange.app_document import Fields
from pam_softtoken.interchange.apps.app_cipher import (
    KEY_BYTES,
    NONCE_BYTES,
    TAG_BYTES,
    ScryptCost,
    bytes_from_base64,
    key_from_scrypt,
    require_scrypt_cost,
    unseal,
)
from pam_softtoken.interchange.apps.app_entry import Entry, harvest
from pam_softtoken.interchange.record import Harvest, key_from_base32, name_from_label
from pam_softtoken.otp.token import HOTPToken, Token, TOTPToken, encode_base32
from pam_softtoken.program_errors import Unreadable

_VERSION = 1
_CONTENT_VERSIONS = (1, 2, 3)
_PASSWORD = 1
_MAX_PASSWORD_SLOTS = 8
_SALT_BYTES = (16, 32, 64)


class _Slot(NamedTuple):
    salt: bytes
    cost: ScryptCost
    nonce: bytes
    sealed_key: bytes


def is_one(document: object) -> bool:
    """Check whether a document is one of the app's exports."""
    return isinstance(document, dict) and {"header", "db"} <= document.keys()


def read(document: object, *, ask_passphrase: Callable[[], str], now: int) -> Harvest:
    """Read an export.

    Args:
        document: the JSON.
        ask_passphrase: called once, for an encrypted export that is otherwise correct. Returns the passphrase.
        now: Unix seconds.

    Raises:
        Unreadable: the whole file cannot be read.
    """
    vault = Fields(document, "the vault")
    if vault.integer("version") != _VERSION:
        raise Unreadable(f"only version {_VERSION} of Aegis's vaults is known")
    header = vault.inner("header")
    if "slots" in header or "params" in header:
        content = Fields(app_document.parse(_decrypted(vault, header, ask_passphrase)), "the content")
    else:
        content = vault.inner("db")
    if content.integer("version") not in _CONTENT_VERSIONS:
        raise Unreadable("only versions 1 to 3 of the content of Aegis's vaults are known")
    return harvest(content.array("entries"), name_of=_name, kind_of=_kind, read=_entry, now=now)


def _decrypted(vault: Fields, header: Fields, ask_passphrase: Callable[[], str]) -> bytes:
    parameters = header.inner("params")
    nonce, tag = parameters.hexadecimal("nonce", NONCE_BYTES), parameters.hexadecimal("tag", TAG_BYTES)
    sealed = bytes_from_base64(vault.text("db"), '"db"') + tag
    slots = _password_slots(header)
    return unseal(_master_key(slots, ask_passphrase()), nonce, sealed)


def _password_slots(header: Fields) -> list[_Slot]:
    slots = []
    for value in header.array("slots"):
        slot = Fields(value, "a slot")
        if slot.integer("type") == _PASSWORD:
            slots.append(_password_slot(slot))
    if not slots:
        raise Unreadable("no password opens the vault", hint="export it again, with a password or without encryption")
    if len(slots) > _MAX_PASSWORD_SLOTS:
        raise Unreadable(f"the vault has more than {_MAX_PASSWORD_SLOTS} passwords")
    return slots


def _password_slot(slot: Fields) -> _Slot:
    cost = ScryptCost(slot.integer("n"), slot.integer("r"), slot.integer("p"))
    require_scrypt_cost(cost)
    parameters = slot.inner("key_params")
    sealed_key = slot.hexadecimal("key", KEY_BYTES) + parameters.hexadecimal("tag", TAG_BYTES)
    return _Slot(slot.hexadecimal("salt", *_SALT_BYTES), cost, parameters.hexadecimal("nonce", NONCE_BYTES), sealed_key)


def _master_key(slots: list[_Slot], passphrase: str) -> bytes:
    for slot in slots[:-1]:
        try:
            return _unwrapped(slot, passphrase)
        except Unreadable:
            continue  # the passphrase may belong to another slot
    return _unwrapped(slots[-1], passphrase)


def _unwrapped(slot: _Slot, passphrase: str) -> bytes:
    return unseal(key_from_scrypt(passphrase, slot.salt, slot.cost), slot.nonce, slot.sealed_key)


def _name(entry: Fields) -> str:
    return name_from_label(entry.text("issuer", ""), entry.text("name", ""))


def _kind(entry: Fields) -> str:
    return entry.text("type")


def _entry(entry: Fields) -> Entry:
    info = entry.inner("info")
    return Entry(
        key=key_from_base32(info.text("secret")),
        algorithm=info.text("algo"),
        digits=info.integer("digits"),
        period_s=info.integer("period", 30),
        counter=info.integer("counter") if "counter" in info else None,
    )


def write(entries: Iterable[tuple[Token, str, str]]) -> str:
    """Return an export in clear, with content of version 3.

    Args:
        entries: tokens, each with its issuer and account. Either text can be "".

    Returns:
        JSON. It contains the keys.
    """
    content = {"version": _CONTENT_VERSIONS[-1], "entries": [_written(*entry) for entry in entries], "groups": []}
    vault = {"version": _VERSION, "header": {"slots": None, "params": None}, "db": content}
    return json.dumps(vault, indent=4)


def _written(token: Token, issuer: str, account: str) -> dict[str, object]:
    info: dict[str, object] = {
        "secret": encode_base32(token.secret.reveal()), "algo": token.algorithm, "digits": token.digits
    }  # fmt: skip
    if isinstance(token, HOTPToken):
        info["counter"] = token.counter
    elif isinstance(token, TOTPToken):
        info["period"] = token.period_s
    return {
        "type": token.kind, "uuid": str(uuid.uuid4()), "name": account, "issuer": issuer, "note": "", "favorite": False,
        "icon": None, "info": info, "groups": [],
    }  # fmt: skip
