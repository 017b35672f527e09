"""`softtoken-enroll`: manage the soft tokens of an account. Read the command line and start the right operation."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable

from pam_softtoken import config as configuration
from pam_softtoken.account import host_settings, safe_open, user_lookup
from pam_softtoken.account.editor import Editor
from pam_softtoken.account.store import Location
from pam_softtoken.enroll import check, import_tokens, new_token, provisioning, sheet
from pam_softtoken.enroll import through_sudo as self_service
from pam_softtoken.enroll.enrolment import Enrolment
from pam_softtoken.enroll.import_tokens import Takeover
from pam_softtoken.enroll.pin_change import PINChange
from pam_softtoken.enroll.run_context import PROGRAM, Job
from pam_softtoken.enroll.token_list import Inventory
from pam_softtoken.enroll.upkeep import Removal, Renewal
from pam_softtoken.errors import (
    CheckFailed,
    ConfigError,
    EnrolmentFailed,
    LockTimeout,
    LookUpFailed,
    NotEnrolled,
    PathError,
    Revoked,
    UnknownUser,
    UsageError,
)
from pam_softtoken.otp import hotp, recovery_code
from pam_softtoken.otp.token import DEFAULT_NAME
from pam_softtoken.ui import command_line, terminal

DESCRIPTION = "Link soft tokens (apps that show one-time codes) to this account."
EPILOG = """\
examples:
  softtoken-enroll
      enrol yourself: scan, confirm, keep the recovery codes
  softtoken-enroll --name spare
      one more token; it takes a code of one that is there
  softtoken-enroll --force
      replace the token "phone", for instance after the phone was lost
  softtoken-enroll --type hotp
      a token that counts instead of going by the clock
  softtoken-enroll --list
      which tokens are there, and how many recovery codes are left?
  softtoken-enroll --remove spare
      take a token away; its codes are refused from then on
  softtoken-enroll --new-recovery-codes
      the old ones are used up, or somebody has seen them
  softtoken-enroll --pin
      set a PIN; 4711 and the code 287082 are typed as 4711287082
  softtoken-enroll --import ~/.google_authenticator
      go on with the token that google-authenticator knows
  softtoken-enroll --check
      does the app's code work, and if not, why?
  softtoken-enroll --user alice
      as root, for somebody else; root needs no code of hers
  softtoken-enroll --no-confirm --json --key-file key.txt
      from a script, with a key that is in a token already
  softtoken-enroll --if-absent --no-confirm --json --key-file key.txt
      the same, from a script that runs again and again
