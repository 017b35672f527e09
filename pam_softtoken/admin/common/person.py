"""Find the user of a command, and their files, and explain what to do when the files are broken."""

from __future__ import annotations

import argparse
import os
import pwd
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from pam_softtoken import option_table, option_values
from pam_softtoken.account import account_record, host_settings, places, safe_open, token_file, user_lookup
from pam_softtoken.account.editor import Editor
from pam_softtoken.account.location import Location
from pam_softtoken.config import Config
from pam_softtoken.errors import (
    ConfigError,
    LookUpFailed,
    NotEnrolled,
    PathError,
    Refused,
    Revoked,
    UnknownUser,
    Unusable,
)
from pam_softtoken.fleet.editor import FleetEditor
from pam_softtoken.fleet.editor import hint_for as fleet_hint
from pam_softtoken.fleet.store import Place
from pam_softtoken.program_errors import AdministrationFailed

PROGRAM = "softtoken-admin"
PLACES = {"system": places.SYSTEM_STORE, "home": option_table.HOME_STORE}
"""The stores between which `move` moves, by its words."""


@dataclass(frozen=True, slots=True)
class UserOptions:
    """The options of a command that needs only a user, and the store that has the user's files."""

    user: str
    store: str | None


def add_user(parser: argparse.ArgumentParser) -> None:
    """Add the user argument to a subcommand, and the option that names the store."""
    add_user_name(parser)
    add_store(parser)


def add_user_name(
    parser: argparse.ArgumentParser, *, help_text: str = "whose tokens", nargs: str | None = None
) -> None:
    """Add a user argument in any spelling of the name. The command gets the canonical spelling."""
    parser.add_argument("user", metavar="USER", nargs=nargs, type=user_lookup.canonical_name, help=help_text)


def add_store(parser: argparse.ArgumentParser) -> None:
    """Add the option that names the store to a subcommand."""
    parser.add_argument(
        "--store", metavar="TEMPLATE",
        help="where the files are, as in the module's store= option; needed only where that is an argument in pam.d "
        "and not in softtoken.conf",
    )  # fmt: skip


def uid(text: str) -> int:
    """Read a uid from the command line.

    Raises:
        argparse.ArgumentTypeError: it is not a uid.
    """
    if not (text.isascii() and text.isdecimal() and int(text) <= token_file.MAX_UID):
        raise argparse.ArgumentTypeError("takes a number")
    return int(text)


def require_root(what: str) -> None:
    """Check that we are root.

    Raises:
        AdministrationFailed: we are not.
    """
    if os.geteuid() != 0:
        raise AdministrationFailed("only root can do that", hint=f"sudo {PROGRAM} {what}")


def account_of(user: str) -> safe_open.Account:
    """Look up a user.

    Raises:
        AdministrationFailed: there is no user of that name, or there is no answer.
    """
    with existing(user):
        account = user_lookup.account_of_name(user)
    account.look_up_groups()  # the way to the home directory may be open to only one of them
    return account


def entries_of(users: Iterable[str]) -> list[pwd.struct_passwd]:
    """Look up the users that a command line names, each once, by any spelling of their names.

    Raises:
        AdministrationFailed: there is no user of one of the names.
    """
    found = []
    for user in users:
        with existing(user):
            found.append(user_lookup.entry_of_name(user))
    return list({entry.pw_name: entry for entry in found}.values())


def account_if_known(name_or_uid: str | int) -> safe_open.Account | None:
    """Return the account of a name or a uid; None if there is none, or no answer."""
    with suppress(UnknownUser, LookUpFailed):
        if isinstance(name_or_uid, str):
            return user_lookup.account_of_name(name_or_uid)
        return user_lookup.account_of_uid(name_or_uid)
    return None


def may_have_user(uid: int) -> bool:
    """Return whether a uid has a user. If there is no answer, it counts as if it had: what is kept can only deny."""
    try:
        user_lookup.account_of_uid(uid)
    except UnknownUser:
        return False
    except LookUpFailed:
        return True
    return True


