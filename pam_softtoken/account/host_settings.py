"""The host's settings for the programs. So the programs write where the module looks. Must not be loaded by a login."""

from __future__ import annotations

from pam_softtoken import config
from pam_softtoken.account import cure, lock_holder, safe_open
from pam_softtoken.account.location import Location
from pam_softtoken.errors import ConfigError, LockTimeout, PathError
from pam_softtoken.program_errors import UsageError


def hint_for(error: PathError, location: Location, *, is_root: bool) -> str:
    """Return what helps against a fault in a user's files, for `hint:`.

    Args:
        error: what is wrong.
        location: whose files, and where.
        is_root: the reader is an administrator.
    """
    if isinstance(error, LockTimeout):
        return lock_holder.advice(error)
    return cure.of(error, location).hint(is_root=is_root)


def load(store: str | None, *, example: str) -> config.Config:
    """Read the host's settings, with another store if one is given. It then counts in place of a realm, too.

    Args:
        store: the value of `--store`, or None.
        example: a valid store, for the hint.

    Raises:
        UsageError: the value is no store.
        ConfigError: the configuration file is wrong.
    """
    given = [] if store is None else [f"store={store}"]
    try:
        config.load(given, lambda path, required: "")
    except ConfigError as error:
        raise UsageError(
            f"--store {error.problems[0].partition('store ')[2]}", hint=f"as in --store {example}"
        ) from None
    settings = config.load(given, safe_open.read_conf)
    return settings if store is None else settings.without("fleet", "fleet_alone")
