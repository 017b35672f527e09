"""What one run of `softtoken-enroll` works with, handed from the command line to whatever does the work."""

from __future__ import annotations

import argparse
import os
from typing import NamedTuple

from pam_softtoken.account import enrolled_mark
from pam_softtoken.account.editor import Editor
from pam_softtoken.account.user_path import NamedFiles
from pam_softtoken.config import Config
from pam_softtoken.errors import EnrolmentFailed
from pam_softtoken.otp.token import DEFAULT_NAME
from pam_softtoken.ui import terminal

PROGRAM = "softtoken-enroll"


class Job(NamedTuple):
    """One run.

    Args:
        screen: where results go.
        page: where the person reads; with --json not the same, because stdout is for the one object.
        options: the command line.
        store: the user's files, not opened yet.
        settings: the host's.
        through_sudo: we are root only because root keeps the files, and do what their user has asked for.
    """

    screen: terminal.Terminal
    page: terminal.Terminal
    options: argparse.Namespace
    store: Editor
    settings: Config
    through_sudo: bool = False

    @property
    def user(self) -> str:
        """Name of the user whose tokens these are."""
        return self.store.location.account.name

    @property
    def is_roots(self) -> bool:
        """Whether root himself asks for it, who needs no code."""
        return os.geteuid() == 0 and not self.through_sudo

    @property
    def caller_uid(self) -> int:
        """Whose wrong answers these are."""
        return self.store.location.account.uid if self.through_sudo else os.getuid()

    def addressed(self, own: str, others: str) -> str:
        """Return one of two texts: the one for users themselves, or the one for root who works for somebody else.

        Args:
            own: what users read about their own account.
            others: the same, with `{}` for the name of the account.
        """
        is_own = self.through_sudo or self.store.location.account.uid == os.getuid()
        return own if is_own else others.format(self.user)

    @property
    def named_files(self) -> NamedFiles:
        """Whatever opens the files that the command line names."""
        return NamedFiles(self.store.location.account, through_sudo=self.through_sudo)

    def require_never_enrolled(self) -> None:
        """Check that nobody gets a first token who had one before, when the password is all that he has shown.

        Raises:
            EnrolmentFailed: that takes root.
            UnusableFile: nobody can tell.
        """
        if self.through_sudo and enrolled_mark.was_accepted(self.store.location.account):
            raise EnrolmentFailed(
                f"{self.user} has been enrolled before, so only root can make a first token again",
                hint=f"ask an administrator for: {PROGRAM} --user {self.user}",
            )

    @property
    def has_name(self) -> bool:
        """Whether the person has said what to call the token."""
        return bool(self.options.name != DEFAULT_NAME)

    def require_person(self) -> None:
        """Check that somebody can be asked, if somebody is to be asked.

        Raises:
            EnrolmentFailed: nobody can.
        """
        if not self.options.no_confirm and not terminal.person_is_there():
            raise EnrolmentFailed(
                "there is no terminal to ask for a code on", hint="run it in a terminal, or add --no-confirm"
            )

    def changed_meanwhile(self, *, has_shown: bool = False) -> EnrolmentFailed:
        """Say that what would be thrown away now is not what was there when the person decided.

        Args:
            has_shown: the person has seen a key or codes, and may have put them down.
        """
        return EnrolmentFailed(
            f"somebody else has changed the tokens of {self.user} meanwhile; nothing was changed",
            hint="start again; what was shown here is not stored" if has_shown else "start again",
        )
