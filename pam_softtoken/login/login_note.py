"""The notes that a login leaves while a change of its service waits to be confirmed. The notes are root's. Imports only
`os` and the paths.

`softtoken-admin enable` makes the file `PENDING` in a directory named after the service. An accepted code makes a file
named `ACCEPTED` plus a random name. The random name also goes into `VARIABLE` of PAM's environment. If the whole stack
lets this login in, the bridge renames that file to `NOTE` when the host asks for credentials (`pam_sm_setcred`). `NOTE`
is what confirms the change. The note of a refused login stays behind. No other login knows its name, not even a
public-key login of the same user. If `AWAITED` exists with a user's name, only that user's codes leave a note.

A change of `SIGNING` is about sudo's plugin. There, an accepted signature is the last word, so `confirm` makes `NOTE`
at once.
"""

from __future__ import annotations

import os

from pam_softtoken.account import places

PENDING, AWAITED, ACCEPTED, NOTE = "pending", "awaited:", "accepted:", "login"
SIGNING = "sudo-sign"
"""In place of a service: the signatures that sudo asks for."""
VARIABLE = "PAM_SOFTTOKEN_NOTE"
_NAME_BYTES = 8  # pam_softtoken.c checks the number of digits


def is_waited_for(service: str, user: str) -> bool:
    """Return whether a change of this service waits for a login of a user.

    Args:
        service: its name. A name that could lead elsewhere is no service's.
        user: the canonical name.
    """
    if not service or "/" in service or "." in service or "\0" in service:
        return False
    try:
        os.lstat(f"{places.CHANGES}/{service}/{PENDING}")
        awaited = [name for name in os.listdir(f"{places.CHANGES}/{service}") if name.startswith(AWAITED)]
    except (OSError, ValueError):
        return False
    return not awaited or f"{AWAITED}{user}" in awaited


def leave(service: str) -> str:
    """Write the note of an accepted code, and return its name.

    Raises:
        OSError: the note cannot be written.
    """
    name = os.urandom(_NAME_BYTES).hex()
    path = f"{places.CHANGES}/{service}/{ACCEPTED}{name}"
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    return name


def confirm(service: str, user: str) -> None:
    """Write the note that confirms a change, if one waits for this user.

    Args:
        service: its name.
        user: the canonical name of a user who was let in, and needs nobody else's consent.

    Raises:
        OSError: the note cannot be written.
    """
    if is_waited_for(service, user):
        os.close(os.open(f"{places.CHANGES}/{service}/{NOTE}", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def await_instead(old_name: str, new_name: str) -> None:
    """Write the new name of a renamed account into what waits for it, as far as possible, so that its login still
    confirms.
    """
    try:
        services = os.listdir(places.CHANGES)
    except OSError:
        return
    for service in services:
        awaited = f"{places.CHANGES}/{service}/{AWAITED}"
        try:
            os.rename(f"{awaited}{old_name}", f"{awaited}{new_name}")
        except OSError:
            continue
