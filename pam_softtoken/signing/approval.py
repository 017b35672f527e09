"""One approval: who asks, what is signed, how the answer is judged, and what the person is told. This is the only place
that reads the clock for it. Everything unexpected is a no.

After too many wrong answers, one signature is not enough until a wait has ended. A program of the user's may have given
them, and could go on for ever. Two signatures in a row cannot be guessed, so they are accepted all the same.
"""

from __future__ import annotations

import os
import time

from pam_softtoken import errors, log
from pam_softtoken.account import safe_open, signers
from pam_softtoken.account.state import State
from pam_softtoken.login import login_note, outcome, throttle
from pam_softtoken.otp import signing
from pam_softtoken.otp.statement import NONCE_CHARACTERS, shown_lines
from pam_softtoken.program_errors import SignedTooLate, StatementTooLong, Unsigned
from pam_softtoken.signing.command import statement_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from pam_softtoken.bridge.approval_wire import Start
    from pam_softtoken.otp.ocra import OCRAToken
    from pam_softtoken.otp.statement import Statement

    Question = tuple[OCRAToken, Statement, str]

    class Talk(Protocol):
        """The way to the person and to the system log."""

        def converse(self, style: int, text: str) -> str | None: ...
        def log(self, level: int, line: str) -> None: ...
        def wait(self, seconds: int) -> None: ...


ECHO_ON, ERROR_TEXT, TEXT = 2, 3, 4
LOCK_TIMEOUT_S = 5.0
LISTENER_PATIENCE_S = 90
"""How long the laptop is waited for. Then half of a request's time is left to paste it."""
SOCKET = "/run/user/{}/softtoken-sign"
"""Where ssh forwards the socket of `softtoken sign --listen` to."""
OTHER_CODE = "That code does not sign this command. Run it again, and sign the new line.\n"
NO_TOKEN, NOT_INTERACTIVE = "there is no token that signs", "sudo may ask nothing"


