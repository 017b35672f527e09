"""A user's token file and state file: how a login opens, reads and writes them. `location` has their place. Must not
import what only an enrolment needs.
"""

from __future__ import annotations

import os

from pam_softtoken import errors
from pam_softtoken.account import (
    account_record,
    enrolled_mark,
    ram_record,
    revocation,
    safe_open,
    state,
    state_format,
    token_file,
)
from pam_softtoken.account.location import STATE, TOKENS
from pam_softtoken.account.state import State
from pam_softtoken.errors import DamagedState, InsecureFile, NotEnrolled, Sealed, UnusableFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.account.location import Location
    from pam_softtoken.account.token_file import TokenFile


_SEALED = b"softtoken-sealed "
_UNSEALINGS = 3


def text_of(data: bytes, *, path: str, is_roots: bool) -> bytes:
    """Return the text of a token file, whether it is plain or sealed.

    Args:
        data: the file's bytes, at most one more than `token_file.MAX_FILE_BYTES`.
        path: its name, for the error.
        is_roots: the file is in a store of root's. Others are never sealed, so for them no key is read.

    Raises:
        Sealed: this host cannot open it.
    """
    if is_roots and data.startswith(_SEALED):
        from pam_softtoken.account import host_key  # noqa: PLC0415 - most hosts seal nothing

        return host_key.unsealed(data, path=path)
    return data


def _why_not_proven(location: Location) -> str:
    """Return what happened to an account that was accepted before and has no tokens now. "" means nothing.

    It only explains a denial. It never proves that the present user has not enrolled, because accounts change too.
    """
    account = location.account
    name, present = account.name, (account.name, account.uid)
    before = account_record.former(account)
    former = enrolled_mark.former_name(account) if enrolled_mark.is_set(account.uid) else ""
    # A home directory says more than a uid, which may have been somebody else's earlier.
    if former and (before is None or before.name == name):
        return f"the uid was enrolled as {former}; {token_file.whose(present, (former, account.uid))}"
    if before is not None:
        return f"{before.described(name)}; {token_file.whose(present, (before.name, before.uid))}"
    known = account_record.known(name) if location.in_home else None
    if known is None or known.home == account.home:
        return ""
    move = f"softtoken-admin move {name} --to home"
    return f"the home directory of {name} was {known.home}; {move} brings along what is left there"


