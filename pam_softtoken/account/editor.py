"""Change what a user has enrolled. The files are made if missing, and replaced as a whole. A login does not load this:
it only reads the token file.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from pam_softtoken.account import (
    host_key,
    places,
    ram_record,
    replace,
    safe_open,
    state,
    state_format,
    token_file,
)
from pam_softtoken.account.editing import Change, Editing
from pam_softtoken.account.location import STATE, TOKENS, Location
from pam_softtoken.account.safe_open import Account
from pam_softtoken.account.state import State
from pam_softtoken.account.store import Store
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.errors import (
    DENIED,
    IMMUTABLE,
    READ_ONLY,
    BadTokenFile,
    DamagedState,
    NotEnrolled,
    NotStored,
    PathError,
    Revoked,
    UnusableFile,
)

LOCK_TIMEOUT_S = 5.0


class Editor(Editing, Store):
    """The files of one user, opened to read them or for one change.

    Args:
        location: where the files are.
    """

    __slots__ = ("_made",)

    def __init__(self, location: Location) -> None:
        super().__init__(location)
        self._made: list[str] = []

    @property
    def _account(self) -> Account:
        return self.location.account

    @property
    def is_open(self) -> bool:
        """Whether the directory exists and is open."""
        return self._directory >= 0

    def open_for_enrolment(self, *, anew: bool = False) -> TokenFile | None:
        """Open the directory and read the present tokens. A missing directory is made.

        Args:
            anew: a token file that cannot be understood counts as none.

        Returns:
            The present token file, or None.

        Raises:
            EnrolmentFailed: after a revocation only root enrols.
            BadTokenFile, InsecureFile, UnusableFile: as their names say.
        """
        self.require_may_enrol()
        with self.location.as_owner():
            self._directory = self.location.open_directory(making=self._made)
        try:
            return self.present_tokens()
        except BadTokenFile:
            if not anew:
                raise
            return None

    def open_enrolled(self) -> TokenFile:
        """Open the directory of an enrolled user and read the tokens. Nothing is made.

        Raises:
            NotEnrolled: there is no token file.
            Revoked: there is none that counts.
            BadTokenFile, InsecureFile, UnusableFile: as their names say.
        """
        self.look_for_revocations()
        try:
            with self.location.as_owner():
                self._directory = self.location.open_directory()
            content = self.present_tokens()
        except FileNotFoundError:
            content = None
        if content is None and self._revocation.names:
            raise Revoked
        if content is None:
            raise self.not_enrolled()
        return content

    def present_tokens(self) -> TokenFile | None:
        """Read the present token file. Hold the lock if a decision depends on it.

        Returns:
            Its content without what was revoked; None when there is no file.

        Raises:
            BadTokenFile, InsecureFile, UnusableFile: as their names say.
        """
        self.look_for_revocations()
        with self.location.as_owner():
            if self._tokens >= 0:
                os.close(self._tokens)
                self._tokens = -1
            try:
                self._open_tokens()
            except FileNotFoundError:
                return None
            try:
                return self._read_tokens()
            except Revoked:
                return None

    def glance_at_state(self) -> tuple[State | None, bool]:
        """Read the state only to show it. Nothing is made, written or locked.

        Returns:
            The state, or None when there is none; and whether it is complete. Uses from a time when nothing could be
            written may be in a record that only root can read.

        Raises:
            DamagedState, InsecureFile, UnusableFile: as their names say.
        """
        path = self._path(STATE)
        try:
            with self.location.as_owner():
                self._state = self._open_to_look()
        except FileNotFoundError:
            return None, True
        try:
            return self.read_state(), True
        except UnusableFile as error:
            if not (error.denied and error.path.startswith(places.RUN)):
                raise
        stored = safe_open.read(self._state, state_format.FILE_BYTES, path=path)
        return (state_format.decode(stored, path=path)[1] if stored else None), False

    def _open_to_look(self) -> int:
        """Open the state for reading. As in a login, a state that a login could not write is refused."""
        descriptor, path = self._open_file(STATE, os.O_RDONLY), self._path(STATE)
        may_write = os.access(STATE, os.W_OK, dir_fd=self._directory, effective_ids=True)
        if may_write or os.fstatvfs(descriptor).f_flag & os.ST_RDONLY:
            return descriptor
        status = os.fstat(descriptor)
        os.close(descriptor)
        number, kind = (errno.EPERM, IMMUTABLE) if status.st_mode & stat.S_IWUSR else (errno.EACCES, DENIED)
        raise UnusableFile(path, os.strerror(number), kind=kind, owner=status.st_uid)

    def begin_state(self) -> None:
        """Open the state file for a change. A missing file is made, with room for all later writes.

        Raises:
            DamagedState, InsecureFile, LockTimeout, NotStored, UnusableFile: as their names say.
        """
        with self.location.as_owner():
            if self._open_state():
                self._made.append(self._path(STATE))
        if self.read_only:
            raise self._read_only_error()
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
        """Write a new state under the lock, and leave the tokens unchanged. The lock is kept until `close`.

        Args:
            change: gets the present tokens and the present state (None if there is none) and returns the new state. The
                same state means that nothing is written. If it raises, nothing is changed.
            last_word: called when only the writing is left. If it raises, nothing is changed.
            salvaging: use what is left of a damaged state, mostly nothing, instead of giving up.

        Raises:
            NotEnrolled: there is no token file.
            BadTokenFile, DamagedState, InsecureFile, LockTimeout, NotStored, UnusableFile: as their names say.
        """
        if self._state >= 0:
            os.close(self._state)  # the descriptor of `glance_at_state`
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
        if salvaging and not self.read_only and os.fstat(self._state).st_size > state_format.FILE_BYTES:
            os.ftruncate(self._state, state_format.FILE_BYTES)
        self.write_state(after)

    def _salvage(self) -> State | None:
        """Read what is still readable of a state whose file, or the record beside it, is damaged."""
        path = self._path(STATE)
        stored = safe_open.read(self._state, state_format.FILE_BYTES, path=path)
        known: State | None = None
        self._sequence = 0
        try:
            if stored:
                self._sequence, known = state_format.decode(stored, path=path)
        except DamagedState:
            if self.read_only:
                raise self._read_only_error() from None
        self._stored_sequence = self._sequence
        try:
            record = ram_record.read(self._volatile_path)
            if record is not None:
                sequence, kept = state_format.decode_slot(record)
                known = state.with_volatile(known, kept, newer=sequence > self._sequence)
                self._sequence = max(sequence, self._sequence)
        except (PathError, ValueError):
            record = b""
        self._seen = (stored, record)
        return known

    def _read_only_error(self) -> NotStored:
        return NotStored(self._path(STATE), os.strerror(errno.EROFS), kind=READ_ONLY)

    def withdraw(self) -> None:
        """Remove what was made for a change that did not happen."""
        with self.location.as_owner():
            try:
                for path in reversed(self._made):
                    if path != self._path(STATE):
                        os.rmdir(path)
                    elif self._is_nobody_elses():
                        os.unlink(STATE, dir_fd=self._directory)
            except OSError:
                pass  # another process put something there; an empty directory is harmless
        self._made.clear()

    def _is_nobody_elses(self) -> bool:
        """Check that no tokens are beside the state file. Under the lock none can be added now."""
        try:
            self.lock(LOCK_TIMEOUT_S)
        except PathError:
            return False
        return TOKENS not in os.listdir(self._directory)

    def require_room(self, content: TokenFile) -> None:
        """Check that a token file of this size can be written, before anything is asked or shown.

        What is written is random: a key that is not confirmed yet must reach no disk, where a kill or a power failure
        would leave it. Random bytes take as much room as real ones, even where the file system compresses.

        Args:
            content: what will be written, or something as long.

        Raises:
            EnrolmentFailed: one of its keys was revoked.
            NotStored: it cannot be written.
            Sealed: it has to be sealed, and there is no key.
        """
        self.admission.require_not_dead(content)
        filler = os.urandom(len(self._text_of(content, self.location.bound_to)))
        with self.location.as_owner():
            replace.Replacement(self._path(TOKENS), filler, below=self._directory).discard()

    def exchange(
        self,
        change: Change,
        last_word: Callable[[], None],
        *,
        anew: bool = False,
    ) -> None:
        """Write a change of tokens and state under the lock: first the record in the state, then the new token file.

        A crash in between leaves one record too many, which is harmless. It never leaves a token whose confirming code
        could be used again. Everything that can fail comes first. The lock is kept until `close`.

        Args:
            change: what is to be done. If it raises, nothing is changed.
            last_word: called when only the writing is left. If it raises, nothing is changed.
            anew: a token file that cannot be understood counts as none.

        Raises:
            EnrolmentFailed: the new tokens could not count, because of a revocation.
            BadTokenFile, DamagedState, InsecureFile, LockTimeout, NotStored, Sealed, UnusableFile: as their names say.
        """
        self.lock(LOCK_TIMEOUT_S)
        try:
            present = self.present_tokens()
        except BadTokenFile:
            if not anew:
                raise
            present = None
        before = self.read_state() or State.new()
        content, after = self.decided(change, present, before, marking=not self.location.in_home)
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
                replace.remove(self._path(TOKENS), below=self._directory)

    def _prepare(self, content: TokenFile) -> replace.Replacement:
        """Write a new token file beside the old one. Call `put` as the owner to put it in place."""
        self._live |= content.record_names()  # old tokens are live before the exchange, new ones after it
        data = self._text_of(content, self.location.bound_to)
        with self.location.as_owner():
            return replace.Replacement(self._path(TOKENS), data, below=self._directory)

    def _text_of(self, content: TokenFile, owner: token_file.Owner | None) -> bytes:
        """Return what to write into a token file, sealed where this host seals. Only this method makes it.

        Hold the lock. A change of the host's key takes it afterwards, and so sees what is written now.
        """
        text = token_file.serialise(content, owner=owner)
        return text if self.location.in_home else host_key.sealed(text, path=self._path(TOKENS))


class UsersEditor(Editor):
    """The same in a root process that acts for the user. It enrols nobody after a revocation."""

    __slots__ = ()
    is_users = True


class EntrantsEditor(UsersEditor):
    """The files of a user whose own change lets them in. So it looks for revocations as a login does."""

    __slots__ = ()

    def _require_not_revoked(self) -> None:
        self._revocation.require_unchanged()
