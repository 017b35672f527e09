"""The rules of a change of a user's tokens, wherever they are kept: in files, see `editor`, or in the cluster of a
realm, see `fleet.editor`. Those modules store what is decided here. A login does not load this.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from pam_softtoken.account import enrolled_mark, revocation, revoking
from pam_softtoken.account.admission import Admission
from pam_softtoken.account.revocation import Revocation
from pam_softtoken.account.safe_open import Account
from pam_softtoken.account.state import State
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.errors import UnusableFile

Change = Callable[[TokenFile | None, State], tuple[TokenFile | None, State]]
"""Gets the present tokens and state, and returns the new ones. None instead of tokens removes them."""


class Editing:
    """Part of a store in which tokens can be changed.

    Attributes:
        is_users: the user decides what is written, even where the process is root's.
    """

    __slots__ = ()
    is_users = False
    _revocation: Revocation

    @property
    def _account(self) -> Account:
        raise NotImplementedError

    def require_may_enrol(self) -> None:
        """Check that what is enrolled now would count.

        Raises:
            EnrolmentFailed: everything was revoked. Since then only root enrols this user.
            UnusableFile: nobody can tell.
        """
        self.look_for_revocations()
        self.admission.require_root_to_enrol()

    def admit_issued(self, digest: str) -> None:
        """Write that a code which root issues now counts, whatever was revoked before. Raises `NotStored` if that
        fails.
        """
        revoking.admit(self._revocation, issued=digest)

    def was_enrolled(self) -> bool:
        """Return whether the user was ever enrolled, or accepted.

        Raises:
            UnusableFile: this is not known.
        """
        return enrolled_mark.was_accepted(self._account)

    @property
    def admission(self) -> Admission:
        """Return what may be enrolled after the revocations that were read last."""
        return Admission(self._revocation, self._account.name, is_users=self.is_users)

    def look_for_revocations(self) -> None:
        """Read what was revoked on this host.

        Raises:
            UnusableFile: this is not known.
        """
        try:
            self._revocation = revocation.read_for(self._account)  # type: ignore[misc] # a slot of the store
        except UnusableFile as error:
            # An administrator may have closed the directory to all but root. The user's program can do without it: a
            # login checks revocations itself, whatever this program writes.
            if os.geteuid() == 0 or not error.denied:
                raise

    def _require_not_revoked(self) -> None:
        """Check nothing. What is written here lets nobody in, and the login that reads it checks revocations itself."""

    def decided(
        self, change: Change, present: TokenFile | None, before: State, *, marking: bool
    ) -> tuple[TokenFile | None, State]:
        """Return what a change makes of the present tokens and state, if that may be written.

        Args:
            change: the change.
            present: the tokens; None if there are none.
            before: the state.
            marking: record on this host that the user is enrolled. If the account is changed before its first login,
                it must not pass for one that never enrolled.

        Raises:
            EnrolmentFailed: the new tokens could not count, because of a revocation.
            NotStored, UnusableFile: as their names say.
        """
        content, after = change(present, before)
        if content is not None:
            self.admission.admit(content, present)
            if marking:
                enrolled_mark.set_for(self._account)
        return content, after
