"""The tokens and the state of one user of a realm, for one attempt. It takes the place of `account.store.Store`: the
verifier decides in the same way, and what it decides is written only if nobody has changed anything in between. So
there is no lock, and one code is accepted once on all hosts together.
"""

from __future__ import annotations

import os
import time

from pam_softtoken import option_values
from pam_softtoken.account import enrolled_mark, revocation, seal, token_file
from pam_softtoken.errors import FleetDown, NotEnrolled, NotStored, Overtaken, Revoked, SoftTokenError
from pam_softtoken.fleet import key_files, local_record
from pam_softtoken.fleet.engine import EngineDown
from pam_softtoken.fleet.realm import FLOOR, NONCE_BYTES, STATE, TOKENS, Realm

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.account.safe_open import Account
    from pam_softtoken.account.state import State
    from pam_softtoken.account.token_file import TokenFile
    from pam_softtoken.config import Config
    from pam_softtoken.fleet.engine import Engine, Entry

OPENING_SHARE = 0.4
"""Of `timeout`. With the half for the verdict, a cluster that hangs leaves time to log it."""


def engine_of(config: Config) -> tuple[Engine, Realm]:
    """Return the engine and the realm of this host. Nothing is connected yet.

    Raises:
        InsecureFile, UnusableFile: the keys of this host are missing, or not what they should be.
        FleetDown: TLS does not take them.
    """
    from pam_softtoken.fleet import etcd, tls  # noqa: PLC0415 - the only engine so far

    endpoints, _ = option_values.fleet_parts(config.fleet)
    directory = config.fleet_keys
    realm = realm_of(config)
    try:
        context = tls.context_of(
            authority=f"{directory}/{key_files.AUTHORITY}",
            certificate=f"{directory}/{key_files.CERTIFICATE}",
            key=f"{directory}/{key_files.KEY}",
        )
    except OSError:
        raise FleetDown(f"{directory}: the certificates and the key do not fit together") from None
    return etcd.Etcd(endpoints, context), realm


def realm_of(config: Config) -> Realm:
    """Return the realm of this host, with the seal keys that the host has now.

    Raises:
        InsecureFile, UnusableFile: the keys of this host are missing, or not what they should be.
    """
    keys = key_files.read_seal_keys(config.fleet_keys)
    assert keys.sealing is not None  # noqa: S101 - `read_seal_keys` checks that
    return Realm(option_values.fleet_parts(config.fleet)[1], keys.sealing, keys.others)


class Place:
    """Where the user's tokens and state are, as far as messages need it.

    Args:
        account: the user.
        path: the key of the state, or the realm in words.

    Attributes:
        in_home: False, as for files of root's.
    """

    __slots__ = ("account", "in_home", "path")

    def __init__(self, account: Account, path: str) -> None:
        self.account = account
        self.path = path
        self.in_home = False


