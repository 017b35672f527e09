"""`enable`, `disable`, `confirm` and `roll-back`: the second factor of a service turned on and off without locking
anybody out, because what nobody confirms goes back by itself.
"""

from __future__ import annotations

import argparse
import os
import time

from pam_softtoken import change_note, terminal, user_lookup
from pam_softtoken.admin import (
    change,
    deed,
    duration,
    host_file,
    logins,
    person,
    sshd,
    survey,
    trial,
    watchdog,
)
from pam_softtoken.admin.change import Change
from pam_softtoken.admin.plan import WITH_PASSWORD, WITH_PUBLIC_KEY, Plan, diff, require_service, text_of
from pam_softtoken.command import Command
from pam_softtoken.errors import AdministrationFailed
from pam_softtoken.pam import installed_libpam, service_edit, service_file
from pam_softtoken.pam.stack import Stack, places

SHORTEST, LONGEST, USUAL = "1s", "1d", "10m"


def _enable(screen: terminal.Terminal, options: argparse.Namespace) -> None:
    service = options.service
    person.require_root(f"enable {service}")
    for_s = duration.between("--for", options.time, SHORTEST, LONGEST)
    watchdog.settle(screen.tell)
    _require_none_pending(service)
    plan = Plan(service, options.way, nullok=options.enrol_later)
    enrolled = _enrolled_users(options)
    screen.show(diff((each.path, each.before, each.after) for each in plan.files))
    if service in service_file.SET_UID_SERVICES and person.settings_of(None).store.startswith("%h"):
        plan.remarks.append(f"a program of the user's can read the key in his home directory and answer {service}.")
        plan.remarks.append("softtoken-admin move --all --to system puts the tokens where it cannot.")
    for remark in plan.remarks:
        screen.tell(remark)
    with trial.prepared(plan.stack, plan.text) as new:
        new.require_modules()
        new.require_denial()
        screen.tell("Tried: the new stack loads, asks for a code, and refuses a wrong one.")
        if options.dry_run:
            screen.tell("Nothing was changed.")
            return
        if enrolled and terminal.person_is_there() and not options.yes:
            user = _who_tries(options, enrolled)
            screen.tell(f"Now try it as {user}: what is asked next is asked by the new stack, which is not in use yet.")
            new.log_in(screen, user)
            screen.tell("Right: that gets in. The code is spent; the next login takes the next one.")
    terminal.checkpoint()
    planned = _carry_out(screen, plan, for_s)
    deed.record("enable", "all", service=service, way=options.way, confirm_within=options.time)
    screen.tell(f'"{service}" asks for a code now. {_second_terminal(service, enrolled)}')
    screen.tell(
        f"If that does not happen within {options.time}, all goes back. To keep it without: {_confirm(service)}"
    )
    _wait(screen, planned)


def _require_none_pending(service: str) -> None:
    present = change.load(service)
    if present is not None and not present.confirmed:
        raise AdministrationFailed(
            f'a change of "{service}" waits to be confirmed, for {present.left_s:.0f} s more',
            hint=f"{_confirm(service)}, or softtoken-admin disable {service}",
        )


def _carry_out(screen: terminal.Terminal, plan: Plan, for_s: float) -> Change:
    service = plan.stack.service
    with watchdog.told_afterwards(screen.tell) as tell, change.locked():
        _require_none_pending(service)
        planned = change.new(service, plan.files, for_s=for_s)
        try:
            change.begin(planned)
            watchdog.start(planned)
            for each in planned.files:
                change.apply(each)
                if each.path == sshd.DROP_IN:
                    tell(sshd.reload())
        except AdministrationFailed:
            watchdog.undo(planned, tell)
            raise
        except OSError as error:
            watchdog.undo(planned, tell)
            why = os.strerror(error.errno or 0)
            raise AdministrationFailed(
                f"cannot go on: {why}; nothing was changed", hint="make room, then start again"
            ) from None
    return planned


def _enrolled_users(options: argparse.Namespace) -> list[str]:
    """Name those who can log in and are enrolled.

    Raises:
        AdministrationFailed: nobody is, and that was not what the administrator wants.
    """
    settings = person.settings_of(None)
    now = int(time.time())
    found = survey.survey(logins.who_can_log_in(), lambda entry: survey.facts_of(entry, settings, now=now))
    enrolled = [str(each["user"]) for each in found if each["status"] == survey.ENROLLED]
    if not enrolled and not options.enrol_later:
        raise AdministrationFailed(
            "nobody who can log in is enrolled, so nobody could log in any more",
            hint="softtoken-enroll --user USER enrols somebody; --enrol-later lets those in who have not yet",
        )
    return enrolled


