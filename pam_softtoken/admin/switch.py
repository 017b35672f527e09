"""`disable`, `confirm` and `roll-back`: what `enable` has done, taken back or kept."""

from __future__ import annotations

import argparse

from pam_softtoken import change_note, terminal
from pam_softtoken.admin import change, deed, enable, exempt, host_file, pam_profile, person, sshd, watchdog
from pam_softtoken.admin.change import Change
from pam_softtoken.admin.plan import diff, require_service, text_of
from pam_softtoken.command import Command
from pam_softtoken.errors import AdministrationFailed
from pam_softtoken.pam import installed_libpam, service_file
from pam_softtoken.pam.stack import Stack, places


def _disable(screen: terminal.Terminal, options: argparse.Namespace) -> None:
    service = options.service
    person.require_root(f"disable {service}")
    watchdog.settle(screen.tell)
    with watchdog.told_afterwards(screen.tell) as tell, change.locked():
        present = change.load(service)
        stack = require_service(service)
        if present is None:
            present = _found_by_hand(service, stack)
        steps = change.way_back(present)
        if not options.dry_run:
            watchdog.undo(present, tell)
    screen.show(diff((step.path, step.present, step.target) for step in steps))
    if options.dry_run:
        screen.tell("Nothing was changed.")
        return
    deed.record("disable", "all", service=service)
    left = service_file.read(service, text_of, installed_libpam.dialect()).ours
    if left:
        raise AdministrationFailed(
            f'"{service}" still asks for a code, because of {places(left)}',
            hint=f"take that line out: {pam_profile.way_off(service, left[0])}",
        )
    screen.show(f'Done. "{service}" asks for no code any more.')


def _found_by_hand(service: str, stack: Stack) -> Change:
    """Describe what an administrator has put there, as if it were ours."""
    own = [line for line in stack.ours if not line.via and line.place.file == stack.file]
    if not own:
        raise AdministrationFailed(
            f'"{service}" asks for a code because of {places(stack.ours)}, which other services include'
            if stack.ours
            else f'"{service}" asks for no code',
            hint=pam_profile.way_off(service, stack.ours[0]) if stack.ours else "softtoken-admin enable does",
        )
    present = host_file.read(stack.file)
    text = (present.data or b"").decode("utf-8", "surrogateescape")
    text = exempt.take_out(text, installed_libpam.dialect())
    files = [change.FileChange(stack.file, present._replace(data=text.encode("utf-8", "surrogateescape")), present)]
    drop_in = host_file.read(sshd.DROP_IN)
    if service == sshd.SERVICE and sshd.is_drop_in(drop_in.data):
        files.insert(0, change.FileChange(sshd.DROP_IN, host_file.Content(None), drop_in))
    return change.new(service, tuple(files), for_s=0)


def _confirm_change(screen: terminal.Terminal, options: argparse.Namespace) -> None:
    person.require_root("confirm")
    watchdog.settle(screen.tell)
    with change.locked():
        found = [change.load(service) for service in change.services()]
        pending = [each for each in found if each is not None and not each.confirmed]
        chosen = [each for each in pending if options.service in (None, each.service)]
        if not chosen:
            raise AdministrationFailed("nothing waits to be confirmed", hint="softtoken-admin enable SERVICE starts it")
        if len(chosen) > 1:
            raise AdministrationFailed(
                "several services wait to be confirmed", hint="name one: " + ", ".join(each.service for each in chosen)
            )
        change.confirm(chosen[0])
    service = chosen[0].service
    deed.record("confirm", "all", service=service, how="command")
    screen.show(f'Done. "{service}" asks for a code from now on.')


def _roll_back(screen: terminal.Terminal, options: argparse.Namespace) -> None:
    person.require_root("roll-back")
    if failed := watchdog.settle(screen.tell):
        raise AdministrationFailed(
            f"could not be taken back, or not be read: {', '.join(failed)}",
            hint=f"what stood there before is in {change_note.DIRECTORY}; see to it, and start again",
        )


def _add_disable(parser: argparse.ArgumentParser) -> None:
    enable.add_service(parser)
    enable.add_dry_run(parser)


def _add_confirm(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", metavar="SERVICE", nargs="?", help="needed when several wait")


DISABLE = Command("disable", "ask for no code in a service any more; its files are as before", _add_disable, _disable)
CONFIRM = Command("confirm", "keep what enable did, without a login", _add_confirm, _confirm_change)
ROLL_BACK = Command(
    "roll-back",
    "take back what was not confirmed in time, or before a restart; the system does it when it starts",
    lambda parser: None,
    _roll_back,
)
