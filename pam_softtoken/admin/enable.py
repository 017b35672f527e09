"""Implement `enable`: turn on the second factor of a service, and lock out only users that the administrator named.

It shows which users get in before and after, tries the new stack before it is in use, and waits for a login with a
code. A change without confirmation is undone automatically.
"""

from __future__ import annotations

import argparse
import calendar
import grp
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

from pam_softtoken.account import user_lookup
from pam_softtoken.admin import sign_switch
from pam_softtoken.admin.access import forecast, lockout, proofs
from pam_softtoken.admin.access.forecast import Forecast
from pam_softtoken.admin.change import carry_out, trial, wording
from pam_softtoken.admin.change.plan import WITH_PASSWORD, WITH_PUBLIC_KEY, Plan, diff
from pam_softtoken.admin.common import deed, duration, person
from pam_softtoken.admin.services import exempt, locker_check, relay_check
from pam_softtoken.admin.sshd import server
from pam_softtoken.pam import service_file
from pam_softtoken.program_errors import AdministrationFailed, UsageError
from pam_softtoken.ui import terminal
from pam_softtoken.ui.command_line import Command

SHORTEST, LONGEST, USUAL = sign_switch.SHORTEST, sign_switch.LONGEST, "10m"
FRESH_S = 15 * 60
"""A code accepted within this time proves as much about token and clock as a trial would. In seconds."""


@dataclass(frozen=True, slots=True)
class EnableOptions:
    """The options of `enable`."""

    service: str
    way: str | None
    time: str
    user: str | None
    exempt: tuple[str, ...]
    lock_out: lockout.LockOutOptions
    enrol_later: bool
    sign: str | None
    dry_run: bool


def _enable(screen: terminal.Terminal, options: EnableOptions) -> None:
    service = options.service
    if options.sign is not None:
        _require_no_codes(options)
        wanted = sign_switch.SignOptions(
            service, options.sign, options.time, options.user, options.lock_out, dry_run=options.dry_run
        )
        sign_switch.enable(screen, wanted)
        return
    person.require_root(f"enable {service}")
    for_s = duration.between("--for", options.time, SHORTEST, LONGEST)
    carry_out.require_none_pending(service)
    lockout.names_meant(options.lock_out.lock_out)
    groups = _groups(options.exempt)
    found = forecast.forecast(service, options.way, nullok=options.enrol_later, groups=groups)
    verdict = lockout.judge(found)
    _show(screen, found, verdict)
    lockout.require_exempt_as_they_are(found, groups)
    if not options.lock_out.force:
        locker_check.require_none_locked(found.plan.touched)
        relay_check.require_none_closed(found.plan.touched)
    lockout.require_not_refused(verdict, force=options.lock_out.force)
    asked = lockout.asked_names(found)
    _require_somebody(asked, options)
    with trial.prepared(found.plan.stack, found.plan.text) as new:
        new.require_modules()
        new.require_denial()
        screen.tell("Tried: the new stack loads, asks for a code, and refuses a wrong one.")
        if options.dry_run:
            screen.tell("Nothing was changed.")
            return
        lockout.require_allowed(screen, verdict, options.lock_out)
        user = _who_tries(options, asked)
        if user and terminal.person_is_there() and not options.lock_out.yes:
            _try(screen, new, found, user, options)
    terminal.checkpoint()
    is_theirs = user in (options.user, verdict.runner) and service not in proofs.OF_TARGETS
    _put_in_use(screen, found.plan, options, for_s=for_s, awaited=user if is_theirs else "", user=user)


def _require_no_codes(options: EnableOptions) -> None:
    """Check that no option is about codes, since signatures are turned on.

    Raises:
        UsageError: one is.
    """
    given = {"--with": options.way, "--except": options.exempt, "--enrol-later": options.enrol_later}
    for name in (name for name, value in given.items() if value):
        raise UsageError(f"{name} is about codes, and goes with no --sign", hint="see softtoken-admin enable --help")


def _put_in_use(
    screen: terminal.Terminal, plan: Plan, options: EnableOptions, *, for_s: float, awaited: str, user: str
) -> None:
    """Apply the change, show how to confirm it, and wait for that.

    Args:
        screen: shows the messages.
        plan, options: the change, and the command's options.
        for_s: how long to wait, in seconds.
        awaited: the user whose login confirms it; empty if any user's login does.
        user: a user who can confirm it.
    """
    service = options.service
    planned = carry_out.carry_out(screen, plan, for_s, awaited)
    deed.record("enable", "all", service=service, way=plan.way, confirm_within=options.time)
    screen.tell(f'"{service}" asks for a code now. {_second_terminal(service, user)}')
    if awaited:
        screen.tell(f"Only a login of {awaited} confirms it.")
    screen.tell(
        f"If nobody does so within {options.time}, the change is taken back. "
        f"To keep it without a login: {wording.confirm_command(service)}"
    )
    carry_out.wait(screen, planned)


def _show(screen: terminal.Terminal, found: Forecast, verdict: lockout.Verdict) -> None:
    """Show what would change, and for which users."""
    plan = found.plan
    service = plan.stack.service
    screen.show(diff((each.path, each.before, each.after) for each in plan.files))
    lockout.show(screen, found, verdict)
    if service in service_file.SET_UID_SERVICES and person.settings_of(None).place.startswith("%h"):
        plan.remarks.append(f"A program of the user's can read the key in the home directory and answer {service}.")
        plan.remarks.append("softtoken-admin move --all --to system puts the tokens where it cannot.")
    for remark in (*lockout.remarks(found), *plan.remarks):
        screen.tell(terminal.visible(remark))


