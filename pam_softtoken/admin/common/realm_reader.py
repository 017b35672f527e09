"""Read what a realm has of many users, over one connection. If the nodes do not answer once, they are not asked
again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pam_softtoken.account.safe_open import Account
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.config import Config
from pam_softtoken.fleet.editor import FleetEditor
from pam_softtoken.fleet.realm import Realm
from pam_softtoken.fleet.store import engine_of
from pam_softtoken.program_errors import EnrolmentFailed

if TYPE_CHECKING:
    from pam_softtoken.fleet.engine import Engine

DOES_NOT_ANSWER = "the cluster of the realm does not answer"


class RealmReader:
    """One connection, for one process.

    Args:
        config: the host's settings.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._connection: tuple[Engine, Realm] | None = None
        self.is_down = False

    def of(self, account: Account) -> FleetEditor:
        """Return what the realm has of a user, not read yet.

        Raises:
            InsecureFile, UnusableFile: the keys of this host cannot be used.
            FleetDown: TLS does not take them.
        """
        store = _Reading(account, self._config, self)
        if self._connection is None:
            self._connection = engine_of(self._config)
        store.use(*self._connection)
        return store


class _Reading(FleetEditor):
    __slots__ = ("_reader",)

    def __init__(self, account: Account, config: Config, reader: RealmReader) -> None:
        super().__init__(account, config)
        self._reader = reader

    def present_tokens(self) -> TokenFile | None:
        """Read the tokens, if the nodes have not failed to answer before."""
        if self._reader.is_down:
            raise EnrolmentFailed(DOES_NOT_ANSWER, hint="softtoken-admin doctor")
        try:
            return super().present_tokens()
        except EnrolmentFailed:
            self._reader.is_down = True
            raise EnrolmentFailed(DOES_NOT_ANSWER, hint="softtoken-admin doctor") from None
