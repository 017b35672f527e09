"""List and remove tokens that sign sudo commands, and start their enrolment. Root keeps them all."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator

from pam_softtoken.account import host_settings, places, safe_open, signers
from pam_softtoken.account.location import Location
from pam_softtoken.account.signer_editor import SignerEditor
from pam_softtoken.enroll import run_context, signing_enrolment, signing_permission
from pam_softtoken.enroll import through_sudo as self_service
from pam_softtoken.enroll.options import Options
from pam_softtoken.enroll.run_context import PROGRAM
from pam_softtoken.enroll.signing_run import Job, Signers, sudo_asks, sudo_in_words
from pam_softtoken.enroll.token_list import local, utc
from pam_softtoken.errors import BadTokenFile, LockTimeout, OtherAccount, PathError
from pam_softtoken.program_errors import EnrolmentFailed
from pam_softtoken.signing import sudo_conf
from pam_softtoken.ui import command_line, consent, table, terminal


def carry_out(
    screen: terminal.Terminal,
    options: Options,
    account: safe_open.Account,
    arguments: list[str],
    *,
    codes: run_context.Job | None,
) -> None:
    """Do what a command line with --sign asks for.

    Args:
        screen: the output.
        options: the command line.
        account: the user that owns the tokens.
        arguments: the command line's words, for the same program as root.
        codes: as in `Job`.

    Raises:
        ProgramError: it was not done.
    """
    if os.geteuid() != 0:
        path = signers.uid_mark(account.uid)
        self_service.go_through_sudo(screen, arguments, user=account.name, path=path)
    job = Job(screen, options, account, arguments, codes)
    if account.uid == 0:
        raise EnrolmentFailed(
            "sudo asks root for no signature", hint=f"{PROGRAM} --sign --user USER enrols a token of another user"
        )
    with _faults_explained(job):
        if options.list:
            _list(job)
        else:
            screen.tell(_remove(job) if options.remove is not None else signing_enrolment.enrol(job))


@contextlib.contextmanager
def _faults_explained(job: Job) -> Iterator[None]:
    """Report what is wrong with the files, and what helps. Users learn nothing about the tokens of others.

    Raises:
        EnrolmentFailed: the block has found something.
    """
    ask = f"ask an administrator for: {job.command}"
    try:
        yield
    except OtherAccount as error:
        if not job.is_roots:
            raise EnrolmentFailed(
                f"the tokens in {signers.uid_mark(job.account.uid)} are not those of {job.user}", hint=f"{ask} --force"
            ) from None
        raise EnrolmentFailed(
            f"{error}; {error.aftermath}", hint=f"if no other account needs them, {job.command} --force replaces them"
        ) from None
    except BadTokenFile as error:
        hint = f"{job.command} --force replaces them"
        if not job.is_roots:
            hint = f"{ask} --force"
        raise EnrolmentFailed(f"{error}; {error.aftermath}", hint=hint) from None
    except PathError as error:
        hint = ask
        if job.is_roots:
            location = Location(places.SIGN_STORE, job.account)
            hint = host_settings.hint_for(error, location, is_root=True)
        elif isinstance(error, LockTimeout):
            hint = "another process is using them; start again"
        raise EnrolmentFailed(f"{error}; {error.aftermath}", hint=hint) from None


def _list(job: Job) -> None:
    """Show the tokens, for a person or for a program. No key is shown."""
    found = SignerEditor(job.account).look() or ()
    if job.options.json:
        tokens = [
            {"name": token.name, "type": token.kind, "suite": token.suite.text, "created": utc(token.created)}
            for token in found
        ]
        store, asks = signers.uid_mark(job.account.uid), sudo_asks()
        job.screen.show(json.dumps({"user": job.user, "store": store, "tokens": tokens, "sudo_asks": asks}))
        return
    if not found:
        raise _has_none(job)
    rows = [(job.screen.spell(token.name), token.kind, local(token.created)) for token in found]
    table.show(job.screen, [("name", "type", "created"), *rows])
    job.screen.show(f"\n{sudo_in_words()}".rstrip())


def _has_none(job: Job) -> EnrolmentFailed:
    if not signers.is_marked(job.account):
        return EnrolmentFailed(f"{job.user} has no token that signs", hint=f"{PROGRAM} --sign enrols one")
    ask = "" if job.is_roots else "ask an administrator for: "
    return EnrolmentFailed(
        f"{job.user} has no token that signs any more, and sudo still wants signatures", hint=f"{ask}{job.command}"
    )


def _remove(job: Job) -> str:
    """Remove a token. With the last one, sudo asks the user no longer."""
    name = job.options.remove or ""
    present = job.look()
    if not present and not (job.is_roots and signers.is_marked(job.account)):
        raise _has_none(job)
    left = _without(job, present, name)
    signing_permission.obtain(job, present, does=f'takes "{name}" away')
    _ask_whether(job, present, left)
    job.write(left or None, instead_of=present)
    if not left:
        return f"Done. {job.user} has no token that signs."
    names = ", ".join(f'"{token.name}"' for token in left)
    return f'Done. "{name}" is gone; {job.user} signs sudo commands with {names}.'


def _without(job: Job, present: Signers | None, name: str) -> Signers:
    left = tuple(token for token in present or () if token.name != name)
    if present and len(left) == len(present):
        nearest = command_line.did_you_mean(name, (token.name for token in present))
        raise EnrolmentFailed(
            f'{job.user} has no token "{name}" that signs',
            hint=f"{nearest}{PROGRAM} --sign --list shows those that there are",
        )
    return left


def _ask_whether(job: Job, present: Signers | None, left: Signers) -> None:
    """Ask about the last token, and ask root about any."""
    if not left:
        then = "refuses all commands" if _is_required() else "asks for no signature any more"
        job.screen.tell(f"{job.user} then has no token that signs, and sudo {then}.")
    if job.is_roots or not left:
        question = f'Remove "{job.options.remove}" of {job.user}?' if present else f"Take the marks of {job.user} away?"
        consent.require(job.screen, question, given=job.options.no_confirm, option="--no-confirm")


def _is_required() -> bool:
    """Return whether sudo refuses users without a token that signs."""
    try:
        return sudo_conf.is_required()
    except OSError:
        return False
