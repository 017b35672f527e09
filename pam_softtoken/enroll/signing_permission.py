"""Ask for permission to change tokens that sign sudo commands. Root needs none.

A user who comes through sudo and has such a token needs a signature with it, as for any other command. Where sudo has
asked for it, it is not asked for again. The first token needs a code, if root keeps the user's one-time passwords: the
password alone must not do.
"""

from __future__ import annotations

import os
from typing import cast

from pam_softtoken import log, system_log
from pam_softtoken.enroll import permission
from pam_softtoken.enroll import through_sudo as self_service
from pam_softtoken.enroll.run_context import PROGRAM
from pam_softtoken.enroll.signing_run import Job, Signers
from pam_softtoken.errors import ConversationFailed, NotEnrolled, Revoked, Throttled
from pam_softtoken.program_errors import EnrolmentFailed
from pam_softtoken.signing import approval
from pam_softtoken.ui import terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.bridge.approval_wire import Start

TRIES = 3
_SYSTEM_LOG = system_log.SystemLog(PROGRAM)


def obtain(job: Job, present: Signers | None, *, does: str) -> None:
    """Ask for what the change needs.

    Args:
        job: the run.
        present: the user's tokens that sign.
        does: the change, in words for the user.

    Raises:
        EnrolmentFailed: nobody can be asked, or no answer was right.
        PathError: an answer could not be judged.
    """
    if job.is_roots:
        return
    if not present:
        _ask_for_code(job)
    elif not self_service.sudo_has_plugin():
        names = ", ".join(f'"{token.name}"' for token in present)
        job.screen.tell(f"{job.user} signs sudo commands with {names}. This {does}.")
        _ask_for_signature(job)


def _ask_for_signature(job: Job) -> None:
    """Ask for a signature of the very command that brought the user here."""
    if not terminal.person_is_there():
        raise EnrolmentFailed("there is no terminal to ask for a signature on", hint="run it in a terminal")
    # sudo's end of the connection, which the plugin's process watches. Here it stays open.
    host, other_end = os.pipe()
    try:
        for _ in range(TRIES):
            refused = approval.Approval(_Talk(job), cast("Start", _Facts(job)), host=host).decide()
            if refused is None:
                job.screen.tell("Right.")
                return
            if isinstance(refused, (Throttled, ConversationFailed)):
                break
            job.screen.tell("Not signed.")
    finally:
        os.close(host)
        os.close(other_end)
    raise EnrolmentFailed(
        "not signed; nothing was changed",
        hint=f"if the device is lost, ask an administrator for: {job.command} --force",
    )


class _Talk:
    """The way to the person and to the system log.

    Args:
        job: the run.
    """

    def __init__(self, job: Job) -> None:
        self._screen = job.screen

    def converse(self, style: int, text: str) -> str | None:
        """Show a text, and ask if it is a question."""
        if style == approval.ECHO_ON:
            try:
                return self._screen.ask(text.rstrip())
            except EnrolmentFailed:  # the input has ended
                return None
        self._screen.tell(text.rstrip("\n"))
        return ""

    def log(self, level: int, line: str) -> None:
        """Write a line to the system log."""
        _SYSTEM_LOG.write(level, log.head(PROGRAM, "sign") + line)

    def wait(self, seconds: int) -> None:
        """Do nothing: nobody else limits the time."""


class _Facts:
    """The command, as sudo would describe it.

    Args:
        job: the run.
    """

    def __init__(self, job: Job) -> None:
        account = job.account
        self.options: tuple[str, ...] = ()
        self.settings: frozenset[str] = frozenset()
        self.user_info = {
            "user": account.name, "uid": str(account.uid), "gid": str(account.gid), "cwd": "/", "tty": job.tty,
        }  # fmt: skip
        self.command_info = {"command": self_service.INSTALLED, "runas_uid": "0", "runas_gid": "0"}
        self.argv = (PROGRAM, *job.arguments)
        self.env: tuple[str, ...] = ()


def _ask_for_code(job: Job) -> None:
    """Ask for a code of the user's tokens, as far as root keeps them.

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