@contextmanager
def existing(user: str) -> Iterator[None]:
    """Look up a user in the block, and report a missing user as a program error.

    Raises:
        AdministrationFailed: there is no user of that name, or there is no answer.
    """
    try:
        yield
    except Refused:
        raise AdministrationFailed(
            f'no such user: "{user}"', hint="getent passwd lists the users of this host"
        ) from None
    except Unusable as error:
        raise AdministrationFailed(f"{user}: {error}", hint="see what getent passwd says of this user") from None


def settings_of(store: str | None) -> Config:
    """Return the host's settings, with another store if one is named.

    Raises:
        UsageError: this is not a store.
        AdministrationFailed: the configuration file is wrong.
    """
    try:
        return host_settings.load(store, example=places.SYSTEM_STORE)
    except ConfigError as error:
        raise AdministrationFailed(str(error), hint=f"correct it in {option_table.DEFAULT_CONF}") from None


def require_no_realm(settings: Config, *, hint: str) -> None:
    """Check that the tokens that count are in files of this host.

    Args:
        settings: the host's.
        hint: what to do on a host of a realm.

    Raises:
        AdministrationFailed: they are those of a realm.
    """
    if settings.fleet:
        realm = option_values.fleet_parts(settings.fleet)[1]
        raise AdministrationFailed(
            f"the tokens that count here are those of the realm {realm}, and this command is for files", hint=hint
        )


def location_of(user: str, settings: Config) -> Location:
    """Look up a user, and return the place of their files.

    Raises:
        AdministrationFailed: there is no such user, the store has no place for them, or the tokens are a realm's.
    """
    account = account_of(user)
    require_no_realm(settings, hint=f"see {PROGRAM} fleet --help; --store names tokens of this host")
    try:
        return Location(settings.store, account)
    except ConfigError as error:
        raise AdministrationFailed(str(error), hint="--store takes another template") from None


@contextmanager
def opened(user: str, settings: Config) -> Iterator[Editor | FleetEditor]:
    """Open a user's files, or what the realm has of them, and report faults as program errors.

    Raises:
        AdministrationFailed: they cannot be used.
    """
    store: Editor | FleetEditor
    store = FleetEditor(account_of(user), settings) if settings.fleet else Editor(location_of(user, settings))
    location = store.location
    account = location.account
    try:
        yield store
    except PathError as error:
        store.withdraw()
        raise AdministrationFailed(f"{error}; {error.aftermath}", hint=hint_for(error, location)) from None
    except Revoked:
        store.withdraw()
        raise AdministrationFailed(
            f"all tokens of {account.name} have been revoked",
            hint=f"softtoken-enroll --user {account.name} makes a new one",
        ) from None
    except NotEnrolled:
        store.withdraw()
        raise not_enrolled(location) from None
    except BaseException:
        store.withdraw()
        raise
    finally:
        store.close()


def in_old_home(account: safe_open.Account, template: str) -> Location | None:
    """Return the place of an account's files before its home directory was changed; None if it is unknown.

    Raises:
        UnusableFile: this cannot be found out.
    """
    known = account_record.known(account.name)
    if known is None or known.uid != account.uid or known.home == account.home or not template.startswith("%h"):
        return None
    return in_home(account, known.home, template)


def in_home(account: safe_open.Account, home: str, template: str) -> Location:
    """Return the place of an account's files in another home directory."""
    elsewhere = safe_open.Account(account.name, account.uid, account.gid, home=home)
    elsewhere.groups = account.groups
    return Location(template, elsewhere)


def not_enrolled(location: Location | Place) -> AdministrationFailed:
    """Return the error for a user who has no token in this place."""
    name = location.account.name
    return AdministrationFailed(
        f"{name} is not enrolled in {location.path}",
        hint=f"softtoken-enroll --user {name} enrols, and --store says where else to look",
    )


def hint_for(error: PathError, location: Location | Place) -> str:
    """Return a hint for root about a fault in a user's files, or in what the realm has."""
    if isinstance(location, Place):
        return fleet_hint(error, location.account.name, is_root=True)
    return host_settings.hint_for(error, location, is_root=True)
