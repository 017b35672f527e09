"""One login: who asks, what is asked, how it is judged, and what the person is told. Every refusal is raised as an
error. This is the only place that reads the clock for a login. `pamh` is as in `pam_module`. Must not import the
programs, `ui` or `interchange`.
"""

from __future__ import annotations

import time

from pam_softtoken import errors, log, option_table
from pam_softtoken.account import enrolled_mark
from pam_softtoken.login import answer, application, login_note, refusal_time, throttle
from pam_softtoken.login.answer import Question
from pam_softtoken.login.verifier import Accepted, Attempt
from pam_softtoken.otp import hotp

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from pam_softtoken.account import safe_open
    from pam_softtoken.config import Config

COMBINED_PROMPT = "Password & verification code:"


class Login:
    """One call of the module.

    Args:
        pamh: the PAM handle.
        config: the settings.
        record: the log.
        silent: the application wants no messages shown.

    Attributes:
        account: the user; None if the host does not know the user.
    """

    __slots__ = (
        "_attempt",
        "_caller_uid",
        "_config",
        "_obstacle",
        "_place",
        "_record",
        "_silent",
        "_source",
        "account",
        "pamh",
    )

    def __init__(self, pamh: Any, config: Config, record: log.Log, *, silent: bool) -> None:
        self.pamh = pamh
        self._config = config
        self._record = record
        self._silent = silent
        self._caller_uid = application.caller_uid_of(pamh)
        session = application.session_of(pamh)
        peer, host = application.is_peer(pamh), _name_of_host() if config.fleet else ""
        self._source = throttle.source_of(record.rhost, self._caller_uid, session=session, peer=peer, host=host)
        self._place = ""
        # If our question also asks for the password, grace would leave the next module without one.
        if config.grace and (config.try_first_pass or config.use_first_pass or not config.forward_pass):
            from pam_softtoken.login import grace  # noqa: PLC0415 - few hosts use it

            self._place = grace.name_of(record.rhost, pamh.service or "", caller_uid=self._caller_uid, session=session)
        self._attempt: Attempt | None = None
        # Only the log names the obstacle. To the person all attempts look alike.
        self._obstacle: errors.Refused | errors.Unusable = errors.UnknownUser()
        self.account: safe_open.Account | None = None
        try:
            account = self.account = application.account_of(pamh)
            record.user = account.name
        except (errors.Refused, errors.Unusable) as error:
            self._take_obstacle(error)
            if config.fleet:
                self._in_time(self._ask_for_nobody)
            return
        if config.fleet:
            self._in_time(self._open_attempt)
        else:
            self._open_attempt()

    def _in_time(self, work: Callable[[], None]) -> None:
        """Ask the cluster while the person types, unless it must be known before whether to ask them at all."""
        meanwhile = None if _needs_tokens_before_the_prompt(self._config) else getattr(self.pamh, "meanwhile", None)
        if meanwhile is None:
            work()
        else:
            meanwhile(work)

    def _ask_for_nobody(self) -> None:
        """Ask the cluster as for a user. Otherwise a refusal would come sooner for a name that no user has."""
        from pam_softtoken.fleet import opening  # noqa: PLC0415 - most hosts are in no realm

        opening.pretend(self._config)

    def _open_attempt(self) -> None:
        assert self.account is not None  # noqa: S101 - it is known when this is called
        try:
            self._attempt = Attempt(self.account, self._config, now=_now())
        except (errors.Refused, errors.Unusable) as error:
            self._take_obstacle(error)
        else:
            self._record.note(log.DEBUG, "before the answer: tokens and state opened")

    def _take_obstacle(self, error: errors.Refused | errors.Unusable) -> None:
        self._obstacle = error
        self._record.note(log.DEBUG, f"before the answer: {type(error).__name__}")

    @property
    def has_no_home(self) -> bool:
        """Whether the user's home directory, which would hold the tokens, is missing."""
        return isinstance(self._obstacle, errors.NoHome)

    def has_never_enrolled(self) -> bool:
        """Check whether there is proof that the user never enrolled. Only a user whose home is missing pays for more
        than a look at what is known.
        """
        if self._attempt is not None:
            return False
        if isinstance(self._obstacle, errors.NoHome):
            from pam_softtoken.login import first_home  # noqa: PLC0415 - once in the life of an account

            return first_home.never_enrolled(self._obstacle, self.pamh.service or "")
        return isinstance(self._obstacle, errors.NotEnrolled) and self._obstacle.proven

    def days_left(self) -> int:
        """Return for how many more days a user who never enrolled is let in without a code."""
        from pam_softtoken.login import required_from  # noqa: PLC0415 - for a few weeks in the life of a host

        now = _now()
        if now < hotp.RELEASED:
            day = errors.day_of(now)
            self._record.note(log.WARNING, f"this machine's clock says {day}: the day of required_from may have come")
        return required_from.days_left(self._config.required_from, now=now)

    def remind(self, days_left: int) -> None:
        """Show a user who was let in without a code what will be required of them, and when."""
        from pam_softtoken.login import required_from  # noqa: PLC0415 - as above

        if not self._silent:
            text = required_from.reminder(self._config.required_from, days_left)
            application.tell(self.pamh, self.pamh.PAM_TEXT_INFO, text, self._record)

    def carry_out(self) -> None:
        """Ask for a code and judge it, unless a recent one makes that unnecessary. On return the code is durably
        recorded as used.

        Raises:
            Refused, Unusable, ConversationFailed: the login is denied.
        """
        if self._attempt is not None and self._attempt.in_grace(self._place, now=_now()):
            self._record.outcome(log.INFO, "accepted", "grace")
            return
        marked = self.account is not None and _is_marked(self.account)
        attempt, accepted = self._judge_first_pass() or self._judge_answer()
        if self._config.forward_pass:
            attempt.close()  # an application without root can take any time, and other logins of the user need the lock
            self._pass_on(accepted.password)
        self._report(attempt, accepted, marked=marked)

    def _pass_on(self, password: str) -> None:
        try:
            application.set_password(self.pamh, password)
        except errors.ConversationFailed:
            text = "the code was correct and cannot be used again, but the application did not store the password"
            self._record.note(log.NOTICE, text)
            raise

    def close(self) -> None:
        """Close the files after the verdict was sent. Under pam_python this happens at once."""
        if self._attempt is None:
            return
        afterwards = getattr(self.pamh, "afterwards", None)
        if afterwards is None:
            self._attempt.close()
        else:
            afterwards(self._attempt.close)

    def _judge_answer(self) -> tuple[Attempt, Accepted]:
        return self._judge(self._question(self._ask(), combined=self._config.forward_pass))

    def _question(self, typed: str, *, combined: bool, tentative: bool = False) -> Question:
        return Question(
            typed,
            source=self._source,
            combined=combined,
            tentative=tentative,
            grace=self._place,
            silent=self._silent,
        )

    def _ask(self) -> str:
        config, prompt = self._config, self._config.prompt
        if config.forward_pass and prompt == option_table.DEFAULT_PROMPT:
            prompt = COMBINED_PROMPT
        return application.ask(self.pamh, prompt, shown=config.echo)

    def _judge_first_pass(self) -> tuple[Attempt, Accepted] | None:
        """Check the password that an earlier module asked for, if the settings look for the code there.

        Returns:
            None when the person must be asked.
        """
        config = self._config
        if not config.try_first_pass and not config.use_first_pass:
            return None
        password = application.password_of(self.pamh)
        if not config.use_first_pass:
            try:
                answer.read(password)
            except errors.MalformedAnswer:
                return None  # it ends with no code, whichever user it is
        try:
            return self._judge(self._question(password, combined=True, tentative=not config.use_first_pass))
        except (errors.Refused, errors.Unusable) as error:
            if config.use_first_pass:
                raise
            if isinstance(error, errors.OTPMismatch):
                # It counts as a wrong answer. If the application leaves the next question unanswered, no other line
                # is about this guess.
                self._record.note(log.NOTICE, "the password of an earlier module ended with a wrong code")
            else:
                self._record.note(log.DEBUG, f"the password of an earlier module: {type(error).__name__}")
            return None

    def _judge(self, question: Question) -> tuple[Attempt, Accepted]:
        answered_s = time.monotonic()
        try:
            if self._attempt is None:
                answer.pretend(question.typed, combined=question.combined)
                raise self._obstacle
            accepted = self._attempt.verify(question, clock=_now)
        except errors.SoftTokenError as error:
            if isinstance(error, (errors.PathError, errors.NotEnrolled)):
                self._look_for_cure(error)
            if isinstance(error, errors.Throttled) and not question.tentative:
                self._tell_to_wait(error)
            refusal_time.wait_out(answered_s, question.typed, combined=question.combined)
            raise
        return self._attempt, accepted

    def _look_for_cure(self, error: errors.PathError | errors.NotEnrolled) -> None:
        """Store in the error what helps, for the log. This happens before the refusal, so that its duration stays
        hidden.
        """
        if self.account is None or self._config.fleet:
            return
        try:
            from pam_softtoken.account import cure, location  # noqa: PLC0415 - few attempts come here
        except (ImportError, OSError):  # no file can be opened, and the error says so
            return
        cure.add_to(error, location.Location(self._config.store, self.account))

    def _report(self, attempt: Attempt, accepted: Accepted, *, marked: bool) -> None:
        """Write the mark of the first success and the log line. Show how many recovery codes are left after one was
        used.
        """
        record = self._record
        for warning in attempt.warnings():
            record.note(log.WARNING, warning)
        if not marked:
            _mark(attempt.account, record)
        service = self.pamh.service or ""
        if login_note.is_waited_for(service, attempt.account.name):
            _leave_note(self.pamh, service, record)
        left, texts = accepted.recovery_left, []
        if accepted.token:
            record.outcome(log.INFO, "accepted", "accepted", token=accepted.token)
        elif left is None:
            record.outcome(log.INFO, "accepted", "issued")
            texts.append("Code of the administrator accepted; it cannot be used again.")
        else:
            record.outcome(log.INFO, "accepted", "recovery", detail=f"left={left}")
            codes = "1 recovery code" if left == 1 else f"{left} recovery codes"
            texts.append(f"Recovery code accepted; {codes} left.")
        if accepted.missed:
            answers = "1 wrong code was" if accepted.missed == 1 else f"{accepted.missed} wrong codes were"
            texts.append(f"Since the last login {answers} typed elsewhere for {attempt.account.name}.")
        if texts and not self._silent:
            attempt.close()  # showing a text can take any time, and others may need the lock
            for text in texts:
                application.tell(self.pamh, self.pamh.PAM_TEXT_INFO, text, record)

    def _tell_to_wait(self, error: errors.Throttled) -> None:
        """Show how long to wait, but only to a person who already is the user.

        Root is not told. A daemon such as a display manager is root too, and serves people that nobody has identified
        yet.
        """
        attempt = self._attempt
        is_user = attempt is not None and not self._record.rhost and self._caller_uid == attempt.account.uid != 0
        if is_user and not self._silent:
            text = error.advice()
            application.tell(self.pamh, self.pamh.PAM_ERROR_MSG, text, self._record)


