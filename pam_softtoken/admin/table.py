"""Tables of any width: a line a row where there is room, or where no person reads it; otherwise one below the other."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from pam_softtoken import terminal
from pam_softtoken.inventory import padded, width

_GAP = "  "


def show(screen: terminal.Terminal, rows: Sequence[tuple[str, ...]]) -> None:
    """Print a table.

    Args:
        screen: where to.
        rows: the first one is the header. The last column is for what can be long, and is often empty.
    """
    screen.show("\n".join(_laid_out(rows, screen.columns() if screen.is_terminal() else None)))


def _laid_out(rows: Sequence[tuple[str, ...]], columns: int | None) -> Iterator[str]:
    header = rows[0]
    widths = [max(width(row[place]) for row in rows) for place in range(len(header) - 1)]
    base = sum(widths) + len(_GAP) * (len(widths) - 1)
    for row in rows:
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
