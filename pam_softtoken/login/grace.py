"""Name the sources that get a time of grace after a code. A source that is only claimed gets none. A local source is a
login session of this boot, as the kernel reports it. The name of a terminal proves nothing, because the next person may
sit there. A session counts for programs that a user started, such as sudo. A daemon of root's has one session for all
its users. A remote source is an address that a daemon of root's has seen. A host name is only what its owner claims,
and the caller of a set-uid program may supply one.
"""

from __future__ import annotations

import os

from pam_softtoken.account import proc
from pam_softtoken.otp.mac import sha256


def name_of(rhost: str, service: str, *, caller_uid: int, session: int) -> str:
    """Return the name of an attempt's source together with its service.

    Args:
        rhost: `PAM_RHOST`; empty for this host.
        service: `PAM_SERVICE`.
        caller_uid: real uid of the application.
        session: the application's session (`getsid`); 0 when it is not known.

    Returns:
        16 hexadecimal digits, or "" for a source that gets no grace.
    """
    if os.geteuid() != 0:
        return ""  # the user's own program chooses service and rhost
    place = _remote(rhost, caller_uid) if rhost else _local(session, caller_uid)
    text = f"{service}\0{place}".encode("utf-8", "surrogateescape")
    return sha256(text).hexdigest()[:16] if place else ""


def _remote(rhost: str, caller_uid: int) -> str:
    if caller_uid != 0 or not _is_address(rhost):
        return ""
    try:
        return f"boot {proc.boot_id()} address {rhost}"  # after a restart the elapsed time is unknown
    except OSError:
        return ""


def _local(session: int, caller_uid: int) -> str:
    """Return the name of a login session, valid as long as the session's leading process lives. The session's number
    alone could be used again.

    A session can have programs of several users. A program that one of them runs as another user is not trusted as far.
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
