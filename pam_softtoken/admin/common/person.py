"""The user whom a command is about: who that is, where his files are, what to do when they are broken."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager

from pam_softtoken import config as configuration
from pam_softtoken.account import enrolled_mark, host_settings, safe_open, token_file, user_lookup
from pam_softtoken.account.editor import Editor
from pam_softtoken.account.store import Location
from pam_softtoken.config import Config
from pam_softtoken.errors import (
    AdministrationFailed,
    ConfigError,
    NotEnrolled,
    PathError,
    Refused,
    Revoked,
    Unusable,
)
from pam_softtoken.ui import terminal

PROGRAM = "softtoken-admin"
PLACES = {"system": "/var/lib/softtoken/%U", "home": "%h/.softtoken"}
"""The stores between which `move` moves, by its words."""


def add_user(parser: argparse.ArgumentParser) -> None:
    """Give a subcommand its user, and the option that says where his files are."""
    add_user_name(parser)
    add_store(parser)


def add_user_name(
    parser: argparse.ArgumentParser, *, help_text: str = "whose tokens", nargs: str | None = None
) -> None:
    """Add a user as an argument, in any spelling of the name; the command gets the canonical one."""
    parser.add_argument("user", metavar="USER", nargs=nargs, type=user_lookup.canonical_name, help=help_text)


def add_store(parser: argparse.ArgumentParser) -> None:
    """Give a subcommand the option that says where users' files are."""
    parser.add_argument(
        "--store", metavar="TEMPLATE",
        help="where the files are, as in the module's store= option; needed only where that is an argument in pam.d "
        "and not in softtoken.conf",
    )  # fmt: skip


def add_yes(parser: argparse.ArgumentParser) -> None:
    """Give a subcommand the option that answers its question."""
    parser.add_argument("--yes", action="store_true", help="do not ask")


def uid(text: str) -> int:
    """Read a uid of a command line.

    Raises:
        argparse.ArgumentTypeError: it is none.
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
    """Look a user up.

    Raises:
        AdministrationFailed: there is none of that name.
    """
    with existing(user):
        account = user_lookup.account_of_name(user)
    account.look_up_groups()  # a way to the home directory may be open to one of them only
    return account


@contextmanager
def existing(user: str) -> Iterator[None]:
    """Report a user who is not there as a program does; the block looks the user up.

    Raises:
        AdministrationFailed: there is none of that name, or nobody can tell.
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
    """Take the host's settings, with another store where one is given.

    Raises:
        UsageError: that is no store.
        AdministrationFailed: the configuration file is wrong.
    """
    try:
        return host_settings.load(store, example="/var/lib/softtoken/%U")
    except ConfigError as error:
        raise AdministrationFailed(str(error), hint=f"correct it in {configuration.DEFAULT_CONF}") from None


def location_of(user: str, settings: Config) -> Location:
    """Look a user up, and say where their files are.

    Raises:
        AdministrationFailed: there is no such user, or the store has no place for them.
    """
    account = account_of(user)
    try:
        return Location(settings.store, account)
    except ConfigError as error:
        raise AdministrationFailed(str(error), hint="--store takes another template") from None


@contextmanager
def opened(user: str, settings: Config) -> Iterator[Editor]:
    """Work on a user's files; what is wrong with them is said as a program says it.

    Raises:
        AdministrationFailed: they cannot be used.
    """
    location = location_of(user, settings)
    account = location.account
    store = Editor(location)
    try:
        yield store
    except PathError as error:
        store.withdraw()
        raise AdministrationFailed(f"{error}; nothing was changed", hint=hint_for(error, location)) from None
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
    """Return where an account's files were before its home directory was changed; None where nothing is known of that.

    Raises:
        UnusableFile: nobody can tell.
    """
    known = enrolled_mark.known(account.name)
    if known is None or known.uid != account.uid or known.home == account.home or not template.startswith("%h"):
        return None
    return in_home(account, known.home, template)


def in_home(account: safe_open.Account, home: str, template: str) -> Location:
    """Return where an account's files would be if it had another home directory."""
    elsewhere = safe_open.Account(account.name, account.uid, account.gid, home=home)
    elsewhere.groups = account.groups
    return Location(template, elsewhere)


def not_enrolled(location: Location) -> AdministrationFailed:
    """Say that a user has no token where we look."""
    name = location.account.name
    return AdministrationFailed(
        f"{name} is not enrolled in {location.path}",
        hint=f"softtoken-enroll --user {name} enrols, and --store says where else to look",
    )


def hint_for(error: PathError, location: Location) -> str:
    """Return what helps root against what is wrong with a user's files."""
    return host_settings.hint_for(error, location, is_root=True)


def require_yes(screen: terminal.Terminal, question: str, options: argparse.Namespace) -> None:
    """Ask whether to go on, unless that was answered with --yes.

    Raises:
        AdministrationFailed: the answer is not yes, or there is nobody to ask.
    """
    if options.yes:
        return
    if not terminal.person_is_there():
        raise AdministrationFailed("there is no terminal to ask on; nothing was changed", hint="add --yes")
    if screen.ask(f"{question} [y/N]").strip().lower() not in ("y", "yes"):
        raise AdministrationFailed("not confirmed; nothing was changed", hint="y does it")
