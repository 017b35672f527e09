"""Find the dialect and the modules of this machine's libpam. This is for the programs only: a login cannot know the
application's libpam.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import sys

from pam_softtoken import platform_facts
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
"""Where distributions put modules, if there is no libpam that says it. Debian's looks in the first, then in /lib."""
_MODULES_IN_CODE = re.compile(rb"(?<![^\0])((?:/[\w.+-]+)+/security)/?\0")
_VENDOR = f"{platform_facts.VENDOR_DIRECTORY}/%s".encode()


@functools.cache
def dialect() -> Dialect:
    """Return the dialect of this machine's libpam. If there is no libpam to read, it is Debian 12's."""
    try:
        return dialect_of(_path())
    except OSError:
        return IN_PIECES


def _path() -> str:
    """Return the path of this machine's libpam. Raises `OSError` if there is none."""
    ctypes.CDLL(LIBRARY)
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:
        found = next((line.split(None, 5)[5].strip() for line in maps if LIBRARY in line), None)
    if found is None:
        raise FileNotFoundError(LIBRARY)
    return found


def dialect_of(library: str) -> Dialect:
    """Return the dialect of a libpam, by the content of its file.

    Raises:
        OSError: the file cannot be read.
    """
    code = _code_of(library)
    return Dialect(whole_lines=_WHOLE_LINES in code, debian=_DEBIAN in code, vendor=_VENDOR in code)


def directories_of(library: str) -> tuple[str, ...]:
    """Return where a libpam looks for modules, by the content of its file.

    Raises:
        OSError: the file cannot be read.
    """
    found = dict.fromkeys(path.decode() for path in _MODULES_IN_CODE.findall(_code_of(library)))
    # Debian's libpam has the directory of old systems in front, and looks there last.
    return tuple(sorted(found, key=lambda path: path == "/lib/security"))


def _code_of(library: str) -> bytes:
    with open(library, "rb") as file:
        return file.read()


@functools.cache
def module_directories() -> tuple[str, ...]:
    """Return where this machine's libpam looks for modules."""
    try:
        return directories_of(_path()) or _MODULES
    except OSError:
        return _MODULES


def module_file(module: str) -> str:
    """Return the path of the module that a line names; empty if it is not there."""
    paths = (module,) if module.startswith("/") else (f"{directory}/{module}" for directory in module_directories())
    return next((path for path in paths if os.path.exists(path)), "")
