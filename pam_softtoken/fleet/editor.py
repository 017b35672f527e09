"""Change what a user has enrolled in a realm. All that a change reads and writes is one transaction, which fails if
anybody has changed the tokens or the state meanwhile: another enrolment, or a login that has used a code. Then the
change is decided again, on what is there now. A login does not load this.
"""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Callable

from pam_softtoken.account import token_file
from pam_softtoken.account.editing import Change, Editing
from pam_softtoken.account.safe_open import Account
from pam_softtoken.account.state import State
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.config import Config
from pam_softtoken.errors import (
    BadTokenFile,
    DamagedState,
    FleetDown,
    NotEnrolled,
    NotStored,
    Revoked,
)
from pam_softtoken.fleet import local_record
from pam_softtoken.fleet.engine import EngineDown, Entry
from pam_softtoken.fleet.realm import ENROL, NONCE_BYTES, TOKENS, Realm
from pam_softtoken.fleet.store import FleetStore, Place
from pam_softtoken.program_errors import EnrolmentFailed, PerhapsStored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.fleet.engine import Engine

PATIENCE_S = 5.0
"""How long a request may take. Nobody waits for it with a lock."""
WHEN_DOWN = "start again when the nodes answer; softtoken-admin doctor says what is wrong with them"


class FleetEditor(Editing, FleetStore):
    """The tokens and the state of one user of a realm, to read them or for one change.

    Args:
        account: the user.
        config: the host's settings.
    """

    __slots__ = ("_anew", "_damage", "_record_damage")

    def __init__(self, account: Account, config: Config) -> None:
        super().__init__(account, config)
        self.location = Place(account, f"the realm {self._realm.name}")
        self._anew = False
        self._damage: DamagedState | None = None
        self._record_damage: DamagedState | None = None

    @property
    def _account(self) -> Account:
        return self.account

    @property
    def is_open(self) -> bool:
        """Whether the realm was asked."""
        return self._engine is not None

    def use(self, engine: Engine, realm: Realm) -> None:
        """Ask over a connection that is there already."""
        self._engine, self._realm = engine, realm

    def look_for_revocations(self) -> None:
        """Read what was revoked on this host, as far as it counts for a realm.

        Raises:
            UnusableFile: this is not known.
        """
        super().look_for_revocations()
        self._revocation.for_realm()

    def open_for_enrolment(self, *, anew: bool = False) -> TokenFile | None:
        """Read the present tokens.

        Args:
            anew: tokens or a state that cannot be understood count as none.

        Returns:
            The present tokens, or None.

        Raises:
            EnrolmentFailed: the realm does not answer.
            BadTokenFile, DamagedState, InsecureFile, UnusableFile: as their names say.
        """
        self._anew = anew
        self.require_may_enrol()
        return self.present_tokens()

    def open_enrolled(self) -> TokenFile:
        """Read the tokens of an enrolled user.

        Raises:
            NotEnrolled: the realm has no tokens of the user.
            Revoked: it has none that counts on this host.
            EnrolmentFailed, BadTokenFile, DamagedState, InsecureFile, UnusableFile: as for `open_for_enrolment`.
        """
        content = self.present_tokens()
        if content is None and self._revocation.names:
            raise Revoked
        if content is None:
            raise NotEnrolled(proven=not self.was_enrolled(), path=self._keys[0])
        return content

    def present_tokens(self) -> TokenFile | None:
        """Read the tokens and the state that are there now.

        Returns:
            The tokens without what was revoked on this host; None if there are none.

        Raises:
            EnrolmentFailed, BadTokenFile, DamagedState, InsecureFile, UnusableFile: as for `open_for_enrolment`.
        """
        self.look_for_revocations()
        self._damage = self._record_damage = None
        try:
            self._read(PATIENCE_S)
        except FleetDown as error:
            raise EnrolmentFailed(f"{error}; nothing was changed", hint=WHEN_DOWN) from None
        self._tokens_changed = False
        if self._content is None:
            return None
        try:
            return self._revocation.living(self._content)
        except Revoked:
            return None

    def was_enrolled(self) -> bool:
        """Return whether the user was ever enrolled in the realm, or accepted on this host. The state is never removed.

        Raises:
            UnusableFile: this is not known.
        """
        return bool(self._revisions[1] or self._revocation.names) or super().was_enrolled()

    def read_state(self) -> State | None:
        """Return the state that was read last; None if there is none.

        Raises:
            DamagedState: its seal is broken, or the record of this host is not whole.
        """
        damage = self._damage or self._record_damage
        if damage is not None:
            raise damage
        return super().read_state()

    def _readable_state(self) -> State | None:
        """Return what can be read of the state."""
        return None if self._damage is not None else super().read_state()

    def glance_at_state(self) -> tuple[State | None, bool]:
        """Return the state as `read_state` does, and that it is complete."""
        return self.read_state(), True

    def begin_state(self) -> None:
        """Check that the tokens can be changed, before anything is asked or shown.

        Raises:
            EnrolmentFailed: this host has no right to write tokens, or the realm does not answer.
            DamagedState: the state's seal is broken.
        """
        assert self._engine is not None  # noqa: S101 - one of the methods above comes first
        if not self._anew:
            self.read_state()
        try:
            may_write = self._engine.may_write(self._keys[0], deadline_s=time.monotonic() + PATIENCE_S)
        except EngineDown as error:
            raise EnrolmentFailed(f"{FleetDown(str(error))}; nothing was changed", hint=WHEN_DOWN) from None
        if not may_write:
            raise EnrolmentFailed(
                f"this host may not write the tokens of {self.location.path}; nothing was changed",
                hint=f"do that on {self._enrolment_hosts()}",
            )

    def _enrolment_hosts(self) -> str:
        """Return in words which hosts may write tokens."""
        assert self._engine is not None  # noqa: S101 - as above
        try:
            (entry,) = self._engine.read([self._realm.key(ENROL)], deadline_s=time.monotonic() + PATIENCE_S)
            if entry.value is not None:
                return " or ".join(self._realm.open_enrolment_hosts(entry.value))
        except (EngineDown, DamagedState):
            pass
        return "a host that was joined with softtoken-admin fleet join --enrol; the administrator of the realm knows it"

    def require_room(self, content: TokenFile) -> None:
        """Check that the tokens could count. `begin_state` has checked that they can be written.

        Raises:
            EnrolmentFailed: one of the keys was revoked on this host.
        """
        self.admission.require_not_dead(content)

    def withdraw(self) -> None:
        """Do nothing. Nothing is made before the change itself."""

    def exchange(self, change: Change, last_word: Callable[[], None], *, anew: bool = False) -> None:
        """Write a change of tokens and state at once.

        Args:
            change: what is to be done. It is called again if others were faster. If it raises, nothing is changed.
            last_word: called when only the writing is left. If it raises, nothing is changed.
            anew: tokens or a state that cannot be understood count as none.

        Raises:
            EnrolmentFailed: the new tokens could not count, or the realm does not answer.
            PerhapsStored: no answer came.
            NotStored: others kept changing the same.
            BadTokenFile, DamagedState, InsecureFile, UnusableFile: as their names say.
        """
        self._anew = anew
        deadline_s = time.monotonic() + 2 * PATIENCE_S
        was_said = False
        while True:
            present = self.present_tokens()
            before = (self._readable_state() if anew else self.read_state()) or State.new()
            content, after = self.decided(change, present, before, marking=True)
            if not was_said:
                last_word()
                was_said = True
            tokens: bytes | None = None
            if content is not None:
                tokens = self._realm.seal(TOKENS, self.account.name, token_file.serialise(content))
                self._live |= content.record_names()
            if self._put({self._keys[0]: tokens}, after, deadline_s, anew=self._record_damage is not None):
                return

    def change_state(
        self,
        change: Callable[[TokenFile, State | None], State | None],
        last_word: Callable[[], None],
        *,
        salvaging: bool = False,
    ) -> None:
        """Write a new state, and leave the tokens unchanged. Every host may do that.

        Args:
            change: gets the tokens and the state (None if there is none) and returns the new state. The same state
                means that nothing is written. It is called again if others were faster.
            last_word: called when only the writing is left. If it raises, nothing is changed.
            salvaging: a damaged state counts as none. What this host has recorded itself is replaced, too.

        Raises:
            NotEnrolled: the realm has no tokens of the user.
            EnrolmentFailed, PerhapsStored, NotStored, BadTokenFile, DamagedState, InsecureFile, UnusableFile: as for
                `exchange`.
        """
        deadline_s = time.monotonic() + 2 * PATIENCE_S
        was_said = False
        while True:
            content = self.present_tokens()
            if content is None:
                raise NotEnrolled(proven=False)
            before = self._readable_state() if salvaging else self.read_state()
            after = change(content, before)
            if not was_said:
                last_word()
                was_said = True
            if after is None or (after is before and not salvaging):
                return
            if self._put({}, after, deadline_s, anew=salvaging):
                return

    def _put(self, put: dict[str, bytes | None], after: State, deadline_s: float, *, anew: bool = False) -> bool:
        """Write a state and other keys. Return False if others have changed something since it was read."""
        assert self._engine is not None  # noqa: S101 - as above
        nonce = os.urandom(NONCE_BYTES)
        state = self._realm.sealed_state(self.account.name, after, nonce, self._live)
        expected = dict(zip(self._keys, self._revisions, strict=True))
        try:
            swapped = self._engine.swap(
                expected, {**put, self._keys[1]: state}, self._keys, deadline_s=time.monotonic() + PATIENCE_S
            )
        except EngineDown as error:
            raise PerhapsStored(self.location.path, str(error)) from None
        if not swapped.done and not self._is_ours(swapped.entries, put, nonce):  # otherwise an answer was lost
            if time.monotonic() >= deadline_s:
                raise NotStored(self.location.path, "others keep changing it")
            return False
        if anew:
            local_record.forget(self._record_path)
        self._record_here(after)
        return True

    def _is_ours(self, entries: list[Entry], put: dict[str, bytes | None], nonce: bytes) -> bool:
        """Check whether what was found has our change. A login may have changed the state again, but not the tokens."""
        tokens = put.get(self._keys[0])
        return self._nonce_in(entries[1]) == nonce or (tokens is not None and entries[0].value == tokens)

    def _nonce_in(self, entry: Entry) -> bytes:
        try:
            return b"" if entry.value is None else self._realm.open_state(self.account.name, entry.value)[0]
        except DamagedState:
            return b""

    def _opened_tokens(self, value: bytes) -> TokenFile | None:
        try:
            return super()._opened_tokens(value)
        except (DamagedState, BadTokenFile) as error:
            if self._anew:
                return None
            raise BadTokenFile(error.path, error.why) from None

    def _opened_state(self, value: bytes) -> tuple[bytes, State | None]:
        try:
            return super()._opened_state(value)
        except DamagedState as error:
            self._damage = error
            return b"", None

    def _with_what_is_known_here(self, present: State | None) -> State | None:
        try:
            return super()._with_what_is_known_here(present)
        except DamagedState as error:
            self._record_damage = error
            return present