"""
# The options of each tool besides --user and --store. The other options describe a new token.
TOOLS = {
    "check": (),
    "list": ("json",),
    "remove": ("force", "no_confirm"),
    "new_recovery_codes": ("recovery_codes", "no_confirm", "json"),
    "print_recovery_codes": ("recovery_codes",),
    "import_file": ("name", "no_confirm", "dry_run", "passphrase_file", "recovery_codes"),
    "pin": (),
    "no_pin": (),
}
NEVER_TOGETHER = (("if_absent", "force"), ("recovery_hashes", "recovery_codes"))
ONLY_WITH_IMPORT = ("dry_run", "passphrase_file")


def build_parser() -> command_line.Parser:
    """Return the command line's parser. `--help` is made from it, too."""
    parser = command_line.Parser(
        prog=PROGRAM,
        description=DESCRIPTION,
        epilog=EPILOG,
        usage="%(prog)s [OPTION ...]",
    )
    command_line.add_version(parser)
    token = parser.add_argument_group("the token")
    token.add_argument(
        "--name", default=DEFAULT_NAME, metavar="NAME", help=f"what to call it (default: {DEFAULT_NAME})"
    )
    token.add_argument(
        "--type", choices=("totp", "hotp"), default="totp", help="by the clock or counting (default: totp)"
    )
    token.add_argument(
        "--algorithm", choices=hotp.ALGORITHMS, default="SHA1", help="default: SHA1, which every app can do"
    )
    token.add_argument("--digits", type=int, default=6, metavar="6|7|8", help="length of a code (default: 6)")
    token.add_argument(
        "--period", type=int, metavar="SECONDS", help="how long a TOTP code lasts, 1 to 300 (default: 30)"
    )
    token.add_argument("--key-file", metavar="FILE", help="take the key, in Base32, from FILE, or - for stdin")
    token.add_argument(
        "--recovery-codes", type=int, default=recovery_code.USUAL_CODES, metavar="N",
        help=f"how many codes for when the token is lost, 0 to {recovery_code.MAX_CODES} (default: 10)",
    )  # fmt: skip
    token.add_argument(
        "--recovery-hashes", metavar="FILE",
        help="enrol recovery codes that somebody has already, by their hashes: see --print-recovery-codes",
    )  # fmt: skip
    where = parser.add_argument_group("where it goes")
    where.add_argument("--user", metavar="USER", help="somebody else's tokens; root only")
    where.add_argument("--store", metavar="TEMPLATE", help="where the files are, as in the module's store= option")
    where.add_argument(
        "--self", action="store_true", dest="through_sudo",
        help="as root for the user who comes through sudo; added where root keeps the tokens",
    )  # fmt: skip
    where.add_argument("--force", action="store_true", help="replace the token of that name, and the recovery codes")
    where.add_argument(
        "--if-absent", action="store_true",
        help="only if the account is not enrolled: nothing is changed where it has the token of --key-file, or any "
        "token without --key-file; exit status 4 where it has another one, or had one that was taken away",
    )  # fmt: skip
    tools = parser.add_argument_group("instead of enrolling")
    tools.add_argument("--list", action="store_true", help="show the tokens, and how many recovery codes are left")
    tools.add_argument("--remove", metavar="NAME", help="take a token away; the last one only with --force")
    tools.add_argument("--new-recovery-codes", action="store_true", help="make new recovery codes; the old ones die")
    tools.add_argument(
        "--print-recovery-codes", action="store_true",
        help="make recovery codes for later and show them with their hashes, as JSON; no account is touched",
    )  # fmt: skip
    tools.add_argument(
        "--import", metavar="FILE", dest="import_file", help="take over the tokens of another program, from FILE or -"
    )
    tools.add_argument("--dry-run", action="store_true", help="with --import: only say what would be taken over")
    tools.add_argument("--passphrase-file", metavar="FILE", help="with --import: what opens an encrypted file")
    tools.add_argument(
        "--pin", action="store_true", help="set a PIN, to be typed in front of each code, or another one"
    )
    tools.add_argument("--no-pin", action="store_true", help="take codes without a PIN again")
    tools.add_argument(
        "--check", action="store_true", help="try a code, and say what is wrong; a right one cannot be used again"
    )
    how = parser.add_argument_group("how it is shown")
    how.add_argument("--qr", choices=("utf8", "ansi", "none"), help="how the QR code is drawn (default: what fits)")
    how.add_argument("--png", metavar="FILE", help="the QR code as a picture, too, in a new file")
    how.add_argument("--svg", metavar="FILE", help="the same, as SVG")
    how.add_argument(
        "--sheet", metavar="FILE.html", help="a page to print, in a new file: QR code, key, recovery codes, what to do"
    )
    how.add_argument("--no-confirm", action="store_true", help="ask nothing; write at once")
    how.add_argument("--json", action="store_true", help="one JSON object on stdout, for programs")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run the program. Exit status: 0 done, 1 failed, 2 usage."""
    command_line.settle_in()
    words = sys.argv[1:] if arguments is None else arguments
    status = terminal.run(PROGRAM, lambda screen: _run(screen, words))
    return self_service.FAILED if status == 1 and "--self" in words else status


def _run(screen: terminal.Terminal, arguments: list[str]) -> None:
    parser = build_parser()
    options = parser.parse_args(arguments)
    tool = _tool(parser, options)
    if tool == "print_recovery_codes":
        provisioning.print_codes(screen, options.recovery_codes)
        return
    account = _account(_caller(options) if options.through_sudo else options.user, tool)
    settings = _settings(options.store)
    location = _location(settings, account)
    if not location.in_home and os.geteuid() != 0:
        if options.store is None:
            self_service.go_through_sudo(screen, arguments, user=account.name, path=location.path)
        raise EnrolmentFailed(
            f"tokens in {location.path} are kept by root",
            hint=f"ask an administrator for: {PROGRAM} --user {account.name}",
        )
    if tool == "check":
        _check(_job(screen, screen, options, location, settings))
        return
    work = {
        "list": _list,
        "remove": _remove,
        "new_recovery_codes": _renew,
        "pin": _change_pin,
        "no_pin": _change_pin,
    }.get(tool, _enrol)
    page = terminal.Terminal(PROGRAM, results=sys.stderr) if options.json else screen
    try:
        if tool == "import_file":
            done = _import(screen, options, settings, account)
        else:
            done = _carry_out(work, _job(screen, page, options, location, settings))
    except PathError as error:
        hint = _hint_for(error, location, through_sudo=options.through_sudo)
        raise EnrolmentFailed(f"{error}; nothing was changed", hint=hint) from None
    except Revoked:
        as_root = "" if os.geteuid() == 0 and not options.through_sudo else "ask an administrator for: "
        raise EnrolmentFailed(
            f"all tokens of {account.name} have been revoked; only root can enrol a new one",
            hint=f"{as_root}{PROGRAM} --user {account.name}",
        ) from None
    except NotEnrolled:
        raise EnrolmentFailed(
            f"{account.name} is not enrolled in {location.path}", hint=f"{PROGRAM} without other options enrols"
        ) from None
    if done and not options.json:
        screen.tell(done)


def _caller(options: argparse.Namespace) -> str:
    """Return the user that started this program through sudo. Check that the options do not name another."""
    for name in ("user", "store"):
        if getattr(options, name) is not None:
            raise UsageError(f"--{name} does not go with --self", hint=f"see {PROGRAM} --help")
    name = self_service.caller()
    self_service.settle_in()
    return name


def _job(
    screen: terminal.Terminal,
    page: terminal.Terminal,
    options: argparse.Namespace,
    location: Location,
    settings: configuration.Config,
) -> Job:
    editor = self_service.BriefEditor if options.through_sudo else Editor
    return Job(screen, page, options, editor(location), settings, options.through_sudo)


def _import(
    screen: terminal.Terminal, options: argparse.Namespace, settings: configuration.Config, account: safe_open.Account
) -> str:
    named_files = _job(screen, screen, options, _location(settings, account), settings).named_files
    found = import_tokens.read(
        options.import_file, options.passphrase_file, named_files, only_text=options.through_sudo
    )
    may_others = os.geteuid() == 0 and not options.through_sudo
    users = import_tokens.by_user(found, account.name, only=bool(options.user), may_others=may_others)
    with contextlib.ExitStack() as open_stores:
        jobs = {}
        for user, found in users.items():
            job = _job(screen, screen, options, _location(settings, _account(user, "import")), settings)
            open_stores.callback(job.store.close)
            jobs[user] = Takeover(job, found, alone=len(users) == 1)
        return import_tokens.carry_out_all(jobs, dry_run=options.dry_run, tell=screen.tell)


def _carry_out(work: Callable[[Job], str], job: Job) -> str:
    try:
        return work(job)
    except BaseException:
        job.store.withdraw()
        raise
    finally:
        job.store.close()


def _tool(parser: argparse.ArgumentParser, options: argparse.Namespace) -> str:
    """Return the tool that is wanted, "" for an enrolment. Check that every given option applies to it."""
    given = [name for name, value in vars(options).items() if value != parser.get_default(name)]
    tool = next((name for name in TOOLS if name in given), "")
    fitting = (tool, "user", "store", "through_sudo", *TOOLS[tool]) if tool else given
    for name in given:
        if name not in fitting:
            raise UsageError(f"--{_spelt(name)} does not go with --{_spelt(tool)}", hint=f"see {PROGRAM} --help")
        if not tool and name in ONLY_WITH_IMPORT:
            raise UsageError(f"--{_spelt(name)} goes with --import", hint=f"see {PROGRAM} --help")
    for one, other in NEVER_TOGETHER:
        if one in given and other in given:
            raise UsageError(f"--{_spelt(one)} does not go with --{_spelt(other)}", hint=f"see {PROGRAM} --help")
    new_token.require_number_of_codes(options)
    new_token.require_one_use_of_stdin(options)
    return tool


def _spelt(name: str) -> str:
    return {"import_file": "import", "through_sudo": "self"}.get(name, name.replace("_", "-"))


def _check(job: Job) -> None:
    if not terminal.person_is_there():
        raise UsageError("--check asks for a code, and there is no terminal", hint="run it in a terminal")
    location = job.store.location
    try:
        job.screen.show(check.check(job))
    except PathError as error:
        raise CheckFailed(str(error), hint=_hint_for(error, location, through_sudo=job.through_sudo)) from None
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


def _account(user: str | None, tool: str) -> safe_open.Account:
    name = user if user is not None else f"uid {os.getuid()}"
    try:
        account = user_lookup.account_of_name(user) if user is not None else user_lookup.account_of_uid(os.getuid())
    except UnknownUser:
        raise EnrolmentFailed(f'no such user: "{name}"', hint="getent passwd lists the users of this host") from None
    except LookUpFailed as error:
        raise EnrolmentFailed(f"{name}: {error}", hint="see what getent passwd says of this user") from None
    if account.uid != os.getuid() and os.geteuid() != 0:
        what = f" --{_spelt(tool)}" if tool else ""
        raise EnrolmentFailed(
            "only root can do that for somebody else", hint=f"sudo {PROGRAM}{what} --user {account.name}"
        )
    account.look_up_groups()  # perhaps only one of them may enter the home directory
    return account


def _settings(store: str | None) -> configuration.Config:
    """Read the host's settings. The token then goes where the module looks for it."""
    try:
        return host_settings.load(store, example="%h/.softtoken")
    except ConfigError as error:
        raise EnrolmentFailed(str(error), hint="an administrator has to correct it") from None


def _location(settings: configuration.Config, account: safe_open.Account) -> Location:
    try:
        return Location(settings.store, account)
    except ConfigError as error:
        raise EnrolmentFailed(str(error), hint="--store takes another template") from None


def _hint_for(error: PathError, location: Location, *, through_sudo: bool) -> str:
    if through_sudo and isinstance(error, LockTimeout):
        return "a login is using it; start again"
    return host_settings.hint_for(error, location, is_root=os.geteuid() == 0 and not through_sudo)
