"""What one run of `softtoken-enroll` works with. The command line makes it and passes it to the operations."""

from __future__ import annotations

import os
from typing import NamedTuple

from pam_softtoken.account.editor import Editor
from pam_softtoken.account.user_path import NamedFiles
from pam_softtoken.config import Config
from pam_softtoken.enroll.options import Options, token_name
from pam_softtoken.fleet.editor import FleetEditor
from pam_softtoken.otp.token import DEFAULT_NAME
from pam_softtoken.program_errors import EnrolmentFailed
from pam_softtoken.ui import terminal

PROGRAM = "softtoken-enroll"


class Job(NamedTuple):
    """One run.

    Args:
        screen: the output for results.
        page: the output for the user to read. With --json it differs from `screen`: stdout is for the one object.
        options: the command line.
        store: the user's files, or what a realm has of them, not opened yet.
        settings: the host's settings.
        through_sudo: the process is root only because root keeps the files. It does what their user asked for.
    """

    screen: terminal.Terminal
    page: terminal.Terminal
    options: Options
    store: Editor | FleetEditor
    settings: Config
    through_sudo: bool = False

    @property
    def user(self) -> str:
        """Return the name of the user that owns these tokens."""
        return self.store.location.account.name

    @property
    def is_roots(self) -> bool:
        """Return whether root itself asks. Root needs no code."""
        return os.geteuid() == 0 and not self.through_sudo

    @property
    def caller_uid(self) -> int:
        """Return the user id that wrong answers count for."""
        return self.store.location.account.uid if self.through_sudo else os.getuid()

    def addressed(self, own: str, others: str) -> str:
        """Return one of two texts: one for users themselves, the other for root acting for somebody else.

        Args:
            own: the text for users about their own account.
            others: the text for root, with `{}` for the name of the account.
        """
        is_own = self.through_sudo or self.store.location.account.uid == os.getuid()
        return own if is_own else others.format(self.user)

    @property
    def named_files(self) -> NamedFiles:
        """Return the opener for files that the command line names."""
        return NamedFiles(self.store.location.account, through_sudo=self.through_sudo)

    def require_never_enrolled(self) -> None:
        """Check that a first token is not given to a user that had one before and has shown only the password.

        Raises:
            EnrolmentFailed: only root may do that.
            UnusableFile: it cannot be determined.
        """
        if self.through_sudo and self.options.here:
            raise EnrolmentFailed(
                "only root makes a first token that counts while the nodes of the realm do not answer",
                hint=f"ask an administrator for: {PROGRAM} --here --user {self.user}",
            )
        if self.through_sudo and self.store.was_enrolled():
            raise EnrolmentFailed(
                f"{self.user} has been enrolled before, so only root can make a first token again",
                hint=f"ask an administrator for: {PROGRAM} --user {self.user}",
            )

    @property
    def has_name(self) -> bool:
        """Return whether the user has named the token."""
        return token_name(self.options) != DEFAULT_NAME

    def require_person(self) -> None:
        """Check that somebody can be asked, if a question is needed.

        Raises:
            EnrolmentFailed: nobody can be asked.
        """
        if not self.options.no_confirm and not terminal.person_is_there():
            raise EnrolmentFailed(
                "there is no terminal to ask for a code on", hint="run it in a terminal, or add --no-confirm"
            )

    def changed_meanwhile(self, *, has_shown: bool = False) -> EnrolmentFailed:
        """Return the error that the data to be replaced has changed since the user decided.

        Args:
            has_shown: the user has seen a key or codes, and may have noted them.
        """
        return EnrolmentFailed(
            f"somebody else has changed the tokens of {self.user} meanwhile; nothing was changed",
            hint="start again; what was shown here is not stored" if has_shown else "start again",
        )
