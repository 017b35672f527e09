"""Implement `softtoken-admin move`: move tokens and their state from the users' homes to a root-owned store, or back.

The old place stops being used at one moment. Only after that moment the new place is used. If the command is killed in
between, the user has no token until the command is run again. The user never has two tokens with different counters.
Used codes are recorded in the new place before that moment.
"""

from __future__ import annotations

import argparse
import os
import pwd
from typing import NamedTuple

from pam_softtoken import config as configuration
from pam_softtoken.account import enrolled_mark, lock_holder, safe_open, state, user_lookup
from pam_softtoken.account.editor import LOCK_TIMEOUT_S
from pam_softtoken.account.moving_place import MovingPlace
from pam_softtoken.account.store import Location
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.admin.common import bounded, deed, orphans, person
from pam_softtoken.admin.common.person import PLACES
from pam_softtoken.errors import (
    AdministrationFailed,
    BadTokenFile,
    ConfigError,
    DamagedState,
    LockTimeout,
    LookUpFailed,
    MoveFailed,
    NotEnrolled,
    NotStored,
    OtherAccount,
    PathError,
    UnknownUser,
    UsageError,
)
from pam_softtoken.ui import terminal
from pam_softtoken.ui.command_line import Command

MOST_OFFERS = 5


class _Move(NamedTuple):
    """The move of one user.

    Args:
        source, target: the two places.
    """

    source: MovingPlace
    target: MovingPlace

    def rehearse(self) -> TokenFile:
        """Return the tokens that would be moved, and change nothing.

        Raises:
            MoveFailed, NotEnrolled, PathError: nothing can be moved.
        """
        try:
            live, aside = self.source.look()
            content = live or aside
            if content is None:
                raise NotEnrolled(proven=False)
            try:
                there, _ = self.target.look()
            except PathError:
                if _is_there(self.target.location):
                    raise
                there = None
            if live is not None and there is not None:
                raise self._occupied()
            return content
        finally:
            self._close()

    def carry_out(self) -> None:
        """Move the tokens, or continue an interrupted move.

        Raises:
            MoveFailed, NotEnrolled, PathError: everything is as it was.
        """
        try:
            live, aside = self.source.look()
            if live is None and aside is None:
                raise NotEnrolled(proven=False)
            try:
                self._carry_out()
            except BaseException:
                self.target.withdraw()
                raise
        finally:
            self._close()

    def _carry_out(self) -> None:
        source, target = self.source, self.target
        source.begin_state()
        # A login that still looks in the old place then finds no token. That must not count as "never enrolled".
        enrolled_mark.set_for(target.location.account)
        target.open_for_enrolment()
        target.begin_state()
        # Always lock in this order, or two moves could wait for each other.
        for place in sorted((source, target), key=lambda place: not place.location.in_home):
            place.lock(LOCK_TIMEOUT_S)
        live, there, aside = source.present_tokens(), target.present_tokens(), source.aside()
        if there is not None:
            if live is not None:
                raise self._occupied()
            source.clear()  # an earlier move was killed after its last important step
            return
        content = live or aside
        if content is None:
            raise NotEnrolled(proven=False)
        used = source.read_state() or state.State.new()
        fingerprints = {token.fingerprint() for token in content.tokens}
        replacement = target.prepare(content)
        try:
            target.write_state(state.moved_onto(target.read_state() or state.State.new(), used, fingerprints))
            if live is not None:
                source.set_aside()
        except BaseException:
            with target.location.as_owner():
                replacement.discard()
            raise
        try:
            target.put(replacement)
        except NotStored:
            if live is not None:
                source.put_back()
            raise
        source.clear()

    def _occupied(self) -> MoveFailed:
        path = self.target.location.path
        return MoveFailed(
            f"there are tokens in {path} already",
            hint="softtoken-enroll --list --store TEMPLATE shows which are where; take one of the two away",
        )

    def _close(self) -> None:
        for place in self:
            place.close()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Define the arguments of `move`."""
    parser.add_argument("users", nargs="*", metavar="USER", help="whose tokens")
    parser.add_argument("--all", action="store_true", help="those of all users whom getent passwd lists")
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


def run(screen: terminal.Terminal, options: argparse.Namespace) -> None:
    """Move the tokens of some users.

    Raises:
        MoveFailed: some could not be moved; a message for each was shown.
        UsageError: no user is named, or a named user does not exist.
    """
    if os.geteuid() != 0:
        raise MoveFailed("only root can move tokens", hint="sudo softtoken-admin move ...")
    if bool(options.users) == options.all:
        raise UsageError("either users or --all", hint="as in softtoken-admin move --all --to system --dry-run")
    if options.old_home is not None and (len(options.users) != 1 or not options.old_home.startswith("/")):
        raise UsageError("--old-home takes an absolute path, and one user", hint="as in --old-home /home/alice")
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


def _accounts(options: argparse.Namespace) -> list[safe_open.Account]:
    entries = pwd.getpwall() if options.all else [_entry_of(name) for name in options.users]
    accounts = []
    for account in {entry.pw_name: user_lookup.account_of(entry) for entry in entries if entry.pw_name}.values():
        account.look_up_groups()
        accounts.append(account)
    return accounts


def _entry_of(name: str) -> pwd.struct_passwd:
    try:
        return user_lookup.entry_of_name(name)
    except (LookUpFailed, UnknownUser):
        raise UsageError(f"no such user: {name}", hint="getent passwd lists the users of this host") from None


def _has_something(account: safe_open.Account, to: str) -> bool:
    """Return whether there are any files in the place of the tokens, as far as the user can see."""
    return any(_is_there(location) for location in _sources(account, to, None))


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


def _is_there(location: Location) -> bool:
    with location.as_owner():
        return os.path.lexists(location.path)


def _other(to: str) -> str:
    return PLACES["home" if to == "system" else "system"]


def _result_of(account: safe_open.Account, options: argparse.Namespace) -> str | None:
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
    except (ConfigError, MoveFailed, PathError) as error:
        raise AdministrationFailed(str(error), hint=_advice(error)) from None


def _move(account: safe_open.Account, options: argparse.Namespace) -> str:
    target = Location(PLACES[options.to], account)
    sources = _sources(account, options.to, options.old_home)
    source = next((each for each in sources if _is_there(each)), sources[0])
    if source.path == target.path:
        raise MoveFailed(f"{target.path} is where they are", hint="--old-home takes the home directory of before")
    move = _Move(MovingPlace(source), MovingPlace(target))
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
        return "nobody can tell which codes were used: enrol anew"
    if isinstance(error, OtherAccount):
        return "that command says first whose they are"
    if isinstance(error, BadTokenFile):
        return "enrol anew"
    return "nothing was changed"


def _tell_what_next(screen: terminal.Terminal, to: str) -> None:
    template = PLACES[to]
    try:
        now = configuration.load([], safe_open.read_conf).store
    except ConfigError as error:
        screen.tell(f"{configuration.DEFAULT_CONF} has mistakes: {terminal.visible(str(error))}")
        now = ""
    if now != template:
        screen.tell(
            f"Next, in {configuration.DEFAULT_CONF}: store = {template}\n"
            "Until that is there, and wherever a PAM line says otherwise, those who were moved are refused."
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


COMMAND = Command("move", "move tokens out of the users' homes into root's hands, or back", add_arguments, run)
