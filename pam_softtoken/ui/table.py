"""Print tables of any width. A row is one line where it fits, or where no person reads it. Else cells are stacked."""

from __future__ import annotations

import itertools
import textwrap
import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from pam_softtoken.ui import terminal

_GAP = "  "
_LOOK_AHEAD = 64


def show(screen: terminal.Terminal, rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table.

    Args:
        screen: the output.
        rows: the first one is the header. The last column is for text that can be long, and is often empty.
    """
    columns = screen.columns() if screen.is_terminal() else None
    widths = _widths([0] * (len(rows[0]) - 1), rows)
    screen.show("\n".join(line for row in rows for line in _laid_out(row, rows[0], widths, columns)))


def stream(screen: terminal.Terminal, header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    """Print a table of any length as its rows arrive. A later row can widen it. Without rows, print no header."""
    columns = screen.columns() if screen.is_terminal() else None
    rest = iter(rows)
    widths = [0] * (len(header) - 1)
    # The rows at the top are known before anything is shown, so a short table is aligned.
    while first := list(itertools.islice(rest, _LOOK_AHEAD)):
        if not any(widths):
            first.insert(0, header)
        widths = _widths(widths, first)
        screen.show("\n".join(line for row in first for line in _laid_out(row, header, widths, columns)))


def _widths(widths: list[int], rows: Sequence[tuple[str, ...]]) -> list[int]:
    return [max(least, *(width(row[place]) for row in rows)) for place, least in enumerate(widths)]


def _laid_out(row: tuple[str, ...], header: tuple[str, ...], widths: list[int], columns: int | None) -> Iterator[str]:
    base = sum(widths) + len(_GAP) * (len(widths) - 1)
    cells = _GAP.join(padded(*cell) for cell in zip(row[:-1], widths, strict=True))
    if columns is None or base + len(_GAP) + width(row[-1]) <= columns:
        yield (cells + _GAP + row[-1]).rstrip()
    elif base <= columns:
        yield cells.rstrip()
        yield from _below(row[-1] if row is not header else "", columns)
    elif row is not header:
        yield row[0]
        named = [f"{name} {cell}" for name, cell in zip(header[1:-1], row[1:-1], strict=True) if cell != "-"]
        yield from _below(", ".join(named), columns)
        yield from _below(row[-1], columns)


def _below(text: str, columns: int) -> list[str]:
    return textwrap.wrap(text, max(columns, 10), initial_indent=_GAP, subsequent_indent=_GAP, break_on_hyphens=False)


def width(text: str) -> int:
    """Return how many columns a text takes in a terminal (Unicode Standard Annex 11)."""
    return sum(
        0 if unicodedata.combining(character) else 1 + (unicodedata.east_asian_width(character) in "WF")
        for character in text
    )


def padded(text: str, columns: int) -> str:
    """Return a text, padded to a number of columns."""
    return text + " " * (columns - width(text))
