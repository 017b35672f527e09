"""Implement `softtoken-admin rebind`: decide who owns the files of a renamed, renumbered or former account.

A token file in a root-owned store is bound to a name and a uid. After `usermod -l` or `usermod -u` it fits no account.
Here root declares that the old and the new account are the same user. With `--newcomer`, root declares the opposite.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from pam_softtoken.account import (
    account_record,
    enrolled_mark,
    file_faults,
    ram_record,
    replace,
    revocation,
    revoking,
    safe_open,
    signer_records,
    token_file,
    user_lookup,
)
from pam_softtoken.account.location import Location
from pam_softtoken.account.roots_place import Place
from pam_softtoken.account.token_file import Owner
from pam_softtoken.admin import forget
from pam_softtoken.admin.common import deed, orphans, person
from pam_softtoken.errors import ConfigError, LookUpFailed, PathError, UnknownUser
from pam_softtoken.login import login_note
from pam_softtoken.program_errors import AdministrationFailed, UsageError
from pam_softtoken.ui import consent, terminal
from pam_softtoken.ui.command_line import Command


@dataclass(frozen=True, slots=True)
class RebindOptions:
    """The options of `rebind`."""

    user: str | None
    all: bool
    old_name: str | None
    old_uid: int | None
    newcomer: bool
    yes: bool
    store: str | None


def _rebind(screen: terminal.Terminal, options: RebindOptions) -> None:
    if options.all is (options.user is not None):
        raise UsageError("either a user or --all", hint=f"as in {person.PROGRAM} rebind alice --old-name alicia")
    person.require_root(f"rebind {options.user or '--all'}")
    settings = person.settings_of(options.store)
    has_old = options.old_name is not None or options.old_uid is not None
    if (options.newcomer or options.all) and (has_old or options.newcomer is options.all):
        raise AdministrationFailed(
            "with --all or --newcomer there is no old name and no old uid", hint="leave one of the two out"
        )
    person.require_no_realm(
        settings,
        hint=f"a realm knows users by their names: after {person.PROGRAM} revoke OLD-NAME, enrol the new name",
    )
    if options.user is None:
        _rebind_all(screen, settings.store, agreed=options.yes)
        return
    account = person.account_of(options.user)
    try:
        if options.newcomer:
            screen.tell(forget.begin_anew(screen, account, settings.store, agreed=options.yes))
        else:
            former = _former(account, options.old_name, options.old_uid)

            def require_consent(what: str) -> None:
                screen.tell(what)
                consent.require(screen, "Is that the same user?", given=options.yes)

            screen.tell(_HandOver(account, former, settings.store).carry_out(require_consent))
    except ConfigError as error:
        raise AdministrationFailed(str(error), hint="--store takes another template") from None
    except PathError as error:
        location = Location(settings.store, account)
        raise AdministrationFailed(str(error), hint=person.hint_for(error, location)) from None


def _former(account: safe_open.Account, name: str | None, uid: int | None) -> safe_open.Account:
    """Return the account before it was changed. A name or uid that is not given is unchanged."""
    return safe_open.Account(
        account.name if name is None else name, account.uid if uid is None else uid, account.gid, home=account.home
    )


def _rebind_all(screen: terminal.Terminal, store: str, *, agreed: bool) -> None:
    """Hand over the files of all accounts that were renamed or got another uid, after one question.

    Raises:
        AdministrationFailed: there is nothing to hand over, or some of it could not be handed over.
    """
    pairs, doubtful = _changed(store)
    for line in doubtful:
        screen.tell(f"left alone, because it could be either: {line}")
    if not pairs:
        raise AdministrationFailed(
            "for no account is it clear what it was before",
            hint=f"{person.PROGRAM} status lists the others",
        )
    for account, former in pairs:
        screen.tell(f"{_named(former)} is {_named(account)} now")
    consent.require(screen, "Is each of them the same user?", given=agreed)
    failed = []
    for account, former in pairs:
        terminal.checkpoint()
        try:
            account.look_up_groups()
            screen.tell(_HandOver(account, former, store).carry_out(lambda what: None))
        except (AdministrationFailed, ConfigError, PathError) as error:
            failed.append(account.name)
            screen.tell(f"{account.name}: {terminal.visible(str(error))}")
    if failed:
        raise AdministrationFailed(
            f"{len(failed)} of {len(pairs)} not handed over: {', '.join(failed)}",
            hint="what was wrong is above; the same command goes on with them",
        )


def _changed(store: str) -> tuple[list[tuple[safe_open.Account, safe_open.Account]], list[str]]:
    """List the changed accounts, each with its former state, and describe the unclear ones."""
    found: dict[tuple[str, int], tuple[safe_open.Account, safe_open.Account]] = {}
    doubtful = []
    heirs = orphans.heirs_of_homes()
    for orphan in orphans.find((store, person.PLACES["system"])):
        if orphan.account != orphans.CHANGED or orphan.uid is None or not orphan.user:
            continue
        named, numbered = person.account_if_known(orphan.user), person.account_if_known(orphan.uid)
        candidates = {
            each.uid: each for each in (named, numbered, heirs.get((orphan.user, orphan.uid))) if each is not None
        }
        account = next(iter(candidates.values()), None)
        if account is None:
            continue
        if len(candidates) > 1:
            doubtful.append(f"{orphan.path}: {orphan.problem}")
            continue
        found[(orphan.user, orphan.uid)] = account, _former(account, orphan.user, orphan.uid)
    names = [account.name for account, _ in found.values()]
    doubtful += [f"{_named(former)} and another account would be {each.name}"
                 for each, former in found.values()
                 if names.count(each.name) > 1]  # fmt: skip
    return [pair for pair in found.values() if names.count(pair[0].name) == 1], doubtful


class _HandOver:
    """Hand over the files under the old name or uid of an account to its present name and uid.

    Args:
        account, former: the account now, and before.
        store: the path template of the store.

    Raises:
        ConfigError: the store has no place for one of the two.
    """

    def __init__(self, account: safe_open.Account, former: safe_open.Account, store: str) -> None:
        self._account = account
        self._former = former
        former.groups = account.groups
        self._old, self._new = Place(Location(store, former)), Place(Location(store, account))

    def carry_out(self, require_consent: Callable[[str], None]) -> str:
        """Ask, then hand over. After a kill, the same command continues.

        Args:
            require_consent: checks that root agrees to what the text says will happen.

        Returns:
            The message to show when it is done.

        Raises:
            AdministrationFailed, NotConfirmed, PathError: some files may still be in the old place.
        """
        account, former = self._account, self._former
        _require_gone(former, account)
        try:
            bound_to = _owner_of(self._old, self._new)
            if bound_to == _NOTHING and not self._has_left_something():
                raise AdministrationFailed(
                    f"{_named(former)} has left nothing", hint="--old-name and --old-uid say what the account was"
                )
            if bound_to is None:
                what = f"The tokens in {self._old.location.path}, which do not name their account,"
            else:
                what = f"What {_named(former)} has enrolled"
            require_consent(f"{what} will be that of {_named(account)}, and its codes let {account.name} in.")
            self._go(bound_to)
        finally:
            self._old.close()
            self._new.close()
        deed.record("rebind", account.name, uid=str(account.uid), old_name=former.name, old_uid=str(former.uid))
        tokens = "" if bound_to == _NOTHING else f" The tokens are in {self._new.location.path}."
        return f"Done. {_named(account)} has what {_named(former)} left.{tokens}"

    def _has_left_something(self) -> bool:
        former, old, new = self._former, self._old.location, self._new.location
        known = account_record.known(former.name)
        return (
            enrolled_mark.is_set(former.uid)
            or (known is not None and known.uid == former.uid)
            or os.path.lexists(revocation.directory_of(former.uid))
            or (old.in_home and old.path != new.path and _is_there(old))
            or signer_records.has_left(former, self._account)
        )

    def _go(self, bound_to: Owner | None) -> None:
        account, former = self._account, self._former
        old, new = self._old.location, self._new.location
        enrolled_mark.set_for(account)  # do this first: after a kill, the user must not count as a newcomer
        is_anothers = person.may_have_user(former.uid)
        if former.uid != account.uid:
            # Before the tokens: what was revoked stays revoked.
            revoking.hand_over(former.uid, account.uid, keeping=is_anothers)
        if bound_to not in (_NOTHING, new.bound_to):
            self._old.bind(expected=bound_to, owner=(account.name, account.uid))
        if old.in_home:
            ram_record.rename(ram_record.path_of(former.uid, old.path), ram_record.path_of(account.uid, new.path))
        if old.path != new.path and (bound_to != _NOTHING or old.in_home) and _is_there(old):
            with new.as_owner():
                _move(old, new)
        signer_records.hand_over(former, account)
        account_record.record(account)  # revocations are under the present uid now
        if former.name != account.name:
            known = account_record.known(former.name)
            if known is not None and known.uid == former.uid:
                account_record.forget_name(former.name)
            login_note.await_instead(former.name, account.name)
        if former.uid != account.uid and enrolled_mark.name_of(former.uid) in ("", former.name) and not is_anothers:
            enrolled_mark.forget(former.uid)


def _is_there(location: Location) -> bool:
    with location.as_owner():
        return os.path.lexists(location.path)


_NOTHING: Owner = ("", -1)


def _owner_of(old: Place, new: Place) -> Owner | None:
    """Return the account to which the tokens are bound; `_NOTHING` if there are no tokens.

    Raises:
        AdministrationFailed: they belong neither to the old account nor, after an interrupted run, to the new one.
    """
    location = old.location
    if location.in_home:
        return _NOTHING  # the user's own files are bound to no account
    found = old.look()
    if location.path != new.location.path:
        there = new.look()
        if there is not None and (found is not None or there[1] != new.location.bound_to):
            raise AdministrationFailed(
                f"there are tokens in {new.location.path} already",
                hint=f"{person.PROGRAM} revoke takes them away; {person.PROGRAM} status says whose they are",
            )
        found = found or there
    if found is None:
        return _NOTHING
    bound_to = found[1]
    if bound_to not in (None, location.bound_to, new.location.bound_to):
        name, uid = bound_to or ("", 0)
        raise AdministrationFailed(
            f"the tokens in {location.path} are those of {token_file.described((name, uid))}",
            hint=f"{person.PROGRAM} rebind {new.location.account.name} --old-name {name} --old-uid {uid}, "
            "if that is the same user; --newcomer, if it is not",
        )
    if bound_to is None and location.path != new.location.path:
        raise AdministrationFailed(
            f"the tokens in {location.path} do not name their account",
            hint=f"{person.PROGRAM} rebind, without an old name or uid, binds them to the account whose place that is",
        )
    if bound_to == location.bound_to == new.location.bound_to:
        raise AdministrationFailed(
            f"the tokens in {location.path} are those of {_named(new.location.account)} already",
            hint="--old-name and --old-uid say what the account was",
        )
    return bound_to


def _require_gone(former: safe_open.Account, account: safe_open.Account) -> None:
    if (former.name, former.uid) == (account.name, account.uid):
        return
    try:
        present = user_lookup.account_of_name(former.name)
    except UnknownUser:
        return
    except LookUpFailed as error:
        raise AdministrationFailed(
            f"{former.name}: {error}", hint="start again when the name service answers"
        ) from None
    if (present.name, present.uid) == (former.name, former.uid):
        raise AdministrationFailed(
            f"there is an account {_named(former)}, so that its tokens are its own",
            hint="--old-name and --old-uid say what the account that is gone was",
        )


def _move(old: Location, new: Location) -> None:
    try:
        os.makedirs(os.path.dirname(new.path), mode=0o700, exist_ok=True)
        os.rename(old.path, new.path)
        with suppress(OSError):
            os.rmdir(os.path.dirname(old.path))  # if the variable part is not the last one
        replace.sync_directory(os.path.dirname(new.path))
    except OSError as error:
        raise file_faults.not_stored(new.path, error) from None


def _named(account: safe_open.Account) -> str:
    return token_file.described((account.name, account.uid))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Tokens that root keeps are bound to the name and the uid of their account, so that nobody inherits them with "
        "a name or uid. After an account was renamed (usermod -l) or got another uid (usermod -u), its codes are "
        "refused until this command says that it is the same user. The log records it."
    )
    person.add_user_name(parser, help_text="the account as it is called now", nargs="?")
    parser.add_argument(
        "--all", action="store_true",
        help="all accounts that were renamed or got another uid, where it is clear what each was before",
    )  # fmt: skip
    parser.add_argument("--old-name", metavar="NAME", help="what it was called before")
    parser.add_argument("--old-uid", metavar="UID", type=person.uid, help="the uid that it had before")
    parser.add_argument(
        "--newcomer", action="store_true",
        help="the account is another user, who got the name or uid of a former one: take away what that one has left",
    )  # fmt: skip
    consent.add_yes(parser)
    person.add_store(parser)


REBIND = Command(
    "rebind",
    "hand the tokens over to an account that was renamed or got another uid",
    _add_arguments,
    RebindOptions,
    _rebind,
)
