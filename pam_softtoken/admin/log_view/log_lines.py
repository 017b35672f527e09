"""Read the lines of a system log: which are ours, their fields, time and writer.

This is the only reader of the lines that `pam_softtoken.log` and `admin.common.deed` write. Much of a log comes from
people who only typed a user name. So a line is ours only if its message begins as ours do, right after the tag of the
program that wrote it. No I/O.
"""

from __future__ import annotations

import datetime
import re
from typing import NamedTuple

from pam_softtoken.log import (
    FIELDS,
    MAX_VALUE_CHARACTERS,
    PHASES,
    REASONS,
    RESULTS,
    TRIAL,
    escape,
)

PROGRAM, JOURNAL = "softtoken-admin", "systemd-journald"
SUPPRESSION = "a596d6fe7bfa4994828e72309e95d61e"
"""The journal's own message that a unit wrote too much, so that some of it was dropped."""
SUPPRESSED = "suppressed"
"""The result of an entry that only says that lines are missing here."""
_OURS = re.compile(rf"pam_softtoken\(([!-~]{{1,256}}):(?:{'|'.join(PHASES)})\): (.*)", re.ASCII)
_DEED = re.compile(r"softtoken-admin: (action=.*)", re.ASCII)
_WORD = re.compile(r'([a-z]+)=("[ !#-~]*"|[!#-~]*)(?: |\Z)', re.ASCII)
_TAG = r" \S+ ([^\s:\[\]]+)(?:\[\d+\])?: (.*)"
_ISO = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d))" + _TAG, re.ASCII)
_TRADITIONAL = re.compile(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d" + _TAG, re.ASCII)
_MOST_DIGITS = 20
_MOST_OF_DETAIL = 1024  # the bridge's limit (MAX_DETAIL_BYTES), which is more than the backend writes


class Entry(NamedTuple):
    """One outcome, one action of an administrator, or a notice that lines are missing here.

    Args:
        when: Unix seconds.
        service: the PAM service; `softtoken-admin` for an administrator's action; the journal or a file for a notice.
        fields: the fields of the line; see `log.FIELDS`. An action has its name as `result`, and the rest as `detail`.
        writer_uid: the user who wrote it, according to the journal; None for a file, which does not record it.
    """

    when: float
    service: str
    fields: dict[str, str]
    writer_uid: int | None

    @property
    def is_trial(self) -> bool:
        """Whether `enable` or `doctor` was only testing the module."""
        return self.fields.get("trial") == TRIAL


def read_message(text: str) -> tuple[str, dict[str, str]] | None:
    """Read a logged message.

    Returns:
        Service and fields, or None if it is neither an outcome nor an administrator's action.
    """
    if (ours := _OURS.fullmatch(text)) is not None:
        fields = _words(ours[2])
        if fields.get("reason") in REASONS and fields.get("result") in RESULTS:
            return ours[1], {name: fields[name] for name in FIELDS if name in fields}
    elif (deed := _DEED.fullmatch(text)) is not None:
        fields = _words(deed[1])
        action, user = fields.pop("action", ""), fields.pop("user", "")
        if action and user:
            detail = " ".join(f"{name}={value}" for name, value in fields.items())
            return PROGRAM, {"user": user, "result": action, "detail": detail}
    return None


def _words(text: str) -> dict[str, str]:
    """Read `key=value` words; return nothing for other text, a repeated key, or more than is ever written."""
    words: dict[str, str] = {}
    place = 0
    while place < len(text):
        word = _WORD.match(text, place)
        if word is None or word[1] in words or len(word[2]) > _longest(word[1]):
            return {}
        words[word[1]] = word[2].strip('"')
        place = word.end()
    return words


def _longest(name: str) -> int:
    return _MOST_OF_DETAIL + len('""') if name == "detail" else MAX_VALUE_CHARACTERS


def _is_written_by(tag: str | None, service: str) -> bool:
    # The tag of a module's line is the host program's, which can have any name; only our program writes actions.
    return service != PROGRAM or tag == PROGRAM


def read_line(line: str) -> Entry | None:
    """Read a line of a log file, without its newline."""
    stamped = _ISO.fullmatch(line)
    message = read_message(stamped[3]) if stamped is not None else None
    if stamped is None or message is None or not _is_written_by(stamped[2], message[0]):
        return None
    try:
        return Entry(datetime.datetime.fromisoformat(stamped[1]).timestamp(), *message, None)
    except (ValueError, OverflowError):
        return None


def has_no_year(line: str) -> bool:
    """Check whether a line of a log file is an outcome whose time stamp does not say the year, as in RFC 3164."""
    stamped = _TRADITIONAL.fullmatch(line)
    return stamped is not None and read_message(stamped[2]) is not None


def read_journal_entry(record: dict[str, object]) -> Entry | None:
    """Read one entry in the format of `journalctl --output=json`."""
    text, when, uid = record.get("MESSAGE"), _number(record.get("__REALTIME_TIMESTAMP")), _number(record.get("_UID"))
    if not isinstance(text, str) or when is None:
        return None
    # A field that begins with "_" is the journal's own; no sender can set one.
    if record.get("MESSAGE_ID") == SUPPRESSION and record.get("_TRANSPORT") == "driver":
        detail = " ".join(escape(word) for word in text.split())
        return Entry(when / 1_000_000, JOURNAL, {"result": SUPPRESSED, "detail": detail}, 0)
    message = read_message(text)
    tag = record.get("SYSLOG_IDENTIFIER")
    if message is None or not _is_written_by(tag if isinstance(tag, str) else None, message[0]):
        return None
    # An entry with an unknown writer cannot be trusted.
    return Entry(when / 1_000_000, *message, -1 if uid is None else uid)


def _number(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= _MOST_DIGITS:
        return int(value)
    return None
