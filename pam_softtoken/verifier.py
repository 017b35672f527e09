"""One attempt: open the files, and judge an answer under the lock: load, decide, record durably, only then say yes.

Knows nothing of PAM, sockets or clocks.
"""

from __future__ import annotations

from pam_softtoken import policy
from pam_softtoken.errors import OTPMismatch, OTPReplayed
from pam_softtoken.state import State
from pam_softtoken.store import Location, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.config import Config
    from pam_softtoken.files import Account
    from pam_softtoken.policy import Answer
    from pam_softtoken.tokenfile import TokenFile

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
    """One login attempt of one user.

    Args:
        account: the user.
        config: the settings.

    Raises:
        ConfigError: the store has no place for this user.
    """

    __slots__ = ("_config", "_content", "_lock_timeout_s", "_store", "needs_two_otps")

    def __init__(self, account: Account, config: Config) -> None:
        self.needs_two_otps = False
        self._config = config
        self._store = Store(Location(config.store, account))
        self._content: TokenFile | None = None
        # Half of what the host grants, so that there is time left to say why.
        self._lock_timeout_s = min(LOCK_TIMEOUT_S, config.timeout / 2)

    def prepare(self, now: int) -> None:
        """Do beforehand what does not need the answer, so that the person does not wait for it afterwards.

        Args:
            now: Unix seconds.

        Raises:
            NotEnrolled, BadTokenFile, DamagedState, InsecureFile, UnusableFile: as their names say.
        """
        self._content = self._store.open()
        state = self._store.read_state()
        self.needs_two_otps = policy.needs_two_otps(self._content.tokens, state)
        # A rehearsal on an answer that nothing matches: what is slow only the first time is slow now.
        try:
            policy.match_otp(self._content.tokens, state or State.new(), "", now=now, config=self._config)
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
        if self._content is None:
            raise ValueError("prepare() comes first")
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
        content = self._require_content()
        stored = self._store.read_state()
        state = stored or State.new()
        for token in content.tokens:
            start = policy.starting_point(token, now=now)
            if start is not None and token.fingerprint() not in state.last:
                state = state.with_last(token.fingerprint(), start)
        if stored is None:
            self._store.start_state(state)
            return state.successor()
        if state is not stored:
            self._store.write_state(state)
        return state

    def _accept_otp(self, state: State, answer: Answer, second: str | None, now: int) -> Accepted:
        tokens = self._require_content().tokens
        try:
            match = policy.match_otp(tokens, state, answer.otp, now=now, config=self._config)
        except OTPMismatch:
            if second is None:
                raise
            match = policy.match_two_otps(tokens, state, answer.otp, policy.read_answer(second).otp)
        self._store.write_state(state.with_last(match.token.fingerprint(), match.counter))
        return Accepted(match.token.name, None)

    def _accept_recovery_code(self, state: State, name: str) -> Accepted:
        names = self._require_content().recovery.names()
        if name not in names:
            raise OTPMismatch
        if name in state.spent:
            raise OTPReplayed("")
        spent = state.with_spent(name)
        self._store.write_state(spent)
        return Accepted("", sum(each not in spent.spent for each in names))

    def _require_content(self) -> TokenFile:
        if self._content is None:
            raise ValueError("prepare() comes first")
        return self._content
