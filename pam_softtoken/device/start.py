"""Start `softtoken` where it can run. Elsewhere, for instance on Windows, say so. Must not import our other modules
before that: they need parts of Unix.
"""

from __future__ import annotations

import importlib
import sys

_NEEDED = ("fcntl", "pwd", "resource", "termios")
"""The modules of Python for Unix that `softtoken` needs."""


def main() -> int:
    """Run the program. Exit status: 0 done, 1 failed, 2 usage."""
    for name in _NEEDED:
        try:
            importlib.import_module(name)
        except ImportError:
            return _refuse(name)
    from pam_softtoken.device import program  # noqa: PLC0415 - it needs these modules

    return program.main()


def _refuse(name: str) -> int:
    if sys.platform == "win32":
        what = "Windows is not supported"
    else:
        what = f"this Python has no module {name}, so softtoken cannot run here"
    sys.stderr.write(f"softtoken: error: {what}\n")
    sys.stderr.write("softtoken: hint: run softtoken on Linux, or use an app on a phone\n")
    return 1
