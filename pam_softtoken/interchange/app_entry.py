"""One account in an app's export. It becomes a token, or a sentence that explains why not. Does no I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pam_softtoken.errors import Unreadable
from pam_softtoken.interchange.app_document import Fields
from pam_softtoken.interchange.record import (
    SHORTEST_KEY_BYTES,
    Harvest,
    Imported,
    algorithm_from,
    hotp_token,
    last_before,
    totp_token,
)

_DIALECTS = {"steam": "Steam", "motp": "mOTP", "yandex": "Yandex"}


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


def harvest(
    entries: list[object],
    *,
    name_of: Callable[[Fields], str],
    kind_of: Callable[[Fields], str],
    read: Callable[[Fields], Entry],
    now: int,
) -> Harvest:
    """Read the accounts of an export.

    Args:
        entries: as they were read.
        name_of: returns a token's name. Raises `Unreadable`, as do the next two.
        kind_of: returns "totp" or "hotp" in upper or lower case, or the app's word for another kind.
        read: returns the rest. It is only called for a TOTP or HOTP account.
        now: Unix seconds.
    """
    found, skipped = [], []
    for count, entry in enumerate(entries, 1):
        place = told = f"entry {count}"
        try:
            fields = Fields(entry, "it")
            name = name_of(fields)
            told = f'{place} "{name}"'
            kind = kind_of(fields).lower()
            _refuse_dialect(kind)
            found.append(_imported(kind, name, read(fields), place=place, now=now))
        except Unreadable as error:
            skipped.append(f"{told}: {error.message}")
    return Harvest(tuple(found), tuple(skipped))


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
