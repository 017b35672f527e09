"""The lines of a PAM service file, joined and split into words as libpam does it. Pure.

Source:
    `_pam_assemble_line` and `_pam_StrTok` of libpam 1.5.2, `_pam_line_assemble` and `_pam_tokenize` of libpam 1.7.0.
"""

from __future__ import annotations

from pam_softtoken.pam.dialect import Dialect

PIECE_BYTES = 1023
"""libpam up to 1.5 reads this much at once. A continued line may not be longer there."""
_BLANKS = b" \t\n"


class LogicalLine:
    """One line as libpam sees it.

    Args:
        first, last: numbers of the first and last physical line, from 1.
        words: never empty.
    """

    __slots__ = ("first", "last", "words")

    def __init__(self, first: int, last: int, words: tuple[str, ...]) -> None:
        self.first = first
        self.last = last
        self.words = words


class Flaw:
    """Something that a file should not have.

    Args:
        number: number of the physical line.
        why: the cause, in words.
        fatal: libpam stops reading the file there.
        hangs: libpam hangs there for ever.
    """

    __slots__ = ("fatal", "hangs", "number", "why")

    def __init__(self, number: int, why: str, *, fatal: bool = False, hangs: bool = False) -> None:
        self.number = number
        self.why = why
        self.fatal = fatal or hangs
        self.hangs = hangs


def assemble(text: str, dialect: Dialect) -> tuple[list[LogicalLine], list[Flaw]]:
    """Return the logical lines of a text: continued lines joined, comments left out.

    Args:
        text: text of the file, decoded with `surrogateescape`.
        dialect: dialect of the libpam that reads it.

    Returns:
        The lines up to the first fatal flaw, and the flaws.
    """
    data = text.encode("utf-8", "surrogateescape")
    flaws = []
    if b"\0" in data:
        flaws.append(Flaw(data[: data.index(b"\0")].count(b"\n") + 1, "there is a NUL byte in it"))
    lines = _whole(data, flaws) if dialect.whole_lines else _in_pieces(data, flaws)
    return lines, flaws


def _in_pieces(data: bytes, flaws: list[Flaw]) -> list[LogicalLine]:
    lines: list[LogicalLine] = []
    at, number, first, begun = 0, 1, 0, b""
    while True:
        room = PIECE_BYTES - len(begun)
        if room == 0:
            flaws.append(Flaw(number, "libpam hangs: a backslash is the last byte that it has room for", hangs=True))
            return lines
        feed = data.find(b"\n", at, at + room)
        end = feed + 1 if feed >= 0 else min(at + room, len(data))
        if end == at:
            if begun:
                flaws.append(Flaw(first, "the file ends where the line goes on", fatal=True))
            return lines
        piece, here = data[at:end], number
        at, number = end, number + (feed >= 0)
        if feed < 0 and end < len(data):
            why = f"the line is longer than {PIECE_BYTES} bytes: libpam takes the rest for another line"
            flaws.append(Flaw(here, why))
        seen = piece.partition(b"\0")[0]
        content = seen.lstrip(_BLANKS)
        if not content or content.startswith(b"#"):
            continue
        first = first or here
        # Leading blanks matter inside brackets.
        visible, comment, _ = seen.partition(b"#")
        bare = seen.rstrip(_BLANKS)
        if not comment and bare.endswith(b"\\"):
            begun += bare[:-1] + b" "
            continue
        lines.append(LogicalLine(first, here, words_of(begun + visible)))
        first, begun = 0, b""


def _whole(data: bytes, flaws: list[Flaw]) -> list[LogicalLine]:
    lines: list[LogicalLine] = []
    first, begun = 0, b""
    for number, physical in enumerate(_at_feeds(data), 1):
        content, goes_on = _prepared(physical)
        if goes_on:
            first = first or number
            begun += content
            continue
        if begun or content[:1] not in (b"", b"\0", b"\n"):
            begun += content
        if begun[:1] not in (b"", b"\0"):
            lines.append(LogicalLine(first or number, number, words_of(begun.partition(b"\0")[0])))
        first, begun = 0, b""
    if first:
        flaws.append(Flaw(first, "the file ends where the line goes on", fatal=True))
    return lines


def _prepared(physical: bytes) -> tuple[bytes, bool]:
    """Return the part of a physical line that counts, and whether the next line continues it."""
    bare = physical.rstrip(_BLANKS)
    goes_on = bare.endswith(b"\\")
    text = bare[:-1] + b" " if goes_on else physical
    seen = text.partition(b"\0")[0]
    comment = seen.find(b"#")
    if comment >= 0:
        return (text[:comment] + b"\0").lstrip(b" \t"), False
    return text[len(seen) - len(seen.lstrip(b" \t")) :], goes_on


def _at_feeds(data: bytes) -> list[bytes]:
    """Return the pieces of data, split at line feeds only. The line feeds stay."""
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def physical_lines(text: str) -> list[str]:
    """Return the lines of a text, split at line feeds only. The line feeds stay."""
    lines = [f"{line}\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def words_of(line: bytes) -> tuple[str, ...]:
    """Return the words of a line. A text in brackets is one word, and `\\]` inside it is a bracket."""
    words = []
    while line := line.lstrip(_BLANKS):
        if line.startswith(b"["):
            word, line = _bracketed(line[1:])
        else:
            end = min((place for place in map(line.find, (b" ", b"\t", b"\n")) if place >= 0), default=len(line))
            word, line = line[:end], line[end:]
        words.append(word.decode("utf-8", "surrogateescape"))
    return tuple(words)


def _bracketed(text: bytes) -> tuple[bytes, bytes]:
    word, at = b"", 0
    while at < len(text) and text[at : at + 1] != b"]":
        at += text.startswith(b"\\]", at)
        word += text[at : at + 1]
        at += 1
    return word, text[at + 1 :]
