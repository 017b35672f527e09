"""One account in an app's export. It becomes a token, or a sentence that explains why not. Does no I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

from pam_softtoken.interchange import key_uri_reader
from pam_softtoken.interchange.app_document import Fields
from pam_softtoken.interchange.record import (
    SHORTEST_KEY_BYTES,
    UNNAMED,
    Harvest,
    Imported,
    PassedOver,
    algorithm_from,
    hotp_token,
    key_from_base32,
    last_before,
    name_from,
    totp_token,
)
from pam_softtoken.program_errors import Unreadable

_DIALECTS = {
    "steam": "Steam",
    "steamtotp": "Steam",
    "motp": "mOTP",
    "yandex": "Yandex",
    "yaotp": "Yandex",
}


@dataclass(frozen=True, slots=True)
class Entry:
    """An account as an app writes it.

    Attributes:
        key: the key's bytes, any number of them.
        algorithm: name of the hash function, as the app spells it.
        digits: number of digits of a code.
        period_s: period of a TOTP token, in seconds.
        counter: the next counter of a HOTP token; None if the file does not have it.
    """

    key: bytes = field(repr=False)
    algorithm: str
    digits: int
    period_s: int
    counter: int | None


class Item(NamedTuple):
    """An entry of a password manager, or of an app that writes Key URIs.

    Args:
        name: the entry's own name; "" if the Key URI has one.
        text: a Key URI, or a key in Base32 for a token of the usual kind; "" if the entry has no token.
        is_deleted: the app has marked it as deleted.
    """

    name: str
    text: str
    is_deleted: bool = False


def harvest(
    entries: list[object],
    *,
    name_of: Callable[[Fields], str],
    kind_of: Callable[[Fields], str],
    read: Callable[[Fields], Entry],
    now: int,
    is_deleted: Callable[[Fields], bool] = lambda fields: False,
) -> Harvest:
    """Read the accounts of an export.

    Args:
        entries: as they were read.
        name_of: returns a token's name. Raises `Unreadable`, as do the next three.
        kind_of: returns "totp" or "hotp" in upper or lower case, or the app's word for another kind.
        read: returns the rest. It is only called for a TOTP or HOTP account.
        now: Unix seconds.
        is_deleted: returns whether the app has marked the account as deleted.
    """

    def convert(entry: object, place: str, told: list[str]) -> Imported:
        fields = Fields(entry, "it")
        name = name_of(fields)
        told[:] = [f'{place} "{name}"']
        _refuse_deleted(is_deleted(fields))
        kind = kind_of(fields).lower()
        _refuse_dialect(kind)
        return _imported(kind, name, read(fields), place=place, now=now)

    return _harvest(entries, convert)


def harvest_items(entries: Iterable[object], *, items_of: Callable[[object], list[Item]], now: int) -> Harvest:
    """Read the entries of an app that keeps Key URIs, or keys in Base32.

    Args:
        entries: as they were read. Entries without a token are passed over in silence.
        items_of: returns the tokens of an entry. Raises `Unreadable`.
        now: Unix seconds.
    """
    found: list[Imported] = []
    skipped: list[str] = []
    for count, entry in enumerate(entries, 1):
        place = f"entry {count}"
        try:
            items: list[object] = [item for item in items_of(entry) if item.text.strip()]
        except Unreadable as error:
            skipped.append(f"{place}: {error.message}")
            continue
        more = _harvest(items, partial(_from_text, now=now), place=place)
        found += more.found
        skipped += more.skipped
    return Harvest(tuple(found), tuple(skipped))


def _harvest(
    entries: list[object], convert: Callable[[object, str, list[str]], Imported], *, place: str = ""
) -> Harvest:
    """Convert each entry. `convert` gets its place and a list, in which it puts what a message calls the entry."""
    found, skipped = [], []
    for count, entry in enumerate(entries, 1):
        here = place or f"entry {count}"
        told = [here]
        try:
            found.append(convert(entry, here, told))
        except Unreadable as error:
            skipped.append(f"{told[0]}: {error.message}")
    return Harvest(tuple(found), tuple(skipped))


def _from_text(item: object, place: str, told: list[str], *, now: int) -> Imported:
    assert isinstance(item, Item)  # noqa: S101 - the caller made it
    text = item.text.strip()
    if item.name:
        told[:] = [f'{place} "{name_from(item.name)}"']
    _refuse_deleted(item.is_deleted)
    scheme, found, _ = text.partition("://")
    if found:
        _refuse_dialect(scheme.lower() if scheme.lower() in _DIALECTS else "totp")
        read = key_uri_reader.parse(text, now=now, min_key_bytes=SHORTEST_KEY_BYTES)
        if item.name and read.token.name == UNNAMED:
            read.token.name = name_from(item.name)
        return replace(read, place=place)
    key = key_from_base32(text)
    token = totp_token(name_from(item.name), key, now=now, min_key_bytes=SHORTEST_KEY_BYTES)
    return Imported(token, place=place, notes=("the file has nothing but its key; 30 s, 6 digits and SHA1 are usual",))


def _refuse_deleted(is_deleted: bool) -> None:
    if is_deleted:
        raise PassedOver("its app has marked it as deleted")


def _refuse_dialect(kind: str) -> None:
    """Check that the codes of this kind of token are computed correctly here."""
    known = _DIALECTS.get(kind)
    if known:
        raise Unreadable(f"a {known} token makes its codes in a way of its own, which is neither HOTP nor TOTP")
    if kind not in ("hotp", "totp"):
        raise Unreadable("its type is neither HOTP nor TOTP")


def _imported(kind: str, name: str, entry: Entry, *, place: str, now: int) -> Imported:
    algorithm = algorithm_from(entry.algorithm)
    if kind == "totp":
        token = totp_token(
            name,
            entry.key,
            now=now,
            period_s=entry.period_s,
            algorithm=algorithm,
            digits=entry.digits,
            min_key_bytes=SHORTEST_KEY_BYTES,
        )
        return Imported(token, place=place)
    if entry.counter is None:
        raise Unreadable("the counter is missing, which a token that counts must have")
    token = hotp_token(
        name,
        entry.key,
        now=now,
        counter=entry.counter,
        algorithm=algorithm,
        digits=entry.digits,
        min_key_bytes=SHORTEST_KEY_BYTES,
    )
    return Imported(token, last=last_before(entry.counter), place=place)
