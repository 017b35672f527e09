"""The host's settings, as the programs take them: what they make goes where the module looks for it."""

from __future__ import annotations

from pam_softtoken import config
from pam_softtoken.account import cure, lock_holder, safe_open
from pam_softtoken.account.store import Location
from pam_softtoken.errors import ConfigError, LockTimeout, PathError, UsageError


def hint_for(error: PathError, location: Location, *, is_root: bool) -> str:
    """Return what helps against what is wrong with a user's files, for `hint:`.

    Args:
        error: what is wrong.
        location: whose files, and where.
        is_root: it is an administrator who reads it.
    """
    if isinstance(error, LockTimeout):
        return lock_holder.advice(error)
    return cure.of(error, location).hint(is_root=is_root)


def load(store: str | None, *, example: str) -> config.Config:
    """Take the host's settings, with another store where one is given.

    Args:
        store: what `--store` says, if anything.
        example: a right one, for the hint.

    Raises:
        UsageError: that is no store.
        ConfigError: the configuration file is wrong.
    """
    given = [] if store is None else [f"store={store}"]
    try:
        config.load(given, lambda path, required: "")
    except ConfigError as error:
        raise UsageError(
            f"--store {error.problems[0].partition('store ')[2]}", hint=f"as in --store {example}"
        ) from None
    return config.load(given, safe_open.read_conf)