def _who_tries(options: argparse.Namespace, enrolled: list[str]) -> str:
    if options.user and options.user not in enrolled:
        raise AdministrationFailed(f'"{options.user}" is not enrolled', hint="--user takes one of those who are")
    wanted = (options.user, os.environ.get("SUDO_USER", ""), "root")
    return next((name for name in wanted if name in enrolled), enrolled[0])


def _second_terminal(service: str, enrolled: list[str]) -> str:
    user = enrolled[0] if len(enrolled) == 1 else "USER"
    ways = {
        "sshd": f"ssh {sshd.port_option()}{user}@{os.uname().nodename}",
        "sudo": "sudo -k true",
        "sudo-i": "sudo -k -i true",
        "su": f"su {user}, not as root",
        "su-l": f"su - {user}, not as root",
        "login": "on another console",
    }
    return f"In another terminal, log in with a code: {ways.get(service, f'through {service}')}"


def _confirm(service: str) -> str:
    return f"softtoken-admin confirm {service}"


def _wait(screen: terminal.Terminal, planned: Change) -> None:
    """Wait until the change is confirmed.

    Raises:
        AdministrationFailed: it went back, or the person does not wait.
    """
    service = planned.service
    while watchdog.is_waiting(planned):
        try:
            terminal.checkpoint()
        except KeyboardInterrupt:
            screen.tell()
            raise AdministrationFailed(
                f'interrupted; the change of "{service}" goes back by itself in {planned.left_s:.0f} s',
                hint=f"{_confirm(service)} keeps it, softtoken-admin disable {service} takes it back now",
            ) from None
        watchdog.settle(screen.tell)
        time.sleep(watchdog.PAUSE_S)
    present = change.load(service)
    if present is None or present.identity != planned.identity:
        raise AdministrationFailed(
            f'the change of "{service}" was not confirmed; everything is as it was before',
            hint="the system's log says, in lines with pam_softtoken, what came of the logins meanwhile",
        )
    screen.show(f'Done. "{service}" asks for a code from now on; softtoken-admin disable {service} ends it.')


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
            hint="take that line out; if pam-auth-update has made it, with that",
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
            hint="pam-auth-update, or an editor, takes that line out" if stack.ours else "softtoken-admin enable does",
        )
    present = host_file.read(stack.file)
    text = (present.data or b"").decode("utf-8", "surrogateescape")
    text = service_edit.take_out(text, installed_libpam.dialect())
    files = [change.FileChange(stack.file, present._replace(data=text.encode("utf-8", "surrogateescape")), present)]
    drop_in = host_file.read(sshd.DROP_IN)
    if service == sshd.SERVICE and drop_in.data in (sshd.drop_in(WITH_PASSWORD), sshd.drop_in(WITH_PUBLIC_KEY)):
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


def _add_service(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", metavar="SERVICE", help="a file in /etc/pam.d: sshd, sudo, su, login ...")


def _add_dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="show what would be done, and change nothing")


def _add_enable(parser: argparse.ArgumentParser) -> None:
    _add_service(parser)
    parser.add_argument(
        "--with", dest="way", choices=(WITH_PASSWORD, WITH_PUBLIC_KEY), default=WITH_PASSWORD,
        help="what the code comes on top of; publickey is for sshd, where the password is not asked for then "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--for", dest="time", metavar="TIME", default=USUAL,
        help=f"how long to wait for a login with a code, or for confirm, before all goes back; {SHORTEST} to {LONGEST} "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--user", metavar="USER", type=user_lookup.canonical_name,
        help="who tries the new stack before it is in use, at this terminal",
    )  # fmt: skip
    parser.add_argument(
        "--yes", action="store_true",
        help="do not ask anybody to try it; as without a terminal, only that it loads, asks for a code and refuses a "
        "wrong one is certain before it is in use, not that a right one gets in",
    )  # fmt: skip
    parser.add_argument(
        "--enrol-later", action="store_true", help="let those in who have never enrolled (the option nullok)"
    )
    _add_dry_run(parser)


def _add_disable(parser: argparse.ArgumentParser) -> None:
    _add_service(parser)
    _add_dry_run(parser)


def _add_confirm(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", metavar="SERVICE", nargs="?", help="needed when several wait")


ENABLE = Command(
    "enable", "ask for a code in a service; it goes back by itself unless a login confirms it", _add_enable, _enable
)
DISABLE = Command("disable", "ask for no code in a service any more; its files are as before", _add_disable, _disable)
CONFIRM = Command("confirm", "keep what enable did, without a login", _add_confirm, _confirm_change)
ROLL_BACK = Command(
    "roll-back",
    "take back what was not confirmed in time, or before a restart; the system does it when it starts",
    lambda parser: None,
    _roll_back,
)
