"""`softtoken-admin` in one process: strace counts the calls of each process alone, and the program's work on a user's
files is done by another one.
"""

from __future__ import annotations

from tests.support.admin import Admin
from tests.support.installation import Installation

_SCRIPT = """
import sys
sys.path.insert(0, {root!r})
from pam_softtoken.admin import program
from pam_softtoken.admin.common import bounded
bounded.answer_of = lambda work, *, limit_s: work()
sys.exit(program.main())
"""


def in_one_process(installed: Installation) -> Admin:
    """Return the program with its work done where it runs."""
    admin = Admin(installed)
    admin.program = ("/usr/bin/python3", "-I", "-B", "-c", _SCRIPT.format(root=str(installed.root)))
    return admin
