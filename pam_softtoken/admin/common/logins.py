"""List the users who can log in to this host, from the password database, /etc/shells, login.defs and /etc/shadow."""

from __future__ import annotations

import os
import pwd
from contextlib import suppress
from pathlib import Path

from pam_softtoken.account import entries, places, user_lookup
from pam_softtoken.errors import LookUpFailed, UnknownUser

SHELLS, DEFINITIONS, SHADOW = "/etc/shells", "/etc/login.defs", "/etc/shadow"
NSSWITCH = "/etc/nsswitch.conf"
DIRECTORY_SERVICES = ("sss", "ldap", "winbind")
REFUSING_SHELLS = ("nologin", "false")
USUAL_SHELLS = ("/bin/sh", "/bin/bash")
USUAL_UID_MIN = 1000


def everybody() -> list[pwd.struct_passwd]:
    """Return all users that the host lists, and unlisted users who have logged in with a code."""
    users: dict[str, pwd.struct_passwd] = {}
    for entry in pwd.getpwall():
        users.setdefault(entry.pw_name, entry)
    listed = {entry.pw_uid for entry in users.values()}
    for uid in [int(name) for name in entries.names_in(places.ENROLLED) if name.isascii() and name.isdecimal()]:
        if uid not in listed:
            with suppress(UnknownUser, LookUpFailed):  # the account was removed, or its directory does not answer
                entry = user_lookup.entry_of_uid(uid)
                users.setdefault(entry.pw_name, entry)
    return sorted(users.values(), key=lambda entry: (entry.pw_uid, entry.pw_name))


def who_can_log_in() -> list[pwd.struct_passwd]:
    """Return the users with a login shell who are root, are not system accounts, or have a password.

    Users with a locked password are included, because public keys work without it. So are expired accounts.
    """
    shells = _login_shells()
    least = _least_uid()
    with_password = _names_with_password()
    return [
        entry
        for entry in everybody()
        if (entry.pw_shell or "/bin/sh") in shells
        and (entry.pw_uid == 0 or entry.pw_uid >= least or entry.pw_name in with_password)
    ]


def directory_services() -> list[str]:
    """List the directory services from which this host gets users."""
    try:
        with open(NSSWITCH, encoding="utf-8", errors="surrogateescape") as lines:
            found = [line.partition("#")[0].split() for line in lines]
    except OSError:
        return []
    sources = [word for words in found if words[:1] == ["passwd:"] for word in words[1:]]
    return [service for service in DIRECTORY_SERVICES if service in sources]


def _login_shells() -> set[str]:
    listed = [line.strip() for line in _lines(SHELLS)]
    shells = [line for line in listed if line.startswith("/")] or USUAL_SHELLS
    return {shell for shell in shells if os.path.basename(shell) not in REFUSING_SHELLS}


def _least_uid() -> int:
    for line in _lines(DEFINITIONS):
        words = line.split()
        if len(words) == 2 and words[0] == "UID_MIN" and words[1].isdecimal():
            return int(words[1])
    return USUAL_UID_MIN


def _names_with_password() -> set[str]:
    entries = [line.split(":") for line in _lines(SHADOW)]
    return {fields[0] for fields in entries if len(fields) > 1 and fields[1] and fields[1][0] not in "!*"}


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return []
