"""Explain why a program without root cannot judge a code, and what helps. Loaded only after a refusal. Screen lockers
run as their user, and some servers, such as PostgreSQL, as a user of their own. Root's files are closed to them, and so
are those of other users, even when the right code is typed. Where `softtoken-login.socket` is on, root's service judges
the codes, see `bridge/relay`. There is no set-uid helper as pam_unix has one: it would inherit what its caller limits.
"""

from __future__ import annotations

import errno
import os

from pam_softtoken.account import places
from pam_softtoken.errors import DENIED, EXPLAINED, InsecureFile, UnusableFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.account.location import Location

_WHO = "this service runs as uid {uid}, which cannot {do}"
_TAKE_OUT = "take the line with pam_softtoken out of its PAM service"
_RELAY = "as root, systemctl enable --now softtoken-login.socket"
_PEER = "with its user in relay_for of softtoken.conf; or"
_MOVE = "or keep the tokens in the home directories: softtoken-admin move --all --to home"
_CLOSED = f"as root, chmod 711 {places.DATA} {places.ENROLLED}"


def explained(error: InsecureFile | UnusableFile, location: Location) -> InsecureFile | UnusableFile:
    """Return an error that explains this, if missing root privilege is the cause. Otherwise return the same error.

    Args:
        error: the error about a file.
        location: the user and the place of the files.
    """
    uid = os.geteuid()
    if uid == 0:
        return error
    is_users = uid == location.account.uid
    cannot_read = _WHO.format(uid=uid, do="read it")
    in_store = location.path.startswith(error.path) or error.path.startswith(location.path)
    if in_store and not location.in_home:
        why = f"only root can read this store, and {cannot_read}; {_RELAY}"
        why = f"{why}, or {_TAKE_OUT}, {_MOVE}" if is_users else f"{why}, {_PEER} {_TAKE_OUT}"
        return UnusableFile(error.path, why, kind=EXPLAINED)
    if in_store and not is_users and error.kind == DENIED:
        why = f"{cannot_read}; only a service that runs as root can check codes of other users"
        why = f"{why}; {_RELAY}, {_PEER} {_TAKE_OUT}"
        return UnusableFile(error.path, why, kind=EXPLAINED)
    if os.path.dirname(error.path).startswith(places.DATA) and error.why == os.strerror(errno.EACCES):
        cannot_see = _WHO.format(uid=uid, do="see what root has noted of its user")
        return UnusableFile(error.path, f"{cannot_see}; {_CLOSED}", kind=EXPLAINED)
    return error
