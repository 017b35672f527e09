"""Check whether services that ask for codes run as a user that cannot read tokens. It only reads, and knows only what
the units of systemd say: a service without a unit of its name is not judged.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from pam_softtoken import option_table
from pam_softtoken.account import user_lookup
from pam_softtoken.admin.common.finding import WARNING, Finding, Report, shown
from pam_softtoken.admin.services import locker_check, relay_check, unit_files
from pam_softtoken.admin.services.option_check import settings_of
from pam_softtoken.admin.services.stack_check import Services
from pam_softtoken.errors import LookUpFailed, UnknownUser
from pam_softtoken.pam.stack import Stack


def check(services: Services) -> Report:
    """Check the user of each service that has our line."""
    findings: list[Finding] = []
    known = []
    for stack in services.ours:
        if stack.service in relay_check.ASK_AS_ROOT:
            continue
        for unit in unit_files.units_of(stack.service):
            user = unit_files.user_of(unit, services.reading.text)
            known += [stack.service] if user is not None else []
            findings += _closed(stack, unit, user or "", services)
    looked_at = (f"the users that services run as: {', '.join(dict.fromkeys(known))}",) if known else ()
    return Report(tuple(findings), looked_at)


def _closed(stack: Stack, unit: str, user: str, services: Services) -> Iterator[Finding]:
    with contextlib.suppress(UnknownUser, LookUpFailed):
        uid = int(user) if user.isdecimal() else user_lookup.account_of_name(user).uid
        for line in stack.ours:
            settings = settings_of(line)
            if uid == 0 or settings is None or relay_check.owner_of(settings.place) == uid:
                continue
            if relay_check.serves(uid):
                yield from relay_check.refused_options(stack)
                return
            what = (
                f"{stack.service} runs as {user} ({unit}), which cannot read tokens of others: it refuses every code, "
                "unless a helper of it asks as root; if codes work, change nothing. Otherwise take the line out, or "
                f"write relay_for = {user} into {option_table.DEFAULT_CONF} and run {relay_check.TURN_ON}"
            )
            yield Finding(
                WARNING, str(line.place), shown(line), what, locker_check.without_our_line(stack, line, services)
            )
