"""What is known of PAM modules: which is ours, and what others prove about a user.

A module that is not listed proves nothing. Pure, but for one look whether a path leads to our own file.
"""

from __future__ import annotations

import os

OURS = "pam_softtoken.so"
PYTHON = "pam_python.so"
"""Runs a module that is written in Python; its first argument is the file."""
_PYTHON_DIRECTORY = "/lib/security"
"""Where pam_python looks for a file whose name is relative."""
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OUR_PYTHON_FILES = (
    f"{_PACKAGE}/pam_module.py",
    "/usr/lib/pam_softtoken/pam_module.py",
    "/usr/lib/pam_softtoken/pam_softtoken/pam_module.py",
)
"""Our module for pam_python: the one beside this file, the package's, and where it stood before there were packages."""


def _named(*names: str) -> frozenset[str]:
    return frozenset(f"pam_{name}.so" for name in names)


PASSWORD = _named(
    "unix", "unix2", "pwdfile", "sss", "ldap", "krb5", "winbind", "userdb", "tcb", "himmelblau", "radius_auth",
    "tacplus", "mysql", "pgsql",
)  # fmt: skip
"""They check a password. Only these count as the first factor of somebody who is to enrol in the login."""
_NEVER_IGNORING = _named("unix", "sss")
"""Modules for a password that answer a wrong one with an error, and with `PAM_IGNORE` only if an option says so."""
_IGNORE = "ignore_"
ROOT_ONLY = _named("rootok")
"""They let root through, and say no to all others."""
SELECTING = _named(
    "succeed_if", "listfile", "access", "wheel", "localuser", "time", "group", "usertype", "exec"
)  # fmt: skip
"""They choose for whom the rest of a stack is; an administrator wrote them for that."""
NEUTRAL = _named(
    "permit", "env", "cap", "group", "faildelay", "faillock", "tally2", "nologin", "securetty", "limits", "echo",
    "warn", "keyinit", "mail", "motd", "umask", "issue", "lastlog", "loginuid", "gnome_keyring", "kwallet5", "ecryptfs",
    "mount", "selinux", "systemd", "shells", "debug", "mkhomedir",
)  # fmt: skip
"""They prove nothing about anybody, and an honest stack runs them for everybody."""
DENY, PERMIT = "pam_deny.so", "pam_permit.so"


def can_ignore(name: str, arguments: tuple[str, ...]) -> bool:
    """Check whether a module for a password can answer somebody without the right one with `PAM_IGNORE`."""
    return name not in _NEVER_IGNORING or any(word.startswith(_IGNORE) for word in arguments)


def is_ours(name: str, arguments: tuple[str, ...]) -> bool:
    """Check whether a line runs our module, directly or through pam_python.

    Args:
        name: of the module's file, without its directory.
        arguments: of the line.
    """
    if name == OURS:
        return True
    if name != PYTHON or not arguments:
        return False
    path = os.path.join(_PYTHON_DIRECTORY, arguments[0])
    return path in OUR_PYTHON_FILES or os.path.realpath(path) in map(os.path.realpath, OUR_PYTHON_FILES)
