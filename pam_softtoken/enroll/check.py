"""`softtoken-enroll --check`: ask for a code, check it, and report the result in plain words."""

from __future__ import annotations

from pam_softtoken.enroll.code_check import CodeCheck, CodeRefused
from pam_softtoken.enroll.run_context import PROGRAM, Job
from pam_softtoken.errors import MalformedAnswer, NotEnrolled, Revoked
from pam_softtoken.login import answer
from pam_softtoken.program_errors import CheckFailed
from pam_softtoken.ui import terminal

QUESTION, FOR_OTHERS = " that the app shows now:", " that the app of {} shows now:"


def check(job: Job) -> str:
    """Ask for a code and check it. A right code is used up. A wrong code counts as a wrong answer.

    Returns:
        The result, as text for the user.

    Raises:
        CheckFailed: the code was refused. The message gives the reason, as far as the user may know it.
        PathError: as for a login.
    """
    try:
        with_pin = job.store.open_enrolled().pin is not None
        job.store.close()
        code_check = CodeCheck(
            job.store.location.account, job.settings, caller_uid=job.caller_uid, explains=not job.through_sudo
        )
    except Revoked:
        raise CheckFailed(
            f"all tokens of {job.user} have been revoked; only root can enrol a new one",
            hint=f"ask an administrator for: {PROGRAM} --user {job.user}",
        ) from None
    except NotEnrolled:
        raise CheckFailed(
            f"{job.user} is not enrolled in {job.store.location.path}", hint=f"{PROGRAM}, without --check"
        ) from None
    except CodeRefused as error:
        raise CheckFailed(error.message, hint=error.hint) from None
    with code_check:
        front = "PIN, and behind it the code" if with_pin else "Code"
        typed = job.page.ask(front + job.addressed(QUESTION, FOR_OTHERS))
        terminal.checkpoint()
        _require_no_recovery_code(typed)
        try:
            code_check.judge(typed, only_otps=True)
        except CodeRefused as error:
            raise CheckFailed(error.message, hint=error.hint) from None
    return "Accepted: the code is right. It cannot be used again; the next login takes the next one."


def _require_no_recovery_code(typed: str) -> None:
    """Raise if the text looks like a recovery code. It is not compared: that would use it up."""
    try:
        readings = answer.read(typed)
    except MalformedAnswer:
        return
    if not any(reading.otp for reading in readings):
        raise CheckFailed(
            "that has the form of a recovery code, and checking one would use it up", hint="type a code of the app"
        )
