"""Check a code that was typed into a program, exactly as a login does. Explain a refusal to users who may know.

There is no second way to find out whether a code is right. `verifier` checks it under the lock. It counts a wrong
code, and records a right one as used. The reasons here are the verifier's own.
"""

from __future__ import annotations

import os
import time

from pam_softtoken import log, system_log
from pam_softtoken.account import cure
from pam_softtoken.account.location import Location
from pam_softtoken.account.safe_open import Account
from pam_softtoken.config import Config
from pam_softtoken.errors import (
    ClockDoubt,
    CodeExpired,
    MalformedAnswer,
    OTPMismatch,
    OTPRefused,
    OTPReplayed,
    PINMissing,
    Refused,
    SoftTokenError,
    Throttled,
    Unusable,
    day_of,
    in_words,
)
from pam_softtoken.fleet import host
from pam_softtoken.login import outcome, refusal_time, throttle
from pam_softtoken.login.answer import Question
from pam_softtoken.login.verifier import Accepted, Attempt
from pam_softtoken.otp import hotp
from pam_softtoken.program_errors import ProgramError

IDENTIFIER = "softtoken-enroll"
_SYSTEM_LOG = system_log.SystemLog(IDENTIFIER)


class CodeRefused(ProgramError):
    """A typed code was not accepted.

    Args:
        message, hint: text for the user.
        may_retry: another answer can be checked right away.
    """

    def __init__(self, message: str, *, hint: str, may_retry: bool) -> None:
        super().__init__(message, hint=hint)
        self.may_retry = may_retry


class CodeCheck:
    """Checks the codes that are typed for one account. Use it in a `with` block, whose end releases the lock.

    Args:
        account: the account that the codes belong to.
        config: the host's settings.
        caller_uid: the user that types. Wrong answers count for this local source.
        explains: the user may know why a code was refused: they are root, or the files are their own. Otherwise they
            learn no more than at a login: accepted, refused, or how long to wait.

    Raises:
        CodeRefused: codes do not count without a PIN here, and there is none.
        NotEnrolled, PathError: as for a login.
    """

    def __init__(self, account: Account, config: Config, *, caller_uid: int, explains: bool) -> None:
        self._explains = explains
        self._caller_uid = caller_uid
        here = host.name() if config.fleet else ""
        self._source = throttle.source_of("", caller_uid, session=os.getsid(0), host=here)
        self._user = account.name
        self._location = None if config.fleet else Location(config.store, account)
        self._accepted: Accepted | None = None
        try:
            self._attempt = Attempt(account, config, now=int(time.time()))
        except PINMissing as error:
            self._log(error)
            raise self._explanation(error) from None
        except Refused as error:
            self._log(error)
            raise

    def __enter__(self) -> CodeCheck:
        return self

    def __exit__(self, *_: object) -> None:
        self._attempt.close()
        if self._accepted is not None:  # not earlier: the log may be slow, and the lock is free only now
            self._log(None)

    def judge(self, typed: str, *, only_otps: bool = False) -> Accepted:
        """Check a code. A right code is used up. The lock is then held until the end of the block.

        Args:
            typed: the answer.
            only_otps: do not use up a recovery code or an issued code.

        Raises:
            CodeRefused: the code was not accepted.
            PathError: the code cannot be checked, or cannot be recorded as used.
        """
        answered_s = time.monotonic()
        try:
            question = Question(typed, source=self._source, only_otps=only_otps, silent=True)
            accepted = self._attempt.verify(question, clock=lambda: int(time.time()))
        except (Refused, Unusable) as error:
            self._log(error)
            if not self._explains:
                refusal_time.wait_out(answered_s, typed, combined=False)
            if isinstance(error, (OTPRefused, MalformedAnswer, Throttled, PINMissing)):
                raise self._explanation(error) from None
            raise
        self._accepted = accepted
        return accepted

    def _explanation(self, error: Refused) -> CodeRefused:
        if isinstance(error, Throttled):
            message = f"too many wrong codes; one code alone is accepted again in {in_words(error.retry_after_s)}"
            hint = "two codes in a row are accepted now; or " if error.pair_helps else ""
            hint += "wait, then try again"
            if self._explains and error.clock is not None:
                also, hint = _clock_in_words(error.clock, self._user)
                message += f"; and {also}"
            return CodeRefused(message, hint=hint, may_retry=error.pair_helps)
        if isinstance(error, MalformedAnswer):
            return CodeRefused("that is not a code", hint="a code has 6 to 8 digits", may_retry=True)
        if isinstance(error, PINMissing):
            return CodeRefused(
                f"this host accepts codes only after a PIN, and {self._user} has none",
                hint="softtoken-enroll --pin sets one",
                may_retry=False,
            )
        now = int(time.time())
        if not self._explains and now < hotp.RELEASED:  # true for any answer, and known to every user of this machine
            message, hint = _clock_in_words(ClockDoubt(ClockDoubt.UNSET, now), self._user)
            return CodeRefused(f"the code was refused, and {message}", hint=hint, may_retry=True)
        if not self._explains:
            return CodeRefused("the code was refused", hint="wait for the next code, and try again", may_retry=True)
        message, hint = _reason(error, self._user)
        return CodeRefused(message, hint=hint, may_retry=True)

    def _log(self, error: Exception | None) -> None:
        """Write the log line of a login. Only root's process does this: the system's log can believe no other."""
        if os.geteuid() != 0:
            return
        record = log.Log(lambda level, line: _SYSTEM_LOG.write(level, log.head(IDENTIFIER, "auth") + line))
        record.user = self._user
        record.uid = str(self._caller_uid) if self._caller_uid else ""
        if error is None:
            record.outcome(log.INFO, "accepted", "accepted")
        else:
            if self._location is not None:
                cure.add_to(error, self._location)
            outcome.write(record, error)


