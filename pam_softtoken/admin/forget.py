"""Remove root's records of an account that is gone: `softtoken-admin forget`, and `rebind --newcomer`.

These are tokens, state, marks, the records of a name and a home directory, revocations, tokens that sign, and used
codes recorded in /run. After that, a new user who gets the name, the uid or the home directory has never enrolled.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from dataclasses import dataclass

from pam_softtoken.account import (
    account_record,
    enrolled_mark,
    ram_record,
    revoking,
    roots_place,
    safe_open,
    signer_editor,
    signer_records,
    token_file,
)
from pam_softtoken.account.location import TOKENS, Location
from pam_softtoken.account.roots_place import Place
from pam_softtoken.admin.common import deed, logins, orphans, person
from pam_softtoken.admin.common.orphans import CHANGED, GONE, HOME, SIGNER, SIGNER_NAME, STORE, Orphan
from pam_softtoken.errors import BadTokenFile, PathError
from pam_softtoken.program_errors import AdministrationFailed, UsageError
from pam_softtoken.ui import consent, terminal
from pam_softtoken.ui.command_line import Command

_Pair = tuple[str | None, int | None]
_SIGNERS = (SIGNER, SIGNER_NAME)


@dataclass(frozen=True, slots=True)
class ForgetOptions:
    """The options of `forget`."""

    user: str | None
    uid: int | None
    all: bool
    yes: bool
    store: str | None


def begin_anew(screen: terminal.Terminal, account: safe_open.Account, store: str, *, agreed: bool) -> str:
    """Remove what a former user of the name or uid has left, so that the present user has never enrolled.

    Args:
        account: the present user.
        store: the path template of the store.
        agreed: do not ask.

    Returns:
        The message to show when it is done.

    Raises:
        AdministrationFailed, NotConfirmed, PathError: there is nothing to remove, or it cannot be removed.
    """
    location = Location(store, account)
    former, before, described = *_records_of_others(account), _described(account)
    place, signing = Place(location), signer_records.of_others(account)
    try:
        found = _tokens_of_others(place)
        if not found and not former and before is None and not signing:
            raise AdministrationFailed(
                f"nothing of a former user is in the way of {account.name}",
                hint=f"{person.PROGRAM} revoke {account.name} takes the tokens of {account.name} away",
            )
        left = [found] if found else []
        left += [f"the mark that uid {account.uid} was enrolled as {former}"] if former else []
        left += [f"root's record ({before.described(account.name)})"] if before is not None else []
        left += [f"the mark {path} of a user who signs commands" for path in signing]
        screen.tell(f"{account.name} is a new user, and what a former user left is taken away: {' and '.join(left)}.")
        if former or not enrolled_mark.is_set(account.uid):
            screen.tell(f"From then on {account.name} counts as a user who has never enrolled.")
        consent.require(screen, "Take it away?", given=agreed)
        if (_tokens_of_others(place), _described(account), signer_records.of_others(account)) != (
            found,
            described,
            signing,
        ):
            raise _changed_meanwhile(location.path)
        if not location.in_home and place.is_open:
            place.clear()
        if former or found:  # otherwise it says what the account itself has used
            ram_record.remove(ram_record.path_of(account.uid, location.path))
        if former:  # otherwise mark and revocations are the account's own
            revoking.forget(account.uid)
            enrolled_mark.forget(account.uid)
        if before is not None:
            account_record.forget_former(account)
        for path in signing:
            signer_editor.remove_mark(path)
        why = former or found or (f"{before.name} uid {before.uid}" if before is not None else "")
        deed.record("rebind", account.name, uid=str(account.uid), newcomer="yes", former=why)
    finally:
        place.close()
    return f"Done. {account.name} can enrol."


def _records_of_others(account: safe_open.Account) -> tuple[str, account_record.Known | None]:
    """Return the former user that the uid's mark names, and the former user of the name or of the home directory."""
    former = enrolled_mark.former_name(account) if enrolled_mark.is_set(account.uid) else ""
    return former, account_record.former(account)


def _described(account: safe_open.Account) -> tuple[str, str]:
    former, before = _records_of_others(account)
    return former, before.described(account.name) if before is not None else ""


def _changed_meanwhile(path: str) -> AdministrationFailed:
    return AdministrationFailed(f"{path} has changed meanwhile; nothing was taken away", hint="start again")


def _tokens_of_others(place: Place) -> str:
    """Describe whose tokens are in a place of a root-owned store; return "" if there are none.

    Raises:
        AdministrationFailed: they are the tokens of the account itself.
    """
    location = place.location
    if location.in_home:
        return ""
    try:
        found = place.look()
    except BadTokenFile:
        raise AdministrationFailed(
            f"{location.path}/{TOKENS} cannot be read",
            hint=f"{person.PROGRAM} revoke {location.account.name} takes it away",
        ) from None
    if found is None:
        return ""
    if found[1] == location.bound_to:
        name, uid = location.account.name, location.account.uid
        raise AdministrationFailed(
            f"the tokens in {location.path} are those of {token_file.described((name, uid))}",
            hint=f"{person.PROGRAM} revoke {name} takes them away",
        )
    return f"the tokens of {token_file.described(found[1])}" if found[1] is not None else "tokens of an unknown user"


