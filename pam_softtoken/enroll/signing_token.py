"""Enrol, list and remove tokens that sign sudo commands. Root keeps them, whatever `store=` says.

Nothing changes before the last step, even if interrupted. The change is applied to what exists at that moment.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from pam_softtoken.account import host_settings, places, safe_open, signers
from pam_softtoken.account.location import Location
from pam_softtoken.account.signer_editor import SignerEditor
from pam_softtoken.enroll import permission, run_context
from pam_softtoken.enroll import through_sudo as self_service
from pam_softtoken.enroll.options import Options
from pam_softtoken.enroll.run_context import PROGRAM
from pam_softtoken.enroll.token_list import local, utc
from pam_softtoken.errors import BadTokenFile, LockTimeout, NotEnrolled, OtherAccount, PathError, Revoked
from pam_softtoken.otp import ocra, ocra_uri, signing
from pam_softtoken.otp.ocra import OCRAToken, Suite
from pam_softtoken.otp.statement import NONCE_CHARACTERS, Statement
from pam_softtoken.otp.token import Secret
from pam_softtoken.program_errors import EnrolmentFailed, UsageError
from pam_softtoken.ui import command_line, consent, table, terminal

TRIES = 3
READY_QUESTION = "Press Enter when it is in your soft token:"
QUESTION = "Code:"
_ALGORITHM = "SHA256"
_TEST = "this is a test: signing it changes nothing"

Signers = tuple[OCRAToken, ...]


class Job(NamedTuple):
    """One run.

    Args:
        screen: the output.
        options: the command line.
        account: the user that owns the tokens.
        codes: the user's one-time passwords, if root keeps them and the user comes through sudo.
    """

    screen: terminal.Terminal
    options: Options
    account: safe_open.Account
    codes: run_context.Job | None

    @property
    def user(self) -> str:
        """Return the user's name."""
        return self.account.name

    @property
    def is_roots(self) -> bool:
        """Return whether root itself asks, and not a user through sudo."""
        return not self.options.through_sudo

    @property
    def command(self) -> str:
        """Return the command that enrols a token of this user as root."""
        return f"{PROGRAM} --sign --user {self.user}"


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
    job = Job(screen, options, account, codes)
    if account.uid == 0:
        raise EnrolmentFailed(
            "sudo asks root for no signature", hint=f"{PROGRAM} --sign --user USER enrols a token of another user"
        )
    with _faults_explained(job):
        if options.list:
            _list(job)
        else:
            screen.tell(_remove(job) if options.remove is not None else _enrol(job))


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


def _enrol(job: Job) -> str:
    """Show a new key, have a test signed, and write the token."""
    if not terminal.person_is_there():
        raise EnrolmentFailed("there is no terminal to ask for a signature on", hint="run it in a terminal")
    job.screen.require_open()
    token = _new_token(job)
    present = _present(job)
    _applied_to(job, present, token)
    _obtain_permission(job, present, f'adds "{token.name}"')
    _introduce(job, token)
    _confirm(job, token)

    def change(at_last: Signers | None) -> Signers:
        if _fingerprints(at_last) != _fingerprints(present):
            raise _changed_meanwhile(job)
        return _applied_to(job, at_last, token)

    _exchange(job, change)
    return f'Done. {job.user} signs sudo commands with "{token.name}".'


def _new_token(job: Job) -> OCRAToken:
    try:
        signers.name_mark(job.user)
    except ValueError as error:
        raise EnrolmentFailed(f"{error}, so it can have no token that signs", hint="rename the account") from None
    suite = Suite.parse(ocra.SIGNING_SUITE)
    try:
        return OCRAToken(job.options.name, Secret.random(_ALGORITHM), suite=suite, created=int(time.time()))
    except ValueError as error:
        raise UsageError(str(error), hint=f"see {PROGRAM} --help") from None


def _present(job: Job) -> Signers | None:
    """Return the present tokens.

    Raises:
        EnrolmentFailed: the user had some, and all are gone. The password alone gets no new one.
        PathError: they cannot be read.
    """
    try:
        found = SignerEditor(job.account).look()
    except BadTokenFile:
        if not _begins_anew(job):
            raise
        return None
    if not found and not job.is_roots and signers.is_marked(job.account):
        raise EnrolmentFailed(
            f"{job.user} had a token that signs, and has none any more, so only root can make one again",
            hint=f"ask an administrator for: {job.command}",
        )
    return found


def _begins_anew(job: Job) -> bool:
    """Return whether files that cannot be read are thrown away: with --force, but never for a user through sudo."""
    return job.options.force and job.is_roots


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


