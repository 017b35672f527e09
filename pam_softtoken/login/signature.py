"""One signature of one command: open the user's tokens, and judge the answers under the lock. A wrong answer is
recorded before it is refused. Knows nothing of sudo, sockets or clocks.

After too many wrong answers, one signature is not enough until a wait has ended. A program of the user's may have given
them, and could go on for ever. Two signatures in a row cannot be guessed, so they are accepted all the same.
"""

from __future__ import annotations

from pam_softtoken.account import signers
from pam_softtoken.account.state import State
from pam_softtoken.errors import MalformedAnswer, NotEnrolled, OTPMismatch, Throttled
from pam_softtoken.login import throttle
from pam_softtoken.otp import signing
from pam_softtoken.program_errors import SignedTooLate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pam_softtoken.account.safe_open import Account
    from pam_softtoken.otp.ocra import OCRAToken
    from pam_softtoken.otp.statement import Statement

    Question = tuple[OCRAToken, Statement]
    """What one token is to sign."""

LOCK_TIMEOUT_S = 5.0


class SignatureAttempt:
    """One attempt of one user to have a command signed. Close it in the end.

    Args:
        account: the user.

    Raises:
        NotEnrolled: the user has no token that signs.
        BadTokenFile, OtherAccount, InsecureFile, UnusableFile: as their names say.
    """

    __slots__ = ("_source", "_store", "_tokens")

    def __init__(self, account: Account) -> None:
        self._source = throttle.source_of("", account.uid)
        self._store = signers.SignerStore(account)
        try:
            self._tokens = self._store.open_signers()
            if not self._tokens:
                raise NotEnrolled(proven=False)
        except BaseException:
            self._store.close()
            raise

    @property
    def tokens(self) -> tuple[OCRAToken, ...]:
        """Return the tokens that can sign. Those that were revoked meanwhile are missing."""
        return self._tokens

    def prepare(self, *, now: int) -> int:
        """Write the first state, so that wrong answers can be counted on a full disk, too.

        Args:
            now: Unix seconds.

        Returns:
            For how many seconds one signature is not enough.

        Raises:
            NotStored: there is no room.
            LockTimeout, DamagedState, UnusableFile: as their names say.
        """
        state = self._store.read_state()
        if state is None:
            self._store.lock(LOCK_TIMEOUT_S)
            state = self._store.read_state() or State.new()
            self._store.write_state(state)
            self._store.unlock()
        return _wait_s(throttle.set_right(state, now=now), now=now)

    def judge(
        self, answered: Sequence[tuple[Sequence[Question], str]], *, age_s: float, clock: Callable[[], int]
    ) -> tuple[str, int]:
        """Judge the answers to one request, or to two that followed each other.

        Args:
            answered: for each request what its tokens were to sign, and the answer.
            age_s: seconds since the last request was made.
            clock: returns the time in Unix seconds. It is read under the lock.

        Returns:
            The name of the token that has signed. Or "", and for how many seconds one signature is not enough: nothing
            was judged, and a second request is needed.

        Raises:
            SignedTooLate, MalformedAnswer: nothing was judged.
            NotEnrolled: the tokens were revoked meanwhile.
            OTPMismatch: the answer signs something else. It is counted.
            Throttled: the same with two answers during the wait. They are not counted.
            NotStored: it cannot be counted.
            LockTimeout, DamagedState, BadTokenFile, InsecureFile, UnusableFile: as their names say.
        """
        if age_s > signing.MAX_AGE_S:
            raise SignedTooLate
        answers = [answer.replace(" ", "") for _, answer in answered]
        if any(len(typed) != signing.DIGITS or typed.strip("0123456789") for typed in answers):
            raise MalformedAnswer
        self._store.lock(LOCK_TIMEOUT_S)
        try:
            return self._judge_locked([questions for questions, _ in answered], answers, now=clock())
        finally:
            self._store.unlock()

    def close(self) -> None:
        """Close the files."""
        self._store.close()

    def _judge_locked(self, asked: list[Sequence[Question]], answers: list[str], *, now: int) -> tuple[str, int]:
        changed = self._store.reread_signers()
        if changed is not None:
            left = {token.fingerprint() for token in changed}
            self._tokens = tuple(token for token in self._tokens if token.fingerprint() in left)
        living = [[each for each in questions if each[0] in self._tokens] for questions in asked]
        if not all(living):
            raise NotEnrolled(proven=False)
        state = throttle.set_right(self._store.read_state() or State.new(), now=now)
        wait_s = _wait_s(state, now=now)
        if wait_s > 0 and len(asked) == 1:
            return "", wait_s
        signed = [_signer(questions, typed) for questions, typed in zip(living, answers, strict=True)]
        if not all(signed):
            if wait_s > 0:
                raise Throttled(wait_s)
            self._store.write_state(throttle.after_wrong_answer(state, self._source, throttle.LOCAL, now=now))
            raise OTPMismatch
        wrong, _ = state.wrong.get(throttle.LOCAL, (0, 0))
        if 0 < wrong < throttle.FREE_ANSWERS:  # typing errors; more of them must not earn a guesser new free answers
            self._store.write_state(state.without_wrong(throttle.LOCAL))
        return signed[0], 0


def _wait_s(state: State, *, now: int) -> int:
    """Return for how many seconds one signature is not enough. The wait ends after 15 minutes, as with a PIN."""
    return throttle.left_s(state, throttle.LOCAL, now=now, with_pin=True)


def _signer(questions: Sequence[Question], answer: str) -> str:
    """Return the name of the token whose signature an answer is; "" if it is of none."""
    for token, statement in questions:
        if signing.is_signed(token.secret.reveal(), statement, answer):
            return token.name
    return ""
