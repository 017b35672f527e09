"""One attempt: open the files and judge an answer under the lock. The order is: load, decide, record durably, and only
then say yes. Knows nothing of PAM, sockets or clocks.
"""

from __future__ import annotations

import os

from pam_softtoken import errors
from pam_softtoken.account import proc
from pam_softtoken.account.location import Location
from pam_softtoken.account.state import State
from pam_softtoken.account.store import Store
from pam_softtoken.errors import (
    DamagedState,
    NotStored,
    OTPMismatch,
    OTPRefused,
    OTPReplayed,
    Overtaken,
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
    from pam_softtoken.account.token_file import TokenFile
    from pam_softtoken.config import Config
    from pam_softtoken.fleet.store import FleetStore
    from pam_softtoken.login.answer import Question
    from pam_softtoken.login.throttle import Source

LOCK_TIMEOUT_S = 5.0
READ_ONLY = (
    "the file system is read-only, where only TOTP can be accepted: the use of anything else must outlast a restart"
)


class Accepted:
    """A right answer that is recorded as used.

    Args:
        token: name of the token; empty for a recovery code or an issued code.
        record: what the state calls that: the token's fingerprint, or the name of the set of recovery codes.
        recovery_left: the number of recovery codes left after one was used; None after anything else.
        password: the text in front of PIN and code, for the next module.

    Attributes:
        missed: the number of wrong answers from other sources since the last success.
    """

    __slots__ = ("missed", "password", "record", "recovery_left", "token")

    def __init__(self, token: str, recovery_left: int | None, *, record: str, password: str) -> None:
        self.missed = 0
        self.token = token
        self.record = record
        self.recovery_left = recovery_left
        self.password = password

    def __repr__(self) -> str:
        return "Accepted(...)"


class Attempt:
    """One login attempt of one user. It opens the user's files, and does in advance what does not need the answer.

    Args:
        account: the user.
        config: the settings.
        now: Unix seconds.

    Raises:
        ConfigError: the store has no path for this user.
        PINMissing: the user has no PIN, and `config` requires one.
        FleetDown: the tokens are those of a realm, whose cluster does not answer.
        NotEnrolled, BadTokenFile, DamagedState, InsecureFile, UnusableFile: as their names say.
    """

    __slots__ = ("_config", "_content", "_limits", "_lock_timeout_s", "_store", "_warning", "account")

    def __init__(self, account: Account, config: Config, *, now: int) -> None:
        self.account = account
        self._config = config
        self._limits = Limits.of(config)
        # Half of the host's limit, so that time is left to report the cause.
        self._lock_timeout_s = min(LOCK_TIMEOUT_S, config.timeout / 2)
        self._store, self._content, self._warning = _opened(account, config)
        try:
            self._require_pin()
            state = self._store.read_state()
        except BaseException:
            self._store.close()
            raise
        # A rehearsal with an answer that nothing matches. What is slow only the first time is slow now.
        policy.examine(self._content.tokens, state or State.new(), {}, now=now, limits=self._limits, waiting=True)
        if self._content.pin is not None:
            prepare_scrypt()

    def in_grace(self, name: str, *, now: int) -> bool:
        """Check whether a code was accepted from this source so recently that none is due. `grace` made the name."""
        if not name:
            return False
        state = self._store.read_state()
        if state is None or not state.graces:
            return False
        name, uptime_s = self._store.grace_name(name), proc.boot().uptime_s
        return lifetime.in_grace(state, name, now=now, uptime_s=uptime_s, grace_s=self._config.grace)

    def verify(self, question: Question, *, clock: Callable[[], int]) -> Accepted:
        """Check an answer, and record it as used if it is right. The lock is then kept until `close`.

        Args:
            question: the answer.
            clock: returns the time in Unix seconds. It is read under the lock: another process can have delayed us, and
                with an older time a wait would seem to be over.

        Returns:
            What was accepted. It is already durable.

        Raises:
            OTPMismatch, OTPReplayed, CodeExpired, MalformedAnswer: the answer is wrong.
            Throttled: there were too many wrong answers before.
            PINMissing: the PIN was removed during the attempt.
            LockTimeout, NotStored, DamagedState, InsecureFile, UnusableFile, BadTokenFile, NotEnrolled: the answer
                cannot be judged or recorded.
        """
        while True:
            try:
                return self._verify(question, clock)
            except Overtaken:  # by another host. The store ends this when the time is over
                pass

    def _verify(self, question: Question, clock: Callable[[], int]) -> Accepted:
        claimed = self._claim(question, clock())
        self._store.lock(self._lock_timeout_s)
        now = clock()
        try:
            changed = self._store.reread_tokens()
            if changed is not None:
                self._content = changed
                self._require_pin()
                claimed = self._claim(question, now)
            stored = self._store.read_state()
            state = throttle.set_right(stored or State.new(), now=now)
            waiting = self._wait(state, question.source, now, tentative=question.tentative)
            if claimed is None or (waiting is not None and not waiting.pair_helps):
                if state is not stored:
                    self._store.write_state(state)
                raise waiting or Throttled(1)  # a success in between ended the wait, but the answer was not compared
            if question.only_otps:
                claimed.codes, claimed.scratch = {}, {}
            try:
                accepted, state = self._accept(state, claimed, question.source, now, waiting)
            except _NotAccepted as refusal:
                self._record_refusal(refusal, question, now, stored=stored)
                raise refusal.error from None
            self._record_success(accepted, state, question, now)
        except BaseException as error:
            # The person may be told why, and showing a text can take any time.
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

    def _claim(self, question: Question, now: int) -> Claim | None:
        """Compute the hashes that are needed, without the lock.

        Returns:
            None if a PIN is set and the source has to wait. Then nothing is compared. The lock's holder raises the
            refusal, because only the holder can correct a wait that a wrong clock has left.
        """
        if self._content.pin is not None:
            state = throttle.set_right(self._store.read_state() or State.new(), now=now)
            if self._wait(state, question.source, now) is not None:
                return None
        return claim(self._content, question.typed, combined=question.combined)

    def _wait(self, state: State, source: Source, now: int, *, tentative: bool = False) -> Throttled | None:
        """Return the error for a throttled source, or None when its answer is judged.

        A tentative answer is judged only if another could follow a wrong one without a wait.
        """
        if self._config.no_throttle:
            return None
        with_pin = self._content.pin is not None
        bucket = throttle.bucket_of(state, source, now=now)
        if tentative:
            state = throttle.after_wrong_answer(state, source, bucket, now=now)
        left_s = throttle.left_s(state, bucket, now=now, with_pin=with_pin)
        return Throttled(left_s, pair_helps=not with_pin and not tentative) if left_s > 0 else None

    def warnings(self) -> list[str]:
        """Return what an administrator should know about an attempt that went well, for the log."""
        texts = [self._warning] if self._warning else []
        if self._store.read_only:
            texts.append("the file system is read-only; until the next restart /run keeps what was used")
        return [*texts, self._store.warning] if self._store.warning else texts

    def close(self) -> None:
        """Close the files."""
        self._store.close()

    def _with_lost(self, state: State, now: int) -> State:
        """Return a state in which codes count as used that may have been used before the last restart, or before a
        backup was restored, without a trace.

        This is not recorded. `now` may come from a clock that is wrong until the network corrects it. If it were
        recorded, one attempt, right or wrong, would keep the owner out.
        """
        lost_before = self._store.lost_before(now)
        if lost_before is not None:
            for token in self._content.tokens:
                highest = policy.highest_used_before(token, state, since=lost_before, limits=self._limits)
                if highest > policy.last_used(token, state, now=now):
                    state = state.with_last(token.fingerprint(), highest)
        return state

    def _accept(
        self, state: State, claimed: Claim, source: Source, now: int, waiting: Throttled | None
    ) -> tuple[Accepted, State]:
        """Return the acceptance and the new state, or raise `_NotAccepted` with the one finding about the answer."""
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
            # A restart forgets this record. It must not move the window, or the window's former place would be unknown.
            drift = state.drift.get(token.fingerprint(), 0)
        record = token.fingerprint()
        state = state.with_accepted(record, finding.counter, drift=drift, now=now)
        if state.issued and not policy.must_last(token):
            state = lifetime.without_issued_code_of_later(state, now=now, boot=proc.boot())
        return Accepted(token.name, None, record=record, password=claimed.passwords[token.digits]), state

    def _accept_code(self, state: State, typed: dict[bytes, str], now: int) -> tuple[Accepted, State]:
        """Return the acceptance of an issued or a recovery code. Both have the same salt, so one hash serves both."""
        codes = self._content.recovery
        issued = bytes.fromhex(state.issued[codes.name][0]) if codes.name in state.issued else b""
        for digest, password in typed.items():
            if compare_digest(digest, issued):
                return self._accept_issued_code(state, password, now)
            try:
                return self._accept_recovery_code(state, codes.identify(digest), password)
            except OTPMismatch:
                pass  # 8 digits can be the end of a text with the form of a recovery code
        raise OTPMismatch

    def _accept_issued_code(self, state: State, password: str, now: int) -> tuple[Accepted, State]:
        name = self._content.recovery.name
        if not state.issued[name][-1]:
            raise OTPReplayed("")
        lifetime.require_issued_code_in_time(state, name, now=now, boot=proc.boot())
        if self._store.read_only:
            raise NotStored(self._store.location.path, READ_ONLY, kind=errors.READ_ONLY)
        return Accepted("", None, record=name, password=password), state.with_issued_used(name)

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
        return Accepted("", left, record=codes.name, password=password), state

    def _record_success(self, accepted: Accepted, state: State, question: Question, now: int) -> None:
        """Write what an accepted answer changes, and note how many wrong answers came from elsewhere."""
        source = question.source
        if question.grace:
            state = state.with_grace(self._store.grace_name(question.grace), now, proc.boot().uptime_s)
        accepted.missed = throttle.missed_elsewhere(state, source)
        bucket, with_pin = throttle.bucket_of(state, source, now=now), self._content.pin is not None
        state = throttle.after_success(state, source, bucket, now=now, with_pin=with_pin, told=not question.silent)
        self._store.write_state(state)

    def _record_refusal(self, refusal: _NotAccepted, question: Question, now: int, *, stored: State | None) -> None:
        """Write what a refused answer changes, before the refusal is reported.

        A replay is not a guess. Counting it would shut out an owner who types one code in two terminals. An answer
        during a wait is not counted either. Otherwise a guesser who goes on would make the wait endless.
        """
        state, finding, source = refusal.state, refusal.finding, question.source
        if finding.spent is not None:
            state = state.with_assumed(*finding.spent)
        if finding.notes and (finding.token is not None or not self._store.read_only):
            state = state.without_notes(refusal.keys).with_note(
                source.key, finding.notes, now, held=finding.token is not None
            )
        elif not question.tentative and finding.kind != policy.USED:
            state = state.without_notes(refusal.keys)
        if isinstance(refusal.error, OTPMismatch) and not self._config.no_throttle:
            bucket = throttle.bucket_of(state, source, now=now)
            state = throttle.after_wrong_answer(state, source, bucket, now=now)
        if state is not stored:
            self._store.write_state(state)


def _opened(account: Account, config: Config) -> tuple[Store | FleetStore, TokenFile, str]:
    """Open the user's tokens where the settings have them. Return the store, the tokens, and a warning or nothing."""
    if config.fleet:
        from pam_softtoken.fleet import opening  # noqa: PLC0415 - most hosts are in no realm

        return opening.open_for(account, config)
    store = Store(Location(config.store, account))
    try:
        return store, store.open(), ""
    except BaseException:
        store.close()
        raise


class _NotAccepted(Exception):
    """An answer that is not accepted. It has the state and notes of the examination, the finding, and the error to
    raise.
    """

    def __init__(self, state: State, keys: tuple[str, ...], finding: Finding, error: OTPRefused | Throttled) -> None:
        super().__init__()
        self.state = state
        self.keys = keys
        self.finding = finding
        self.error = error


def _session_is_alive(session: int) -> bool:
    """Check whether the process that leads a session is alive."""
    try:
        return session > 0 and os.getsid(session) == session
    except (OSError, OverflowError):
        return False
