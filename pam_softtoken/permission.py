"""Leave to change what is enrolled: a code that is right now, judged as a login judges it. Root needs none.

There is no second way here to find out whether a code is right: `verifier` says it, and records the code as used.
"""

from __future__ import annotations

import time

from pam_softtoken import terminal, throttle
from pam_softtoken.errors import (
    EnrolmentFailed,
    MalformedAnswer,
    NotEnrolled,
    OTPMismatch,
    OTPReplayed,
    PINMissing,
    Throttled,
)
from pam_softtoken.job import PROGRAM, Job
from pam_softtoken.tokenfile import TokenFile
from pam_softtoken.verifier import Attempt

QUESTION = "Code of one of your tokens:"
QUESTION_WITH_PIN = "PIN and code of one of your tokens:"
TRIES = 3


class Permission:
    """A right code, as long as what it belongs to is still enrolled.

    Args:
        account: the user's name.
        granted_by: fingerprint of the token, or name of the set of recovery codes; empty for root.
    """

    def __init__(self, account: str, granted_by: str) -> None:
        self._account = account
        self._granted_by = granted_by

    @property
    def is_roots(self) -> bool:
        """Whether it needed no code."""
        return not self._granted_by

    def require_in(self, present: TokenFile) -> None:
        """Make sure that a token that was removed meanwhile, for instance because it was stolen, has no say any more.

        Raises:
            EnrolmentFailed: it was.
        """
        known = {"", present.recovery.name, *(token.fingerprint() for token in present.tokens)}
        if self._granted_by not in known:
            raise EnrolmentFailed(
                f"the token of {self._account} whose code that was has been removed meanwhile; nothing was changed",
                hint="start again, with a code of another token",
            )


def obtain(job: Job, *, without_pin: bool = False) -> Permission:
    """Ask for a code and have it judged. It is spent by that, and a wrong one counts as a wrong answer.

    Args:
        job: whose tokens are to be changed; its store is open, and not locked.
        without_pin: take a code alone from somebody who has no PIN, even where everybody has to have one.

    Raises:
        EnrolmentFailed: nobody is to be asked, or no answer was right.
        NotEnrolled: all tokens have been removed meanwhile.
        PathError: the code could not be judged, or not be recorded as used.
    """
    if job.is_roots:
        return Permission(job.user, "")
    if job.options.no_confirm:
        raise EnrolmentFailed(
            "that takes a code of a token that is there, and --no-confirm asks for none",
            hint="leave --no-confirm out; only root needs no code",
        )
    if not terminal.person_is_there():
        raise EnrolmentFailed("there is no terminal to ask for a code on", hint="run it in a terminal")
    settings = job.settings.without("pin_required") if without_pin else job.settings
    try:
        attempt = Attempt(job.store.location.account, settings, now=int(time.time()))
        try:
            granted_by = _ask(job, attempt)
        finally:
            attempt.close()
    except PINMissing:
        raise EnrolmentFailed(
            f"codes count here only behind a PIN, and {job.user} has none", hint=f"{PROGRAM} --pin sets one"
        ) from None
    job.page.tell("Right. That code is now spent.")
    return Permission(job.user, granted_by)


def _ask(job: Job, attempt: Attempt) -> str:
    page = job.page
    question = QUESTION if _present(job).pin is None else QUESTION_WITH_PIN
    for _ in range(TRIES):
        typed = page.ask(question)
        try:
            accepted = attempt.verify(typed, source=throttle.source_of("", job.caller_uid), now=int(time.time()))
        except OTPReplayed:
            page.tell("That code has been used before. Wait for the next one.")
        except OTPMismatch:
            page.tell("That code is not right. If it is what the app shows, type the next one, too.")
        except MalformedAnswer:
            page.tell("That is neither a code of 6 to 8 digits nor a recovery code.")
        except Throttled as error:
            raise EnrolmentFailed(
                f"too many wrong codes; the next one is looked at in {error.retry_after_s} s; nothing was changed",
                hint="wait, then start again",
            ) from None
        else:
            # The lock is still held, so this is what the code was compared with.
            content = _present(job)
            if not accepted.token:
                return content.recovery.name
            return next(token.fingerprint() for token in content.tokens if token.name == accepted.token)
    raise EnrolmentFailed(
        "no code was right; nothing was changed", hint="softtoken-enroll --check says what is wrong with one"
    )


def _present(job: Job) -> TokenFile:
    content = job.store.present_tokens()
    if content is None:
        raise NotEnrolled(proven=False)
    return content
