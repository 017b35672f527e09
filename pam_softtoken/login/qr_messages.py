"""Draw a QR code as messages of a PAM conversation. Imports the standard library, and segno of the host's packages."""

from __future__ import annotations

import os
import sys

from pam_softtoken import drawing, platform_facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

MAX_MESSAGE_BYTES = 511
"""`PAM_MAX_MSG_SIZE` without its NUL. An application may refuse more."""
MAX_PARTS = 20
"""The limit for a drawing that can be shown twice. The bridge relays 64 frames, and the dialogue has about 23 others.
"""


def matrix_of(uri: str) -> list[list[int]]:
    """Return a QR code; 1 is dark. It is empty if the library is missing or a long name makes the code too large."""
    segno = _load_segno()
    if segno is None:
        return []
    code = segno.make(uri, error="l", micro=False)
    matrix = [list(row) for row in code.matrix_iter(border=drawing.QUIET_MODULES)]
    return matrix if len(messages_of(matrix)) <= MAX_PARTS else []


def _load_segno() -> ModuleType | None:
    """Return the module segno, imported from the host's packages. It is imported only if nobody but root could have put
    it there.
    """
    path = f"{platform_facts.LIBRARIES}/segno"
    while path:
        try:
            status = os.lstat(path)
        except OSError:
            return None
        if status.st_uid != 0 or status.st_mode & 0o022:
            return None
        path = path.rpartition("/")[0]
    sys.path.append(platform_facts.LIBRARIES)
    try:
        import segno  # noqa: PLC0415 - the only module that is not of the standard library
    except ImportError:
        return None
    finally:
        sys.path.remove(platform_facts.LIBRARIES)
    return segno


def messages_of(matrix: list[list[int]]) -> list[str]:
    """Return a drawing without colours, because OpenSSH's client shows no control characters. It is cut between its
    lines. Each part has a length that every application must be able to show.
    """
    drawn = drawing.half_blocks(matrix, colour=False) if matrix else ""
    parts: list[str] = []
    for line in drawn.split("\n") if drawn else []:
        joined = f"{parts[-1]}\n{line}" if parts else line
        if parts and len(joined.encode()) <= MAX_MESSAGE_BYTES:
            parts[-1] = joined
        else:
            parts.append(line)
    return parts
