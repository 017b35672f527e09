"""Check whether services that ask for codes run as a user that cannot read tokens. It only reads, and knows only what
the units of systemd say: a service without a unit of its name is not judged.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from pam_softtoken import config
from pam_softtoken.account import location, user_lookup
from pam_softtoken.admin.common.finding import WARNING, Finding, Report, shown
from pam_softtoken.admin.services import locker_check, relay_check
from pam_softtoken.admin.services.option_check import settings_of
from pam_softtoken.admin.services.stack_check import Services
from pam_softtoken.errors import LookUpFailed, UnknownUser
from pam_softtoken.pam.stack import Stack

UNITS = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system",
         "/lib/systemd/system")  # fmt: skip
"""Where units are, the most important place first. Source: systemd.unit(5)."""
ASK_AS_ROOT = ("cockpit",)
"""Services whose user does not matter, because a helper asks PAM as root. Cockpit has the set-uid cockpit-session."""


def check(services: Services) -> Report:
    """Check the user of each service that has our line."""
    findings: list[Finding] = []
    known = []
    for stack in services.ours:
        if stack.service in ASK_AS_ROOT:
            continue
        for unit in (f"{stack.service}.service", f"{stack.service}@.service"):
            user = user_of(unit, services.reading.text)
            known += [stack.service] if user is not None else []
            findings += _closed(stack, unit, user or "", services)
    looked_at = (f"the users that services run as: {', '.join(dict.fromkeys(known))}",) if known else ()
    return Report(tuple(findings), looked_at)


def _closed(stack: Stack, unit: str, user: str, services: Services) -> Iterator[Finding]:
    with contextlib.suppress(UnknownUser, LookUpFailed):
        uid = int(user) if user.isdecimal() else user_lookup.account_of_name(user).uid
        for line in stack.ours:
            settings = settings_of(line)
            if uid == 0 or settings is None or _owner_of(settings.place) == uid:
                continue
            if relay_check.serves(uid):
                yield from relay_check.refused_options(stack)
                return
            what = (
                f"{stack.service} runs as {user} ({unit}), which cannot read tokens of others: it refuses every code, "
                "unless a helper of it asks as root; if codes work, change nothing. Otherwise take the line out, or "
                f"write relay_for = {user} into {config.DEFAULT_CONF} and run {relay_check.TURN_ON}"
            )
            yield Finding(
                WARNING, str(line.place), shown(line), what, locker_check.without_our_line(stack, line, services)
            )


def _owner_of(store: str) -> int:
    """Return the owner of the directory that a store's users share; 0 for a store in the homes or a missing one."""
    above, _ = location.split(store)
    try:
        return os.stat(above).st_uid if above.startswith("/") else 0
    except OSError:
        return 0


def user_of(unit: str, text_of: Callable[[str], str | None]) -> str | None:
    """Return the user that a unit of systemd runs as.

    Args:
        unit: its name.
        text_of: returns the text of a file, or None.

    Returns:
        The value of `User=`; empty for root, or for a user that only systemd knows. None if there is no unit.
    """
    text = next((text for each in UNITS if (text := text_of(f"{each}/{unit}")) is not None), None)
    if text is None:
        return None
    drop_ins: dict[str, str] = {}
    for directory in reversed(UNITS):
        with contextlib.suppress(OSError):
            names = [name for name in os.listdir(f"{directory}/{unit}.d") if name.endswith(".conf")]
            drop_ins.update({name: f"{directory}/{unit}.d/{name}" for name in names})
    user = _user_in(text, "")
    for _, path in sorted(drop_ins.items()):
        user = _user_in(text_of(path) or "", user)
    return "" if "%" in user else user


def _user_in(text: str, user: str) -> str:
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("["):
            section = line
        name, sign, value = line.partition("=")
        if section == "[Service]" and sign and name.strip() == "User":
            user = value.strip()
    return user
