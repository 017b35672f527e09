"""Check whether a user without a home directory is new on this host: the session makes the home after the login. Loaded
only for such a user, where users may be let in without a token.
"""

from __future__ import annotations

import os

from pam_softtoken import errors, option_table
from pam_softtoken.account import missing_home, places
from pam_softtoken.pam import common_reading, home_making

NEEDS_STORE = (
    "to enrol in the login before the session makes the home, "
    f"set store={places.SYSTEM_STORE} in {option_table.DEFAULT_CONF}"
)


def never_enrolled(error: errors.NoHome, service: str) -> bool:
    """Check whether there is proof that a user without a home directory never enrolled.

    Args:
        error: the missing home. If there is no proof, its `doubt` says why.
        service: `PAM_SERVICE`, whose session must make the home.
    """
    try:
        _require_new(error, service)
    except errors.PathError as doubt:
        error.doubt = str(doubt)
    except errors.ConfigError as doubt:
        error.doubt = doubt.problems[0]
    else:
        return True
    return False


def _require_new(error: errors.NoHome, service: str) -> None:
    if error.was_enrolled:
        raise errors.ConfigError(("the user has been enrolled before",))
    if os.geteuid() != 0:
        raise errors.ConfigError((f"this service runs as uid {os.geteuid()}, and makes no home directories",))
    missing_home.require_never_made(error.path)
    stack = common_reading.read(service)
    if not stack.ours:
        raise errors.ConfigError((f"no auth line of {service} runs this module, so another stack is in use",))
    home_making.require_in_each_session(stack)
