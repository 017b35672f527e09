"""The ways in which versions of libpam read the same service file."""

from __future__ import annotations


class Dialect:
    """How one libpam reads.

    Args:
        whole_lines: lines of any length are read whole, a blank line or a comment ends a continued line, and every
            include counts towards the limit of depth. Otherwise lines are read in pieces of 1023 bytes, blank lines and
            comments inside a continued line are passed over, and only substacks count.
        debian: there is `@include`, and what is included by a relative name is looked for in /etc/pam.d only.

    Source:
        `_pam_assemble_line` of libpam 1.5.2, `_pam_line_assemble` of libpam 1.7.0, Debian's patch 031_pam_include.
    """

    __slots__ = ("debian", "whole_lines")

    def __init__(self, *, whole_lines: bool, debian: bool = True) -> None:
        self.whole_lines = whole_lines
        self.debian = debian

    def __repr__(self) -> str:
        return f"Dialect(whole_lines={self.whole_lines}, debian={self.debian})"


IN_PIECES = Dialect(whole_lines=False)
"""Debian 12 has it."""
WHOLE_LINES = Dialect(whole_lines=True)
"""Debian 13 has it."""
KNOWN = (
    IN_PIECES,
    WHOLE_LINES,
    Dialect(whole_lines=False, debian=False),
    Dialect(whole_lines=True, debian=False),
)
