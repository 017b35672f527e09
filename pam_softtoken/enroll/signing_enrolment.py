"""Enrol a token that signs sudo commands: show the key, have a test signed, write the token.

Nothing changes before the last step, even if interrupted. The token is added to what exists at that moment.
"""

from __future__ import annotations

import os
import time

from pam_softtoken.account import signers
from pam_softtoken.enroll import signing_permission
from pam_softtoken.enroll.options import token_name
from pam_softtoken.enroll.run_context import PROGRAM
from pam_softtoken.enroll.signing_run import Job, Signers, sudo_in_words
from pam_softtoken.otp import ocra, ocra_uri, signing
from pam_softtoken.otp.ocra import OCRAToken, Suite
from pam_softtoken.otp.statement import NONCE_CHARACTERS, Statement
from pam_softtoken.otp.token import Secret
from pam_softtoken.program_errors import EnrolmentFailed, UsageError
from pam_softtoken.ui import terminal

TRIES = 3
READY_QUESTION = "Press Enter when it is in your soft token:"
QUESTION = "Code:"
_ALGORITHM = "SHA256"
_TEST = "this is a test: signing it changes nothing"


def enrol(job: Job) -> str:
    """Run the dialogue and write the token.

    Returns:
        What was done, as text for the user.

    Raises:
        EnrolmentFailed, PathError, KeyboardInterrupt: nothing was changed.
    """
    if not terminal.person_is_there():
        raise EnrolmentFailed("there is no terminal to ask for a signature on", hint="run it in a terminal")
    job.screen.require_open()
    token = _new_token(job)
    present = job.look()
    after = _applied_to(job, present, token)
    signing_permission.obtain(job, present, does=f'adds "{token.name}"')
    _introduce(job, token)
    _confirm(job, token)
    job.write(after, instead_of=present)
    return f'Done. {job.user} signs sudo commands with "{token.name}".\n{sudo_in_words()}'.rstrip()


def _new_token(job: Job) -> OCRAToken:
    try:
        signers.name_mark(job.user)
    except ValueError as error:
        raise EnrolmentFailed(f"{error}, so it can have no token that signs", hint="rename the account") from None
    suite = Suite.parse(ocra.SIGNING_SUITE)
    try:
        return OCRAToken(token_name(job.options), Secret.random(_ALGORITHM), suite=suite, created=int(time.time()))
    except ValueError as error:
        raise UsageError(str(error), hint=f"see {PROGRAM} --help") from None


def _applied_to(job: Job, present: Signers | None, token: OCRAToken) -> Signers:
    """Return the new content of the token file."""
    others = tuple(each for each in present or () if each.name != token.name)
    if len(others) < len(present or ()) and not job.options.force:
        raise EnrolmentFailed(
            f'{job.user} already signs with "{token.name}"',
            hint=f"{PROGRAM} --sign --name NAME adds another one; --force replaces it",
        )
    if len(others) == signers.MAX_SIGNERS:
        raise EnrolmentFailed(
            f"{job.user} has {signers.MAX_SIGNERS} tokens that sign, and there can be no more",
            hint=f"{PROGRAM} --sign --remove NAME takes one away, --sign --list shows them",
        )
    return (*others, token)


def _introduce(job: Job, token: OCRAToken) -> None:
    host = os.uname().nodename
    job.screen.show(f'Enrolling "{job.screen.spell(token.name)}": it signs sudo commands of {job.user} on {host}.')
    job.screen.show('On your laptop, run "softtoken add" and paste this line. It is secret:\n')
    job.screen.show(ocra_uri.build(token, issuer=host, account=job.user))
    job.screen.show()
    job.screen.ask(READY_QUESTION)


def _confirm(job: Job, token: OCRAToken) -> None:
    """Ask for the signature of a test, so that a token that is in no device cannot lock the user out.

    Raises:
        EnrolmentFailed: no code was right.
    """
    key = token.secret.reveal()
    job.screen.show('\nNow sign a test. On your laptop, run "softtoken sign" and paste this line:\n')
    for left in reversed(range(TRIES)):
        statement = _test(job, signing.key_id(key))
        job.screen.show(signing.make_request(key, statement))
        job.screen.show()
        if signing.is_signed(key, statement, job.screen.ask(QUESTION)):
            job.screen.tell("Right.")
            return
        again = f" {left} left to try. Sign this line:\n" if left else ""
        job.screen.tell(f"That code does not fit.{again}")
    raise EnrolmentFailed(
        "no code was right; nothing was changed", hint="softtoken remove takes the new entry away; then start again"
    )


def _test(job: Job, key: str) -> Statement:
    """Return a statement that runs nothing."""
    return Statement(
        host=os.uname().nodename,
        user=job.user,
        as_user=job.user,
        cwd="/",
        tty=job.tty.removeprefix("/dev/"),
        run=(PROGRAM, "--sign"),
        kind="test",
        notes=(_TEST,),
        time=int(time.time()),
        nonce=os.urandom(NONCE_CHARACTERS // 2).hex(),
        key=key,
    )
