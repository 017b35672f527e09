"""Check whether the module can check a code in screen lockers that run as their user. It only reads."""

from __future__ import annotations

import os
import re
import shlex
import stat
from collections.abc import Iterable, Iterator

from pam_softtoken import platform_facts
from pam_softtoken.account import places
from pam_softtoken.admin.common.finding import ERROR, WARNING, Edit, Finding, Report, named, shown
from pam_softtoken.admin.services import pam_profile, relay_check
from pam_softtoken.admin.services.option_check import settings_of
from pam_softtoken.admin.services.stack_check import Services
from pam_softtoken.pam import known_modules, service_file
from pam_softtoken.pam.stack import Line, Stack
from pam_softtoken.program_errors import AdministrationFailed

_UNIX = known_modules.UNIX
_INCLUDE = re.compile(r"@include\s+common-auth\s*|auth\s+(?:include|substack)\s+\S+\s*")


def check(services: Services) -> Report:
    """Check the lockers that ask for a code."""
    stacks = [stack for stack in services.ours if stack.service in service_file.LOCKERS]
    findings = [each for stack in stacks for each in (*_closed_stores(stack, services), *_closed_notes(stack))]
    looked_at = (f"screen lockers: {', '.join(stack.service for stack in stacks)}",) if stacks else ()
    return Report(tuple(findings), looked_at)


def require_none_locked(stacks: Iterable[Stack]) -> None:
    """Check that every screen locker can still unlock after a change.

    Args:
        stacks: all services that the change touches, in their new form.

    Raises:
        AdministrationFailed: a locker could no longer read the store.
    """
    stores = {stack.service: cannot_read(stack) for stack in stacks}
    locked = [service for service, store in stores.items() if store]
    if locked:
        raise AdministrationFailed(
            f"screen lockers run as their user and cannot read {stores[locked[0]]}, so that {named(locked)} would "
            "unlock for nobody; nothing was changed",
            hint=f"{relay_check.TURN_ON}, or put auth required {_UNIX} in place of the include in "
            f"{service_file.DIRECTORY}/{locked[0]}, or softtoken-admin move --all --to home; --force goes on anyway",
        )


def cannot_read(stack: Stack) -> str:
    """Return the store that a locker needs but only root can read; empty if there is none."""
    stores = [settings.place for settings in map(settings_of, stack.ours) if settings is not None]
    return next((store for store in stores if is_closed(stack.service, store)), "")


def is_closed(service: str, store: str) -> bool:
    """Check whether the program of a service runs as its user, and nobody reads for it a store that only root can."""
    return service in service_file.LOCKERS and not store.startswith("%h") and not relay_check.is_on()


def _closed_stores(stack: Stack, services: Services) -> Iterator[Finding]:
    store = cannot_read(stack)
    if store:
        line = stack.ours[0]
        what = f"{stack.service} runs as its user and cannot read {store}: it unlocks for nobody"
        mend = relay_check.TURN_ON if relay_check.can_be_turned_on() else without_our_line(stack, line, services)
        yield Finding(ERROR, str(line.place), shown(line), what, mend)


def without_our_line(stack: Stack, line: Line, services: Services) -> str:
    """Return what makes only this service ask for the password alone."""
    if not line.via:
        return pam_profile.way_off(stack.service, line)
    include = line.outermost
    passwords = {each.name for each in stack.of("auth")} & known_modules.PASSWORD
    text = services.reading.line(include.file, include.number)
    if passwords != {_UNIX} or not _INCLUDE.fullmatch(text):
        return platform_facts.editor(stack.file)
    return str(Edit(include.file, include.number, include.number, f"auth required {_UNIX}"))


def _closed_notes(stack: Stack) -> Iterator[Finding]:
    """Yield findings about root's directories that a locker must enter to read root's notes about its user."""
    effects = {
        places.DATA: (ERROR, "it unlocks for nobody"),
        places.ENROLLED: (WARNING, "it refuses users who have never enrolled, with nullok, too"),
    }
    for directory, (severity, effect) in effects.items():
        try:
            is_open = os.stat(directory).st_mode & stat.S_IXOTH
        except OSError:
            continue
        if not is_open:
            what = f"{stack.service} runs as its user and cannot enter this directory: {effect}"
            yield Finding(severity, directory, "", what, f"chmod 711 {shlex.quote(directory)}")
