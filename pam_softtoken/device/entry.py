"""What a vault holds: its entries, and the text in which they are kept. No I/O.

The text is inside the seal, so that a mistake in it is no attack and no damage: a newer program wrote it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pam_softtoken.errors import VaultFailed
from pam_softtoken.interchange.record import SHORTEST_KEY_BYTES
from pam_softtoken.otp.token import (
    MAX_NAME_CHARACTERS,
    HOTPToken,
    Secret,
    Token,
    TOTPToken,
    decode_base32,
    encode_base32,
)

VERSION = 1


class Entry(NamedTuple):
    """One token of the person's.

    Args:
        token: with a name that no other entry has.
        issuer: who asks for its codes, "" when nobody said so.
    """

    token: Token
    issuer: str = ""

    @property
    def name(self) -> str:
        """What the person calls it."""
        return self.token.name

    def named(self, name: str) -> Entry:
        """Give the same under another name."""
        return self._replace(token=_made(self.token, name=name))

    def counted(self) -> tuple[str, Entry]:
        """Give the next code of a token that counts, and the token as it is behind that.

        Raises:
            VaultFailed: it has counted to the end.
        """
        token = self.token
        if not isinstance(token, HOTPToken):
            raise TypeError("this token does not count")
        try:
            return token.otp_at(token.counter), self._replace(token=_made(token, counter=token.counter + 1))
        except ValueError:
            raise VaultFailed(f'"{self.name}" has counted to the end', hint="ask the service for a new key") from None

    def is_same(self, other: Entry) -> bool:
        """Tell whether both always give the same codes; where they have got to in counting is no difference."""
        return self.way == other.way

    @property
    def way(self) -> tuple[object, ...]:
        """How its codes are made: what two entries have in common that are the same. It has the key in it."""
        token = self.token
        period = token.period_s if isinstance(token, TOTPToken) else None
        return token.kind, token.secret.reveal(), token.algorithm, token.digits, period


def _made(token: Token, **changed: Any) -> Token:
    facts = {
        "name": token.name,
        "algorithm": token.algorithm,
        "digits": token.digits,
        "created": token.created,
        **({"counter": token.counter} if isinstance(token, HOTPToken) else {}),
        **({"period_s": token.period_s} if isinstance(token, TOTPToken) else {}),
        **changed,
    }
    return type(token)(facts.pop("name"), token.secret, **facts)


def find(entries: Sequence[Entry], wanted: str, *, whole: bool = False) -> int:
    """Find the entry that is meant.

    Args:
        entries: in order.
        wanted: a name, or a part of one that no other has, in either case.
        whole: a part is not enough.

    Returns:
        Its number.

    Raises:
        VaultFailed: none or several.
    """
    for number, entry in enumerate(entries):
        if entry.name == wanted:
            return number
    found = [number for number, entry in enumerate(entries) if matches(entry, wanted)]
    if len(found) == 1 and not whole:
        return found[0]
    if not found:
        raise VaultFailed(f'there is no entry "{wanted}"', hint="softtoken list shows the names")
    names = ", ".join(f'"{entries[number].name}"' for number in found)
    if whole:
        raise VaultFailed(f'there is no entry "{wanted}"; near it is {names}', hint="give the whole name")
    raise VaultFailed(f'"{wanted}" can be {names}', hint="give more of the name")


def matches(entry: Entry, wanted: str) -> bool:
    """Tell whether all words that are searched for stand in an entry's name or issuer."""
    text = f"{entry.name} {entry.issuer}".casefold()
    return all(word in text for word in wanted.casefold().split())


class Names:
    """The names that are taken.

    Args:
        entries: whose.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._taken = {entry.name for entry in entries}
        self._numbers: dict[str, int] = {}

    def take(self, *wanted: str) -> str:
        """Give the first of some names that is free, and take it; the last with a number behind it, if need be."""
        name = next((name for name in wanted if name not in self._taken), "") or self._numbered(wanted[-1])
        self._taken.add(name)
        return name

    def _numbered(self, name: str) -> str:
        start = name[: MAX_NAME_CHARACTERS - 8].rstrip()
        # From the last number on, or accounts that all have one name would take for ever.
        number = self._numbers.get(start, 1) + 1
        while f"{start} ({number})" in self._taken:
            number += 1
        self._numbers[start] = number
        return f"{start} ({number})"


def write(entries: Iterable[Entry]) -> bytes:
    """Write the text that is sealed."""
    return json.dumps({"version": VERSION, "entries": [_record(entry) for entry in entries]}).encode("ascii")


def _record(entry: Entry) -> dict[str, object]:
    token = entry.token
    return {**shown(entry), "key": encode_base32(token.secret.reveal()), "created": token.created}


def shown(entry: Entry) -> dict[str, object]:
    """Give what a program may know of an entry that is not to know the key."""
    token = entry.token
    return {
        "name": token.name,
        "issuer": entry.issuer,
        "type": token.kind,
        "algorithm": token.algorithm,
        "digits": token.digits,
        "period": token.period_s if isinstance(token, TOTPToken) else None,
        "counter": token.counter if isinstance(token, HOTPToken) else None,
    }


def read(content: bytes, *, path: str) -> list[Entry]:
    """Read the text that was sealed.

    Raises:
        VaultFailed: it is of a newer program.
    """
    try:
        whole = json.loads(content)
        if whole["version"] != VERSION:
            raise ValueError("another version")
        return [_entry(record) for record in whole["entries"]]
    except (ValueError, KeyError, TypeError):
        raise VaultFailed(f'a newer softtoken wrote "{path}"', hint="use that one; nothing was changed") from None


def _entry(record: dict[str, Any]) -> Entry:
    secret = Secret(decode_base32(record["key"]), min_bytes=SHORTEST_KEY_BYTES)
    name, created = record["name"], record["created"]
    algorithm, digits = record["algorithm"], record["digits"]
    token: Token
    if record["type"] == "totp":
        token = TOTPToken(name, secret, algorithm=algorithm, digits=digits, created=created, period_s=record["period"])
    elif record["type"] == "hotp":
        token = HOTPToken(name, secret, algorithm=algorithm, digits=digits, created=created, counter=record["counter"])
    else:
        raise ValueError("another type")
    return Entry(token, record["issuer"])
