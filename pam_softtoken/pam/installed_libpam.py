"""Find the dialect and the modules of this machine's libpam. This is for the programs only: a login cannot know the
application's libpam.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys

from pam_softtoken.pam.dialect import IN_PIECES, Dialect

LIBRARY = "libpam.so.0"
_WHOLE_LINES = b"maximum level of inclusions reached"
"""A message of libpam since 1.6.0. That version also reads whole lines."""
_DEBIAN = b"@include"
_MULTIARCH = getattr(sys.implementation, "_multiarch", "")
_MODULES = tuple(
    f"{prefix}/security"
    for prefix in (f"/lib/{_MULTIARCH}", f"/usr/lib/{_MULTIARCH}", "/lib64", "/usr/lib64", "/lib", "/usr/lib")
)
"""Where distributions put modules. Debian's libpam looks in the first, and then in /lib."""


@functools.cache
def dialect() -> Dialect:
    """Return the dialect of this machine's libpam. If there is no libpam to read, it is Debian 12's."""
    try:
        ctypes.CDLL(LIBRARY)
        with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
            path = next(line.split(None, 5)[5].strip() for line in maps if LIBRARY in line)
        return dialect_of(path)
    except (OSError, StopIteration):
        return IN_PIECES


def dialect_of(library: str) -> Dialect:
    """Return the dialect of a libpam, by the content of its file.

    Raises:
        OSError: the file cannot be read.
    """
    with open(library, "rb") as file:
        code = file.read()
    return Dialect(whole_lines=_WHOLE_LINES in code, debian=_DEBIAN in code)


def module_file(module: str) -> str:
    """Return the path of the module that a line names; empty if it is not there."""
    paths = (module,) if module.startswith("/") else (f"{directory}/{module}" for directory in _MODULES)
    return next((path for path in paths if os.path.exists(path)), "")
