"""Draw a QR code for the terminal in use. Another library makes the code, and a host may lack it."""

from __future__ import annotations

from types import ModuleType

from pam_softtoken import drawing, platform_facts
from pam_softtoken.program_errors import EnrolmentFailed
from pam_softtoken.ui import terminal


def draw(page: terminal.Terminal, uri: str, wanted: str | None, *, otherwise: str) -> str:
    """Return a Key URI's QR code, drawn in the requested way or in one that fits.

    Args:
        page: the terminal that will show it.
        uri: the text of the code.
        wanted: `utf8` (the caller has checked that it can be shown), `ansi`, or None for what fits.
        otherwise: what the user can do without the library, for the hint.

    Returns:
        The lines, or "" if no way fits.

    Raises:
        EnrolmentFailed: the library is not installed.
    """
    segno = load_segno(otherwise=otherwise)
    code = segno.make(uri, error="l", micro=False)
    matrix = [list(row) for row in code.matrix_iter(border=drawing.QUIET_MODULES)]
    blocks = wanted == "utf8" or (wanted is None and page.can_show_blocks())
    width = len(matrix[0]) * (1 if blocks else 2)
    if width > page.columns():
        page.tell(f"The QR code needs {width} columns; widen the terminal to see it, or type the key.")
        return ""
    if blocks:
        return drawing.half_blocks(matrix, colour=page.has_colour())
    # Without block characters, colours are needed. Not every user wants them.
    return drawing.backgrounds(matrix) if page.has_colour() or wanted == "ansi" else ""


def load_segno(*, otherwise: str) -> ModuleType:
    """Return the library that makes QR codes. A host without it can still enrol by key.

    Raises:
        EnrolmentFailed: it is not installed. The hint is to install it, or to do `otherwise`.
    """
    try:
        import segno  # noqa: PLC0415 - needed only here
    except ImportError:
        raise EnrolmentFailed(
            "QR codes need the segno library", hint=f"{platform_facts.install('segno')}, or {otherwise}"
        ) from None
    return segno
