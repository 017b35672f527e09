"""Ask for permission to change an enrolment: a valid code, checked as at a login. Root needs none."""

from __future__ import annotations

from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.enroll.code_check import CodeCheck, CodeRefused
from pam_softtoken.enroll.run_context import PROGRAM, Job
from pam_softtoken.errors import FleetDown, NotEnrolled
from pam_softtoken.fleet.editor import WHEN_DOWN
from pam_softtoken.program_errors import EnrolmentFailed
from pam_softtoken.ui import terminal

QUESTION = "Code of one of your tokens, or a recovery code:"
QUESTION_WITH_PIN = "PIN and code of one of your tokens:"
TRIES = 3


class Permission:
    """A right code. It is valid as long as its token or recovery set is still enrolled.

    Args:
        account: the user's name.
        granted_by: fingerprint of the token, or name of the set of recovery codes. Empty for root.
    """

    def __init__(self, account: str, granted_by: str) -> None:
        self._account = account
        self._granted_by = granted_by

    @property
    def is_roots(self) -> bool:
        """Return whether no code was needed."""
        return not self._granted_by

    def require_in(self, present: TokenFile) -> None:
        """Check that the token is still enrolled. A token that was removed, for example as stolen, permits nothing.

        Raises:
            EnrolmentFailed: it was removed.
        """
        known = {"", present.recovery.name, *(token.fingerprint() for token in present.tokens)}
        if self._granted_by not in known:
            raise _gone(self._account)


def _gone(account: str) -> EnrolmentFailed:
    return EnrolmentFailed(
        f"the token of {account} whose code that was has been removed meanwhile; nothing was changed",
        hint="start again, with a code of another token",
    )


def obtain(job: Job, *, without_pin: bool = False) -> Permission:
    """Ask for a code and check it. A right code is used up. A wrong code counts as a wrong answer.

    Args:
        job: the tokens to change. Its store is open, and not locked.
        without_pin: accept a code alone from a user without a PIN, even where everybody must have one.

    Raises:
        EnrolmentFailed: nobody can be asked, or no answer was right.
        NotEnrolled: all tokens have been removed meanwhile.
        PathError: the code could not be checked, or could not be recorded as used.
    """
    if job.is_roots:
        return Permission(job.user, "")
    if job.options.no_confirm:
        raise EnrolmentFailed(
            "that takes a code of an enrolled token, and --no-confirm asks for none",
            hint="leave --no-confirm out; only root needs no code",
        )
    if not terminal.person_is_there():
        raise EnrolmentFailed("there is no terminal to ask for a code on", hint="run it in a terminal")
    settings = job.settings.without("pin_required") if without_pin else job.settings
    account = job.store.location.account
    try:
        code_check = CodeCheck(account, settings, caller_uid=job.caller_uid, explains=not job.through_sudo)
    except CodeRefused as error:
        raise EnrolmentFailed(error.message, hint=error.hint) from None
    except FleetDown as error:
        raise EnrolmentFailed(f"{error}; nothing was changed", hint=WHEN_DOWN) from None
    with code_check:
        granted = Permission(job.user, _ask(job, code_check))
        granted.require_in(_present(job))  # root revokes without the lock
    job.page.tell("Right. That code cannot be used again.")
    return granted


def _ask(job: Job, code_check: CodeCheck) -> str:
    page = job.page
    question = QUESTION if _present(job).pin is None else QUESTION_WITH_PIN
    for _ in range(TRIES):
        typed = page.ask(question)
        try:
            accepted = code_check.judge(typed)
        except CodeRefused as error:
            if not error.may_retry:
                raise EnrolmentFailed(f"{error.message}; nothing was changed", hint=error.hint) from None
            page.tell(f"{error.message[:1].upper()}{error.message[1:]}: {error.hint}.")
        else:
            return accepted.record
    raise EnrolmentFailed("no code was right; nothing was changed", hint=f"{PROGRAM} --check tries one")


def _present(job: Job) -> TokenFile:
    content = job.store.present_tokens()
    if content is None:
        raise NotEnrolled(proven=False)
    return content
