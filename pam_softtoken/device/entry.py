"""What a vault holds: its entries, and the text format that keeps them. No I/O.

The text is inside the seal. So a format error in it is neither an attack nor damage: a newer program wrote it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pam_softtoken.interchange.record import SHORTEST_KEY_BYTES
from pam_softtoken.otp.ocra import OCRAToken, Suite
from pam_softtoken.otp.token import (
    MAX_NAME_CHARACTERS,
    HOTPToken,
    Secret,
    Token,
    TOTPToken,
    decode_base32,
    encode_base32,
)
from pam_softtoken.program_errors import BadSuite, VaultFailed

VERSION = 1


class Entry(NamedTuple):
    """One of the user's tokens.

    Args:
        token: with a name that no other entry has. An `OCRAToken` signs requests, and has no codes to show.
        issuer: the service that asks for its codes, "" if unknown.
    """

    token: Token | OCRAToken
    issuer: str = ""

    @property
    def name(self) -> str:
        """Return the user's name for it."""
        return self.token.name

    @property
    def otp_token(self) -> Token:
        """Return the token, to compute its codes.

        Raises:
            VaultFailed: it signs requests, and has no codes.
        """
        if isinstance(self.token, OCRAToken):
            raise VaultFailed(f'"{self.name}" signs requests, and has no codes', hint="softtoken sign uses it")
        return self.token

    def named(self, name: str) -> Entry:
        """Return the same entry under another name."""
        return self._replace(token=_made(self.token, name=name))

    def counted(self) -> tuple[str, Entry]:
        """Return the next code of a counter-based token, and the token with its counter advanced.

        Raises:
            VaultFailed: the counter is at its end.
        """
        token = self.token
        if not isinstance(token, HOTPToken):
            raise TypeError("this token does not count")
        try:
            return token.otp_at(token.counter), self._replace(token=_made(token, counter=token.counter + 1))
        except ValueError:
            raise VaultFailed(f'"{self.name}" has no codes left', hint="ask the service for a new key") from None

    def is_same(self, other: Entry) -> bool:
        """Return whether both always show the same codes. Their counters may differ."""
        return self.way == other.way

    @property
    def way(self) -> tuple[object, ...]:
        """Return how its codes are made. Entries that share this are the same. It contains the key."""
        token = self.token
        if isinstance(token, OCRAToken):
            return token.kind, token.secret.reveal(), token.suite.text
        period = token.period_s if isinstance(token, TOTPToken) else None
        return token.kind, token.secret.reveal(), token.algorithm, token.digits, period


def _made(token: Token | OCRAToken, **changed: Any) -> Token | OCRAToken:
    if isinstance(token, OCRAToken):
        return OCRAToken(changed["name"], token.secret, suite=token.suite, created=token.created)
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
    """Return the number of the entry that is meant.

    Args:
        entries: in order.
        wanted: a name, or a part that only one name has, in either case.
        whole: a part is not enough.

    Raises:
        VaultFailed: no entry matches, or several do.
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
    raise VaultFailed(f'"{wanted}" matches {names}', hint="give more of the name")


def with_codes(entries: Iterable[Entry]) -> list[Entry]:
    """Return the entries that have codes to show."""
    return [entry for entry in entries if not isinstance(entry.token, OCRAToken)]


def signing(entries: Iterable[Entry]) -> list[tuple[Entry, OCRAToken]]:
    """Return the entries that sign requests, each with its token."""
    return [(entry, entry.token) for entry in entries if isinstance(entry.token, OCRAToken)]


def matches(entry: Entry, wanted: str) -> bool:
    """Return whether an entry's name or issuer contains all words of the search."""
    text = f"{entry.name} {entry.issuer}".casefold()
    return all(word in text for word in wanted.casefold().split())


class Names:
    """The names that are in use.

    Args:
        entries: the entries that use them.
    """

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._taken = {entry.name for entry in entries}
        self._numbers: dict[str, int] = {}

    def take(self, *wanted: str) -> str:
        """Return the first free name, and reserve it. If none is free, number the last one."""
        name = next((name for name in wanted if name not in self._taken), "") or self._numbered(wanted[-1])
        self._taken.add(name)
        return name

    def _numbered(self, name: str) -> str:
        start = name[: MAX_NAME_CHARACTERS - 8].rstrip()
        # Continue from the last number. Otherwise many accounts with one name would take for ever.
        number = self._numbers.get(start, 1) + 1
        while f"{start} ({number})" in self._taken:
            number += 1
        self._numbers[start] = number
        return f"{start} ({number})"


def write(entries: Iterable[Entry]) -> bytes:
    """Return the text to seal."""
    return json.dumps({"version": VERSION, "entries": [_record(entry) for entry in entries]}).encode("ascii")


def _record(entry: Entry) -> dict[str, object]:
    token = entry.token
    return {**shown(entry), "key": encode_base32(token.secret.reveal()), "created": token.created}


def shown(entry: Entry) -> dict[str, object]:
    """Return what a program may know about an entry without knowing the key."""
    token = entry.token
    common: dict[str, object] = {"name": token.name, "issuer": entry.issuer, "type": token.kind}
    if isinstance(token, OCRAToken):
        return {**common, "suite": token.suite.text}
    return {
        **common,
        "algorithm": token.algorithm,
        "digits": token.digits,
        "period": token.period_s if isinstance(token, TOTPToken) else None,
        "counter": token.counter if isinstance(token, HOTPToken) else None,
    }


def read(content: bytes, *, path: str) -> list[Entry]:
    """Read the text that was sealed.

    Raises:
        VaultFailed: a newer program wrote it.
    """
    try:
        whole = json.loads(content)
        if whole["version"] != VERSION:
            raise ValueError("another version")
        return [_entry(record) for record in whole["entries"]]
    except (ValueError, KeyError, TypeError, BadSuite):
        raise VaultFailed(f'a newer softtoken wrote "{path}"', hint="use that one; nothing was changed") from None


def _entry(record: dict[str, Any]) -> Entry:
    secret = Secret(decode_base32(record["key"]), min_bytes=SHORTEST_KEY_BYTES)
    name, created = record["name"], record["created"]
    if record["type"] == OCRAToken.kind:
        suite = Suite.parse(record["suite"])
        return Entry(OCRAToken(name, secret, suite=suite, created=created), record["issuer"])
    algorithm, digits = record["algorithm"], record["digits"]
    token: Token
    if record["type"] == "totp":
        token = TOTPToken(name, secret, algorithm=algorithm, digits=digits, created=created, period_s=record["period"])
    elif record["type"] == "hotp":
        token = HOTPToken(name, secret, algorithm=algorithm, digits=digits, created=created, counter=record["counter"])
    else:
        raise ValueError("another type")
    return Entry(token, record["issuer"])
