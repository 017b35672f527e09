"""Implement `disable`, `confirm` and `roll-back`: undo or keep what `enable` has done."""

from __future__ import annotations

import argparse
from contextlib import suppress
from dataclasses import dataclass

from pam_softtoken.account.places import CHANGES
from pam_softtoken.admin import enable, sign_switch
from pam_softtoken.admin.change import record, watchdog, way_back, wording
from pam_softtoken.admin.change.plan import diff, require_service, text_of
from pam_softtoken.admin.change.record import Change
from pam_softtoken.admin.common import deed, host_file, person
from pam_softtoken.admin.services import pam_profile
from pam_softtoken.admin.sshd import server
from pam_softtoken.pam import installed_libpam, service_file
from pam_softtoken.pam.stack import Stack, places
from pam_softtoken.program_errors import AdministrationFailed
from pam_softtoken.ui import terminal
from pam_softtoken.ui.command_line import Command, NoOptions


@dataclass(frozen=True, slots=True)
class DisableOptions:
    """The options of `disable`."""

    service: str
    sign: bool
    dry_run: bool


@dataclass(frozen=True, slots=True)
class ConfirmOptions:
    """The options of `confirm`."""

    service: str | None


def _disable(screen: terminal.Terminal, options: DisableOptions) -> None:
    service = options.service
    if options.sign:
        sign_switch.require_sudo_alone(service)
        sign_switch.disable(screen, dry_run=options.dry_run)
        return
    person.require_root(f"disable {service}")
    with watchdog.told_afterwards(screen.tell) as tell, record.locked():
        present = record.load(service)
        stack = require_service(service)
        is_recorded = present is not None
        present = present or _found_by_hand(service, stack)
        steps = way_back.plan(present)
        if not options.dry_run:
            if not is_recorded:
                with suppress(AdministrationFailed, OSError):  # without room for a record it is done anyway
                    record.begin(present)
            watchdog.undo_now(present, tell)
    screen.show(diff((step.place, step.present, step.target) for step in steps))
    if options.dry_run:
        screen.tell("Nothing was changed.")
        return
    deed.record("disable", "all", service=service)
    left = service_file.read(service, text_of, installed_libpam.dialect()).ours
    if left:
        raise AdministrationFailed(
            f'"{service}" still asks for a code, because of {places(left)}',
            hint=f"remove that line: {pam_profile.way_off(service, left[0])}",
        )
    screen.show(f'Done. "{service}" asks for no code any more.')


def _found_by_hand(service: str, stack: Stack) -> Change:
    """Return a change that describes lines added by hand as if they were ours."""
    own = [line for line in stack.ours if not line.via and line.place.file == stack.file]
    if not own:
        raise AdministrationFailed(
            f'"{service}" asks for a code because of {places(stack.ours)}, which other services include'
            if stack.ours
            else f'"{service}" asks for no code',
            hint=pam_profile.way_off(service, stack.ours[0]) if stack.ours else "softtoken-admin enable turns it on",
        )
    present = host_file.read(host_file.resolved(stack.file))
    text = way_back.without_our_line(stack.file, way_back.text_of(present))
    files = [record.FileChange(stack.file, present._replace(data=text.encode("utf-8", "surrogateescape")), present)]
    drop_in = host_file.read(server.DROP_IN)
    if service == server.SERVICE and server.is_drop_in(drop_in.data):
        files.insert(0, record.FileChange(server.DROP_IN, host_file.Content(None), drop_in))
    return record.new(service, tuple(files), for_s=0)._replace(state=record.RETURNING)


def _confirm_change(screen: terminal.Terminal, options: ConfirmOptions) -> None:
    person.require_root("confirm")
    with record.locked():
        found = [record.load(service) for service in record.services()]
        pending = [each for each in found if each is not None and each.state == record.PENDING]
        chosen = [each for each in pending if options.service in (None, each.service)]
        if not chosen:
            raise AdministrationFailed("nothing waits to be confirmed", hint="softtoken-admin enable SERVICE starts it")
        if len(chosen) > 1:
            raise AdministrationFailed(
                "several services wait to be confirmed", hint="name one: " + ", ".join(each.service for each in chosen)
            )
        record.confirm(chosen[0])
    service = chosen[0].service
    deed.record("confirm", "all", service=service, how="command")
    screen.show(wording.kept(service, how_it_ends=False))


def _roll_back(screen: terminal.Terminal, options: NoOptions) -> None:
    person.require_root("roll-back")
    # This was already tried, as before every command.
    if failed := watchdog.overdue():
        for service in failed:
            watchdog.watch_again(service)
        raise AdministrationFailed(
            f"these changes could not be taken back or not be read: {', '.join(failed)}",
            hint=f"the former files are in {CHANGES}; the system tries again by itself",
        )


def _add_disable(parser: argparse.ArgumentParser) -> None:
    enable.add_service(parser)
    sign_switch.add_sign(parser, takes_value=False)
    enable.add_dry_run(parser)


def _add_confirm(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", metavar="SERVICE", nargs="?", help="needed when several wait")


DISABLE = Command(
    "disable",
    "stop asking for a code in a service, or for signatures; its files are as before",
    _add_disable,
    DisableOptions,
    _disable,
)
CONFIRM = Command("confirm", "keep what enable did, without a login", _add_confirm, ConfirmOptions, _confirm_change)
ROLL_BACK = Command(
    "roll-back",
    "take back what was not confirmed in time, or before a restart; the system does it when it starts",
    lambda parser: None,
    NoOptions,
    _roll_back,
)
