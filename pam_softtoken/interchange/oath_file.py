"""Read the users file of pam_oath: one line for each token of each user, with PIN, key, counter and last code. Does no
I/O.

Source: what the module pam_oath of Debian's libpam-oath accepts and writes.
"""

from __future__ import annotations

import re

from pam_softtoken.interchange.record import (
    FURTHEST_STEPS,
    UNNAMED,
    Imported,
    Mistakes,
    hotp_token,
    last_before,
    number,
    totp_token,
    used_as_in,
)
from pam_softtoken.otp.token import Token
from pam_softtoken.program_errors import Unreadable

_TYPE = re.compile(r"HOTP(?:/(E|T30|T60)(?:/([678]))?)?\Z")
_KEY = re.compile(r"(?:[0-9A-Fa-f]{2})+\Z")
_OTP = re.compile(r"[0-9]+\Z")
_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}L\Z")
_FIELDS = (4, 5, 7)
_MAX_COUNTER = 2**62 - 2
_SHORTEST_KNOWN = 16
"""Hexadecimal digits that are taken for a key. A counter or a code that slipped into its place is shorter."""
HINT = "a line is: HOTP/T30/6 user - hexkey, then what pam_oath itself adds"


def read(lines: list[str], *, mistakes: Mistakes, now: int) -> list[Imported]:
    """Read the file.

    Args:
        lines: the text of the file.
        mistakes: records what is wrong.
        now: Unix seconds.

    Returns:
        The tokens in their order. A user's second token is named "phone 2", and so on.
    """
    found: list[Imported] = []
    tokens: dict[str, dict[str, int]] = {}  # for each user, the tokens' fingerprints and where they are in `found`
    for count, line in enumerate(lines, 1):
        fields = line.replace("\t", " ").split(" ")
        fields = [text for text in fields if text]
        if not fields or fields[0].startswith("#"):
            continue
        place = f"line {count}"
        user = fields[1] if len(fields) > 1 else ""
        # Where the line has its key in the right place, the word before the PIN is no secret.
        is_certain = len(fields) in _FIELDS and bool(_KEY.match(fields[3])) and len(fields[3]) >= _SHORTEST_KNOWN
        with mistakes.at(place, user=user, is_certain=is_certain):
            mine = tokens.setdefault(user, {}) if user else {}
            record = _record(fields, place=place, name=f"{UNNAMED} {len(mine) + 1}" if mine else UNNAMED, now=now)
            fingerprint = record.token.fingerprint()
            if fingerprint in mine:
                first = mine[fingerprint]
                found[first] = used_as_in(found[first], record)
                raise Unreadable(f"the user has the same key in {found[first].place}")
            mine[fingerprint] = len(found)
            found.append(record)
    return found


def _record(fields: list[str], *, place: str, name: str, now: int) -> Imported:
    if len(fields) not in _FIELDS:
        raise Unreadable(f"{len(fields)} fields, and not 4, 5 or 7")
    kind, user, pin, key_text = fields[:4]
    form = _TYPE.match(kind)
    if not form:
        raise Unreadable("the type is none of HOTP, HOTP/E, HOTP/T30 and HOTP/T60, with /6, /7 or /8 or without")
    if not user.isprintable():
        raise Unreadable("the user's name cannot be printed")
    if not _KEY.match(key_text):
        raise Unreadable("the key is not hexadecimal")
    key, digits = bytes.fromhex(key_text), int(form[2] or 6)
    counter = number(fields[4], "the counter", highest=_MAX_COUNTER) if len(fields) > 4 else 0
    otp = _last_otp(fields, digits)
    token: Token
    if form[1] in ("T30", "T60"):
        token = totp_token(name, key, now=now, period_s=int(form[1][1:]), digits=digits)
        last = _last_step(token, otp, counter, now // int(form[1][1:]))
    else:
        token = hotp_token(name, key, now=now, counter=_next_counter(name, key, otp, counter, digits), digits=digits)
        last = last_before(token.counter)  # type: ignore[attr-defined]
    notes = ("the PIN was checked by another module",) if pin == "+" else ()
    return Imported(token, user=user, last=last, pin="" if pin in ("-", "+") else pin, place=place, notes=notes)


def _last_otp(fields: list[str], digits: int) -> str:
    if len(fields) < 7:
        return ""
    if not _OTP.match(fields[5]) or len(fields[5]) != digits:
        raise Unreadable(f"the last code does not have {digits} digits")
    if not _TIME.match(fields[6]):
        raise Unreadable("the time of the last code is not like 2009-12-07T23:23:49L")
    return fields[5]


def _next_counter(name: str, key: bytes, otp: str, counter: int, digits: int) -> int:
    """Return the next counter. If the file has a last code, its counter is the last accepted one."""
    if not otp:
        return counter
    if hotp_token(name, key, now=0, counter=counter, digits=digits).otp_at(counter) != otp:
        raise Unreadable("the last code is not that of the counter, so one of them is wrong")
    return counter + 1


def _last_step(token: Token, otp: str, distance: int, present: int) -> int | None:
    """Return the time step of the last code, if that step could still be used.

    Instead of a counter the module writes the distance of the code from its clock, in steps and without a sign. The
    time beside it is local time of an unknown host. So the code is searched for among future steps, in case it was used
    ahead of the clock. If it is not found there, its step has passed.
    """
    if distance > FURTHEST_STEPS:
        raise Unreadable(f"the last code was more than {FURTHEST_STEPS} time steps away")
    ahead = token.matching(range(present, present + distance + 1), otp.encode()) if otp else []
    return max(ahead, default=None)
