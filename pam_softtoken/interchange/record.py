"""The result of reading another program's file: the token, and what that program knew about its use. Also the few
conversions that each reader needs. All readers share this module. Does no I/O. No message here repeats the content of
the file: a line with a mistake may have its key in any place.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from pam_softtoken.otp import hotp
from pam_softtoken.otp.token import (
    MAX_NAME_CHARACTERS,
    MIN_KEY_BYTES,
    HOTPToken,
    Secret,
    Token,
    TOTPToken,
)
from pam_softtoken.program_errors import ImportFailed, Unreadable

UNNAMED = "phone"
SHORTEST_KEY_BYTES = 1
"""The shortest key that a soft token accepts. It does not choose its keys. Many services give 80 bits, some fewer.
Refusing such a key would keep its owner out without making the service any safer. Without a byte there is no secret.
"""
MAX_DRIFT = 10**6
"""In time steps. A clock that is off by a year was set wrongly, and its record proves nothing."""
FURTHEST_STEPS = 2000
"""How many steps a used time step can be ahead of the clock. google-authenticator follows a token's clock for about
1500.
"""
_SHOWN_CHARACTERS = 15
"""The longest part of a file that a message may repeat. A key of 80 bits has one character more."""
ENROL_ANEW = "enrol again with softtoken-enroll, which makes a key that is long enough"


@dataclass(frozen=True, slots=True)
class Imported:
    """A token as another program left it.

    Attributes:
        token: created now. For a HOTP token, `counter` is the first unused one.
        user: login name; "" if the format has none.
        last: highest counter or time step that may have been used, according to the file; None if unknown. For a TOTP
            token the present step may also have been used, whatever the file says.
        drift: time steps by which the token's clock is ahead of the host's, negative when behind.
        scratch_codes: unspent ones, 8 digits each.
        pin: what is typed before the code; "" for nothing.
        place: the place in the file.
        notes: one sentence for each setting that has no counterpart here.
    """

    token: Token
    user: str = ""
    last: int | None = None
    drift: int = 0
    scratch_codes: tuple[str, ...] = field(default=(), repr=False)
    pin: str = field(default="", repr=False)
    place: str = ""
    notes: tuple[str, ...] = ()


class LeftOut(NamedTuple):
    """An entry that cannot be used.

    Args:
        place: its place in the file; "" if the format has none.
        user: the login name that it is for; "" if that is not known, or could be a secret.
        why: the reason.
        hint: what helps; "" if nothing particular does.
    """

    place: str
    user: str
    why: str
    hint: str = ""

    @property
    def text(self) -> str:
        """Return the place, the user and the reason as one text."""
        where = f"{self.place} ({self.user})" if self.place and self.user else self.place or self.user
        return f"{where}: {self.why}" if where else self.why


class Harvest(NamedTuple):
    """The result of reading a file.

    Args:
        found: the tokens, in the order of the file. Duplicates are kept.
        skipped: a sentence for each other entry, with its place and, if that is safe, its name.
        unusable: the entries with mistakes. There are none unless the reader was asked to go on after a mistake.
    """

    found: tuple[Imported, ...]
    skipped: tuple[str, ...]
    unusable: tuple[LeftOut, ...] = ()


class PassedOver(Unreadable):
    """An entry that the file itself marks as deleted. It is no mistake that it cannot be used."""


class Mistakes:
    """All mistakes in one file. Entries that are passed over are kept apart: they are none.

    Args:
        path: its name.
        is_login: checks whether a word of the file is a login name. A word that is none, in an entry with a mistake,
            could be a secret in a wrong place.
    """

    def __init__(self, path: str, *, is_login: Callable[[str], bool] = lambda _word: False) -> None:
        self._path = path
        self._is_login = is_login
        self._problems: list[LeftOut] = []
        self._passed_over: list[str] = []

    @contextmanager
    def at(self, place: str, *, user: str = "", is_certain: bool = False) -> Iterator[None]:
        """Return a `with` block that records what is unreadable at a place. Execution goes on after the block.

        Args:
            place: the place in the file; "" for the whole file.
            user: the word that should be the login name of the entry's user.
            is_certain: no secret can stand in the place of this word.
        """
        try:
            yield
        except Unreadable as error:
            named = user if user and user.isprintable() and (is_certain or self._is_login(user)) else ""
            self.add(place, error, user=named)

    def add(self, place: str, error: Unreadable, *, user: str = "") -> None:
        """Store one mistake."""
        problem = LeftOut(place, user, error.message, error.hint)
        if isinstance(error, PassedOver):
            self._passed_over.append(problem.text)
        else:
            self._problems.append(problem)

    @property
    def unusable(self) -> tuple[LeftOut, ...]:
        """Return the mistakes so far."""
        return tuple(self._problems)

    @property
    def problems(self) -> tuple[str, ...]:
        """Return one text for each mistake so far."""
        return tuple(problem.text for problem in self._problems)

    @property
    def passed_over(self) -> tuple[str, ...]:
        """Return one text for each entry that was passed over so far."""
        return tuple(self._passed_over)

    def raise_any(self, *, hint: str) -> None:
        """Raise an error for the mistakes, if there are any. The first hint counts.

        Raises:
            ImportFailed: with all of them.
        """
        if self._problems:
            first = next((problem.hint for problem in self._problems if problem.hint), hint)
            raise ImportFailed(self._path, self.problems, hint=first)

    def raise_whole(self, *, hint: str) -> None:
        """Raise an error for the mistakes if one of them concerns the whole file.

        Raises:
            ImportFailed: with all of them.
        """
        if not all(problem.place for problem in self._problems):
            self.raise_any(hint=hint)


def name_from(*parts: str) -> str:
    """Return a token's name made from texts of another program, such as issuer and account. It is `UNNAMED` if they are
    empty.
    """
    text = "".join(character if character.isprintable() else " " for character in " ".join(parts))
    return " ".join(text.split())[:MAX_NAME_CHARACTERS].strip() or UNNAMED


def name_from_label(issuer: str, label: str) -> str:
    """Return a token's name from an app's label. The label's part before a colon, if any, repeats the issuer."""
    prefix, colon, account = label.partition(":")
    if issuer and label.startswith(f"{issuer}:"):  # the issuer itself has a colon
        return name_from(issuer, label[len(issuer) + 1 :])
    return name_from(issuer or prefix, account) if colon else name_from(issuer, label)


