"""One attempt: open the files, and judge an answer under the lock: load, decide, record durably, only then say yes.

Knows nothing of PAM, sockets or clocks.
"""

from __future__ import annotations

from pam_softtoken import policy, throttle
from pam_softtoken.answer import Claim, claim
from pam_softtoken.errors import (
    CodeExpired,
    DamagedState,
    NotStored,
    OTPMismatch,
    OTPRefused,
    OTPReplayed,
    PINMissing,
    Throttled,
)
from pam_softtoken.mac import compare_digest, prepare_scrypt
from pam_softtoken.state import State
from pam_softtoken.store import Location, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.config import Config
    from pam_softtoken.files import Account
    from pam_softtoken.throttle import Source

LOCK_TIMEOUT_S = 5.0
READ_ONLY = (
    "the file system is read-only, where only TOTP can be accepted: the use of anything else must outlast a restart"
)


class Accepted:
    """An answer that was right and is recorded as used.

    Args:
        token: name of the token; empty for a recovery code, or an issued one.
        recovery_left: how many recovery codes are left after one was used, or None after anything else.
        password: what stood in front of PIN and code, for the next module.
    """

    __slots__ = ("password", "recovery_left", "token")

    def __init__(self, token: str, recovery_left: int | None, *, password: str) -> None:
        self.token = token
        self.recovery_left = recovery_left
        self.password = password

    def __repr__(self) -> str:
        return "Accepted(...)"


