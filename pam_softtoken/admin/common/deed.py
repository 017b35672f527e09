"""Log what an administrator did to a user, as one line in the system's log. It never contains a secret."""

from __future__ import annotations

import os
from pathlib import Path

from pam_softtoken import log, system_log

IDENTIFIER = "softtoken-admin"
_NOBODY = 2**32 - 1
_SYSTEM_LOG = system_log.SystemLog(IDENTIFIER)


def record(action: str, user: str, *, detail: str = "", level: int = log.NOTICE, **facts: str) -> None:
    """Write the line in `key=value` form.

    Args:
        action: the subcommand.
        user: the user concerned.
        detail: a text for the end of the line.
        level: a level of syslog(3).
        facts: further pairs, in this order.
    """
    fields = {"action": action, "user": user, **facts, **_doer()}
    _SYSTEM_LOG.write(level, f"{IDENTIFIER}: {log.words(fields)}{log.quoted(detail)}")


def _doer() -> dict[str, str]:
    """Return the name of the administrator from sudo, which root could have changed, and the uid from the kernel."""
    doer = {"by": os.environ.get("SUDO_USER") or "root"}
    try:
        login_uid = int(Path("/proc/self/loginuid").read_text())
    except (OSError, ValueError):
        return doer
    return doer if login_uid == _NOBODY else {**doer, "loginuid": str(login_uid)}
