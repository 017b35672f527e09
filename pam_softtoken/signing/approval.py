"""One approval: who asks, what is signed, and what the person is told. `login.signature` judges the answer. This is the
only place that reads the clock for it. Everything unexpected is a no.
"""

from __future__ import annotations

import os
import time

from pam_softtoken import errors, log
from pam_softtoken.account import safe_open
from pam_softtoken.login import login_note, outcome
from pam_softtoken.login.signature import SignatureAttempt
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
        self._began_s = 0.0
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
        try:
            attempt = SignatureAttempt(self._account)
        except errors.NotEnrolled:
            raise Unsigned(NO_TOKEN) from None
        try:
            if "noninteractive=true" in self._start.settings:
                raise Unsigned(NOT_INTERACTIVE)
            wait_s = attempt.prepare(now=_now())
            answered: list[tuple[list[tuple[OCRAToken, Statement]], str]] = []
            while True:
                self._tell_of_wait(wait_s)
                questions = self._questions(attempt.tokens)
                answer = self._ask(questions)
                answered.append(([(token, statement) for token, statement, _ in questions], answer))
                name, wait_s = attempt.judge(answered, age_s=_elapsed_s() - self._began_s, clock=_now)
                if name:
                    return name
        except errors.NotEnrolled:
            raise Unsigned(NO_TOKEN) from None
        except errors.OTPMismatch:
            self._talk.converse(ERROR_TEXT, OTHER_CODE)
            raise
        finally:
            attempt.close()

    def _questions(self, tokens: tuple[OCRAToken, ...]) -> list[Question]:
        """Return each token with its statement and its request."""
        now, nonce = _now(), os.urandom(NONCE_CHARACTERS // 2).hex()
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

    def _tell_of_wait(self, wait_s: int) -> None:
        if wait_s > 0:
            left = errors.in_words(wait_s)
            self._talk.converse(ERROR_TEXT, f"Too many wrong codes. Sign two requests, or wait {left}.\n")

    def _tell(self, text: str) -> None:
        self._talk.converse(TEXT, f"{text}\n")


def _now() -> int:
    return int(time.time())


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
