"""The host's settings, as the programs take them: what they make goes where the module looks for it."""

from __future__ import annotations

from pam_softtoken import config, files
from pam_softtoken.errors import ConfigError, UsageError


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
    return config.load(given, files.read_conf)