class UsersFleetEditor(FleetEditor):
    """The same in a root process that acts for the user."""

    __slots__ = ()
    is_users = True


_LOOK_FIRST = "look first, then start again when the nodes answer"
_HINTS: tuple[tuple[type[Exception], str, str], ...] = (
    (PerhapsStored, _LOOK_FIRST, _LOOK_FIRST),
    (NotStored, "start again", "start again"),
    (BadTokenFile, "", "see softtoken-fleet(7); softtoken-enroll --user {user} --force makes a new token"),
    (DamagedState, "", "see softtoken-fleet(7); softtoken-admin reset-state {user} starts it anew"),
)
"""For each fault what helps, for anybody and for root."""


def hint_for(error: Exception, user: str, *, is_root: bool) -> str:
    """Return what helps against a fault in what a realm has of a user, or in the keys of this host."""
    own, roots = next(
        (texts for kind, *texts in _HINTS if isinstance(error, kind)),
        ["", "softtoken-admin doctor says what is wrong with the keys of this host"],
    )
    return roots.format(user=user) if is_root else own or "ask an administrator of this host"


def command_for(error: Exception, user: str) -> str:
    """Return the command with which root mends what a realm has of a user; empty if there is none."""
    if isinstance(error, BadTokenFile):
        return f"softtoken-enroll --user {shlex.quote(user)} --force"
    if isinstance(error, DamagedState):
        return f"softtoken-admin reset-state {shlex.quote(user)}"
    return ""