def number(text: str, what: str, *, lowest: int = 0, highest: int) -> int:
    """Read a decimal number in its one spelling: ASCII digits without a sign or leading zeros.

    Raises:
        Unreadable: the spelling is another one, or the number is out of range.
    """
    # The length is checked first: a number of a million digits takes minutes to convert.
    plain = 1 <= len(text) <= 20 and text.isascii() and text.isdecimal() and (text == "0" or text[0] != "0")
    if not plain or not lowest <= int(text) <= highest:
        raise Unreadable(f"{what} is not a number from {lowest} to {highest}")
    return int(text)


def shown(text: str) -> str:
    """Return a short name or value from a file in quotes, with a space before it; "" if it could be a key."""
    is_short = 0 < len(text) <= _SHOWN_CHARACTERS and text.isascii() and text.isprintable()
    return f' "{text}"' if is_short else ""


def algorithm_from(text: str) -> str:
    """Return a name of `hotp.ALGORITHMS`, from any spelling of it: `sha256`, `SHA-256`, `HmacSHA256`, `hmac_sha256`.

    Raises:
        Unreadable: it is another one. The message has its name.
    """
    compact = "".join(character for character in text.upper() if character not in "-_ ").replace("HMAC", "")
    if not text.isascii() or compact not in hotp.ALGORITHMS:
        raise Unreadable(
            f"the algorithm{shown(text)} is none of {', '.join(hotp.ALGORITHMS[:-1])} and {hotp.ALGORITHMS[-1]}"
        )
    return compact


