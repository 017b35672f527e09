"""Check that the program that asks through PAM is known to finish what `enrol` begins. Imports nothing of PAM's reader.

A user without a token is ignored at the `auth` line and enrols at the `account` line. An application that never calls
pam_acct_mgmt(3) would let them in without either. So would an application that calls it on another handle, because the
mark stands in PAM's environment of the first handle. JupyterHub does that, and under the service name "login", so the
name of the service proves nothing. No module can see what its application will do next. So a new user is ignored only
if the program is known to do both on one handle and to obey the answer: sshd, login and su.
"""

from __future__ import annotations

import os

from pam_softtoken import platform_facts
from pam_softtoken.errors import EnrolmentRefused

SESSIONS = platform_facts.SESSIONS
KNOWN = (*platform_facts.SSHD, *SESSIONS, *platform_facts.LOGIN, *platform_facts.SU)
"""Only root can write these places."""
_DELETED = " (deleted)"
"""The kernel adds this after an upgrade, while the old program still runs."""


def require_known(pid: int) -> None:
    """Check that a process runs a program under which users can enrol.

    Raises:
        EnrolmentRefused: it does not, or this cannot be seen.
    """
    try:
        path = os.readlink(f"/proc/{pid}/exe").removesuffix(_DELETED)
    except OSError:
        raise EnrolmentRefused("it cannot be seen which program asks; is /proc mounted?") from None
    if path not in KNOWN:
        raise EnrolmentRefused(f"{path} is not known to finish an enrolment: only sshd, login and su are")
