"""Check whether Debian's pam-auth-update profile puts our line into common-auth, and how to turn it off.

It only reads. pam-auth-update runs no code of a profile, so we cannot warn an administrator who turns it on.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from pam_softtoken import platform_facts
from pam_softtoken.admin.common.finding import delete
from pam_softtoken.pam.stack import Line

NAME = "softtoken"
RECORD = "/var/lib/pam/auth"
"""The file that pam-auth-update wrote last, with the name of the profile above its lines."""
TURN_OFF = f"pam-auth-update --disable {NAME}"


def has_made(line: Line) -> bool:
    """Check whether one of our lines comes from the profile."""
    try:
        record = Path(RECORD).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return platform_facts.is_of_pam_auth_update(line.place.file) and f"Module: {NAME}" in record.splitlines()


def way_off(service: str, line: Line) -> str:
    """Return what removes our line from a service, in any file.

    Args:
        service: the service that runs the line.
        line: our line.
    """
    if has_made(line):
        return TURN_OFF
    return str(delete(line)) if line.via else f"softtoken-admin disable {shlex.quote(service)}"
