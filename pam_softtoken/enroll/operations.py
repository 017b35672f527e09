"""Start the operation that a command line of `softtoken-enroll` asks for, on the right account and store."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from pam_softtoken import config as configuration
from pam_softtoken import option_table
from pam_softtoken.account import host_settings, safe_open, user_lookup
from pam_softtoken.account.editor import Editor
from pam_softtoken.account.location import Location
from pam_softtoken.enroll import check, import_all, import_tokens, new_token, provisioning, sheet, signing_token
from pam_softtoken.enroll import through_sudo as self_service
from pam_softtoken.enroll.enrolment import Enrolment
from pam_softtoken.enroll.import_tokens import Takeover
from pam_softtoken.enroll.options import Options, spelt
from pam_softtoken.enroll.pin_change import PINChange
from pam_softtoken.enroll.run_context import PROGRAM, Job
from pam_softtoken.enroll.token_list import Inventory
from pam_softtoken.enroll.upkeep import Removal, Renewal
from pam_softtoken.errors import (
    ConfigError,
    FleetDown,
    LockTimeout,
    LookUpFailed,
    NotEnrolled,
    PathError,
    Revoked,
    UnknownUser,
)
from pam_softtoken.fleet.editor import WHEN_DOWN, FleetEditor, UsersFleetEditor
from pam_softtoken.fleet.editor import hint_for as fleet_hint
from pam_softtoken.fleet.store import Place
from pam_softtoken.interchange.record import LeftOut
from pam_softtoken.program_errors import CheckFailed, EnrolmentFailed, UsageError
from pam_softtoken.ui import terminal


def carry_out(screen: terminal.Terminal, tool: str, options: Options, arguments: list[str]) -> None:
    """Do what a command line asks for.

    Args:
        screen: the output.
        tool: the field of `options` that names the operation; "" for an enrolment.
        options: the command line.
        arguments: its words, for the same program as root.

    Raises:
        ProgramError: it was not done.
    """
    account = _account(_caller(options) if options.through_sudo else options.user, tool)
    settings = _settings(options)
    location = _location(settings, account)
    if tool == "sign":
        codes = _job(screen, screen, options, location, settings)
        has_codes = options.through_sudo and not location.in_home
        signing_token.carry_out(screen, options, account, arguments, codes=codes if has_codes else None)
        return
    if not location.in_home and os.geteuid() != 0:
        if options.store is None:
            self_service.go_through_sudo(screen, arguments, user=account.name, path=location.path)
        here = " --here" if options.here else ""
        raise EnrolmentFailed(
            f"tokens in {location.path} are kept by root",
            hint=f"ask an administrator for: {PROGRAM}{here} --user {account.name}",
        )
    if tool == "check":
        _check(_job(screen, screen, options, location, settings))
        return
    page = terminal.Terminal(PROGRAM, results=sys.stderr) if options.json else screen
    with _faults_explained(location, through_sudo=options.through_sudo):
        if options.import_file is not None:
            done = _import(screen, options.import_file, options, settings, account)
        else:
            done = _carry_out(_WORK.get(tool, _enrol), _job(screen, page, options, location, settings))
    if done and not options.json:
        screen.tell(done)


@contextlib.contextmanager
def _faults_explained(location: Location | Place, *, through_sudo: bool) -> Iterator[None]:
    """Report what is wrong with a user's files, and what helps.

    Raises:
        EnrolmentFailed: the block has found something.
    """
    name = location.account.name
    try:
        yield
    except PathError as error:
        hint = _hint_for(error, location, through_sudo=through_sudo)
        raise EnrolmentFailed(f"{error}; {error.aftermath}", hint=hint) from None
    except Revoked:
        as_root = "" if os.geteuid() == 0 and not through_sudo else "ask an administrator for: "
        raise EnrolmentFailed(
            f"all tokens of {name} have been revoked; only root can enrol a new one",
            hint=f"{as_root}{PROGRAM} --user {name}",
        ) from None
    except NotEnrolled:
        raise EnrolmentFailed(
            f"{name} is not enrolled in {location.path}", hint=f"{PROGRAM} without other options enrols"
        ) from None


def _caller(options: Options) -> str:
    """Return the user that started this program through sudo. Check that the options do not name another."""
    for name, value in (("user", options.user), ("store", options.store)):
        if value is not None:
            raise UsageError(f"--{name} does not go with --self", hint=f"see {PROGRAM} --help")
    name = self_service.caller()
    self_service.settle_in()
    return name


def _job(
    screen: terminal.Terminal,
    page: terminal.Terminal,
    options: Options,
    location: Location | Place,
    settings: configuration.Config,
) -> Job:
    store: Editor | FleetEditor
    if isinstance(location, Place):
        fleet_editor = UsersFleetEditor if options.through_sudo else FleetEditor
        store = fleet_editor(location.account, settings)
    else:
        editor = self_service.BriefEditor if options.through_sudo else Editor
        store = editor(location)
    return Job(screen, page, options, store, settings, options.through_sudo)


def _import(
    screen: terminal.Terminal,
    path: str,
    options: Options,
    settings: configuration.Config,
    account: safe_open.Account,
) -> str:
    named_files = _job(screen, screen, options, _location(settings, account), settings).named_files
    harvest = import_tokens.read(path, options.passphrase_file, named_files, only_text=options.through_sudo)
    for reason in harvest.skipped:
        screen.tell(f"Skipped: {terminal.visible(reason)}.")
    may_others = os.geteuid() == 0 and not options.through_sudo
    content = import_all.by_user(harvest, account, only=bool(options.user), may_others=may_others)
    takeovers = []
    for user, found in content.tokens.items():
        user.look_up_groups()
        try:
            location = _location(settings, user)
        except EnrolmentFailed as error:
            content.unusable.extend(LeftOut(each.place, user.name, error.message, error.hint) for each in found)
            continue
        job = _job(screen, screen, options, location, settings)
        takeovers.append(Takeover(job, found, alone=content.is_for_one))
    return import_all.Import(
        import_tokens.name_of(path),
        takeovers,
        content.unusable,
        screen=screen,
        explained=lambda error, location: _hint_for(error, location, through_sudo=options.through_sudo),
        skipping=options.skip_unusable,
    ).carry_out(dry_run=options.dry_run)


def _carry_out(work: Callable[[Job], str], job: Job) -> str:
    try:
        return work(job)
    except BaseException:
        job.store.withdraw()
        raise
    finally:
        job.store.close()


def _check(job: Job) -> None:
    if not terminal.person_is_there():
        raise UsageError("--check asks for a code, and there is no terminal", hint="run it in a terminal")
    location = job.store.location
    try:
        job.screen.show(check.check(job))
    except PathError as error:
        raise CheckFailed(str(error), hint=_hint_for(error, location, through_sudo=job.through_sudo)) from None
    except FleetDown as error:
        raise CheckFailed(str(error), hint=WHEN_DOWN) from None
    finally:
        job.store.close()


def _enrol(job: Job) -> str:
    options = job.options
    token = new_token.new_token(options, job.named_files)
    given = new_token.recovery_hashes(options, job.named_files)
    if options.if_absent and provisioning.is_done(job, token):
        return ""
    job.require_person()
    terminal.checkpoint()
    wanted = sheet.Printout(png=options.png, svg=options.svg, sheet=options.sheet, named_files=job.named_files)
    with wanted as printed:
        done = Enrolment(job, token, printed, given).carry_out()
    return "\n".join([done, *printed.advice()])


def _list(job: Job) -> str:
    inventory = Inventory(job.store)
    if job.options.json:
        inventory.show_json(job.screen)
    else:
        inventory.show(job.screen)
    return ""


def _remove(job: Job) -> str:
    return Removal(job).carry_out()


def _renew(job: Job) -> str:
    return Renewal(job).carry_out()


def _change_pin(job: Job) -> str:
    return PINChange(job).carry_out()


_WORK: dict[str, Callable[[Job], str]] = {
    "list": _list,
    "remove": _remove,
    "new_recovery_codes": _renew,
    "pin": _change_pin,
    "no_pin": _change_pin,
}


def _account(user: str | None, tool: str) -> safe_open.Account:
    name = user if user is not None else f"uid {os.getuid()}"
    try:
        account = user_lookup.account_of_name(user) if user is not None else user_lookup.account_of_uid(os.getuid())
    except UnknownUser:
        raise EnrolmentFailed(f'no such user: "{name}"', hint="getent passwd lists the users of this host") from None
    except LookUpFailed as error:
        raise EnrolmentFailed(f"{name}: {error}", hint="see what getent passwd says of this user") from None
    if account.uid != os.getuid() and os.geteuid() != 0:
        what = f" --{spelt(tool)}" if tool else ""
        raise EnrolmentFailed(
            "only root can do that for somebody else", hint=f"sudo {PROGRAM}{what} --user {account.name}"
        )
    account.look_up_groups()  # perhaps only one of them may enter the home directory
    return account


def _settings(options: Options) -> configuration.Config:
    """Read the host's settings. The token then goes where the module looks for it."""
    try:
        settings = host_settings.load(options.store, example=option_table.HOME_STORE)
    except ConfigError as error:
        raise EnrolmentFailed(str(error), hint="an administrator has to correct it") from None
    if not options.here:
        # A code of a token of this host alone must not permit a change of the realm's.
        return settings.without("fleet_alone")
    if not settings.fleet:
        raise EnrolmentFailed(
            "this host is in no realm, so all its tokens are its own", hint=f"{PROGRAM}, without --here"
        )
    if not settings.fleet_alone:
        raise EnrolmentFailed(
            "fleet_alone is not set, so this host has no place for tokens of its own",
            hint=f"in {option_table.DEFAULT_CONF}, as in: fleet_alone = /var/local/softtoken/%U",
        )
    return settings.alone()


def _location(settings: configuration.Config, account: safe_open.Account) -> Location | Place:
    if settings.fleet:
        return FleetEditor(account, settings).location
    try:
        return Location(settings.store, account)
    except ConfigError as error:
        raise EnrolmentFailed(str(error), hint="--store takes another template") from None


def _hint_for(error: PathError, location: Location | Place, *, through_sudo: bool) -> str:
    if isinstance(location, Place):
        return fleet_hint(error, location.account.name, is_root=os.geteuid() == 0 and not through_sudo)
    if through_sudo and isinstance(error, LockTimeout):
        return "a login is using it; start again"
    return host_settings.hint_for(error, location, is_root=os.geteuid() == 0 and not through_sudo)
