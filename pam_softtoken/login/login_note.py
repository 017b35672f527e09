"""The notes that a login leaves while a change of its service waits to be confirmed. Root's; imports only `os`.

`softtoken-admin enable` makes the file `PENDING` in a directory named after the service. An accepted code leaves
`ACCEPTED` with a random name behind it, and that name in `VARIABLE` of PAM's environment. Where the whole stack has let
this login in, the bridge makes `NOTE` of that file when the host asks for credentials (`pam_sm_setcred`), and `NOTE` is
what confirms. The note of a refused login stays behind, and no other login knows its name: not one of the same user
with a public key, either. Where `AWAITED` with a user's name is there, only that user's codes leave a note.
"""

from __future__ import annotations

import os

DIRECTORY = "/var/lib/softtoken/changes"
PENDING, AWAITED, ACCEPTED, NOTE = "pending", "awaited:", "accepted:", "login"
VARIABLE = "PAM_SOFTTOKEN_NOTE"
_NAME_BYTES = 8  # pam_softtoken.c counts its digits


def is_waited_for(service: str, user: str) -> bool:
    """Return whether a change of this service waits for a login of a user.

    Args:
        service: a name that could lead elsewhere is no service's.
        user: the canonical name.
    """
    if not service or "/" in service or "." in service or "\0" in service:
        return False
    try:
        os.lstat(f"{DIRECTORY}/{service}/{PENDING}")
        awaited = [name for name in os.listdir(f"{DIRECTORY}/{service}") if name.startswith(AWAITED)]
    except (OSError, ValueError):
        return False
    return not awaited or f"{AWAITED}{user}" in awaited


def leave(service: str) -> str:
    """Leave the note of an accepted code, and return its name.

    Raises:
        OSError: it cannot be left.
    """
    name = os.urandom(_NAME_BYTES).hex()
    path = f"{DIRECTORY}/{service}/{ACCEPTED}{name}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    return name


def await_instead(old_name: str, new_name: str) -> None:
    """Let the login of a renamed account confirm what waits for it under its old name, as far as that can be done."""
    try:
        services = os.listdir(DIRECTORY)
    except OSError:
        return
    for service in services:
        try:
            os.rename(f"{DIRECTORY}/{service}/{AWAITED}{old_name}", f"{DIRECTORY}/{service}/{AWAITED}{new_name}")
        except OSError:
            continue
