"""Implement `softtoken-admin move`: move tokens and their state from the users' homes to a root-owned store, or back.

`moving` has the move of one user.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass

from pam_softtoken import config as configuration
from pam_softtoken import option_table
from pam_softtoken.account import lock_holder, safe_open, user_lookup
from pam_softtoken.account.location import Location
from pam_softtoken.account.moving import Move, Place, is_there
from pam_softtoken.admin.common import bounded, deed, logins, orphans, person
from pam_softtoken.admin.common.person import PLACES
from pam_softtoken.errors import (
    BadTokenFile,
    ConfigError,
    DamagedState,
    LockTimeout,
    NotEnrolled,
    NotSynced,
    OtherAccount,
    PathError,
)
from pam_softtoken.program_errors import AdministrationFailed, MoveFailed, UsageError
from pam_softtoken.ui import terminal
from pam_softtoken.ui.command_line import Command

MOST_OFFERS = 5


@dataclass(frozen=True, slots=True)
class MoveOptions:
    """The options of `move`."""

    users: tuple[str, ...]
    all: bool
    to: str
    old_home: str | None
    dry_run: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `move`."""
    parser.add_argument("users", nargs="*", metavar="USER", help="whose tokens")
    parser.add_argument(
        "--all",
        action="store_true",
        help="move the tokens of all users that getent passwd lists, and of those who have logged in with a code",
    )
    parser.add_argument(
        "--to", choices=tuple(PLACES), required=True,
        help=f"system: {PLACES['system'].replace('%', '%%')}, kept by root; "
        f"home: {PLACES['home'].replace('%', '%%')}",
    )  # fmt: skip
    parser.add_argument(
        "--old-home", metavar="DIRECTORY",
        help="take them from where the user's home directory was before (default: what the last login recorded)",
    )  # fmt: skip
    parser.add_argument("--dry-run", action="store_true", help="only say what would be moved")


def run(screen: terminal.Terminal, options: MoveOptions) -> None:
    """Move the tokens of some users.

    Raises:
        MoveFailed: some could not be moved; a message for each was shown.
        UsageError: no user is named.
        AdministrationFailed: a named user does not exist.
    """
    if os.geteuid() != 0:
        raise MoveFailed("only root can move tokens", hint="sudo softtoken-admin move ...")
    if bool(options.users) == options.all:
        raise UsageError("either users or --all", hint="as in softtoken-admin move --all --to system --dry-run")
    if options.old_home is not None and (len(options.users) != 1 or not options.old_home.startswith("/")):
        raise UsageError("--old-home takes an absolute path, and one user", hint="as in --old-home /home/alice")
    person.require_no_realm(
        person.settings_of(None), hint=f"{person.PROGRAM} fleet import copies tokens of this host into the realm"
    )
    accounts = _accounts(options)
    done: list[str] = []
    failed: list[str] = []
    try:
        for account in accounts:
            try:
                result = bounded.work_for(account.name, lambda account=account: _result_of(account, options))  # type: ignore[misc]
            except AdministrationFailed as error:
                failed.append(account.name)
                screen.tell(f"{account.name}: {terminal.visible(error.message)}; {error.hint}")
                continue
            if result is not None:
                screen.show(f"{account.name}: {result}")
                done.append(account.name)
            elif not options.all:
                failed.append(account.name)
                screen.tell(f"{account.name}: is not enrolled there{_left_behind(account)}")
    except KeyboardInterrupt:
        raise MoveFailed(
            f"interrupted after {_counted(len(done))}", hint="the same command goes on with the others"
        ) from None
    if done and not options.dry_run:
        _tell_what_next(screen, options.to)
        if options.to == "system":
            _offer_new_keys(screen, done)
    if failed:
        raise MoveFailed(
            f"{_counted(len(failed))} of {len(done) + len(failed)} not moved: {', '.join(failed)}",
            hint="what was wrong is above; the same command goes on with them",
        )
    if not done:
        screen.tell("Nobody has tokens there.")


def _accounts(options: MoveOptions) -> list[safe_open.Account]:
    entries = logins.everybody() if options.all else person.entries_of(options.users)
    accounts = [user_lookup.account_of(entry) for entry in entries if entry.pw_name]
    for account in accounts:
        account.look_up_groups()
    return accounts