def _groups(given: Sequence[str]) -> tuple[str, ...]:
    """Check the groups of `--except`.

    Raises:
        UsageError: this cannot be the name of a group.
        AdministrationFailed: there is no group of that name.
    """
    for group in given:
        if not exempt.GROUP_NAME.fullmatch(group):
            raise UsageError(f'"{group}" cannot be written in a PAM line', hint="--except takes the name of a group")
        try:
            grp.getgrnam(group)
        except KeyError:
            raise AdministrationFailed(
                f'no such group: "{group}"', hint=f"groupadd {group}; adduser NAME {group} makes somebody a member"
            ) from None
    return tuple(dict.fromkeys(given))


def _require_somebody(asked: list[str], options: EnableOptions) -> None:
    """Check that at least one user could get in with a code.

    Raises:
        AdministrationFailed: no user could, and the administrator has not allowed this.
    """
    if not asked and not options.enrol_later and not options.lock_out.force:
        raise AdministrationFailed(
            f'nobody who gets in at "{options.service}" is enrolled, so nobody could confirm it with a code',
            hint="softtoken-enroll --user USER enrols somebody; --enrol-later lets those in who have not yet",
        )


def _try(screen: terminal.Terminal, new: trial.Trial, found: Forecast, user: str, options: EnableOptions) -> None:
    """Ask the user to log in through the new stack, unless one of their codes was accepted just now."""
    ago_s = last_code_ago_s(found, user)
    if not options.user and ago_s is not None and ago_s <= FRESH_S:
        screen.tell(f"{user} gave a right code {ago_s} s ago, so none is asked for here: the login proves the rest.")
        return
    screen.tell(f"Now try it as {user}: the new stack asks the next questions. It is not in use yet.")
    new.log_in(screen, user)
    screen.tell("Right: you get in with it. That code cannot be used again; the next login takes the next one.")


def last_code_ago_s(found: Forecast, user: str) -> int | None:
    """Return how long ago one of the user's codes was accepted, in seconds; None if unknown."""
    when = (found.host.facts.get(user) or {}).get("last_used")
    if not when:
        return None
    try:
        ago_s = int(time.time()) - calendar.timegm(time.strptime(str(when), "%Y-%m-%dT%H:%M:%SZ"))
    except (ValueError, OverflowError):
        return None
    return ago_s if ago_s >= 0 else None  # a record that the user owns can say anything


def _who_tries(options: EnableOptions, asked: list[str]) -> str:
    """Return the user who tries the new stack and confirms it: the user of --user, or the runner, or another user."""
    if options.user and options.user not in asked:
        raise AdministrationFailed(
            f'"{options.user}" would not be asked for a code, or not get in', hint="--user names a user who is"
        )
    return options.user or next(iter(asked), "")


def _second_terminal(service: str, user: str) -> str:
    user = user or "USER"
    ways = {
        "sshd": f"ssh {server.port_option()}{user}@{os.uname().nodename}",
        "sudo": "sudo -k true",
        "sudo-i": "sudo -k -i true",
        "su": f"su {user}, not as root",
        "su-l": f"su - {user}, not as root",
        "login": "on another console",
    }
    return f"In another terminal, log in with a code: {ways.get(service, f'through {service}')}"


def add_service(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("service", metavar="SERVICE", help="a file in /etc/pam.d: sshd, sudo, su, login ...")


def add_dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="show what would be done, and change nothing")


def _add_enable(parser: argparse.ArgumentParser) -> None:
    add_service(parser)
    parser.add_argument(
        "--with", dest="way", choices=(WITH_PASSWORD, WITH_PUBLIC_KEY),
        help="what the code comes on top of; publickey is for sshd, where the password is not asked for then "
        "(default: password, or publickey where passwords are closed)",
    )  # fmt: skip
    parser.add_argument(
        "--for", dest="time", metavar="TIME", default=USUAL,
        help=f"how long to wait for a login with a code, or for confirm, before all goes back; {SHORTEST} to {LONGEST} "
        "(default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--user", metavar="USER", type=user_lookup.canonical_name,
        help="the user who tries the new stack at this terminal before it is in use, and whose login confirms it "
        "(default: the user who runs this); no trial is needed if a code of theirs was accepted in the last "
        f"{FRESH_S // 60} minutes",
    )  # fmt: skip
    parser.add_argument(
        "--except", dest="exempt", metavar="GROUP", action="append", default=[],
        help="do not ask the members of a group for a code, and leave their ways in as they are; may be "
        "given several times",
    )  # fmt: skip
    parser.add_argument(
        "--lock-out", metavar="NAME,...",
        help="these users may lose their way in; without a terminal, name all users who would be locked out",
    )  # fmt: skip
    parser.add_argument(
        "--force", action="store_true",
        help="go on even if this locks out the user who runs it, or the last account that can become root, or if a "
        "screen locker would unlock for nobody",
    )  # fmt: skip
    parser.add_argument(
        "--yes", action="store_true",
        help="ask nothing, so nobody tries the new stack before it is in use; this proves only that the modules load, "
        "and that the stack asks for a code and refuses wrong answers",
    )  # fmt: skip
    sign_switch.add_sign(parser, takes_value=True)
    parser.add_argument("--enrol-later", action="store_true", help="let users in who have never enrolled (nullok)")
    add_dry_run(parser)


ENABLE = Command(
    "enable",
    "ask for a code in a service, or for signatures; the change is taken back unless a login confirms it",
    _add_enable,
    EnableOptions,
    _enable,
)
