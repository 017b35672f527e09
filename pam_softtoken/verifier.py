"""One attempt: open the files, and judge an answer under the lock: load, decide, record durably, only then say yes.

Knows nothing of PAM, sockets or clocks.
"""

from __future__ import annotations

from pam_softtoken import policy, throttle
from pam_softtoken.errors import DamagedState, MalformedAnswer, NotStored, OTPMismatch, OTPReplayed, Throttled
from pam_softtoken.recovery import SALT_BYTES, RecoverySet
from pam_softtoken.state import State
from pam_softtoken.store import Location, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.config import Config
    from pam_softtoken.files import Account
    from pam_softtoken.policy import Answer
    from pam_softtoken.throttle import Source

LOCK_TIMEOUT_S = 5.0
READ_ONLY = (
    "the file system is read-only, where only TOTP can be accepted: the use of anything else must outlast a restart"
)


def pretend(text: str) -> None:
    """Spend the time on the answer of somebody who has no token that it would take if he had one."""
    try:
        code = policy.read_answer(text).recovery_code
        if code:
            RecoverySet(bytes(SALT_BYTES), ()).identify(code)
    except (MalformedAnswer, OTPMismatch):
        pass


class Accepted:
    """An answer that was right and is recorded as used.

    Args:
        token: name of the token; empty for a recovery code.
        recovery_left: how many recovery codes are left after one was used, or None after an OTP.
    """

    __slots__ = ("recovery_left", "token")

    def __init__(self, token: str, recovery_left: int | None) -> None:
        self.token = token
        self.recovery_left = recovery_left


class Attempt:
    """One login attempt of one user: opens his files, and does beforehand what does not need the answer.

    Args:
        account: the user.
        config: the settings.
        now: Unix seconds.

    Raises:
        ConfigError: the store has no place for this user.
        NotEnrolled, BadTokenFile, DamagedState, InsecureFile, UnusableFile: as their names say.
    """

    __slots__ = ("_config", "_content", "_lock_timeout_s", "_store", "account", "needs_two_otps")

    def __init__(self, account: Account, config: Config, *, now: int) -> None:
        self.account = account
        self._config = config
        # Half of what the host grants, so that there is time left to say why.
        self._lock_timeout_s = min(LOCK_TIMEOUT_S, config.timeout / 2)
        self._store = Store(Location(config.store, account))
        try:
            self._content = self._store.open()
            state = self._store.read_state()
        except BaseException:
            self._store.close()
            raise
        self.needs_two_otps = policy.needs_two_otps(self._content.tokens, state)
        # A rehearsal on an answer that nothing matches: what is slow only the first time is slow now.
        try:
            policy.match_otp(self._content.tokens, state or State.new(), "", now=now, config=config)
        except (OTPMismatch, OTPReplayed):
            pass

    def verify(self, first: str, second: str | None, *, source: Source, now: int) -> Accepted:
        """Judge an answer, and record it as used if it is right. Then the lock is kept until `close`.

        Args:
            first: what the person typed.
            second: the answer to a second prompt, when `needs_two_otps`.
            source: where it comes from, from `throttle.source_of`.
            now: Unix seconds, read after the answer came.

        Returns:
            What was accepted; it is durable by then.

        Raises:
            OTPMismatch, OTPReplayed, MalformedAnswer: the answer is wrong.
            Throttled: there were too many wrong ones; this one was not looked at.
            LockTimeout, NotStored, DamagedState, InsecureFile, UnusableFile, BadTokenFile, NotEnrolled: it cannot be
                judged or recorded.
        """
        answer = policy.read_answer(first)
        # Read before anything is compared: a malformed second answer must not make a free guess of the first.
        following = policy.read_answer(second).otp if second is not None else ""
        spending = self._identify(answer, source, now)
        self._store.lock(self._lock_timeout_s)
        try:
            changed = self._store.reread_tokens()
            if changed is not None:
                self._content = changed
                spending = self._identify(answer, source, now)
            state = self._present_state(now)
            bucket = self._require_open(state, source, now)
            if spending is None:
                raise Throttled(1)  # opened by a success in between; the answer has not been looked at
            try:
                if answer.recovery_code:
                    accepted, state = self._accept_recovery_code(state, spending)
                else:
                    accepted, state = self._accept_otp(state, answer.otp, following, now)
            except OTPMismatch:
                # A replay is not a guess; to count it would shut out an owner who types one code in two terminals.
                if not self._config.no_throttle:
                    self._store.write_state(throttle.after_wrong_answer(state, bucket, now=now))
                raise
            self._store.write_state(throttle.after_success(state, source, bucket, now=now))
        except BaseException:
            # The person may be told why, which can take any time.
            self._store.unlock()
            raise
        return accepted

    def _identify(self, answer: Answer, source: Source, now: int) -> str | None:
        """Find out which recovery code was typed, if any; "" for none of them, which is judged under the lock.

        Hashing takes 40 ms, so it is done without the lock, and not at all for those who have to wait: then the result
        is None, and the lock's holder says so, because only he can put right a wait that a wrong clock has left.
        """
        if not answer.recovery_code:
            return ""
        try:
            self._require_open(throttle.set_right(self._store.read_state() or State.new(), now=now), source, now)
        except Throttled:
            return None
        try:
            return self._content.recovery.identify(answer.recovery_code)
        except OTPMismatch:
            return ""

    def _require_open(self, state: State, source: Source, now: int) -> str:
        bucket = throttle.bucket_of(state, source, now=now)
        if not self._config.no_throttle:
            throttle.require_open(state, bucket, now=now)
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
                highest = policy.highest_used_before(token, since=now - lost_since_s, config=self._config)
                if highest >= 0:
                    state = state.with_last(token.fingerprint(), highest)
        return state

    def _accept_otp(self, state: State, typed: str, following: str, now: int) -> tuple[Accepted, State]:
        tokens = self._content.tokens
        try:
            match = policy.match_otp(tokens, self._with_lost(state, now), typed, now=now, config=self._config)
        except (OTPMismatch, OTPReplayed) as error:
            if isinstance(error, OTPReplayed) or not following:
                window = self._config.window
                error.clock_off_s = policy.clock_off_s(tokens, state, typed, now=now, window=window)
                raise
            match = policy.match_two_otps(tokens, state, typed, following)
        if self._store.read_only and policy.must_last(match.token):
            raise NotStored(self._store.location.path, READ_ONLY)
        return Accepted(match.token.name, None), state.with_last(match.token.fingerprint(), match.counter)

    def _accept_recovery_code(self, state: State, name: str) -> tuple[Accepted, State]:
        codes = self._content.recovery
        if name not in codes.names():
            raise OTPMismatch
        if codes.name not in state.spent:
            raise DamagedState(self._store.location.path, "which recovery codes are spent has been lost")
        if name in state.spent[codes.name]:
            raise OTPReplayed("")
        if self._store.read_only:
            raise NotStored(self._store.location.path, READ_ONLY)
        state = state.with_spent(codes.name, name)
        return Accepted("", len(codes.names()) - len(state.spent[codes.name])), state
