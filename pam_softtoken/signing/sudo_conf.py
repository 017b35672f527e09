"""Read and write the line of /etc/sudo.conf that makes sudo ask for signatures. Lines are read as sudo reads them.

The functions on texts are pure. A line of ours counts wherever it is and however it is spelled. It may name our symbol
in another file, or our file with another symbol: sudo needs the file in both cases, so no such line may be left when
the file is removed. Source: sudo.conf(5), and sudo's lib/util/parseln.c and sudo_conf.c.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import NamedTuple

PATH = "/etc/sudo.conf"
SYMBOL = "softtoken_approval"
FILE = "softtoken_approval.so"
REQUIRED = "required"
"""The option of our line. With it, users without a signing token are refused, too."""
_BLANKS = " \t"
_MAX_BYTES = 2**20


class _Line(NamedTuple):
    """One logical line.

    Args:
        start, end: where its physical lines are in the text.
        words: without comment and continuation.
        is_open: the text ends in the middle of it: the next physical line would continue it.
    """

    start: int
    end: int
    words: list[str]
    is_open: bool


class OurLine(NamedTuple):
    """A line of ours, for a person who has the file in an editor.

    Args:
        number, last: of its first and its last physical line.
        text: as it is written.
        symbol, file: of the plugin that it names.
        options: what it hands to the plugin.
    """

    number: int
    last: int
    text: str
    symbol: str
    file: str
    options: tuple[str, ...]


def is_on() -> bool:
    """Check whether sudo asks for signatures.

    Raises:
        OSError: this cannot be known.
    """
    return asks(_text_for_sudo())


def is_required() -> bool:
    """Check whether sudo refuses users without a signing token.

    Raises:
        OSError: this cannot be known.
    """
    return requires(_text_for_sudo())


def _text_for_sudo() -> str:
    """Return the text that sudo reads. It is empty if sudo ignores the file."""
    try:
        status = os.stat(PATH)
        if not stat.S_ISREG(status.st_mode) or is_ignored(status.st_mode, status.st_uid):
            return ""
        with open(PATH, "rb") as file:
            return file.read(_MAX_BYTES).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return ""


def is_ignored(mode: int, uid: int) -> bool:
    """Check whether sudo ignores a file with this mode and owner, because others than root could change it."""
    return uid != 0 or bool(mode & (stat.S_IWGRP | stat.S_IWOTH))


def asks(text: str) -> bool:
    """Check whether a text has a line of ours."""
    return any(map(_is_ours, _lines(text)))


def requires(text: str) -> bool:
    """Check whether the first line of ours has the option `REQUIRED`. sudo ignores a second line."""
    ours = next(filter(_is_ours, _lines(text)), None)
    return ours is not None and REQUIRED in ours.words[3:]


def our_lines(text: str) -> list[OurLine]:
    """Return the lines of ours, in their order."""
    found = []
    for line in filter(_is_ours, _lines(text)):
        written = text[line.start : line.end].rstrip("\n")
        number = text.count("\n", 0, line.start) + 1
        symbol, file, *options = line.words[1:]
        found.append(OurLine(number, number + written.count("\n"), written, symbol, file, tuple(options)))
    return found


def plugin_directory(text: str) -> str:
    """Return where a text makes sudo look for plugins: its last word on that counts. Empty if it says nothing."""
    found = [line.words[2] for line in _lines(text) if _is(line, "path", 3) and line.words[1].lower() == "plugin_dir"]
    return found[-1] if found else ""


def with_line(text: str, *, required: bool, directory: str) -> str:
    """Return a text with one line of ours.

    It is the last line, or the first one where it would otherwise become a part of the last. `without_lines` returns
    the text as it was, to the byte.

    Args:
        text: the text.
        required: our line has the option `REQUIRED`.
        directory: where the file of our plugin is. It is named only if the text makes sudo look for plugins elsewhere.
    """
    kept = without_lines(text)
    file = f"{directory}/{FILE}" if _moves_plugins(kept) else FILE
    line = " ".join(["Plugin", SYMBOL, file, *([REQUIRED] if required else [])]) + "\n"
    last = next(reversed(list(_lines(kept))), None)
    is_whole = last is None or (kept.endswith("\n") and not last.is_open)
    return kept + line if is_whole else line + kept


def without_lines(text: str) -> str:
    """Return a text without any line of ours."""
    return "".join(text[line.start : line.end] for line in _lines(text) if not _is_ours(line))


def _moves_plugins(text: str) -> bool:
    return any(_is(line, "path", 2) and line.words[1].lower() == "plugin_dir" for line in _lines(text))


def _is_ours(line: _Line) -> bool:
    return _is(line, "plugin", 3) and (line.words[1] == SYMBOL or line.words[2].rpartition("/")[2] == FILE)


def _is(line: _Line, keyword: str, words: int) -> bool:
    return len(line.words) >= words and line.words[0].lower() == keyword


def _lines(text: str) -> Iterator[_Line]:
    start = end = 0
    joined, is_open = "", False
    for physical in _physical(text):
        end += len(physical)
        piece, is_open = _read(physical)
        joined += piece
        if not is_open:
            yield _Line(start, end, _words(joined), is_open=False)
            start, joined = end, ""
    if start < end:
        yield _Line(start, end, _words(joined), is_open=True)


def _physical(text: str) -> Iterator[str]:
    """Return the lines with their ends. For sudo, nothing but a newline ends a line."""
    start = 0
    while start < len(text):
        end = text.find("\n", start) + 1 or len(text)
        yield text[start:end]
        start = end


def _read(physical: str) -> tuple[str, bool]:
    """Return what a physical line adds to its logical line, and whether the next one continues it."""
    line = physical.rstrip("\r\n")
    before, mark, _ = line.partition("\0")[0].partition("#")
    if mark:
        return before.strip(_BLANKS), False
    if line.endswith("\\") and not line.endswith("\\\\"):
        return line[:-1].lstrip(_BLANKS), True
    return line.strip(_BLANKS), False


def _words(joined: str) -> list[str]:
    """Split a logical line. sudo reads it as a text of C, which ends at a zero byte."""
    text = joined.partition("\0")[0].replace("\t", " ")
    return [word for word in text.split(" ") if word]
