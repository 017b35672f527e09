"""The files of one user's tokens that sign, for administration. All of it is root's. sudo loads only `signers`."""

from __future__ import annotations

import os
from collections.abc import Callable

from pam_softtoken.account import ram_record, replace, safe_open, signers, token_file
from pam_softtoken.account.editor import LOCK_TIMEOUT_S
from pam_softtoken.account.location import STATE, TOKENS
from pam_softtoken.account.signer_editor import SignerEditor
from pam_softtoken.account.state import State
from pam_softtoken.account.token_file import Owner
from pam_softtoken.errors import BadTokenFile, DamagedState, InsecureFile, LockTimeout, NotStored, UnusableFile
from pam_softtoken.otp.ocra import OCRAToken


class Keeper(SignerEditor):
    """The files of one user's tokens that sign, for administration, whichever account they are bound to."""

    __slots__ = ()

    def look_at_any(self) -> tuple[tuple[OCRAToken, ...], Owner] | None:
        """Read the tokens and the account that they are bound to. Return None if there is no token file.

        Raises:
            FileNotFoundError: there is no directory.
            BadTokenFile, InsecureFile, UnusableFile: as their names say.
        """
        path = self._path(TOKENS)
        if self._directory < 0:
            self._directory = self.location.open_directory()
        try:
            tokens = self._open_file(TOKENS, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            return signers.parse_any(safe_open.read(tokens, token_file.MAX_BYTES, path=path), path=path)
        finally:
            os.close(tokens)

    def has_file(self) -> bool:
        """Check whether there is a token file, whatever it holds. Raises as `glance_at_state` does."""
        if self._directory < 0:
            self._directory = self.location.open_directory()
        return TOKENS in os.listdir(self._directory)

    def glance_at_state(self) -> State | None:
        """Read the state only to show it; None if there is none.

        Raises:
            FileNotFoundError: there is no directory.
            DamagedState, InsecureFile, UnusableFile: as their names say.
        """
        if self._directory < 0:
            self._directory = self.location.open_directory()
        try:
            self._state = self._open_file(STATE, os.O_RDONLY)
        except FileNotFoundError:
            return None
        return self.read_state()

    def take_away(self, is_doomed: Callable[[OCRAToken], bool], *, anew: bool = False) -> None:
        """Write the token file without some of its tokens. A file without tokens stays, and so do the marks.

        A process that waits for an answer reads the file again under the lock before it judges.

        Args:
            is_doomed: chooses the tokens that go.
            anew: a file that cannot be used counts as one of this account without tokens.

        Raises:
            LockTimeout: it is done, but another process has the lock, and may write what it has read before.
            BadTokenFile, InsecureFile, NotStored, UnusableFile: nothing has changed.
        """
        late = self._begin(anew=anew)
        try:
            found = self.look_at_any()
        except (BadTokenFile, InsecureFile, UnusableFile):
            if not anew:
                raise
            found = None
        account = self.location.account
        tokens, owner = found if found is not None else ((), (account.name, account.uid))
        kept = tuple(token for token in tokens if not is_doomed(token))
        try:
            self.prepared(kept, owner).put()
        except NotStored:
            if kept or found is None:
                raise
            replace.remove(self._path(TOKENS), below=self._directory)  # needs no room, and the marks refuse as well
        if late is not None:
            raise late

    def _begin(self, *, anew: bool = False) -> LockTimeout | None:
        """Lock the files. Return the error if another process does not give the lock away."""
        if self._directory < 0:
            self._directory = self.location.open_directory()
        try:
            self._open_state()
        except (InsecureFile, UnusableFile):
            if not anew:
                raise
            replace.remove(self._path(STATE), below=self._directory)
            self._open_state()
        try:
            self.lock(LOCK_TIMEOUT_S)
        except LockTimeout as error:
            return error
        return None

    def bind(self, owner: Owner) -> None:
        """Bind the tokens to another account.

        Raises:
            LockTimeout, BadTokenFile, InsecureFile, NotStored, UnusableFile: nothing has changed.
        """
        late = self._begin()
        if late is not None:
            raise late
        found = self.look_at_any()
        if found is not None and found[1] != owner:
            self.prepared(found[0], owner).put()

    def change_state(self, change: Callable[[State], State], *, anew: bool = False) -> None:
        """Write a new state under the lock, unless it is the present one.

        Args:
            change: returns the new state.
            anew: a damaged state counts as a new one.

        Raises:
            DamagedState, LockTimeout, InsecureFile, NotStored, UnusableFile: nothing has changed.
        """
        late = self._begin()
        if late is not None:
            raise late
        try:
            before = self.read_state() or State.new()
        except DamagedState:
            if not anew:
                raise
            ram_record.remove(self._volatile_path)
            os.ftruncate(self._state, 0)  # then it counts as a state without records
            self._seen, self._sequence, self._stored_sequence = None, 0, 0
            before = State.new()
        after = change(before)
        if after is not before or anew:
            self.write_state(after)
