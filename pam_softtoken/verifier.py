"""One attempt: open the files, and judge an answer under the lock: load, decide, record durably, only then say yes.

Knows nothing of PAM, sockets or clocks.
"""

from __future__ import annotations

from pam_softtoken import policy
from pam_softtoken.errors import DamagedState, OTPMismatch, OTPReplayed
from pam_softtoken.state import State
from pam_softtoken.store import Location, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.config import Config
    from pam_softtoken.files import Account
    from pam_softtoken.policy import Answer

LOCK_TIMEOUT_S = 5.0


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

    __slots__ = ("_config", "_content", "_lock_timeout_s", "_store", "needs_two_otps")

    def __init__(self, account: Account, config: Config, *, now: int) -> None:
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

    def verify(self, first: str, second: str | None, *, now: int) -> Accepted:
        """Judge an answer, and record it as used if it is right.

        Args:
            first: what the person typed.
            second: the answer to a second prompt, when `needs_two_otps`.
            now: Unix seconds, read after the answer came.

        Returns:
            What was accepted; it is durable by then.

        Raises:
            OTPMismatch, OTPReplayed, MalformedAnswer: the answer is wrong.
            LockTimeout, NotStored, DamagedState, InsecureFile, UnusableFile, BadTokenFile, NotEnrolled: it cannot be
                judged or recorded.
        """
        answer = policy.read_answer(first)
        # Hashing takes 40 ms, so it is done before the lock is taken.
        spending = self._content.recovery.identify(answer.recovery_code) if answer.recovery_code else ""
        self._store.lock(self._lock_timeout_s)
        try:
            changed = self._store.reread_tokens()
            if changed is not None:
                self._content = changed
            state = self._present_state(now)
            if spending:
                return self._accept_recovery_code(state, spending)
            return self._accept_otp(state, answer, second, now)
        finally:
            self._store.unlock()

    def close(self) -> None:
        """Close the files."""
        self._store.close()

    def _present_state(self, now: int) -> State:
        """Read the state; where a token's counter is not recorded, give it the one to start from, durably."""
        stored = self._store.read_state()
        state = stored or State.new()
        for token in self._content.tokens:
            start = policy.starting_point(token, now=now)
            if start is not None and token.fingerprint() not in state.last:
                state = state.with_last(token.fingerprint(), start)
        if state is not stored:
            self._store.write_state(state)
        return state

    def _accept_otp(self, state: State, answer: Answer, second: str | None, now: int) -> Accepted:
        tokens = self._content.tokens
        try:
            match = policy.match_otp(tokens, state, answer.otp, now=now, config=self._config)
        except OTPMismatch:
            if second is None:
                raise
            match = policy.match_two_otps(tokens, state, answer.otp, policy.read_answer(second).otp)
        self._store.write_state(state.with_last(match.token.fingerprint(), match.counter))
        return Accepted(match.token.name, None)

    def _accept_recovery_code(self, state: State, name: str) -> Accepted:
        names = self._content.recovery.names()
        if name not in names:
            raise OTPMismatch
        known = self._content.recovery.name
        if known not in state.spent:
            raise DamagedState(self._store.location.path, "which recovery codes are spent has been lost")
        if name in state.spent[known]:
            raise OTPReplayed("")
        changed = state.with_spent(known, name)
        self._store.write_state(changed)
        return Accepted("", sum(each not in changed.spent[known] for each in names))