class Approval:
    """One command that sudo wants to run.

    Args:
        talk: the way to the person and to the log.
        start: what sudo says.
        host: descriptor of sudo's socket.
    """

    def __init__(self, talk: Talk, start: Start, *, host: int) -> None:
        self._talk = talk
        self._start = start
        self._host = host
        user = start.user_info
        uid = int(user["uid"])
        self._account = safe_open.Account(user["user"], uid, int(user["gid"]), home="/")
        self._source = throttle.source_of("", uid)
        self._began_s = 0.0
        self._present: set[str] | None = None  # fingerprints of what was left when the tokens were last changed
        self._record = log.Log(talk.log)
        self._record.user, self._record.uid = user["user"], str(uid)

    def decide(self) -> Exception | None:
        """Ask for a signature and judge it. Write the line for the log.

        Returns:
            None only if the command is signed. Otherwise the cause.
        """
        detail = _command_text(self._start)
        try:
            token = self._ask_and_judge()
        except Unsigned as error:
            self._record.outcome(log.NOTICE, "denied", "signature_required", detail=f"{error}; {detail}")
            return error
        except StatementTooLong as error:
            self._record.outcome(log.NOTICE, "denied", "too_long", detail=detail)
            return error
        except SignedTooLate as error:
            self._record.outcome(log.NOTICE, "denied", "expired", detail=detail)
            return error
        except Exception as error:
            outcome.write(self._record, error, more=detail)
            return error
        self._record.outcome(log.INFO, "accepted", "signed", token=token, detail=detail)
        try:
            login_note.confirm(login_note.SIGNING, self._account.name)
        except OSError as error:
            self._record.note(log.WARNING, f"this cannot confirm the change that waits: {type(error).__name__}")
        return None

    def _ask_and_judge(self) -> str:
        """Return the name of the token that has signed the command.

        Raises:
            Unsigned, SignedTooLate, Refused, Unusable, ConversationFailed, StatementTooLong: it must not run.
        """
        store = signers.SignerStore(self._account)
        try:
            try:
                tokens = store.open_signers()
            except errors.NotEnrolled:
                raise Unsigned(NO_TOKEN) from None
            if not tokens:
                raise Unsigned(NO_TOKEN)
            if "noninteractive=true" in self._start.settings:
                raise Unsigned(NOT_INTERACTIVE)
            state = store.read_state()
            if state is None:  # the first write needs room, and without it wrong answers would not count
                store.lock(LOCK_TIMEOUT_S)
                state = store.read_state() or State.new()
                store.write_state(state)
                store.unlock()
            self._tell_of_wait(_wait_s(state))
            answered: list[tuple[list[Question], str]] = []
            while True:
                questions = self._questions(tuple(filter(self._is_present, tokens)))
                answered.append((questions, self._ask(questions)))
                name = self._judge(store, answered)
                if name is not None:
                    return name
        finally:
            store.close()

    def _questions(self, tokens: tuple[OCRAToken, ...]) -> list[Question]:
        """Return each token with its statement and its request."""
        now, nonce = int(time.time()), os.urandom(NONCE_CHARACTERS // 2).hex()
        self._began_s = _elapsed_s()
        questions = []
        for token in tokens:
            key = token.secret.reveal()
            statement = statement_of(self._start, now=now, nonce=nonce, key=signing.key_id(key))
            questions.append((token, statement, signing.make_request(key, statement)))
        return questions

    def _ask(self, questions: list[Question]) -> str:
        """Return the answer: what the laptop sent, or else what was typed.

        Raises:
            ConversationFailed: there is none.
        """
        path = SOCKET.format(self._account.uid)
        if os.path.lexists(path):
            from pam_softtoken.signing import transport  # noqa: PLC0415 - only with a laptop that listens

            for _, _, request in questions:
                self._tell('Asked "softtoken sign --listen" on your laptop. Answer there.')
                self._talk.wait(LISTENER_PATIENCE_S + 2 * int(transport.CONNECT_S))
                answer = transport.ask(
                    self._account, path, request, patience_s=LISTENER_PATIENCE_S / len(questions), host=self._host
                )
                if answer is not None:
                    return answer
            self._tell("No answer from there.")
        for token, statement, request in questions:
            self._tell(_shown(token, statement, request))
        answer = self._talk.converse(ECHO_ON, "Code: ")
        if answer is None:
            raise errors.ConversationFailed
        return answer

    def _judge(self, store: signers.SignerStore, answered: list[tuple[list[Question], str]]) -> str | None:
        """Judge the answers under the lock. A wrong one is recorded before it is refused.

        Returns:
            The name of the token that has signed; None if a second signature is needed. Nothing is judged then.
        """
        if _elapsed_s() - self._began_s > signing.MAX_AGE_S:
            raise SignedTooLate
        answers = [answer.replace(" ", "") for _, answer in answered]
        if any(len(typed) != signing.DIGITS or typed.strip("0123456789") for typed in answers):
            raise errors.MalformedAnswer
        store.lock(LOCK_TIMEOUT_S)
        now = int(time.time())
        changed = store.reread_signers()
        if changed is not None:  # a token that was removed or revoked meanwhile signs nothing
            self._present = {token.fingerprint() for token in changed}
        living = [[each for each in questions if self._is_present(each[0])] for questions, _ in answered]
        if not all(living):
            raise Unsigned(NO_TOKEN)
        state = throttle.set_right(store.read_state() or State.new(), now=now)
        wait_s = _wait_s(state)
        if wait_s > 0 and len(answered) == 1:
            store.unlock()
            self._tell_of_wait(wait_s)
            return None
        signed = [_signer(questions, typed) for questions, typed in zip(living, answers, strict=True)]
        if any(each is None for each in signed):
            if wait_s > 0:
                raise errors.Throttled(wait_s)
            store.write_state(throttle.after_wrong_answer(state, self._source, throttle.LOCAL, now=now))
            store.unlock()
            self._talk.converse(ERROR_TEXT, OTHER_CODE)
            raise errors.OTPMismatch
        wrong, _ = state.wrong.get(throttle.LOCAL, (0, 0))
        if 0 < wrong < throttle.FREE_ANSWERS:  # typing errors; more of them must not earn a guesser new free answers
            store.write_state(state.without_wrong(throttle.LOCAL))
        return signed[0]

    def _is_present(self, token: OCRAToken) -> bool:
        return self._present is None or token.fingerprint() in self._present

    def _tell_of_wait(self, wait_s: int) -> None:
        if wait_s > 0:
            left = errors.in_words(wait_s)
            self._talk.converse(ERROR_TEXT, f"Too many wrong codes. Sign two requests, or wait {left}.\n")

    def _tell(self, text: str) -> None:
        self._talk.converse(TEXT, f"{text}\n")


def _wait_s(state: State) -> int:
    """Return for how many seconds one signature is not enough. The wait ends after 15 minutes, as with a PIN."""
    now = int(time.time())
    return throttle.left_s(throttle.set_right(state, now=now), throttle.LOCAL, now=now, with_pin=True)


def _signer(questions: list[Question], answer: str) -> str | None:
    """Return the name of the token whose signature an answer is; None if it is of none."""
    for token, statement, _ in questions:
        if signing.is_signed(token.secret.reveal(), statement, answer):
            return token.name
    return None


def _elapsed_s() -> float:
    """Return seconds that pass whatever is done to the clock, also while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _command_text(start: Start) -> str:
    return " ".join((start.command_info["command"], *start.argv[1:]))


def _shown(token: OCRAToken, statement: Statement, request: str) -> str:
    """Return what the server's terminal shows. The laptop shows what counts."""
    values: dict[str, list[str]] = {}
    for name, value in shown_lines(statement):
        values.setdefault(name, []).append(value)
    (run,), (as_user,), (host,), (cwd,) = (values[name] for name in ("run", "as", "host", "in"))
    lines = [
        f'To be signed with "{token.name}":',
        f"  {run}",
        f"  as {as_user} on {host}, in {cwd}",
        *(f"  {name} {value}" for name in ("env", "chroot", "note") for value in values.get(name, ())),
        'Run "softtoken sign" on your laptop and paste this line:',
        request,
    ]
    return "\n".join(lines)