class FleetStore:
    """What the cluster has of one user.

    Args:
        account: the user.
        config: the settings.

    Attributes:
        location: its `path` is the key of the state.
        read_only: False. What cannot be written is not accepted.
        warning: for the log, what went wrong although the attempt went on; or empty.
    """

    __slots__ = (
        "_config",
        "_content",
        "_deadline_s",
        "_engine",
        "_floor_s",
        "_is_locked",
        "_is_overtaken",
        "_keys",
        "_live",
        "_nonce",
        "_present",
        "_realm",
        "_record_path",
        "_revisions",
        "_revocation",
        "_tokens_changed",
        "account",
        "location",
        "read_only",
        "warning",
    )  # fmt: skip

    def __init__(self, account: Account, config: Config) -> None:
        self.account = account
        self._config = config
        name = option_values.fleet_parts(config.fleet)[1]
        self._realm = Realm(name, bytes(seal.KEY_BYTES))  # until the key is read
        self._keys = [
            self._realm.key(TOKENS, account.name),
            self._realm.key(STATE, account.name),
            self._realm.key(FLOOR),
        ]
        self._record_path = local_record.path_of(name, account.name)
        self.location = Place(account, self._keys[1])
        self._engine: Engine | None = None
        self._revocation = revocation.Revocation(account.uid)
        self._revisions = [0, 0, 0]
        self._content: TokenFile | None = None
        self._present: State | None = None
        self._nonce = b""
        self._floor_s = 0
        self._live: frozenset[str] = frozenset()
        self._deadline_s = 0.0
        self._is_locked = self._is_overtaken = self._tokens_changed = False
        self.read_only = False
        self.warning = ""

    def open(self) -> TokenFile:
        """Connect, and read everything of the user at one moment.

        Raises:
            FleetDown: there was no answer.
            NotEnrolled: the realm has no tokens of the user. It is proof only if it has no state either, and if no code
                of the user was ever accepted on this host.
            Revoked: root of this host has revoked all tokens that are there.
            DamagedState: a seal is broken.
            BadTokenFile, InsecureFile, UnusableFile: as their names say.
        """
        self._revocation = revocation.read_for(self.account).for_realm()
        self._read(self._config.timeout * OPENING_SHARE)
        return self._enrolled()

    def _read(self, patience_s: float) -> None:
        """Connect, unless that is done, and read everything of the user at one moment. Raises as `open` does."""
        if self._engine is None:
            self._engine, self._realm = engine_of(self._config)
        else:
            self._realm = realm_of(self._config)
        try:
            entries = self._engine.read(self._keys, deadline_s=time.monotonic() + patience_s)
        except EngineDown as error:
            raise FleetDown(str(error)) from None
        self._take(entries)

    def close(self) -> None:
        """End the connection."""
        if self._engine is not None:
            self._engine.close()

    def reread_tokens(self) -> TokenFile | None:
        """Return the tokens if they were changed since they were read last; otherwise None.

        Raises:
            NotEnrolled: they are gone.
        """
        if not self._tokens_changed:
            return None
        self._tokens_changed = False
        return self._enrolled()

    def lock(self, timeout_s: float) -> None:
        """Begin the verdict, which must be written within `timeout_s` seconds. Nothing is locked.

        The person may have taken hours to answer, and the seal key may have been changed meanwhile. What the key from
        before seals now, no host may open. So the keys are read again.

        Raises:
            InsecureFile, UnusableFile: the keys of this host are missing, or not what they should be.
        """
        if not self._is_overtaken:
            self._deadline_s = time.monotonic() + timeout_s
            self._realm = realm_of(self._config)
        self._is_locked, self._is_overtaken = True, False

    def unlock(self) -> None:
        """End the verdict."""
        self._is_locked = False

    def read_state(self) -> State | None:
        """Return the state that was read last; None if there is none.

        Raises:
            Revoked: root of this host has revoked something since.
        """
        if not self._is_locked:  # as in `Store`
            self._require_not_revoked()
        return self._present

    def _require_not_revoked(self) -> None:
        """Check that root of this host has revoked nothing since the tokens were read."""
        self._revocation.require_unchanged()

    def grace_name(self, name: str) -> str:
        """Return the recorded name of a time of grace, as `Store` does."""
        return self._revocation.grace_name(name)

    def lost_before(self, now: int) -> int | None:
        """Return the floor: after a restored backup, the record of uses before it is lost."""
        return self._floor_s or None

    def write_state(self, new: State) -> None:
        """Write a state, if neither it nor the tokens have been changed since they were read.

        An answer can be lost on the way. So the request is repeated, and each state has the nonce of its writer: if the
        comparison fails and the nonce there is ours, the first request did succeed.

        Raises:
            Overtaken: something was changed. What is there now has been read.
            NotStored: there was no answer in time. It may have been written, or may be written later.
            Revoked: the tokens were revoked meanwhile.
        """
        assert self._engine is not None  # noqa: S101 - `open` comes first
        nonce = os.urandom(NONCE_BYTES)
        value = self._realm.sealed_state(self.account.name, new, nonce, self._live)
        expected = dict(zip(self._keys, self._revisions, strict=True))
        try:
            swapped = self._engine.swap(expected, {self._keys[1]: value}, self._keys, deadline_s=self._deadline_s)
        except EngineDown as error:
            raise NotStored(self.location.path, f"{error}; the code may be used up") from None
        if swapped.done:
            self._revisions[1], self._nonce, self._present = swapped.revision, nonce, new
        else:
            self._take_what_is_there(swapped.entries, nonce)
        self._record_here(new)
        self._require_not_revoked()

    def _take_what_is_there(self, entries: list[Entry], nonce: bytes) -> None:
        tokens = self._content
        self._take(entries)
        if self._nonce == nonce:
            if not self._has_still(tokens):
                raise Revoked
            return
        if time.monotonic() >= self._deadline_s:
            raise NotStored(self.location.path, "others keep changing it; the code is not used up")
        self._is_overtaken = True
        raise Overtaken

    def _has_still(self, tokens: TokenFile | None) -> bool:
        """Return whether the tokens are those. They may have been sealed with another key since."""
        if tokens is None or self._content is None:
            return False
        return self._content.record_names() == tokens.record_names()

    def _take(self, entries: list[Entry]) -> None:
        """Decode what was read."""
        tokens, state, floor = entries
        if tokens.revision != self._revisions[0] or not tokens.revision:
            self._tokens_changed = tokens.revision != self._revisions[0]
            self._content = None
            if tokens.value is not None:
                self._content = self._opened_tokens(tokens.value)
            if self._content is not None:
                self._live = self._content.record_names()
        self._nonce, present = (b"", None) if state.value is None else self._opened_state(state.value)
        self._floor_s = self._realm.open_floor(floor.value) if floor.value is not None else 0
        self._revisions = [tokens.revision, state.revision, floor.revision]
        self._present = self._with_what_is_known_here(present)

    def _opened_tokens(self, value: bytes) -> TokenFile | None:
        text = self._realm.open(TOKENS, self.account.name, value)
        return token_file.parse(text, path=self._keys[0])

    def _opened_state(self, value: bytes) -> tuple[bytes, State | None]:
        return self._realm.open_state(self.account.name, value)

    def _with_what_is_known_here(self, present: State | None) -> State | None:
        """Return a state in which codes count as used that this host has accepted, and codes that were issued before
        the floor do not count: nobody can tell whether they were used.
        """
        state = local_record.combined(present, local_record.read(self._record_path))
        if state is None:
            return None
        return self._revocation.living_state(state.without_issued_until(self._floor_s))

    def _enrolled(self) -> TokenFile:
        self._tokens_changed = False
        if self._content is not None:
            return self._revocation.living(self._content)
        was_known = bool(self._revisions[1] or self._revocation.names) or enrolled_mark.was_accepted(self.account)
        why = f"{self._keys[0]}: the realm has no tokens any more; they were revoked" if self._revisions[1] else ""
        raise NotEnrolled(proven=not was_known, why=why, path=self._keys[0])

    def _record_here(self, new: State) -> None:
        """Record on this host, too, what is used. If that fails, the owner still gets in: the cluster knows it."""
        try:
            local_record.add(self._record_path, new, self._live)
        except (SoftTokenError, OSError) as error:
            self.warning = f"this host does not record what was used, beside the cluster: {error}"
