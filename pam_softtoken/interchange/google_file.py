"""Read the file of google-authenticator, `~/.google_authenticator`: one token of one user and the history of its use.
Does no I/O. The first line is the key in Base32. Lines that begin with `" ` are options. Lines of 8 digits are scratch
codes. The PAM module of google-authenticator rewrites the file at each login.

Source: FILEFORMAT in the package libpam-google-authenticator, and what the module itself wrote.
"""

from __future__ import annotations

import re

from pam_softtoken.interchange.record import (
    MAX_DRIFT,
    UNNAMED,
    Imported,
    Mistakes,
    hotp_token,
    key_from_base32,
    last_before,
    number,
    totp_token,
    used_step,
)
from pam_softtoken.program_errors import Unreadable

_OPTIONS = (
    "DISALLOW_REUSE",
    "HOTP_COUNTER",
    "RATE_LIMIT",
    "RESETTING_TIME_SKEW",
    "STEP_SIZE",
    "TIME_SKEW",
    "TOTP_AUTH",
    "WINDOW_SIZE",
)
_LOGIN = re.compile(r"LAST[0-9]\Z")
_SCRATCH_CODE = re.compile(r"[0-9]{8}\Z")
_USUAL_WINDOW = 3
_MAX_COUNTER = 2**62 - 1
_HINT = "the file is as google-authenticator writes it: ~/.google_authenticator"


def read(lines: list[str], *, mistakes: Mistakes, now: int) -> list[Imported]:
    """Read the file.

    Args:
        lines: the text of the file.
        mistakes: records what is wrong.
        now: Unix seconds.

    Returns:
        One token, or none if there were mistakes.
    """
    key = b""
    options: dict[str, tuple[str, str]] = {}
    codes: list[str] = []
    with mistakes.at("line 1"):
        key = key_from_base32(lines[0], any_length=True)
        totp_token(UNNAMED, key, now=now)  # so that a key that is too short is reported with its line
    for count, line in enumerate(lines[1:], 2):
        if not line:
            continue
        with mistakes.at(f"line {count}"):
            if line.startswith('" '):
                _take_option(options, line[2:], f"line {count}")
            else:
                _take_code(codes, line)
    mistakes.raise_any(hint=_HINT)
    found: list[Imported] = []
    with mistakes.at(""):
        make = _counting if "HOTP_COUNTER" in options else _by_the_clock
        found.append(make(key, _Options(options), tuple(codes), now))
    mistakes.raise_any(hint=_HINT)
    return found


class _Options:
    """The options and their lines."""

    def __init__(self, given: dict[str, tuple[str, str]]) -> None:
        self._given = given

    def __contains__(self, name: str) -> bool:
        return name in self._given

    def words(self, name: str) -> list[str]:
        return self._given[name][0].split() if name in self._given else []

    def value(self, name: str, default: int, *, lowest: int, highest: int) -> int:
        """Return an option's only word as a number."""
        if name not in self._given:
            return default
        text, place = self._given[name]
        return number(text, f"{place}: {name}", lowest=lowest, highest=highest)

    def place(self, name: str) -> str:
        return self._given[name][1]


def _take_option(options: dict[str, tuple[str, str]], text: str, place: str) -> None:
    name, _, value = text.partition(" ")
    if name not in _OPTIONS and not _LOGIN.match(name):
        raise Unreadable("an option that is not known here")
    if name in options:
        raise Unreadable(f"{name} is there twice")
    options[name] = (value.strip(" "), place)


def _take_code(codes: list[str], line: str) -> None:
    if not _SCRATCH_CODE.match(line):
        raise Unreadable("neither an option nor a scratch code of 8 digits")
    if line in codes:
        raise Unreadable("a scratch code is there twice")
    codes.append(line)


def _counting(key: bytes, options: _Options, codes: tuple[str, ...], now: int) -> Imported:
    # The module accepts this counter next: it stores the last accepted counter plus one, and adds one after a wrong
    # code. It uses the counter whatever TOTP_AUTH says. With a counter of 0 it lets nobody in.
    counter = options.value("HOTP_COUNTER", 0, lowest=1, highest=_MAX_COUNTER)
    return Imported(
        hotp_token(UNNAMED, key, now=now, counter=counter),
        last=last_before(counter),
        scratch_codes=codes,
        place="line 1",
        notes=_notes(options, "look_ahead"),
    )


def _by_the_clock(key: bytes, options: _Options, codes: tuple[str, ...], now: int) -> Imported:
    if "TOTP_AUTH" not in options:
        raise Unreadable("neither TOTP_AUTH nor HOTP_COUNTER says how the token counts")
    period_s = options.value("STEP_SIZE", 30, lowest=1, highest=60)
    # The module stores the step of the typed code, drift included, in units of the step.
    used = [
        number(word, f"{options.place('DISALLOW_REUSE')}: a used time step", highest=_MAX_COUNTER)
        for word in options.words("DISALLOW_REUSE")
    ]
    notes = _notes(options, "window")
    if "DISALLOW_REUSE" not in options:
        notes += ("a code was accepted more than once there; here each works once",)
    return Imported(
        totp_token(UNNAMED, key, now=now, period_s=period_s),
        last=used_step(max(used), now=now, period_s=period_s) if used else None,
        drift=_drift(options),
        scratch_codes=codes,
        place="line 1",
        notes=notes,
    )


def _drift(options: _Options) -> int:
    if "TIME_SKEW" not in options:
        return 0
    text = " ".join(options.words("TIME_SKEW"))
    sign = -1 if text.startswith("-") else 1
    return sign * number(text.removeprefix("-"), f"{options.place('TIME_SKEW')}: TIME_SKEW", highest=MAX_DRIFT)


def _notes(options: _Options, ours: str) -> tuple[str, ...]:
    notes = []
    window = options.value("WINDOW_SIZE", _USUAL_WINDOW, lowest=1, highest=100)
    if window != _USUAL_WINDOW:
        notes.append(f"window of {window} codes: the host's {ours}= counts here")
    if "RATE_LIMIT" in options:
        notes.append("limit of logins in a time: here the wait grows with each wrong answer")
    if "LAST0" in options:
        notes.append("hosts that need no code for a while: every login needs one here")
    return tuple(notes)
