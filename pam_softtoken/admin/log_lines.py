"""Lines of a system log: which are ours, what they say, and when they were written.

Much in a log is written by whoever can type a user name, so a line is ours only if its message begins as ours do, right
behind the tag of the program that wrote it. No I/O.
"""

from __future__ import annotations

import datetime
import re
from typing import NamedTuple

from pam_softtoken.log import REASONS

MODULE, PROGRAM = "pam_softtoken", "softtoken-admin"
FIELDS = ("user", "rhost", "token", "result", "reason", "detail")
_OURS = re.compile(r"pam_softtoken\(([!-'*-~]{1,64}):auth\): (.*)", re.ASCII)
_DEED = re.compile(r"softtoken-admin: (action=.*)", re.ASCII)
_WORD = re.compile(r'([a-z]+)=("[^"]*"|[!#-~]*)(?: |\Z)', re.ASCII)
_TAG = r" \S+ ([^\s:\[\]]+)(?:\[\d+\])?: (.*)"
_ISO = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d))" + _TAG, re.ASCII)
_TRADITIONAL = re.compile(r"([A-Z][a-z]{2}) ([ \d]\d) (\d\d):(\d\d):(\d\d)" + _TAG, re.ASCII)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Entry(NamedTuple):
    """One outcome, or one deed of an administrator.

    Args:
        when: Unix seconds.
        service: the PAM service; `softtoken-admin` for a deed.
        fields: what the line says; see `FIELDS`. A deed has its name as `result`, and the rest as `detail`.
        uid: who wrote it, as the journal knows it; None where nobody does.
    """

    when: float
    service: str
    fields: dict[str, str]
    uid: int | None


def read_message(text: str) -> tuple[str, dict[str, str]] | None:
    """Read what a program has logged.

    Returns:
        Service and fields, or None when it is no outcome and no deed.
    """
    if (ours := _OURS.fullmatch(text)) is not None:
        fields = _words(ours[2])
        if fields.get("reason") in REASONS and fields.get("result") in ("accepted", "denied", "ignored"):
            return ours[1], {name: fields[name] for name in FIELDS if name in fields}
    elif (deed := _DEED.fullmatch(text)) is not None:
        fields = _words(deed[1])
        action, user = fields.pop("action", ""), fields.pop("user", "")
        if action and user:
            detail = " ".join(f"{name}={value}" for name, value in fields.items())
            return PROGRAM, {"user": user, "result": action, "detail": detail}
    return None


def _words(text: str) -> dict[str, str]:
    """Take `key=value` words apart; empty when there is anything else, or a key twice."""
    words: dict[str, str] = {}
    place = 0
    while place < len(text):
        word = _WORD.match(text, place)
        if word is None or word[1] in words:
            return {}
        words[word[1]] = word[2].strip('"')
        place = word.end()
    return words


def read_line(line: str, *, written_by: float) -> Entry | None:
    """Read a line of a log file.

    Args:
        line: without its end.
        written_by: Unix seconds of the file's last change. The traditional time stamp has no year; it is the last one
            that fits.
    """
    iso, traditional = _ISO.fullmatch(line), _TRADITIONAL.fullmatch(line)
    stamped = iso or traditional
    if stamped is None:
        return None
    *stamp, tag, text = stamped.groups()
    message = read_message(text)
    if message is None or (message[0] == PROGRAM) != (tag == PROGRAM):
        return None
    try:
        if iso is not None:
            when = datetime.datetime.fromisoformat(stamp[0]).timestamp()
        else:
            when = _traditional_time(*stamp, written_by=written_by)
    except (ValueError, OverflowError):
        return None
    return Entry(when, *message, None)


def _traditional_time(month: str, *numbers: str, written_by: float) -> float:
    day, hour, minute, second = (int(number) for number in numbers)
    last = datetime.datetime.fromtimestamp(written_by).astimezone() + datetime.timedelta(days=1)
    for year in range(last.year, last.year - 9, -1):  # a leap day may be some years ago
        try:
            when = datetime.datetime(year, _MONTHS.index(month) + 1, day, hour, minute, second).astimezone()
        except ValueError:
            continue
        if when <= last:
            return when.timestamp()
    raise ValueError("no such day")


def read_journal_entry(record: dict[str, object]) -> Entry | None:
    """Read what `journalctl --output=json` prints for an entry."""
    text, when, uid = record.get("MESSAGE"), record.get("__REALTIME_TIMESTAMP"), record.get("_UID")
    if not isinstance(text, str) or not isinstance(when, str) or not when.isdecimal():
        return None
    message = read_message(text)
    if message is None or (message[0] == PROGRAM) != (record.get("SYSLOG_IDENTIFIER") == PROGRAM):
        return None
    return Entry(int(when) / 1_000_000, *message, int(uid) if isinstance(uid, str) and uid.isdecimal() else None)
