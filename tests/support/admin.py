"""`softtoken-admin` as an administrator or a script runs it."""

from __future__ import annotations

import re

from tests.support.enroller import Enroller, Finished
from tests.support.installation import Installation


class Admin(Enroller):
    """The program of an installation."""

    def __init__(self, installed: Installation) -> None:
        super().__init__(installed.root / "scripts" / "softtoken-admin")


def succeeded(done: Finished) -> str:
    """Check that the program succeeded. Return its stdout."""
    assert "Traceback" not in done.stderr, done.stderr
    assert done.status == 0, done.stderr
    return done.stdout


def refused(done: Finished, status: int = 1) -> tuple[str, str]:
    """Check that the program refused, with one error and one hint at the end of stderr. Return both."""
    assert "Traceback" not in done.stderr, done.stderr
    assert done.status == status, done.stderr
    assert done.stdout == ""
    found = re.search(r"(?:\A|\n)softtoken-admin: error: (.+)\nsofttoken-admin: hint: (.+)\n\Z", done.stderr)
    assert found is not None, done.stderr
    for text in found.groups():
        assert text == text.strip(), text
        assert not text[:2].istitle(), text
        assert not text.endswith("."), text
    return found[1], found[2]