class Attempt:
    """One login attempt of one user: opens his files, and does beforehand what does not need the answer.

    Args:
        account: the user.
        config: the settings.
        now: Unix seconds.

    Raises:
        ConfigError: the store has no place for this user.
        PINMissing: he has no PIN, and `config` wants one.
        NotEnrolled, BadTokenFile, DamagedState, InsecureFile, UnusableFile: as their names say.
    """

    __slots__ = ("_config", "_content", "_lock_timeout_s", "_store", "account")

    def __init__(self, account: Account, config: Config, *, now: int) -> None:
        self.account = account
        self._config = config
        # Half of what the host grants, so that there is time left to say why.
        self._lock_timeout_s = min(LOCK_TIMEOUT_S, config.timeout / 2)
        self._store = Store(Location(config.store, account))
        try:
            self._content = self._store.open()
            self._require_pin()
            state = self._store.read_state()
        except BaseException:
            self._store.close()
            raise
        # A rehearsal on an answer that nothing matches: what is slow only the first time is slow now.
        try:
            policy.match_otp(self._content.tokens, state or State.new(), {}, now=now, config=config)
        except (OTPMismatch, OTPReplayed):
            pass
        if self._content.pin is not None:
            prepare_scrypt()

    def in_grace(self, name: str, *, now: int) -> bool:
        """Tell whether a code was accepted from this source, by its name from `grace`, so lately that none is due."""
        if not name:
            return False
        state = self._store.read_state()
        return state is not None and policy.in_grace(state, name, now=now, config=self._config)

    def verify(
        self,
        typed: str,
        *,
        combined: bool = False,
        tentative: bool = False,
        source: Source,
        now: int,
        grace: str = "",
    ) -> Accepted:
        """Judge an answer, and record it as used if it is right. Then the lock is kept until `close`.

        Args:
            typed: what the person typed.
            combined: a password can stand in front of it.
            tentative: it may be a password without a code, and the person can still answer: it must not be what makes
                him wait, nor come between two consecutive OTPs.
            source: where it comes from, from `throttle.source_of`.
            now: Unix seconds, read after the answer came.
            grace: the source's name from `grace`, to be remembered; empty for none.

        Returns:
            What was accepted; it is durable by then.

        Raises:
            OTPMismatch, OTPReplayed, CodeExpired, MalformedAnswer: the answer is wrong.
            Throttled: there were too many wrong ones; this one was not looked at.
            PINMissing: the PIN has been taken away meanwhile.
            LockTimeout, NotStored, DamagedState, InsecureFile, UnusableFile, BadTokenFile, NotEnrolled: it cannot be
                judged or recorded.
        """
        claimed = self._claim(typed, combined, tentative, source, now)
        self._store.lock(self._lock_timeout_s)
        try:
            changed = self._store.reread_tokens()
            if changed is not None:
                self._content = changed
                self._require_pin()
                claimed = self._claim(typed, combined, tentative, source, now)
            state = self._present_state(now)
            bucket = self._require_open(state, source, now, tentative=tentative)
            if claimed is None:
                raise Throttled(1)  # opened by a success in between; the answer has not been looked at
            try:
                accepted, state = self._accept(state, claimed, now)
            except OTPMismatch:
                self._record_mismatch(state, claimed, bucket, now, tentative=tentative)
                raise
            if grace:
                state = state.with_grace(grace, now)
            self._store.write_state(throttle.after_success(state, source, bucket, now=now))
        except BaseException:
            # The person may be told why, which can take any time.
            self._store.unlock()
            raise
        return accepted

    def _require_pin(self) -> None:
        if self._config.pin_required and self._content.pin is None:
            raise PINMissing

    def _claim(self, typed: str, combined: bool, tentative: bool, source: Source, now: int) -> Claim | None:
        """Hash what has to be hashed, without the lock, and not at all for those who have to wait.

        Returns:
            None for those: the lock's holder says so, because only he can put right a wait that a wrong clock has left.
        """
        try:
            state = throttle.set_right(self._store.read_state() or State.new(), now=now)
            self._require_open(state, source, now, tentative=tentative)
        except Throttled:
            return None
        return claim(self._content, typed, combined=combined)

    def _require_open(self, state: State, source: Source, now: int, *, tentative: bool) -> str:
        bucket = throttle.bucket_of(state, source, now=now)
        if not self._config.no_throttle:
            require = throttle.require_spare if tentative else throttle.require_open
            require(state, bucket, now=now)
        return bucket

    @property
    def kept_in_memory(self) -> bool:
        """Whether uses are recorded only until the next restart, because nothing can be written."""
        return self._store.read_only

    def close(self) -> None:
        """Close the files."""
        self._store.close()

    def _present_state(self, now: int) -> State:
        """Read the state; where a token's counter is not recorded, give it the one to start from, durably."""
        stored = self._store.read_state()
        state = throttle.set_right(stored or State.new(), now=now)
        for token in self._content.tokens:
            start = policy.starting_point(token, now=now)
            if start is not None and token.fingerprint() not in state.last:
                state = state.with_last(token.fingerprint(), start)
        if state is not stored:
            self._store.write_state(state)
        return state

    def _with_lost(self, state: State, now: int) -> State:
        """Take for used what may have been used before the last restart, where that has left no trace.

        It is not recorded: `now` may come from a clock that is wrong until the network has put it right, and then one
        attempt, right or wrong, would keep the owner out.
        """
        lost_since_s = self._store.lost_since_s()
        if lost_since_s is not None:
            for token in self._content.tokens:
                since = now - lost_since_s
                highest = policy.highest_used_before(token, state, since=since, config=self._config)
                if highest >= 0:
                    state = state.with_last(token.fingerprint(), highest)
        return state

    def _accept(self, state: State, claimed: Claim, now: int) -> tuple[Accepted, State]:
        try:
            return self._accept_otp(state, claimed, now)
        except OTPRefused as error:
            if claimed.codes:
                return self._accept_code(state, claimed, now)
            tokens, typed = self._content.tokens, claimed.otps
            error.clock_off_s = policy.clock_off_s(tokens, state, typed, now=now, config=self._config)
            raise

    def _accept_otp(self, state: State, claimed: Claim, now: int) -> tuple[Accepted, State]:
        tokens, typed = self._content.tokens, claimed.otps
        try:
            match = policy.match_otp(tokens, self._with_lost(state, now), typed, now=now, config=self._config)
        except OTPMismatch:
            if self._store.read_only:
                raise
            match = policy.match_following(tokens, state, typed, now=now, config=self._config)
        drift = match.drift
        if self._store.read_only:
            if policy.must_last(match.token):
                raise NotStored(self._store.location.path, READ_ONLY)
            # What a restart forgets must not move the window, or nobody could tell where it has been.
            drift = state.drift.get(match.token.fingerprint(), 0)
        state = state.with_accepted(match.token.fingerprint(), match.counter, drift=drift, now=now)
        return Accepted(match.token.name, None, password=claimed.passwords[match.token.digits]), state

    def _accept_code(self, state: State, claimed: Claim, now: int) -> tuple[Accepted, State]:
        """Accept an issued code or a recovery code; both are hashed with the same salt, and so once."""
        codes = self._content.recovery
        issued = bytes.fromhex(state.issued[codes.name][0]) if codes.name in state.issued else b""
        for digest, password in claimed.codes.items():
            if compare_digest(digest, issued):
                return self._accept_issued_code(state, password, now)
            try:
                return self._accept_recovery_code(state, codes.identify(digest), password)
            except OTPMismatch:
                pass  # 8 digits can end what has the form of a recovery code
        raise OTPMismatch

    def _accept_issued_code(self, state: State, password: str, now: int) -> tuple[Accepted, State]:
        name = self._content.recovery.name
        _, since, until, unused = state.issued[name]
        if not unused:
            raise OTPReplayed("")
        if not since <= now < until:
            raise CodeExpired
        if self._store.read_only:
            raise NotStored(self._store.location.path, READ_ONLY)
        return Accepted("", None, password=password), state.with_issued_used(name)

    def _accept_recovery_code(self, state: State, name: str, password: str) -> tuple[Accepted, State]:
        codes = self._content.recovery
        if codes.name not in state.spent:
            raise DamagedState(self._store.location.path, "which recovery codes are spent has been lost")
        if name in state.spent[codes.name]:
            raise OTPReplayed("")
        if self._store.read_only:
            raise NotStored(self._store.location.path, READ_ONLY)
        state = state.with_spent(codes.name, name)
        left = len(codes.names()) - len(state.spent[codes.name])
        return Accepted("", left, password=password), state

    def _record_mismatch(self, state: State, claimed: Claim, bucket: str, now: int, *, tentative: bool) -> None:
        """Record a wrong answer before it is said to be one. A replay is not a guess: to count it would shut out an
        owner who types one code in two terminals.
        """
        near = {}
        if not self._store.read_only:
            tokens, typed = self._content.tokens, claimed.otps
            near = policy.nearby(tokens, state, typed, now=now, config=self._config)
        before = state
        if near or (state.near and not tentative):
            state = state.with_near(near, now)
        if not self._config.no_throttle:
            state = throttle.after_wrong_answer(state, bucket, now=now)
        if state is not before:
            self._store.write_state(state)