def _reason(error: SoftTokenError, user: str) -> tuple[str, str]:
    """Return the reason for a refusal in words, and what to do. The reader has just typed the code and may try again.
    `outcome` has the words for the log.
    """
    if isinstance(error, CodeExpired) and error.begins_in_s:
        return (
            f"this machine's clock was set back: by it, that code is issued in {in_words(error.begins_in_s)}",
            "timedatectl shows it; if it is right, softtoken-admin code-for issues another code",
        )
    if isinstance(error, OTPRefused) and error.clock is not None and not isinstance(error, CodeExpired):
        return _clock_in_words(error.clock, user)
    if isinstance(error, OTPReplayed):
        whose = f'that code of "{error.token}"' if error.token else "that code"
        return f"{whose} has been used, or one after it has", "wait until the app shows the next one"
    if isinstance(error, CodeExpired):
        return "the time of that code is over", "softtoken-admin code-for issues another one"
    if isinstance(error, OTPMismatch) and error.noted:
        return (
            "the code is of a later counter than was expected",
            "try again with the code after it: two in a row bring the token back",
        )
    return (
        "the code is not right now",
        "is it the entry of this host and account in the app? softtoken-enroll --list shows what is enrolled",
    )


def _clock_in_words(doubt: ClockDoubt, user: str) -> tuple[str, str]:
    """Return in words which clock seems wrong, and what to do."""
    reset = f"softtoken-admin reset-state {user}"
    length = in_words(abs(doubt.seconds))
    if doubt.kind == doubt.APP:
        side = "behind" if doubt.seconds > 0 else "ahead of"
        return (
            f"this machine's clock seems {abs(doubt.seconds)} s {side} that of the app",
            "timedatectl shows this machine's time; if it is right, correct the app's, or type the next code, too",
        )
    if doubt.kind == doubt.UNSET:
        return (
            f"this machine's clock says {day_of(doubt.seconds)}, so no code of an app is right",
            "timedatectl set-time sets the clock, as root; recovery codes and tokens that count work until then",
        )
    if doubt.kind == doubt.RECORD:
        return (
            f"the code is right, but one of {length} later was accepted while this machine's clock was ahead",
            f"{reset}, as root, ends that, and says what it gives up; a recovery code gets in until then",
        )
    return (
        f"a code of {length} later was accepted here, or the token was enrolled then: a clock is wrong, or was",
        f"timedatectl shows this machine's time; if it is wrong, set it; if it is right, {reset}, as root, helps",
    )
