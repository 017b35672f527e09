"""Open the tokens of a user of a realm: from the cluster, or the tokens of this host alone while it does not answer."""

from __future__ import annotations

import time

from pam_softtoken.account.location import Location
from pam_softtoken.account.store import Store
from pam_softtoken.errors import FleetDown, NoHome, NotEnrolled, SoftTokenError
from pam_softtoken.fleet.engine import EngineDown
from pam_softtoken.fleet.realm import FLOOR, STATE, TOKENS
from pam_softtoken.fleet.store import OPENING_SHARE, FleetStore, engine_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.account.safe_open import Account
    from pam_softtoken.account.token_file import TokenFile
    from pam_softtoken.config import Config


_NOBODY = " "
"""No user has this name."""


def open_for(account: Account, config: Config) -> tuple[Store | FleetStore, TokenFile, str]:
    """Return the open store of a user, the tokens, and a warning for the log, which may be empty.

    Tokens of this host alone were enrolled here, and no other host knows them. So their codes work once, too. Nothing
    of the realm is kept for a time without the cluster: two hosts without it would both accept the same code.

    Raises:
        FleetDown: the cluster does not answer, and the user has no tokens of this host alone. This proves nothing
            about the user.
        SoftTokenError: as for `FleetStore.open` and `Store.open`.
    """
    fleet = FleetStore(account, config)
    try:
        return fleet, fleet.open(), ""
    except FleetDown as error:
        fleet.close()
        if not config.fleet_alone:
            raise
        return _alone(account, config, error)
    except BaseException:
        fleet.close()
        raise


def pretend(config: Config) -> None:
    """Ask the cluster as `open_for` does, and forget the answer."""
    deadline_s = time.monotonic() + config.timeout * OPENING_SHARE
    try:
        engine, realm = engine_of(config)
        try:
            engine.read(
                [realm.key(TOKENS, _NOBODY), realm.key(STATE, _NOBODY), realm.key(FLOOR)], deadline_s=deadline_s
            )
        finally:
            engine.close()
    except (EngineDown, SoftTokenError):
        pass  # the user is refused in any case


def _alone(account: Account, config: Config, down: FleetDown) -> tuple[Store, TokenFile, str]:
    store = Store(Location(config.fleet_alone, account))
    try:
        content = store.open()
    except (NotEnrolled, NoHome):
        store.close()
        raise down from None
    except BaseException:
        store.close()
        raise
    return store, content, f"only tokens of this host alone count: {down}"
