"""Debian's profile for pam-auth-update, which puts our line into common-auth: whether it is on, and the way off.

Looks only. pam-auth-update runs nothing of a profile, so nothing of ours can warn while somebody turns it on.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from pam_softtoken.admin.common.finding import delete
from pam_softtoken.pam import service_file
from pam_softtoken.pam.stack import Line

NAME = "softtoken"
RECORD = "/var/lib/pam/auth"
"""What pam-auth-update has written last, with the name of the profile above its lines."""
TURN_OFF = f"pam-auth-update --disable {NAME}"
_COMMON = f"{service_file.DIRECTORY}/common-"


def has_made(line: Line) -> bool:
    """Check whether a line of ours is there because the profile is on."""
    try:
        record = Path(RECORD).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return line.place.file.startswith(_COMMON) and f"Module: {NAME}" in record.splitlines()


def way_off(service: str, line: Line) -> str:
    """Return the command that takes a line of ours out of a service, wherever it stands.

    Args:
        service: that runs it.
        line: ours.
    """
    if has_made(line):
        return TURN_OFF
    return delete(line) if line.via else f"softtoken-admin disable {shlex.quote(service)}"
