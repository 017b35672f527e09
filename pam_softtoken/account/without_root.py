"""Explain why a program without root cannot judge a code, and what helps. Loaded only after a refusal. Screen lockers
run as their user. Root's files are closed to them, even when the right code is typed. There is no set-uid helper as
pam_unix has one, because it would judge codes for every program of the user's.
"""

from __future__ import annotations

import errno
import os

from pam_softtoken.account import places
from pam_softtoken.errors import EXPLAINED, InsecureFile, UnusableFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.account.location import Location

ONLY_ROOT = (
    "only root can read this store, and the program that asks does not run as root; take the line with pam_softtoken "
    "out of its PAM service, or keep the tokens in the home directories: softtoken-admin move --all --to home"
)
CLOSED = (
    "the program that asks does not run as root, and cannot see what root has noted of its user; as root, "
    f"chmod 711 {places.DATA} {places.ENROLLED}"
)


def explained(error: InsecureFile | UnusableFile, location: Location) -> InsecureFile | UnusableFile:
    """Return an error that explains this, if missing root privilege is the cause. Otherwise return the same error.

    Args:
        error: the error about a file.
        location: the user and the place of the files.
    """
    if os.geteuid() == 0:
        return error
    in_store = location.path.startswith(error.path) or error.path.startswith(location.path)
    if in_store and not location.in_home:
        return UnusableFile(error.path, ONLY_ROOT, kind=EXPLAINED)
    is_note = os.path.dirname(error.path).startswith(places.DATA)
    return (
        UnusableFile(error.path, CLOSED, kind=EXPLAINED)
        if is_note and error.why == os.strerror(errno.EACCES)
        else error
    )
