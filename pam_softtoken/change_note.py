"""The notes that a login leaves while a change of its service waits to be confirmed. Root's; imports only `os`.

`softtoken-admin enable` makes the file `PENDING` in a directory named after the service. An accepted code leaves
`ACCEPTED` with the user's name behind it. Where the whole stack has let him in, the bridge makes `NOTE` of that file
when the host asks for credentials (`pam_sm_setcred`), and `NOTE` is what confirms. Where `AWAITED` with a user's name
is there, only that user's codes leave a note.
"""

from __future__ import annotations

import os

DIRECTORY = "/var/lib/softtoken/changes"
PENDING, AWAITED, ACCEPTED, NOTE = "pending", "awaited:", "accepted:", "login"


def is_waited_for(service: str) -> bool:
    """Tell whether a change of this service waits for a login; a name that could lead elsewhere is no service's."""
    if not service or "/" in service or "." in service or "\0" in service:
        return False
    try:
        os.lstat(f"{DIRECTORY}/{service}/{PENDING}")
    except (OSError, ValueError):
        return False
    return True


def leave(service: str, user: str) -> None:
    """Leave the note of an accepted code; that it cannot be left matters to nobody here."""
    if "/" in user:
        return
    path = f"{DIRECTORY}/{service}/{ACCEPTED}{user}"
    try:
        awaited = [name for name in os.listdir(f"{DIRECTORY}/{service}") if name.startswith(AWAITED)]
        if awaited and f"{AWAITED}{user}" not in awaited:
            return
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except (OSError, ValueError):
        pass
