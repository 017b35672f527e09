"""A user's files in the hands of somebody who changes what is enrolled: made where missing, exchanged as a whole.

Not on the way of a login, which only reads the token file.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

from pam_softtoken import files, mark, new_file, state, tokenfile, volatile
from pam_softtoken.errors import BadTokenFile, DamagedState, NotEnrolled, NotStored, PathError, UnusableFile
from pam_softtoken.state import State
from pam_softtoken.store import STATE, TOKENS, Location, Store
from pam_softtoken.tokenfile import TokenFile

LOCK_TIMEOUT_S = 5.0


class Editor(Store):
    """The files of one user, opened for looking at them or for one change.

    Args:
        location: where they are.
    """

    __slots__ = ("_made",)

    def __init__(self, location: Location) -> None:
        super().__init__(location)
        self._made: list[str] = []

    @property
    def is_open(self) -> bool:
        """Whether the directory is open: it is there."""
        return self._directory >= 0

    def open_for_enrolment(self) -> TokenFile | None:
        """Open the directory, making it where it is missing, and read the present tokens.

        Returns:
            The present token file, or None.

        Raises:
            BadTokenFile, InsecureFile, UnusableFile: as their names say.
        """
        with self.location.as_owner():
            self._directory = self.location.open_directory(making=self._made)
        return self.present_tokens()

    def open_enrolled(self) -> TokenFile:
        """Open the directory of somebody who is enrolled, and read the tokens; make nothing.

        Raises:
            NotEnrolled: there is no token file.
            BadTokenFile, InsecureFile, UnusableFile: as their names say.
        """
        try:
            with self.location.as_owner():
                self._directory = self.location.open_directory()
            content = self.present_tokens()
        except FileNotFoundError:
            content = None
        if content is None:
            raise NotEnrolled(proven=not mark.is_set(self.location.account.uid))
        return content

    def present_tokens(self) -> TokenFile | None:
        """Read the token file that is there now; under the lock for a decision.

        Returns:
            Its content, or None when there is none.

        Raises:
            BadTokenFile, InsecureFile, UnusableFile: as their names say.
        """
        with self.location.as_owner():
            if self._tokens >= 0:
                os.close(self._tokens)
                self._tokens = -1
            try:
                self._open_tokens()
            except FileNotFoundError:
                return None
            return self._read_tokens()

    def glance_at_state(self) -> tuple[State | None, bool]:
        """Read the state only to show it: nothing is made, written or locked.

        Returns:
            The state, None when there is none; and whether it is all: what was used while nothing could be written may
            be in a record that only root can read.

        Raises:
            DamagedState, InsecureFile, UnusableFile: as their names say.
        """
        path = self._path(STATE)
        try:
            with self.location.as_owner():
                self._state = self._open_file(STATE, os.O_RDONLY)
        except FileNotFoundError:
            return None, True
        try:
            return self.read_state(), True
        except UnusableFile as error:
            if not (error.denied and error.path.startswith(volatile.DIRECTORY)):
                raise
        stored = files.read(self._state, state.FILE_BYTES, path=path)
        return (state.decode(stored, path=path)[1] if stored else None), False

    def begin_state(self) -> None:
        """Open the state file for a change, making it, with room for all that will come, where it is missing.

        Raises:
            DamagedState, InsecureFile, LockTimeout, NotStored, UnusableFile: as their names say.
        """
        with self.location.as_owner():
            if self._open_state():
                self._made.append(self._path(STATE))
        if self.read_only:
            raise NotStored(self._path(STATE), os.strerror(errno.EROFS))
        self.lock(LOCK_TIMEOUT_S)
        try:
            if self.read_state() is None:
                self.write_state(State.new())
        finally:
            self.unlock()

    def change_state(
        self,
        change: Callable[[TokenFile, State | None], State | None],
        last_word: Callable[[], None],
        *,
        salvaging: bool = False,
    ) -> None:
        """Change what the state says, under the lock, and leave the tokens as they are. The lock is kept until `close`.

        Args:
            change: makes the new state out of the tokens and the state that are there by now, None where there is none;
                the same one back means that nothing is written. It raises what it likes, and nothing is changed.
            last_word: called when all but the writing is done; raises what it likes, and nothing is changed.
            salvaging: of a damaged state take what is left of it, mostly none, instead of giving up.

        Raises:
            NotEnrolled: there is no token file.
            BadTokenFile, DamagedState, InsecureFile, LockTimeout, NotStored, UnusableFile: as their names say.
        """
        if self._state >= 0:
            os.close(self._state)  # of a glance
            self._state = -1
        with self.location.as_owner():
            if self._open_state():
                self._made.append(self._path(STATE))
        self.lock(LOCK_TIMEOUT_S)
        content = self.present_tokens()
        if content is None:
            raise NotEnrolled(proven=False)
        before = self._salvage() if salvaging else self.read_state()
        after = change(content, before)
        last_word()
        if after is None or (after is before and not salvaging):
            return
        if salvaging and not self.read_only and os.fstat(self._state).st_size > state.FILE_BYTES:
            os.ftruncate(self._state, state.FILE_BYTES)
        self.write_state(after)

    def _salvage(self) -> State | None:
        """Read what can still be read of a state whose file, or the record beside it, is damaged."""
        path = self._path(STATE)
        stored = files.read(self._state, state.FILE_BYTES, path=path)
        known: State | None = None
        self._sequence = 0
        try:
            if stored:
                self._sequence, known = state.decode(stored, path=path)
        except DamagedState:
            if self.read_only:
                raise NotStored(path, os.strerror(errno.EROFS)) from None
        self._stored_sequence = self._sequence
        try:
            record = volatile.read(self._volatile_path)
            if record is not None:
                sequence, kept = state.decode_slot(record)
                known = state.with_volatile(known, kept, newer=sequence > self._sequence)
                self._sequence = max(sequence, self._sequence)
        except (PathError, ValueError):
            record = b""
        self._seen = (stored, record)
        return known

    def withdraw(self) -> None:
        """Take away what was made for a change of which nothing came."""
        with self.location.as_owner():
            try:
                for path in reversed(self._made):
                    if path != self._path(STATE):
                        os.rmdir(path)
                    elif self._is_nobody_elses():
                        os.unlink(STATE, dir_fd=self._directory)
            except OSError:
                pass  # somebody else has put something there; an empty directory left behind harms nobody
        self._made.clear()

    def _is_nobody_elses(self) -> bool:
        """Tell whether nobody has put tokens beside the state file; under the lock, so that nobody does now."""
        try:
            self.lock(LOCK_TIMEOUT_S)
        except PathError:
            return False
        return TOKENS not in os.listdir(self._directory)

    def require_room(self, content: TokenFile) -> None:
        """Make sure that a token file of about this size can be written, before anybody is asked or shown anything.

        Raises:
            NotStored: it cannot.
        """
        replacement = self._prepare(content)
        with self.location.as_owner():
            replacement.discard()

    def exchange(
        self,
        change: Callable[[TokenFile | None, State], tuple[TokenFile | None, State]],
        last_word: Callable[[], None],
        *,
        anew: bool = False,
    ) -> None:
        """Change what is there now, under the lock: record in the state first, then put the new token file.

        In this order a crash in between leaves a record too many, which harms nobody, and never a token whose
        confirming code could be used again. All that can fail comes first. The lock is kept until `close`.

        Args:
            change: makes the new tokens and the new state out of those that are there by now; None instead of tokens
                takes the file away. It raises what it likes, and nothing is changed.
            last_word: called when all but the writing is done; raises what it likes, and nothing is changed.
            anew: a token file that says nothing that can be read counts as none.

        Raises:
            BadTokenFile, DamagedState, InsecureFile, LockTimeout, NotStored, UnusableFile: as their names say.
        """
        self.lock(LOCK_TIMEOUT_S)
        try:
            present = self.present_tokens()
        except BadTokenFile:
            if not anew:
                raise
            present = None
        before = self.read_state() or State.new()
        content, after = change(present, before)
        replacement = self._prepare(content) if content is not None else None
        with self.location.as_owner():
            try:
                last_word()
                if after is not before:
                    self.write_state(after)
            except BaseException:
                if replacement is not None:
                    replacement.discard()
                raise
            if replacement is not None:
                replacement.put()
            else:
                new_file.remove(self._path(TOKENS), below=self._directory)

    def _prepare(self, content: TokenFile) -> new_file.Replacement:
        """Write a new token file beside the old one; `put` it in its place as the owner."""
        self._live |= content.record_names()  # before the exchange the old tokens are live, after it the new ones
        with self.location.as_owner():
            return new_file.Replacement(self._path(TOKENS), tokenfile.serialise(content), below=self._directory)
