"""A user's files in the hands of somebody who changes what is enrolled: made where missing, exchanged as a whole.

Not on the way of a login, which only reads the token file.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable

from pam_softtoken.account import enrolled_mark, ram_record, replace, revocation, revoking, safe_open, state, token_file
from pam_softtoken.account.state import State
from pam_softtoken.account.store import STATE, TOKENS, Location, Store
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.errors import (
    DENIED,
    IMMUTABLE,
    READ_ONLY,
    BadTokenFile,
    DamagedState,
    EnrolmentFailed,
    NotEnrolled,
    NotStored,
    PathError,
    Revoked,
    UnusableFile,
)

LOCK_TIMEOUT_S = 5.0


class Editor(Store):
    """The files of one user, opened for looking at them or for one change.

    Args:
        location: where they are.

    Attributes:
        is_users: the user decides what is written, even where the process is root's.
    """

    __slots__ = ("_made",)
    is_users = False

    def __init__(self, location: Location) -> None:
        super().__init__(location)
        self._made: list[str] = []

    @property
    def is_open(self) -> bool:
        """Whether the directory is there and has been opened."""
        return self._directory >= 0

    def open_for_enrolment(self) -> TokenFile | None:
        """Open the directory, making it where it is missing, and read the present tokens.

        Returns:
            The present token file, or None.

        Raises:
            EnrolmentFailed: after a revocation only root enrols.
            BadTokenFile, InsecureFile, UnusableFile: as their names say.
        """
        self.require_may_enrol()
        with self.location.as_owner():
            self._directory = self.location.open_directory(making=self._made)
        return self.present_tokens()

    def open_enrolled(self) -> TokenFile:
        """Open the directory of somebody who is enrolled, and read the tokens; make nothing.

        Raises:
            NotEnrolled: there is no token file.
            Revoked: there is none that counts.
            BadTokenFile, InsecureFile, UnusableFile: as their names say.
        """
        self._look_for_revocations()
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
        """Read the token file that is there now; under the lock for a decision.

        Returns:
            Its content without what was revoked, or None when there is none.

        Raises:
            BadTokenFile, InsecureFile, UnusableFile: as their names say.
        """
        self._look_for_revocations()
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

    def _look_for_revocations(self) -> None:
        try:
            self._revocation = revocation.read_for(self.location.account)
        except UnusableFile as error:
            # An administrator may have closed the directory to all but root. The user's program can do without:
            # whatever it writes, a login looks for itself.
            if os.geteuid() == 0 or not error.denied:
                raise

    def _require_not_revoked(self) -> None:
        """Nothing to check: what is written here lets nobody in, and the login that reads it looks for itself."""

    def require_may_enrol(self) -> None:
        """Check that what is enrolled now would count.

        Raises:
            EnrolmentFailed: everything was revoked, and since then only root enrols this user.
            UnusableFile: nobody can tell.
        """
        self._look_for_revocations()
        self._require_root_to_enrol()

    def _require_root_to_enrol(self, *, is_first: bool = False) -> None:
        name = self.location.account.name
        if self._revocation.closing and (os.geteuid() != 0 or (is_first and self.is_users)):
            raise EnrolmentFailed(
                f"an administrator has revoked all tokens of {name}, and only root can enrol a new one",
                hint=f"ask an administrator for: softtoken-enroll --user {name}",
            )

    def _require_not_dead(self, content: TokenFile) -> None:
        for token in content.tokens:
            if token.fingerprint() in self._revocation.dead:
                raise EnrolmentFailed(
                    f'the key of token "{token.name}" has been revoked, and a revoked key never works again',
                    hint="enrol a token with a new key, which softtoken-enroll makes unless it is given one",
                )

    def _admit(self, content: TokenFile, present: TokenFile | None) -> None:
        """Have count, after everything was revoked, what root enrols now; what was there before gains nothing by it.

        It counts after the revocations that were known when `present` was read. By that root decided to enrol. One that
        came since is not to be looked for here: it revokes this, too.
        """
        self._require_not_dead(content)
        if not self._revocation.closing:
            return
        before = {token.fingerprint() for token in present.tokens} if present is not None else set()
        fresh = [token.fingerprint() for token in content.tokens if token.fingerprint() not in before]
        is_new_set = present is None or present.recovery.name != content.recovery.name
        if fresh or is_new_set:
            self._require_root_to_enrol(is_first=present is None)
            revoking.admit(self._revocation, tokens=fresh, recovery_set=content.recovery.name if is_new_set else "")

    def admit_issued(self, digest: str) -> None:
        """Have a code count that root issues now, whatever was revoked before; `NotStored` when it cannot be."""
        revoking.admit(self._revocation, issued=digest)

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
                self._state = self._open_to_look()
        except FileNotFoundError:
            return None, True
        try:
            return self.read_state(), True
        except UnusableFile as error:
            if not (error.denied and error.path.startswith(ram_record.DIRECTORY)):
                raise
        stored = safe_open.read(self._state, state.FILE_BYTES, path=path)
        return (state.decode(stored, path=path)[1] if stored else None), False

    def _open_to_look(self) -> int:
        """Open the state for reading, and refuse one that a login could not write, as a login does."""
        descriptor, path = self._open_file(STATE, os.O_RDONLY), self._path(STATE)
        may_write = os.access(STATE, os.W_OK, dir_fd=self._directory, effective_ids=True)
        if may_write or os.fstatvfs(descriptor).f_flag & os.ST_RDONLY:
            return descriptor
        status = os.fstat(descriptor)
        os.close(descriptor)
        number, kind = (errno.EPERM, IMMUTABLE) if status.st_mode & stat.S_IWUSR else (errno.EACCES, DENIED)
        raise UnusableFile(path, os.strerror(number), kind=kind, owner=status.st_uid)

    def begin_state(self) -> None:
        """Open the state file for a change, making it, with room for all that will come, where it is missing.

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
        stored = safe_open.read(self._state, state.FILE_BYTES, path=path)
        known: State | None = None
        self._sequence = 0
        try:
            if stored:
                self._sequence, known = state.decode(stored, path=path)
        except DamagedState:
            if self.read_only:
                raise self._read_only_error() from None
        self._stored_sequence = self._sequence
        try:
            record = ram_record.read(self._volatile_path)
            if record is not None:
                sequence, kept = state.decode_slot(record)
                known = state.with_volatile(known, kept, newer=sequence > self._sequence)
                self._sequence = max(sequence, self._sequence)
        except (PathError, ValueError):
            record = b""
        self._seen = (stored, record)
        return known

    def _read_only_error(self) -> NotStored:
        return NotStored(self._path(STATE), os.strerror(errno.EROFS), kind=READ_ONLY)

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
        """Check that a token file of about this size can be written, before anybody is asked or shown anything.

        Raises:
            EnrolmentFailed: one of its keys was revoked.
            NotStored: it cannot.
        """
        self._require_not_dead(content)
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
            EnrolmentFailed: what is new could not count, because of a revocation.
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
        if content is not None:
            self._admit(content, present)
        if content is not None and not self.location.in_home:
            # An account that is changed before its first login is no newcomer: its tokens are only somewhere else.
            enrolled_mark.set_for(self.location.account)
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
        """Write a new token file beside the old one; `put` it in its place as the owner."""
        self._live |= content.record_names()  # before the exchange the old tokens are live, after it the new ones
        data = token_file.serialise(content, owner=self.location.bound_to)
        with self.location.as_owner():
            return replace.Replacement(self._path(TOKENS), data, below=self._directory)


class UsersEditor(Editor):
    """The same in a process of root's that does what the user wants: it enrols nobody after a revocation."""

    __slots__ = ()
    is_users = True
