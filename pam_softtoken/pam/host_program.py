"""The program that asks through PAM: whether it is one that is known to finish what `enrol` begins.

A user who has no token is ignored at the `auth` line and enrols at the `account` line. An application that never calls
pam_acct_mgmt(3) would let them in without either, and so would one that calls it on a handle of its own, because the
mark stands in PAM's environment of the first handle: JupyterHub does that, and as the service "login", so that the
name of the service says nothing. No module can see what its application will do next. So a new user is ignored only
where the program is known to do both on one handle, and to obey the answer: sshd, login and su.
"""

from __future__ import annotations

import os

from pam_softtoken.errors import EnrolmentRefused

KNOWN = (
    "/usr/sbin/sshd",
    "/usr/lib/openssh/sshd-session",
    "/usr/libexec/openssh/sshd-session",
    "/usr/libexec/sshd-session",
    "/usr/lib/ssh/sshd-session",
    "/usr/bin/login",
    "/bin/login",
    "/usr/bin/su",
    "/bin/su",
)
"""Since OpenSSH 9.8 sshd-session asks. Root alone can write these places."""
_DELETED = " (deleted)"
"""The kernel adds it after an upgrade, while the old program still runs."""


def require_known(pid: int) -> None:
    """Check that a process runs a program under which users can enrol.

    Raises:
        EnrolmentRefused: it does not, or that cannot be seen.
    """
    try:
        path = os.readlink(f"/proc/{pid}/exe").removesuffix(_DELETED)
    except OSError:
        raise EnrolmentRefused("it cannot be seen which program asks; is /proc mounted?") from None
    if path not in KNOWN:
        raise EnrolmentRefused(f"{path} is not known to finish an enrolment: only sshd, login and su are")