class Store:
    """The files of one user, opened once and kept open for one attempt.

    Args:
        location: where they are.

    Attributes:
        read_only: nothing can be written there. Uses are recorded in memory until the next restart.
        warning: empty, see `fleet.store`.
    """

    __slots__ = (
        "_directory",
        "_is_locked",
        "_live",
        "_present",
        "_revocation",
        "_seen",
        "_sequence",
        "_state",
        "_stored_sequence",
        "_tokens",
        "_volatile_path",
        "location",
        "read_only",
        "warning",
    )

    def __init__(self, location: Location) -> None:
        self.location = location
        # The bytes that were read last, so that they are not decoded again under the lock.
        self._seen: tuple[bytes, bytes | None] | None = None
        self._present: State | None = None
        # Names of the tokens and recovery sets whose records must not be dropped.
        self._live: frozenset[str] = frozenset()
        self._revocation = revocation.Revocation(location.account.uid)
        self._is_locked = False
        self._sequence = self._stored_sequence = 0
        self._volatile_path = ram_record.path_of(location.account.uid, location.path)
        self.read_only = False
        self.warning = ""
        self._directory = self._tokens = self._state = -1

    def close(self) -> None:
        """Close all files. This releases the lock."""
        for descriptor in (self._state, self._tokens, self._directory):
            if descriptor >= 0:
                os.close(descriptor)
        self._directory = self._tokens = self._state = -1

    def open(self) -> TokenFile:
        """Open the files of a user who may be enrolled, and read the tokens.

        A missing state file is made, empty. `verifier` decides what that means.

        Raises:
            NotEnrolled: there is no token file.
            NoHome: there is no home directory in which it would be.
            Revoked: there are only tokens that root has revoked.
            BadTokenFile, InsecureFile, UnusableFile: as their names say.
        """
        try:
            return self._open()
        except (InsecureFile, UnusableFile) as error:
            if os.geteuid() == 0:
                raise
            from pam_softtoken.account import without_root  # noqa: PLC0415 - few attempts end here

            raise without_root.explained(error, self.location) from None

    def _open(self) -> TokenFile:
        self._revocation = revocation.read_for(self.location.account)
        try:
            try:
                content = self._open_as_owner()
            except UnusableFile as error:
                if not error.denied:
                    raise
                # The path to the home directory may be open only to one of the user's groups.
                self.close()
                self.location.account.look_up_groups()
                content = self._open_as_owner()
        except FileNotFoundError:
            raise self.not_enrolled() from None
        except errors.NoHome as error:
            error.was_enrolled = self._was_enrolled()
            raise
        return content

    def not_enrolled(self) -> NotEnrolled:
        """Return the error for a missing token file. The enrolled mark decides what the absence proves."""
        was_enrolled = self._was_enrolled()
        why = _why_not_proven(self.location) if was_enrolled else ""
        return NotEnrolled(proven=not was_enrolled, why=why, path=self._path(TOKENS))

    def _was_enrolled(self) -> bool:
        return bool(self._revocation.names) or enrolled_mark.was_accepted(self.location.account)

    def _open_as_owner(self) -> TokenFile:
        with self.location.as_owner():
            self._directory = self.location.open_directory()
            self._open_tokens()
            content = self._read_tokens()
            self._open_state()
        return content

    def reread_tokens(self) -> TokenFile | None:
        """Read the tokens again if enrolment, removal or a move has replaced the file since it was opened.

        Returns:
            The new content, or None when nothing has changed.
        """
        if self._is_in_place(self._tokens, TOKENS):
            return None
        with self.location.as_owner():
            os.close(self._tokens)
            self._tokens = -1
            try:
                self._open_tokens()
            except FileNotFoundError:
                raise NotEnrolled(proven=False) from None
            return self._read_tokens()

    def lock(self, timeout_s: float) -> None:
        """Lock the state file. This is the user's lock.

        Raises:
            LockTimeout: another process held it for longer than `timeout_s` seconds.
            InsecureFile: the file was replaced while we waited.
            UnusableFile: the file system has no locks.
        """
        path = self._path(STATE)
        safe_open.lock(self._state, timeout_s, path=path)
        self._is_locked = True
        if not self._is_in_place(self._state, STATE):
            raise InsecureFile(path, "was replaced during the attempt")

    def _is_in_place(self, descriptor: int, name: str) -> bool:
        with self.location.as_owner():
            return safe_open.is_in_place(descriptor, self._path(name), below=self._directory)

    def unlock(self) -> None:
        """Release the lock. The files stay open."""
        self._is_locked = False
        safe_open.unlock(self._state)

    def read_state(self) -> State | None:
        """Read the state. Hold the lock if a decision depends on it.

        Returns:
            The state, or None when the file is new or was emptied.

        Raises:
            DamagedState: neither slot can be trusted.
            Revoked: something was revoked since the tokens were read.
            UnusableFile: the system would not read it.
        """
        path = self._path(STATE)
        seen = (safe_open.read(self._state, state_format.FILE_BYTES, path=path), ram_record.read(self._volatile_path))
        if seen != self._seen:
            self._decode(*seen)
            self._seen = seen
        if not self._is_locked:  # a grace time lets users in by this read; after a locked read comes a write
            self._require_not_revoked()
        return self._present

    def _decode(self, stored: bytes, record: bytes | None) -> None:
        self._sequence, self._present = state_format.decode(stored, path=self._path(STATE)) if stored else (0, None)
        self._stored_sequence = self._sequence
        if record is not None:
            try:
                sequence, kept = state_format.decode_slot(record)
            except ValueError:
                raise DamagedState(self._volatile_path, "is not whole") from None
            self._present = state.with_volatile(self._present, kept, newer=sequence > self._sequence)
            self._sequence = max(sequence, self._sequence)
        if self._present is not None:
            self._present = self._revocation.living_state(self._present)

    def _require_not_revoked(self) -> None:
        """Check that root has revoked nothing since the tokens were read. `revocation` explains why here."""
        self._revocation.require_unchanged()

    def grace_name(self, name: str) -> str:
        """Return the recorded name of a time of grace. `grace` made `name`. Each revocation changes it."""
        return self._revocation.grace_name(name)

    def lost_before(self, now: int) -> int | None:
        """Return a moment before which a code may have been used without a record. No code from before then counts.

        Args:
            now: Unix seconds.

        Returns:
            Unix seconds. None unless the file system is read-only.
        """
        return now - ram_record.age_s() if self.read_only else None

    def write_state(self, new: State) -> None:
        """Write a state over the older slot. It is durable on return. Call `read_state` first, under the same lock.

        Records of the tokens that were read last, or are about to be written, are never dropped to make room.

        Raises:
            NotStored: it may or may not be on the disk.
            Revoked: the state is written, but something was revoked before that.
        """
        self._write_durably(new)
        # After the disk has it, and before the verdict: a later revocation comes after this login.
        self._require_not_revoked()

    def _write_durably(self, new: State) -> None:
        had_record = self._seen is not None and self._seen[1] is not None
        self._seen = None
        self._sequence += 1
        if self.read_only:
            ram_record.write(self._volatile_path, state_format.encode(new, self._sequence, self._live))
            return
        if self._stored_sequence == 0:
            self._write_first_state(new)
        else:
            if state_format.place_of(self._sequence) == state_format.place_of(self._stored_sequence):
                self._sequence += 1  # the record in memory has taken the number between
            place = state_format.place_of(self._sequence)
            safe_open.overwrite(
                self._state, state_format.encode(new, self._sequence, self._live), place, path=self._path(STATE)
            )
        self._stored_sequence = self._sequence
        if had_record:
            ram_record.remove(self._volatile_path)

    def _write_first_state(self, new: State) -> None:
        """Write both slots into an empty file. A failure leaves the file empty."""
        self._sequence, content = state_format.encode_first(new, self._live)
        safe_open.fill_new(self._state, content, below=self._directory, path=self._path(STATE))

    def _open_tokens(self) -> None:
        self._tokens = self._open_file(TOKENS, os.O_RDONLY)

    def _open_file(self, name: str, flags: int) -> int:
        return safe_open.open_file(self._path(name), flags, below=self._directory, owner=self.location.owner)

    def _open_state(self) -> bool:
        try:
            self._state, is_new = safe_open.open_or_make_file(
                self._path(STATE), os.O_RDWR, below=self._directory, owner=self.location.owner
            )
        except UnusableFile as error:
            if not error.read_only:
                raise
            self._open_read_only_state()
            return False
        return is_new

    def _open_read_only_state(self) -> None:
        try:
            self._state = self._open_file(STATE, os.O_RDONLY)
        except FileNotFoundError:
            why = "is missing, and the file system is read-only"
            raise UnusableFile(self._path(STATE), why, kind=errors.READ_ONLY) from None
        self.read_only = True

    def _read_tokens(self) -> TokenFile:
        path = self._path(TOKENS)
        content = self._parsed(self._tokens, path) if self.location.in_home else self._opened(path)
        self._live = content.record_names()
        return self._revocation.living(content)

    def _opened(self, path: str) -> TokenFile:
        """Parse root's token file. If its key was exchanged after the file was opened, so was the file."""
        for _ in range(_UNSEALINGS):
            try:
                return self._parsed(self._tokens, path)
            except Sealed:
                if safe_open.is_in_place(self._tokens, path, below=self._directory):
                    raise
                os.close(self._tokens)
                self._tokens = -1
                try:
                    self._open_tokens()
                except FileNotFoundError:
                    raise NotEnrolled(proven=False) from None
        return self._parsed(self._tokens, path)

    def _parsed(self, tokens: int, path: str) -> TokenFile:
        data = safe_open.read(tokens, token_file.MAX_FILE_BYTES, path=path)
        text = text_of(data, path=path, is_roots=not self.location.in_home)
        return token_file.parse(text, path=path, owner=self.location.bound_to)

    def _path(self, name: str) -> str:
        return f"{self.location.path}/{name}"