def _obtain_permission(job: Job, present: Signers | None, does: str) -> None:
    """Get the permission to change tokens that sign. Root needs none."""
    if job.is_roots:
        return
    if present:
        names = ", ".join(f'"{token.name}"' for token in present)
        job.screen.tell(f"{job.user} signs sudo commands with {names}. This {does}.")
        raise EnrolmentFailed("only root can change that", hint=f"ask an administrator for: {job.command}")
    _ask_for_code(job)


def _ask_for_code(job: Job) -> None:
    """Ask users for a code if root keeps their one-time passwords: the password alone must not do.

    Raises:
        EnrolmentFailed: no code was right, or the user's tokens are gone, and only root helps.
        PathError: the code could not be judged.
    """
    if job.codes is None:
        return
    store = job.codes.store
    try:
        try:
            store.open_enrolled()
        except Revoked:
            raise EnrolmentFailed(
                f"all tokens of {job.user} have been revoked, so only root can enrol one that signs",
                hint=f"ask an administrator for: {job.command}",
            ) from None
        except NotEnrolled:
            job.codes.require_never_enrolled()
            return
        permission.obtain(job.codes)
    finally:
        store.close()


def _introduce(job: Job, token: OCRAToken) -> None:
    host = os.uname().nodename
    job.screen.show(f'Enrolling "{token.name}": it signs sudo commands of {job.user} on {host}.')
    job.screen.show('On the device, run "softtoken add" and paste this line. It is secret:\n')
    job.screen.show(ocra_uri.build(token, issuer=host, account=job.user))
    job.screen.show()
    job.screen.ask(READY_QUESTION)


def _confirm(job: Job, token: OCRAToken) -> None:
    """Ask for the signature of a test, so that a token that is in no device cannot lock the user out.

    Raises:
        EnrolmentFailed: no code was right.
    """
    key = token.secret.reveal()
    job.screen.show('\nNow sign a test. On the device, run "softtoken sign" and paste this line:\n')
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
        tty=_tty(),
        run=(PROGRAM, "--sign"),
        kind="test",
        notes=(_TEST,),
        time=int(time.time()),
        nonce=os.urandom(NONCE_CHARACTERS // 2).hex(),
        key=key,
    )


def _tty() -> str:
    try:
        return os.ttyname(0).removeprefix("/dev/")
    except OSError:
        return ""


def _exchange(job: Job, change: Callable[[Signers | None], Signers | None]) -> None:
    """Write a change. A user who stops or slows down this process must not hold up others."""
    if not job.is_roots:
        signal.alarm(self_service.LONGEST_LOCK_S)
    try:
        SignerEditor(job.account).exchange(change, terminal.checkpoint, anew=_begins_anew(job))
    finally:
        signal.alarm(0)


def _fingerprints(present: Signers | None) -> list[str]:
    return [token.fingerprint() for token in present or ()]


def _changed_meanwhile(job: Job) -> EnrolmentFailed:
    return EnrolmentFailed(
        f"somebody else has changed the tokens of {job.user} meanwhile; nothing was changed", hint="start again"
    )


def _list(job: Job) -> None:
    """Show the tokens, for a person or for a program. No key is shown."""
    found = SignerEditor(job.account).look() or ()
    if job.options.json:
        tokens = [
            {"name": token.name, "type": token.kind, "suite": token.suite.text, "created": utc(token.created)}
            for token in found
        ]
        job.screen.show(json.dumps({"user": job.user, "store": signers.uid_mark(job.account.uid), "tokens": tokens}))
        return
    if not found:
        raise _has_none(job)
    rows = [(job.screen.spell(token.name), token.kind, local(token.created)) for token in found]
    table.show(job.screen, [("name", "type", "created"), *rows])


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
    present = _present(job)
    if not present and not (job.is_roots and signers.is_marked(job.account)):
        raise _has_none(job)
    left = _without(job, present, name)
    _obtain_permission(job, present, f'takes "{name}" away')
    _ask_whether(job, present, left)

    def change(at_last: Signers | None) -> Signers | None:
        if _fingerprints(at_last) != _fingerprints(present):
            raise _changed_meanwhile(job)
        return left or None

    _exchange(job, change)
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
        job.screen.tell(f"{job.user} then has no token that signs, and sudo asks for no signature any more.")
    if job.is_roots or not left:
        question = f'Remove "{job.options.remove}" of {job.user}?' if present else f"Take the marks of {job.user} away?"
        consent.require(job.screen, question, given=job.options.no_confirm, option="--no-confirm")
