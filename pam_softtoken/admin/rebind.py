"""`softtoken-admin rebind`: say to whom belongs what a renamed, renumbered or former account has left.

A token file in a store of root's is bound to a name and a uid. After `usermod -l` or `usermod -u` it fits nobody, and
root says here that old and new account are one user. Or, with `--newcomer`, that they are not.
"""

from __future__ import annotations

import argparse
import errno
import os
from contextlib import suppress

from pam_softtoken import files, mark, new_file, revoking, terminal, tokenfile, user_lookup, volatile
from pam_softtoken.admin import deed, person
from pam_softtoken.command import Command
from pam_softtoken.editor import LOCK_TIMEOUT_S, Editor
from pam_softtoken.errors import (
    AdministrationFailed,
    BadTokenFile,
    ConfigError,
    LookUpFailed,
    NotStored,
    PathError,
    UnknownUser,
)
from pam_softtoken.store import STATE, TOKENS, Location
from pam_softtoken.tokenfile import Owner, TokenFile


class _Place(Editor):
    """The files in one place of a store, whoever they belong to."""

    __slots__ = ()

    def look(self) -> tuple[TokenFile, Owner | None] | None:
        """Read the tokens and the account that they are bound to; None where there are none."""
        path = self._path(TOKENS)
        try:
            with self.location.as_owner():
                if self._directory < 0:
                    self._directory = self.location.open_directory()
                tokens = self._open_file(TOKENS, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            return tokenfile.parse_any(files.read(tokens, tokenfile.MAX_BYTES, path=path), path=path)
        finally:
            os.close(tokens)

    def bind(self, *, expected: Owner | None, owner: Owner) -> None:
        """Bind the tokens to another account, under the lock, which is kept until `close`.

        Raises:
            AdministrationFailed: somebody has changed them since they were looked at.
            PathError: they are as they were.
        """
        self.begin_state()
        self.lock(LOCK_TIMEOUT_S)
        found = self.look()
        if found is None or found[1] != expected:
            raise AdministrationFailed("somebody else has changed the tokens meanwhile", hint="start again")
        state = self.read_state()
        if state is not None and self._seen is not None and self._seen[1] is not None:
            self.write_state(state)  # a record in /run is named after the old place
        data = tokenfile.serialise(found[0], owner=owner)
        new_file.Replacement(self._path(TOKENS), data, below=self._directory).put()

    def clear(self) -> None:
        """Remove the tokens, then what is known of their use, then the directory."""
        for name in (TOKENS, STATE):
            try:
                new_file.remove(self._path(name), below=self._directory)
            except NotStored as error:
                if error.why != os.strerror(errno.ENOENT):
                    raise
        with suppress(OSError):
            os.rmdir(self.location.path)


def _rebind(screen: terminal.Terminal, options: argparse.Namespace) -> None:
    person.require_root(f"rebind {options.user}")
    settings = person.settings_of(options.store)
    account = person.account_of(options.user)
    if options.newcomer and (options.old_name is not None or options.old_uid is not None):
        raise AdministrationFailed("a newcomer has no old name and no old uid", hint="leave one of the two out")
    work = _begin_anew if options.newcomer else _hand_over
    try:
        screen.tell(work(screen, options, account, settings.store))
    except ConfigError as error:
        raise AdministrationFailed(str(error), hint="--store takes another template") from None
    except PathError as error:
        location = Location(settings.store, account)
        raise AdministrationFailed(str(error), hint=person.hint_for(error, location)) from None


def _hand_over(screen: terminal.Terminal, options: argparse.Namespace, account: files.Account, store: str) -> str:
    """Bind what the account has left under its old name or uid to what it is called now."""
    former = files.Account(
        account.name if options.old_name is None else options.old_name,
        account.uid if options.old_uid is None else options.old_uid,
        account.gid,
        home=account.home,
    )
    _require_gone(former, account)
    old, new = _Place(Location(store, former)), _Place(Location(store, account))
    try:
        bound_to = _owner_of(old, new)
        if bound_to == _NOTHING and not mark.is_set(former.uid):
            raise AdministrationFailed(
                f"{_named(former)} has left nothing", hint="--old-name and --old-uid say what the account was"
            )
        if bound_to is None:
            what = f"The tokens in {old.location.path}, which do not name their account,"
        else:
            what = f"What {_named(former)} has enrolled"
        screen.tell(f"{what} will be that of {_named(account)}, and its codes let {account.name} in.")
        person.require_yes(screen, "Is that the same user?", options)
        mark.set_for(account)  # first of all: killed in between, the user is no newcomer
        is_anothers = _has_user(former.uid)
        if former.uid != account.uid:
            # Before the tokens: what was revoked stays revoked.
            revoking.hand_over(former.uid, account.uid, keeping=is_anothers)
        if bound_to not in (_NOTHING, new.location.bound_to):
            old.bind(expected=bound_to, owner=(account.name, account.uid))
        if bound_to != _NOTHING and old.location.path != new.location.path and os.path.lexists(old.location.path):
            _move(old.location, new.location)
        if former.uid != account.uid and mark.name_of(former.uid) in ("", former.name) and not is_anothers:
            mark.forget(former.uid)
        deed.record("rebind", account.name, uid=str(account.uid), old_name=former.name, old_uid=str(former.uid))
    finally:
        old.close()
        new.close()
    tokens = "" if bound_to == _NOTHING else f" The tokens are in {new.location.path}."
    return f"Done. {_named(account)} has what {_named(former)} has left.{tokens}"


_NOTHING: Owner = ("", -1)


def _owner_of(old: _Place, new: _Place) -> Owner | None:
    """Return the account that the tokens to be handed over are bound to; `_NOTHING` where there are no tokens.

    Raises:
        AdministrationFailed: they are neither the old account's nor, after an interrupted run, the new one's.
    """
    location = old.location
    if location.in_home:
        return _NOTHING  # the user's own files are bound to nobody
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
            f"the tokens in {location.path} are those of {tokenfile.described((name, uid))}",
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


def _require_gone(former: files.Account, account: files.Account) -> None:
    if (former.name, former.uid) == (account.name, account.uid):
        return
    try:
        present = user_lookup.account_of_name(former.name)
    except UnknownUser:
        return
    except LookUpFailed as error:
        raise AdministrationFailed(f"{former.name}: {error}", hint="start again when the host can tell") from None
    if (present.name, present.uid) == (former.name, former.uid):
        raise AdministrationFailed(
            f"there is an account {_named(former)}, so that its tokens are its own",
            hint="--old-name and --old-uid say what an account was that is gone",
        )


def _move(old: Location, new: Location) -> None:
    try:
        os.makedirs(os.path.dirname(new.path), mode=0o700, exist_ok=True)
        os.rename(old.path, new.path)
        with suppress(OSError):
            os.rmdir(os.path.dirname(old.path))  # where the variable part is not the last one
        directory = os.open(os.path.dirname(new.path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise NotStored(new.path, files.words_of(error), kind=files.kind_of(error)) from None


def _begin_anew(screen: terminal.Terminal, options: argparse.Namespace, account: files.Account, store: str) -> str:
    """Take away what a former user of the name or uid has left, so that the present one has never enrolled."""
    location = Location(store, account)
    former = mark.former_name(account) if mark.is_set(account.uid) else ""
    place = _Place(location)
    try:
        found = _tokens_of_others(place)
        if not found and not former:
            raise AdministrationFailed(
                f"nothing of a former user is in the way of {account.name}",
                hint=f"{person.PROGRAM} revoke {account.name} takes the tokens of {account.name} away",
            )
        left = found or f"the mark that uid {account.uid} was enrolled as {former}"
        screen.tell(f"{account.name} is somebody new, and what a former user has left goes: {left}.")
        if former or not mark.is_set(account.uid):
            screen.tell(f"From then on {account.name} counts as a user who has never enrolled.")
        person.require_yes(screen, "Take it away?", options)
        if not location.in_home and place.is_open:
            place.clear()
        volatile.remove(volatile.path_of(account.uid, location.path))
        if former:  # otherwise mark and revocations are the account's own
            revoking.forget(account.uid)
            mark.forget(account.uid)
        deed.record("rebind", account.name, uid=str(account.uid), newcomer="yes", former=former or found)
    finally:
        place.close()
    return f"Done. {account.name} can enrol."


def _tokens_of_others(place: _Place) -> str:
    """Return in words whose tokens are in a place of a store of root's; empty where there are none.

    Raises:
        AdministrationFailed: they are those of the account itself.
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
        raise AdministrationFailed(
            f"the tokens in {location.path} are those of {_named(location.account)}",
            hint=f"{person.PROGRAM} revoke {location.account.name} takes them away",
        )
    return f"the tokens of {tokenfile.described(found[1])}" if found[1] is not None else "tokens of an unknown user"


def _named(account: files.Account) -> str:
    return tokenfile.described((account.name, account.uid))


def _has_user(uid: int) -> bool:
    try:
        user_lookup.account_of_uid(uid)
    except UnknownUser:
        return False
    except LookUpFailed:
        return True  # then the mark stays, which only denies
    return True


def _uid(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) <= tokenfile.MAX_UID):
        raise argparse.ArgumentTypeError("takes a number")
    return int(text)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Tokens that root keeps are bound to the name and the uid of their account, so that nobody inherits them with "
        "a name or uid. After an account was renamed (usermod -l) or got another uid (usermod -u), its codes are "
        "refused until this command says that it is the same user. It is logged."
    )
    person.add_user_name(parser, help_text="the account as it is called now")
    parser.add_argument("--old-name", metavar="NAME", help="what it was called before")
    parser.add_argument("--old-uid", metavar="UID", type=_uid, help="the uid that it had before")
    parser.add_argument(
        "--newcomer", action="store_true",
        help="the account is another user, who got the name or uid of a former one: take away what that one has left",
    )  # fmt: skip
    person.add_yes(parser)
    person.add_store(parser)


REBIND = Command(
    "rebind", "hand the tokens over to an account that was renamed or got another uid", _add_arguments, _rebind
)
