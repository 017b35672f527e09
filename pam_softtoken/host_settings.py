"""The host's settings, as the programs take them: what they make goes where the module looks for it."""

from __future__ import annotations

import errno
import os

from pam_softtoken import config, files
from pam_softtoken.errors import ConfigError, PathError, UsageError

_ELSEWHERE = f"let root keep the tokens, with store=/var/lib/softtoken/%U in {config.DEFAULT_CONF}"


def hint_about_home(error: PathError, account: files.Account) -> str:
    """Return what helps where the files cannot be used because their user has no home directory; "" otherwise.

    Args:
        error: what is wrong.
        account: whose files they are.
    """
    if error.path != account.home:
        return ""
    if not account.home.startswith("/"):
        return f"give {account.name} a home directory, with usermod --home; or {_ELSEWHERE}"
    if error.why == os.strerror(errno.ENOENT):
        return f"as root, mkhomedir_helper {account.name} makes the home directory; or {_ELSEWHERE}"
    return ""


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