def _now() -> int:
    return int(time.time())


def _needs_tokens_before_the_prompt(config: Config) -> bool:
    """Check whether it depends on the tokens if a person is asked at all, or on what an earlier module has asked."""
    may_ask_nobody = bool(config.nullok or config.required_from or config.grace)
    return may_ask_nobody or config.try_first_pass or config.use_first_pass


def _name_of_host() -> str:
    from pam_softtoken.fleet import host  # noqa: PLC0415 - most hosts are in no realm

    return host.name()


def _leave_note(pamh: Any, service: str, record: log.Log) -> None:
    """Write a note that this login may confirm a change. The verdict stands, even if the note cannot be written."""
    try:
        pamh.env[login_note.VARIABLE] = login_note.leave(service)
    except (OSError, pamh.exception) as error:
        record.note(log.WARNING, f"a login cannot confirm the change that waits: {type(error).__name__}")


def _is_marked(account: safe_open.Account) -> bool:
    try:
        return enrolled_mark.is_set_for(account)
    except errors.UnusableFile:
        return False


def _mark(account: safe_open.Account, record: log.Log) -> None:
    try:
        enrolled_mark.set_for(account)
    except errors.UnusableFile as error:  # a full disk must not keep the owner out
        record.note(log.WARNING, f"cannot mark the user as enrolled: {error}")
