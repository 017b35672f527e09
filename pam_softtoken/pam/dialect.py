"""The ways in which versions of libpam read the same service file. Values only; imports nothing."""

from __future__ import annotations


class Dialect:
    """How one version of libpam reads.

    Args:
        whole_lines: lines of any length are read whole. A blank line or a comment ends a continued line. Every include
            counts towards the limit of depth. Otherwise lines are read in pieces of 1023 bytes. Blank lines and
            comments inside a continued line are skipped, and only substacks count.
        debian: `@include` exists, and a relative name of an included file is searched for in /etc/pam.d only.
        vendor: services are also searched for in a directory of the distribution, last.

    Source:
        `_pam_assemble_line` of libpam 1.5.2, `_pam_line_assemble` of libpam 1.7.0, Debian's patch 031_pam_include.
    """

    __slots__ = ("debian", "vendor", "whole_lines")

    def __init__(self, *, whole_lines: bool, debian: bool = True, vendor: bool = False) -> None:
        self.whole_lines = whole_lines
        self.debian = debian
        self.vendor = vendor

    def __repr__(self) -> str:
        return f"Dialect(whole_lines={self.whole_lines}, debian={self.debian}, vendor={self.vendor})"


IN_PIECES = Dialect(whole_lines=False)
"""The dialect of Debian 12."""
WHOLE_LINES = Dialect(whole_lines=True)
"""The dialect of Debian 13."""
KNOWN = (
    IN_PIECES,
    WHOLE_LINES,
    Dialect(whole_lines=False, debian=False),
    Dialect(whole_lines=True, debian=False),
)
