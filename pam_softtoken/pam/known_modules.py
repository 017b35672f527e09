"""Known facts about PAM modules: which one is ours, what others prove about a user, and what they do to a home
directory. No other module names one. A module that is not listed
proves nothing. Pure, except for one check whether a path leads to our own file.
"""

from __future__ import annotations

import os

from pam_softtoken import platform_facts

OURS = "pam_softtoken.so"
PYTHON = "pam_python.so"
"""This module runs a module that is written in Python. Its first argument is the file."""
_PYTHON_DIRECTORY = "/lib/security"
"""pam_python looks here for a file with a relative name."""
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OUR_PYTHON_FILES = (
    f"{_PACKAGE}/pam_module.py",
    platform_facts.PYTHON_MODULE,
    "/usr/lib/pam_softtoken/pam_softtoken/pam_module.py",
)
"""Our module for pam_python: beside this file, in the package, and at its place before there were packages."""


def _named(*names: str) -> frozenset[str]:
    return frozenset(f"pam_{name}.so" for name in names)


PASSWORD = _named(
    "unix", "unix2", "pwdfile", "sss", "ldap", "krb5", "winbind", "userdb", "tcb", "himmelblau", "radius_auth",
    "tacplus", "mysql", "pgsql",
)  # fmt: skip
"""These check a password. Only these count as the first factor of a user who is to enrol in the login."""
_NEVER_IGNORING = _named("unix", "sss")
"""Password modules that answer a wrong password with an error. They answer with `PAM_IGNORE` only under an option."""
_IGNORE = "ignore_"
ROOT_ONLY = _named("rootok")
"""These let root through, and say no to all others."""
SELECTING = _named(
    "succeed_if", "listfile", "access", "wheel", "localuser", "time", "group", "usertype", "exec"
)  # fmt: skip
"""These choose the users that the rest of a stack is for. An administrator wrote them for that purpose."""
NEUTRAL = _named(
    "permit", "env", "cap", "group", "faildelay", "faillock", "tally2", "nologin", "securetty", "limits", "echo",
    "warn", "keyinit", "mail", "motd", "umask", "issue", "lastlog", "loginuid", "gnome_keyring", "kwallet5", "ecryptfs",
    "mount", "selinux", "systemd", "shells", "debug", "mkhomedir",
)  # fmt: skip
"""These prove nothing about a user, and an honest stack runs them for all users."""
DENY, PERMIT = "pam_deny.so", "pam_permit.so"
UNIX, FAILLOCK, SUCCEED_IF = "pam_unix.so", "pam_faillock.so", "pam_succeed_if.so"
"""These are read with their arguments, or written."""
HOME_MAKERS = _named("mkhomedir", "oddjob_mkhomedir")
"""These make a home directory when a session begins."""
HOME_OPENERS = _named("mount", "ecryptfs", "fscrypt", "encfs", "zfs_key")
"""These open a locked file system when a session begins. Before that, our module sees an empty directory."""
HOME_MANAGERS = HOME_OPENERS | _named("systemd_home")
"""Beside these, a home directory that is missing may be a closed one."""


def can_ignore(name: str, arguments: tuple[str, ...]) -> bool:
    """Check whether a password module can answer with `PAM_IGNORE` to a user without the right password."""
    return name not in _NEVER_IGNORING or any(word.startswith(_IGNORE) for word in arguments)


def is_ours(name: str, arguments: tuple[str, ...]) -> bool:
    """Check whether a line runs our module, directly or through pam_python.

    Args:
        name: name of the module's file, without its directory.
        arguments: arguments of the line.
    """
    if name == OURS:
        return True
    if name != PYTHON or not arguments:
        return False
    path = os.path.join(_PYTHON_DIRECTORY, arguments[0])
    return path in OUR_PYTHON_FILES or os.path.realpath(path) in map(os.path.realpath, OUR_PYTHON_FILES)
