"""What an administrator did to a user, as one line in the system's log: who, whom, what. No secret is ever in it."""

from __future__ import annotations

import os
from pathlib import Path

from pam_softtoken import log, system_log

IDENTIFIER = "softtoken-admin"
_NOBODY = 2**32 - 1
_SYSTEM_LOG = system_log.SystemLog(IDENTIFIER)


def record(action: str, user: str, *, detail: str = "", level: int = log.NOTICE, **facts: str) -> None:
    """Write the line, as `key=value` throughout.

    Args:
        action: the subcommand.
        user: the user whom it was about.
        detail: a text, which stands at the end.
        level: of syslog(3).
        facts: more, in this order.
    """
    fields = {"action": action, "user": user, **facts, **_doer()}
    _SYSTEM_LOG.write(level, f"{IDENTIFIER}: {log.words(fields)}{log.quoted(detail)}")


def _doer() -> dict[str, str]:
    """Say who it was: the name that sudo gives, which root could have changed, and the uid that the kernel keeps."""
    doer = {"by": os.environ.get("SUDO_USER") or "root"}
    try:
        login_uid = int(Path("/proc/self/loginuid").read_text())
    except (OSError, ValueError):
        return doer
    return doer if login_uid == _NOBODY else {**doer, "loginuid": str(login_uid)}