def key_from_base32(text: str, *, any_length: bool = False) -> bytes:
    """Read a key as apps write it: in upper or lower case, with spaces, with padding or without.

    Spare bits at the end are dropped whatever they are, as by pam_google_authenticator and oathtool.

    Args:
        text: the key.
        any_length: also drop a last character that completes no byte, as pam_google_authenticator does. Without it such
            a text counts as cut off, as for oathtool.

    Raises:
        Unreadable: it can be read in more than one way, or in none.
    """
    compact = text.replace(" ", "")
    body = compact.rstrip("=")
    padding = len(compact) - len(body)
    if not body:
        raise Unreadable("the key is empty")
    if not body.isascii() or not body.isalnum():
        raise Unreadable("the key is not Base32")
    if any(digit in body for digit in "0189"):
        raise Unreadable(
            "the key has a 0, 1, 8 or 9, which Base32 does not have; some programs guess which letter it is"
        )
    if padding and (padding > 6 or len(compact) % 8):
        raise Unreadable("the key has too many or too few = at its end")
    if len(body) * 5 % 8 > 4:
        if not any_length:
            raise Unreadable("the key is not Base32 of whole bytes", hint="see whether all of it was copied")
        body = body[:-1]
    return base64.b32decode(body.upper() + "=" * (-len(body) % 8))


def hotp_token(
    name: str,
    key: bytes,
    *,
    now: int,
    counter: int,
    algorithm: str = "SHA1",
    digits: int = 6,
    min_key_bytes: int = MIN_KEY_BYTES,
) -> Token:
    """Return a new HOTP token.

    Raises:
        Unreadable: an argument is out of its range.
    """
    secret = _secret(key, min_key_bytes)
    try:
        return HOTPToken(name, secret, algorithm=algorithm, digits=digits, created=now, counter=counter)
    except ValueError as error:
        raise Unreadable(str(error)) from None


def totp_token(
    name: str,
    key: bytes,
    *,
    now: int,
    period_s: int = 30,
    algorithm: str = "SHA1",
    digits: int = 6,
    min_key_bytes: int = MIN_KEY_BYTES,
) -> Token:
    """Return a new TOTP token.

    Raises:
        Unreadable: an argument is out of its range.
    """
    secret = _secret(key, min_key_bytes)
    try:
        return TOTPToken(name, secret, algorithm=algorithm, digits=digits, created=now, period_s=period_s)
    except ValueError as error:
        raise Unreadable(str(error)) from None


def _secret(key: bytes, min_bytes: int) -> Secret:
    if not key:
        raise Unreadable("the key is empty")
    if len(key) < min_bytes:
        raise Unreadable(
            f"the key has {8 * len(key)} bits, and RFC 4226 asks for {8 * min_bytes} at least", hint=ENROL_ANEW
        )
    try:
        return Secret(key, min_bytes=min_bytes)
    except ValueError as error:
        raise Unreadable(str(error)) from None


def used_step(step: int, *, now: int, period_s: int) -> int:
    """Check a record of a used time step, and return the step.

    Raises:
        Unreadable: it is so far ahead that the owner would be kept out until then.
    """
    if step > now // period_s + FURTHEST_STEPS:
        raise Unreadable(
            "a used time step lies far in the future, and no code would be accepted until then",
            hint="see whether the clock of this host, or of the one that wrote the file, is wrong",
        )
    return step


def used_as_in(kept: Imported, left_out: Imported) -> Imported:
    """Return an entry with the used codes of another one that has the same key, if both count in the same way."""
    if _count_of(kept.token) != _count_of(left_out.token):
        return kept
    return replace(kept, last=max((each.last for each in (kept, left_out) if each.last is not None), default=None))


def _count_of(token: Token) -> tuple[str, str, int]:
    return token.kind, token.algorithm, token.period_s if isinstance(token, TOTPToken) else 0


def last_before(counter: int) -> int | None:
    """Return the highest used counter if `counter` is the next one. None means that none was used."""
    return counter - 1 if counter else None