def _has_something(account: safe_open.Account, to: str) -> bool:
    """Return whether there are any files in the place of the tokens, as far as the user can see."""
    return any(is_there(location) for location in _sources(account, to, None))


def _sources(account: safe_open.Account, to: str, old_home: str | None) -> list[Location]:
    """List where the tokens can be: in the other place, and in the user's former home directory.

    The former home is opened as the user, like any home directory. It counts only while it belongs to the user or to
    root.
    """
    if old_home is not None:
        return [person.in_home(account, old_home, PLACES["home"])]
    before = person.in_old_home(account, PLACES["home"])
    return [Location(_other(to), account), *([before] if before is not None else [])]


def _left_behind(account: safe_open.Account) -> str:
    """Return the commands for files under another name or uid of the account; "" if there are none."""
    cures = [each.cure for each in orphans.of_user(account.name, [PLACES["system"]]) if each.kind == orphans.STORE]
    return "".join(f"; if these are the same user's, first: {cure}" for cure in cures)


def _other(to: str) -> str:
    return PLACES["home" if to == "system" else "system"]


def _result_of(account: safe_open.Account, options: MoveOptions) -> str | None:
    """Move the tokens of one user. Return what was done, or None if the user has no tokens there.

    Raises:
        AdministrationFailed: nothing was moved; the hint says what helps.
    """
    try:
        if options.all and not _has_something(account, options.to):
            return None
        return _move(account, options)
    except NotEnrolled:
        return None
    except NotSynced as error:
        raise AdministrationFailed(f"{error}; {error.aftermath}", hint="run the same command again") from None
    except (ConfigError, MoveFailed, PathError) as error:
        raise AdministrationFailed(str(error), hint=_advice(error)) from None


def _move(account: safe_open.Account, options: MoveOptions) -> str:
    target = Location(PLACES[options.to], account)
    sources = _sources(account, options.to, options.old_home)
    source = next((each for each in sources if is_there(each)), sources[0])
    if source.path == target.path:
        raise MoveFailed(f"{target.path} is where they are", hint="--old-home takes the former home directory")
    move = Move(Place(source), Place(target))
    if not options.dry_run:
        move.carry_out()
        deed.record("move", account.name, to=options.to)
        return f"moved to {target.path}"
    content = move.rehearse()
    names = ", ".join(f'"{terminal.visible(token.name)}"' for token in content.tokens)
    return f"{names} would move from {source.path} to {target.path}"


def _advice(error: Exception) -> str:
    if isinstance(error, MoveFailed):
        return error.hint
    if isinstance(error, LockTimeout):
        return lock_holder.advice(error)
    if isinstance(error, DamagedState):
        return "it is not known which codes were used: enrol again"
    if isinstance(error, OtherAccount):
        return "that command first says whose they are"
    if isinstance(error, BadTokenFile):
        return "enrol again"
    return "nothing was changed"


def _tell_what_next(screen: terminal.Terminal, to: str) -> None:
    template = PLACES[to]
    try:
        now = configuration.load([], safe_open.read_conf).store
    except ConfigError as error:
        screen.tell(f"{option_table.DEFAULT_CONF} has mistakes: {terminal.visible(str(error))}")
        now = ""
    if now != template:
        screen.tell(
            f"Next, in {option_table.DEFAULT_CONF}: store = {template}\n"
            "Until that is there, and wherever a PAM line says otherwise, users whose tokens were moved are refused."
        )


def _offer_new_keys(screen: terminal.Terminal, users: list[str]) -> None:
    """Show that a moved key is as secret as it was in the home directory, and how to replace it."""
    screen.tell(
        "A program that ran as the user may have read the key in the home directory. To make a new one instead:"
    )
    for user in users[:MOST_OFFERS]:
        screen.tell(f"  softtoken-admin revoke {user} && softtoken-enroll --user {user}")
    if len(users) > MOST_OFFERS:
        screen.tell(f"  and likewise for {_counted(len(users) - MOST_OFFERS)} more")


def _counted(number: int) -> str:
    return "1 user" if number == 1 else f"{number} users"


COMMAND = Command(
    "move", "move tokens from the users' homes to a directory of root's, or back", add_arguments, MoveOptions, run
)
