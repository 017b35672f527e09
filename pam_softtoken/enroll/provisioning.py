"""Enrol users from a configuration management system, which repeats the same command with nobody present.

An account that has its token is left alone. So is an account whose token was removed: a revoked key must not come
back with the next run.
"""

from __future__ import annotations

import json

from pam_softtoken.account import token_file
from pam_softtoken.enroll import recovery_hashing
from pam_softtoken.enroll.enrolment import have_one_key
from pam_softtoken.enroll.run_context import PROGRAM, Job
from pam_softtoken.errors import NotEnrolled
from pam_softtoken.otp import recovery_code
from pam_softtoken.otp.token import Token
from pam_softtoken.program_errors import EnrolledOtherwise
from pam_softtoken.ui import terminal


def print_codes(screen: terminal.Terminal, count: int) -> None:
    """Write new recovery codes and their hashes as one JSON object. They belong to no account yet.

    Raises:
        EnrolmentFailed: the result could not be written.
    """
    screen.require_open()
    codes = recovery_code.generate(count)
    result = {"recovery_codes": codes, "recovery_hashes": token_file.recovery_object(recovery_hashing.hashed(codes))}
    screen.show(json.dumps(result))


def is_done(job: Job, token: Token) -> bool:
    """Return whether the account needs no enrolment any more, and show why. Nothing is made, locked or written.

    Args:
        job: the account. `options.key_file` says whether a particular key is wanted.
        token: the token that would be enrolled.

    Raises:
        EnrolledOtherwise: the account has, or had, another token.
        PathError: the files cannot be read, so the answer is unknown.
    """
    store = job.store
    try:
        try:
            present = store.open_enrolled()
        except NotEnrolled as error:
            _require_never_removed(job, token, proven=error.proven)
            return False
        same = next((each for each in present.tokens if _is_same(each, token)), None)
    finally:
        store.close()
    if same is None and job.options.key_file is not None:
        raise EnrolledOtherwise(
            f"{job.user} is enrolled with another token; nothing was changed",
            hint=f"{PROGRAM} --user {job.user} --list shows it; --force in place of --if-absent replaces it",
        )
    which = "already" if same is None else f'with this token already, as "{same.name}"'
    job.page.tell(f"{job.user} is enrolled {which}; nothing was changed.")
    return True


def _is_same(one: Token, other: Token) -> bool:
    """Return whether two tokens show the same codes. Their names may differ."""
    alike = (one.kind, one.algorithm, one.digits) == (other.kind, other.algorithm, other.digits)
    return alike and getattr(one, "period_s", 0) == getattr(other, "period_s", 0) and have_one_key(one, other)


def _require_never_removed(job: Job, token: Token, *, proven: bool) -> None:
    state = job.store.glance_at_state()[0] if job.store.is_open else None
    if proven and (state is None or token.fingerprint() not in state.last):
        return
    raise EnrolledOtherwise(
        f"{job.user} was enrolled before, and the token was taken away; nothing was changed",
        hint="to enrol the account anyway, leave --if-absent out",
    )