def _forget(screen: terminal.Terminal, options: ForgetOptions) -> None:
    person.require_root("forget")
    if options.all is (options.user is not None or options.uid is not None):
        raise UsageError("either an account or --all", hint=f"as in {person.PROGRAM} forget alice --uid 1000")
    _require_known(for_all=options.all)
    settings = person.settings_of(options.store)
    places = (settings.store, person.PLACES["system"])
    found = orphans.find(places)
    chosen = [each for each in found if (each.uid is not None or each.kind in _SIGNERS) and _is_meant(each, options)]
    if not chosen:
        raise _nothing(options, found)
    for each in chosen:
        screen.tell(f"{terminal.visible(each.path)}: {terminal.visible(each.problem)}")
    screen.tell(
        "All of it goes: tokens, the record of used codes, and what was revoked. A user who gets the name, "
        "the uid, or a home directory that was kept, counts as one who never enrolled."
    )
    consent.require(screen, "Take it away?", given=options.yes)
    _require_unchanged(chosen, set(orphans.find(places)))
    try:
        for pair in dict.fromkeys((each.user, each.uid) for each in chosen):
            _take_away(pair, [each for each in chosen if (each.user, each.uid) == pair])
    except PathError as error:
        raise AdministrationFailed(
            f"{error}; some of it is still there", hint="correct that, then start again"
        ) from None
    screen.tell("Done.")


def _require_unchanged(chosen: Iterable[Orphan], found: set[Orphan]) -> None:
    """Check that none of it became somebody's while root was asked. What is gone meanwhile does not matter.

    Raises:
        AdministrationFailed: somebody has it now.
    """
    for each in chosen:
        if each not in found and os.path.lexists(each.path):
            raise _changed_meanwhile(each.path)


def _require_known(*, for_all: bool) -> None:
    """Check that --all is safe: the C library does not say that a directory service fails to answer.

    Raises:
        AdministrationFailed: a directory service may have the accounts that cannot be found.
    """
    services = logins.directory_services()
    if for_all and services:
        raise AdministrationFailed(
            f"accounts that cannot be found may not be gone: {' and '.join(services)} may have them, and not answer",
            hint=f"{person.PROGRAM} status lists them, each with the command that takes it away",
        )


def _is_meant(orphan: Orphan, options: ForgetOptions) -> bool:
    if options.all:
        return orphan.account == GONE
    if orphan.account == GONE:
        return _is_named(orphan, options)
    # It may be the same user, and then a key that was revoked would work again. So root has to say all of it. Without
    # their marks users who sign would be asked for nothing, so those of an account that is there stay.
    if orphan.kind in _SIGNERS:
        return False
    return orphan.account == CHANGED and (orphan.user, orphan.uid) == (options.user, options.uid)


def _is_named(orphan: Orphan, options: ForgetOptions) -> bool:
    is_uid = options.uid in (None, orphan.uid) or (orphan.uid is None and options.user is not None)
    return is_uid and (options.user is None or orphan.user == options.user)


def _nothing(options: ForgetOptions, found: Iterable[Orphan]) -> AdministrationFailed:
    if options.all:
        return AdministrationFailed("no account that is gone has left anything", hint=f"{person.PROGRAM} status")
    changed = next((each for each in found if each.account == CHANGED and _is_named(each, options)), None)
    if changed is not None:
        return AdministrationFailed(
            changed.problem, hint=f"{changed.cure}, if that is the same user; {changed.otherwise}, if it is not"
        )
    named = options.uid if options.user is None else options.user
    account = person.account_if_known(named) if named is not None else None
    if account is not None and options.uid in (None, account.uid):
        return AdministrationFailed(
            f"there is an account {token_file.described((account.name, account.uid))}",
            hint=f"{person.PROGRAM} revoke {account.name} takes its tokens away",
        )
    return AdministrationFailed(
        f"nothing is left of {f'uid {options.uid}' if options.user is None else options.user}",
        hint=f"{person.PROGRAM} status lists what fits no account; --store says where else to look",
    )


def _take_away(pair: _Pair, found: Iterable[Orphan]) -> None:
    """Remove what is left of one account.

    Raises:
        PathError: some of it still exists.
    """
    name, uid = pair
    for each in found:
        if each.kind == STORE:
            _clear(each.path)
        if each.kind == HOME:
            account_record.forget_record(each.path)
        if each.kind in _SIGNERS:
            signer_editor.remove_mark(each.path)
    if uid is None:
        deed.record("forget", name or "")
        return
    if _has_only_its_own(name, uid):
        for path in ram_record.paths_of(uid):
            ram_record.remove(path)
        revoking.forget(uid)
        enrolled_mark.forget(uid)
    known = account_record.known(name) if name else None
    if name and known is not None and known.uid == uid:
        account_record.forget_name(name)
    deed.record("forget", name or "", uid=str(uid))


def _has_only_its_own(name: str | None, uid: int) -> bool:
    """Check that what is named after a uid is not another account's, which has the uid now."""
    marked = enrolled_mark.name_of(uid)
    if marked:
        return marked == name
    return not person.may_have_user(uid)


def _clear(path: str) -> None:
    try:
        directory = safe_open.open_directory(path, below=None, owner=os.geteuid())
    except FileNotFoundError:
        return  # somebody else has removed it since it was listed
    try:
        roots_place.clear(path, below=directory)
    finally:
        os.close(directory)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "After userdel: take away what root keeps of the account, so that no user who gets its name or uid is "
        "refused because of it. softtoken-admin status lists what is left. Nothing of an existing account is "
        "touched, unless USER and --uid together say what was another user's."
    )
    parser.add_argument("user", metavar="USER", nargs="?", help="what the account was called")
    parser.add_argument("--uid", metavar="UID", type=person.uid, help="the uid that it had")
    parser.add_argument("--all", action="store_true", help="all accounts that are gone; not with a directory service")
    consent.add_yes(parser)
    person.add_store(parser)


FORGET = Command(
    "forget", "take away what root keeps of an account that is gone", _add_arguments, ForgetOptions, _forget
)
