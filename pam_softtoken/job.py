"""What one run of `softtoken-enroll` works with, handed from the command line to whatever does the work."""

from __future__ import annotations

import argparse
from typing import NamedTuple

from pam_softtoken import terminal
from pam_softtoken.config import Config
from pam_softtoken.editor import Editor
from pam_softtoken.errors import EnrolmentFailed
from pam_softtoken.token import DEFAULT_NAME

PROGRAM = "softtoken-enroll"


class Job(NamedTuple):
    """One run.

    Args:
        screen: where results go.
        page: where the person reads; with --json not the same, because stdout is for the one object.
        options: the command line.
        store: the user's files, not opened yet.
        settings: the host's.
    """

    screen: terminal.Terminal
    page: terminal.Terminal
    options: argparse.Namespace
    store: Editor
    settings: Config

    @property
    def user(self) -> str:
        """Name of the user whose tokens these are."""
        return self.store.location.account.name

    @property
    def has_name(self) -> bool:
        """Whether the person has said what to call the token."""
        return bool(self.options.name != DEFAULT_NAME)

    def require_person(self) -> None:
        """Make sure that somebody can be asked, if somebody is to be asked.

        Raises:
            EnrolmentFailed: nobody can.
        """
        if not self.options.no_confirm and not terminal.person_is_there():
            raise EnrolmentFailed(
                "there is no terminal to ask for a code on", hint="run it in a terminal, or add --no-confirm"
            )

    def changed_meanwhile(self) -> EnrolmentFailed:
        """Say that what would be thrown away now is not what was there when the person decided."""
        return EnrolmentFailed(
            f"somebody else has changed the tokens of {self.user} meanwhile; nothing was changed", hint="start again"
        )
