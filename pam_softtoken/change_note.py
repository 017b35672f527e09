"""The note that an accepted code leaves while a change of its service waits to be confirmed. Root's; imports only `os`.

`softtoken-admin enable` makes the file `PENDING` in a directory named after the service, and watches for the note.
"""

from __future__ import annotations

import os

DIRECTORY = "/var/lib/softtoken/changes"
PENDING, NOTE = "pending", "login"


def is_waited_for(service: str) -> bool:
    """Tell whether a change of this service waits for a login; a name that could lead elsewhere is no service's."""
    if not service or "/" in service or "." in service or "\0" in service:
        return False
    try:
        os.lstat(f"{DIRECTORY}/{service}/{PENDING}")
    except (OSError, ValueError):
        return False
    return True


def leave(service: str) -> None:
    """Leave the note; that it cannot be left matters to nobody here."""
    try:
        os.close(
            os.open(f"{DIRECTORY}/{service}/{NOTE}", os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        )
    except OSError:
        pass
