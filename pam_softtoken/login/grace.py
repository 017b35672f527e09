"""Who gets a time of grace after a code: the name of a source and service, or none where the source is only claimed.

A local source is a login session of this boot, by what the kernel says of it; a terminal's name says nothing, the next
person may have it. It counts for what a user has started, such as sudo: a daemon of root's has one session for all whom
it serves. A remote source is an address that a daemon of root's has seen; a host name is what its owner claims, and a
set-uid program may be told one by its caller.
"""

from __future__ import annotations

import os

from pam_softtoken.account import proc
from pam_softtoken.otp.mac import sha256


def name_of(rhost: str, service: str, *, caller_uid: int, session: int) -> str:
    """Name the source of an attempt together with its service.

    Args:
        rhost: `PAM_RHOST`; empty for this host.
        service: `PAM_SERVICE`.
        caller_uid: real uid of the application.
        session: the application's session (`getsid`), 0 when that is not known.

    Returns:
        16 hexadecimal digits, or "" for a source that gets no grace.
    """
    if os.geteuid() != 0:
        return ""  # service and rhost are whatever the user's own program says
    place = _remote(rhost, caller_uid) if rhost else _local(session, caller_uid)
    text = f"{service}\0{place}".encode("utf-8", "surrogateescape")
    return sha256(text).hexdigest()[:16] if place else ""


def _remote(rhost: str, caller_uid: int) -> str:
    if caller_uid != 0 or not _is_address(rhost):
        return ""
    try:
        return f"boot {proc.boot_id()} address {rhost}"  # after a restart nobody can tell how much time has passed
    except OSError:
        return ""


def _local(session: int, caller_uid: int) -> str:
    """Name a login session as long as the process that leads it lives; its number alone could come again.

    A session can have programs of several users in it: what one of them runs as another one is not trusted as far.
    """
    if session <= 0 or caller_uid == 0:
        return ""
    try:
        return f"session {proc.boot_id()} {session} {proc.start_ticks(session)} uid {caller_uid}"
    except (OSError, ValueError):
        return ""


def _is_address(rhost: str) -> bool:
    import _socket  # noqa: PLC0415 - only hosts with `grace=` need it

    for family in (_socket.AF_INET, _socket.AF_INET6):
        try:
            _socket.inet_pton(family, rhost)
        except (OSError, ValueError):
            continue
        return True
    return False
