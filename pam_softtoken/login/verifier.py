"""One attempt: open the files, and judge an answer under the lock: load, decide, record durably, only then say yes.

Knows nothing of PAM, sockets or clocks.
"""

from __future__ import annotations

import os

from pam_softtoken import errors
from pam_softtoken.account import proc
from pam_softtoken.account.state import State
from pam_softtoken.account.store import Location, Store
from pam_softtoken.errors import (
    DamagedState,
    NotStored,
    OTPMismatch,
    OTPRefused,
    OTPReplayed,
    PINMissing,
    Throttled,
)
from pam_softtoken.login import clock_doubt, lifetime, policy, throttle
from pam_softtoken.login.answer import Claim, claim
from pam_softtoken.login.policy import Finding, Limits
from pam_softtoken.otp.mac import compare_digest, prepare_scrypt

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pam_softtoken.account.safe_open import Account
    from pam_softtoken.config import Config
    from pam_softtoken.login.throttle import Source

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

    Attributes:
        missed: how many wrong answers other sources have given since the last success.
    """

    __slots__ = ("missed", "password", "recovery_left", "token")

    def __init__(self, token: str, recovery_left: int | None, *, password: str) -> None:
        self.missed = 0
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

    __slots__ = ("_config", "_content", "_limits", "_lock_timeout_s", "_store", "account")

    def __init__(self, account: Account, config: Config, *, now: int) -> None:
        self.account = account
        self._config = config
        self._limits = Limits.of(config)
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
        policy.examine(self._content.tokens, state or State.new(), {}, now=now, limits=self._limits, waiting=True)
        if self._content.pin is not None:
            prepare_scrypt()

    def in_grace(self, name: str, *, now: int) -> bool:
        """Check whether a code was accepted from this source, by its name from `grace`, so lately that none is due."""
        if not name:
            return False
        state = self._store.read_state()
        if state is None or not state.graces:
            return False
        name, uptime_s = self._store.grace_name(name), proc.boot().uptime_s
        return lifetime.in_grace(state, name, now=now, uptime_s=uptime_s, grace_s=self._config.grace)

    def verify(
        self,
        typed: str,
        *,
        combined: bool = False,
        tentative: bool = False,
        source: Source,
        clock: Callable[[], int],
        grace: str = "",
        only_otps: bool = False,
        silent: bool = False,
    ) -> Accepted:
        """Judge an answer, and record it as used if it is right. Then the lock is kept until `close`.

        Args:
            typed: what the person typed.
            combined: a password can stand in front of it.
            tentative: it may be a password without a code, and the person can still answer: it must not be what makes
                them wait, nor come between two consecutive OTPs.
            source: where it comes from, from `throttle.source_of`.
            clock: reads the time in Unix seconds. It is read under the lock: somebody can have held us up before that,
                and with a time of before that a wait would seem to be over.
            grace: the source's name from `grace`, to be remembered; empty for none.
            only_otps: compare it with no recovery code and no issued one, so that none is used up.
            silent: nobody will be told how many wrong answers came from elsewhere.

        Returns:
            What was accepted; it is durable by then.

        Raises:
            OTPMismatch, OTPReplayed, CodeExpired, MalformedAnswer: the answer is wrong.
            Throttled: there were too many wrong ones before.
            PINMissing: the PIN has been taken away meanwhile.
            LockTimeout, NotStored, DamagedState, InsecureFile, UnusableFile, BadTokenFile, NotEnrolled: it cannot be
                judged or recorded.
        """
        claimed = self._claim(typed, combined, source, clock())
        self._store.lock(self._lock_timeout_s)
        now = clock()
        try:
            changed = self._store.reread_tokens()
            if changed is not None:
                self._content = changed
                self._require_pin()
                claimed = self._claim(typed, combined, source, now)
            stored = self._store.read_state()
            state = throttle.set_right(stored or State.new(), now=now)
            bucket = throttle.bucket_of(state, source, now=now)
            waiting = self._wait(state, source, bucket, now, tentative=tentative)
            if claimed is None or (waiting is not None and not waiting.pair_helps):
                if state is not stored:
                    self._store.write_state(state)
                raise waiting or Throttled(1)  # opened by a success in between; the answer has not been looked at
            if only_otps:
                claimed.codes, claimed.scratch = {}, {}
            try:
                accepted, state = self._accept(state, claimed, source, now, waiting)
            except _NotAccepted as refusal:
                self._record_refusal(refusal, source, bucket, now, stored=stored, tentative=tentative)
                raise refusal.error from None
            if grace:
                state = state.with_grace(self._store.grace_name(grace), now, proc.boot().uptime_s)
            accepted.missed = throttle.missed_elsewhere(state, source)
            with_pin = self._content.pin is not None
            state = throttle.after_success(state, source, bucket, now=now, with_pin=with_pin, told=not silent)
            self._store.write_state(state)
        except BaseException as error:
            # The person may be told why, which can take any time.
            self._store.unlock()
            if isinstance(error, (OTPRefused, Throttled)) and claimed is not None:
                doubt = clock_doubt.doubt_of(self._content.tokens, state, claimed.otps, now=now, limits=self._limits)
                if doubt is not None and (isinstance(error, OTPRefused) or doubt.kind in (doubt.RECORD, doubt.UNSET)):
                    error.clock = doubt
            raise
        return accepted

    def _require_pin(self) -> None:
        if self._config.pin_required and self._content.pin is None:
            raise PINMissing

    def _claim(self, typed: str, combined: bool, source: Source, now: int) -> Claim | None:
        """Hash what has to be hashed, without the lock.

        Returns:
            None where a PIN is set and the source has to wait: then nothing is compared. The lock's holder says so,
            because only the holder can put right a wait that a wrong clock has left.
        """
        if self._content.pin is not None:
            state = throttle.set_right(self._store.read_state() or State.new(), now=now)
            if self._wait(state, source, throttle.bucket_of(state, source, now=now), now) is not None:
                return None
        return claim(self._content, typed, combined=combined)

    def _wait(
        self, state: State, source: Source, bucket: str, now: int, *, tentative: bool = False
    ) -> Throttled | None:
        """Return how a source is throttled, or None when its answer is judged.

        What may not have been meant as an answer is judged only if another could follow, were it wrong.
        """
        if self._config.no_throttle:
            return None
        with_pin = self._content.pin is not None
        if tentative:
            state = throttle.after_wrong_answer(state, source, bucket, now=now)
        left_s = throttle.left_s(state, bucket, now=now, with_pin=with_pin)
        return Throttled(left_s, pair_helps=not with_pin and not tentative) if left_s > 0 else None

    @property
    def kept_in_memory(self) -> bool:
        """Whether uses are recorded only until the next restart, because nothing can be written."""
        return self._store.read_only

    def close(self) -> None:
        """Close the files."""
        self._store.close()

    def _with_lost(self, state: State, now: int) -> State:
        """Take for used what may have been used before the last restart, where that has left no trace.

        It is not recorded: `now` may come from a clock that is wrong until the network has put it right, and then one
        attempt, right or wrong, would keep the owner out.
        """
        lost_since_s = self._store.lost_since_s()
        if lost_since_s is not None:
            for token in self._content.tokens:
                since = now - lost_since_s
                highest = policy.highest_used_before(token, state, since=since, limits=self._limits)
                if highest >= 0:
                    state = state.with_last(token.fingerprint(), highest)
        return state

    def _accept(
        self, state: State, claimed: Claim, source: Source, now: int, waiting: Throttled | None
    ) -> tuple[Accepted, State]:
        """Accept an answer, or raise `_NotAccepted` with the one finding about it."""
        keys = throttle.note_keys(state, source, _session_is_alive) if state.notes else ()
        finding = policy.examine(
            self._content.tokens,
            self._with_lost(state, now),
            claimed.otps,
            keys=keys,
            now=now,
            limits=self._limits,
            waiting=waiting is not None,
        )
        if finding.kind == policy.ACCEPTED:
            return self._accept_otp(state.without_notes(keys), finding, claimed, now)
        codes = claimed.codes if waiting is not None else {**claimed.codes, **claimed.scratch}
        if codes:
            try:
                return self._accept_code(state, codes, now)
            except OTPMismatch:
                pass
            except OTPRefused as error:
                raise _NotAccepted(state, keys, finding, error) from None
        if waiting is not None:
            raise _NotAccepted(state, keys, finding, waiting)
        if finding.token is not None:  # used, or noted
            raise _NotAccepted(state, keys, finding, OTPReplayed(finding.token.name))
        raise _NotAccepted(state, keys, finding, OTPMismatch(noted=finding.kind == policy.NOTED))

    def _accept_otp(self, state: State, finding: Finding, claimed: Claim, now: int) -> tuple[Accepted, State]:
        token, drift = finding.token, finding.drift
        assert token is not None  # noqa: S101 - an accepted finding has its token
        if self._store.read_only:
            if policy.must_last(token):
                raise NotStored(self._store.location.path, READ_ONLY, kind=errors.READ_ONLY)
            # What a restart forgets must not move the window, or nobody could tell where it has been.
            drift = state.drift.get(token.fingerprint(), 0)
        state = state.with_accepted(token.fingerprint(), finding.counter, drift=drift, now=now)
        if state.issued and not policy.must_last(token):
            state = lifetime.without_issued_code_of_later(state, now=now, boot=proc.boot())
        return Accepted(token.name, None, password=claimed.passwords[token.digits]), state

    def _accept_code(self, state: State, typed: dict[bytes, str], now: int) -> tuple[Accepted, State]:
        """Accept an issued code or a recovery code; both are hashed with the same salt, and so once."""
        codes = self._content.recovery
        issued = bytes.fromhex(state.issued[codes.name][0]) if codes.name in state.issued else b""
        for digest, password in typed.items():
            if compare_digest(digest, issued):
                return self._accept_issued_code(state, password, now)
            try:
                return self._accept_recovery_code(state, codes.identify(digest), password)
            except OTPMismatch:
                pass  # 8 digits can end what has the form of a recovery code
        raise OTPMismatch

    def _accept_issued_code(self, state: State, password: str, now: int) -> tuple[Accepted, State]:
        name = self._content.recovery.name
        if not state.issued[name][-1]:
            raise OTPReplayed("")
        lifetime.require_issued_code_in_time(state, name, now=now, boot=proc.boot())
        if self._store.read_only:
            raise NotStored(self._store.location.path, READ_ONLY, kind=errors.READ_ONLY)
        return Accepted("", None, password=password), state.with_issued_used(name)

    def _accept_recovery_code(self, state: State, name: str, password: str) -> tuple[Accepted, State]:
        codes = self._content.recovery
        if codes.name not in state.spent:
            raise DamagedState(self._store.location.path, "which recovery codes are spent has been lost")
        if name in state.spent[codes.name]:
            raise OTPReplayed("")
        if self._store.read_only:
            raise NotStored(self._store.location.path, READ_ONLY, kind=errors.READ_ONLY)
        state = state.with_spent(codes.name, name)
        left = len(codes.names()) - len(state.spent[codes.name])
        return Accepted("", left, password=password), state

    def _record_refusal(
        self, refusal: _NotAccepted, source: Source, bucket: str, now: int, *, stored: State | None, tentative: bool
    ) -> None:
        """Record what a refused answer changes before it is said to be refused.

        A replay is not a guess: to count it would shut out an owner who types one code in two terminals. An answer
        during a wait is not counted either, or somebody who goes on guessing would make the wait endless.
        """
        state, finding = refusal.state, refusal.finding
        if finding.spent is not None:
            state = state.with_assumed(*finding.spent)
        if finding.notes and (finding.token is not None or not self._store.read_only):
            state = state.without_notes(refusal.keys).with_note(
                source.key, finding.notes, now, held=finding.token is not None
            )
        elif not tentative and finding.kind != policy.USED:
            state = state.without_notes(refusal.keys)
        if isinstance(refusal.error, OTPMismatch) and not self._config.no_throttle:
            state = throttle.after_wrong_answer(state, source, bucket, now=now)
        if state is not stored:
            self._store.write_state(state)


class _NotAccepted(Exception):
    """An answer that is not accepted: the state and the notes that it was examined with, the finding, what to raise."""

    def __init__(self, state: State, keys: tuple[str, ...], finding: Finding, error: OTPRefused | Throttled) -> None:
        super().__init__()
        self.state = state
        self.keys = keys
        self.finding = finding
        self.error = error


def _session_is_alive(session: int) -> bool:
    """Check whether the process that leads a session lives."""
    try:
        return session > 0 and os.getsid(session) == session
    except (OSError, OverflowError):
        return False
