"""QR codes and keys as text. Does no I/O and imports nothing, so that logins and programs can both use it."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

QUIET_MODULES = 4  # ISO/IEC 18004 asks for a light border of four modules
_DARK_ON_LIGHT = "\x1b[30;107m"
_DARK, _LIGHT = "\x1b[40m", "\x1b[107m"
_PLAIN = "\x1b[0m"


def half_blocks(matrix: Sequence[Sequence[int]], *, colour: bool) -> str:
    """Return a QR code as text, with two modules in each character.

    Args:
        matrix: rows of modules, with the quiet zone; 1 is dark.
        colour: set black on white, which is readable on any background. Without it the light modules are drawn, which
            suits a dark terminal.

    Returns:
        Lines of text.
    """
    rows = [list(row) for row in matrix]
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    lines = []
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        pairs = zip(upper, lower, strict=True)
        if colour:
            lines.append(_DARK_ON_LIGHT + "".join(" ▄▀█"[up * 2 + down] for up, down in pairs) + _PLAIN)
        else:
            lines.append("".join("█▀▄ "[up * 2 + down] for up, down in pairs))
    return "\n".join(lines)


def backgrounds(matrix: Sequence[Sequence[int]]) -> str:
    """Return a QR code made of coloured spaces, two for each module. It suits terminals without block characters."""
    return "\n".join("".join((_DARK if module else _LIGHT) + "  " for module in row) + _PLAIN for row in matrix)


def grouped(text: str, size: int = 4) -> str:
    """Return a text with a space after every `size` characters, as people read keys to each other."""
    return " ".join(text[place : place + size] for place in range(0, len(text), size))
