"""What one run of `softtoken-enroll --sign` works with, and how it reads and writes the tokens."""

from __future__ import annotations

import os
import signal
from typing import NamedTuple

from pam_softtoken.account import revocation, safe_open, signers
from pam_softtoken.account.signer_editor import SignerEditor
from pam_softtoken.enroll import run_context
from pam_softtoken.enroll import through_sudo as self_service
from pam_softtoken.enroll.options import Options
from pam_softtoken.enroll.run_context import PROGRAM
from pam_softtoken.errors import BadTokenFile, PathError
from pam_softtoken.otp.ocra import OCRAToken
from pam_softtoken.program_errors import EnrolmentFailed
from pam_softtoken.signing import sudo_conf
from pam_softtoken.ui import terminal

Signers = tuple[OCRAToken, ...]


class Job(NamedTuple):
    """One run.

    Args:
        screen: the output.
        options: the command line.
        account: the user that owns the tokens.
        arguments: the command line's words.
        codes: the user's one-time passwords, if root keeps them and the user comes through sudo.
    """

    screen: terminal.Terminal
    options: Options
    account: safe_open.Account
    arguments: list[str]
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
    def tty(self) -> str:
        """Return the name of the terminal; empty if there is none."""
        try:
            return os.ttyname(0)
        except OSError:
            return ""

    @property
    def command(self) -> str:
        """Return the command that enrols a token of this user as root."""
        return f"{PROGRAM} --sign --user {self.user}"

    @property
    def begins_anew(self) -> bool:
        """Return whether unreadable files are thrown away: with --force, and only for root itself."""
        return self.options.force and self.is_roots

    def look(self) -> Signers | None:
        """Return the present tokens; None if there is no token file.

        Raises:
            EnrolmentFailed: the user had some, and all are gone. The password alone gets no new one.
            PathError: they cannot be read.
        """
        try:
            found = SignerEditor(self.account).look()
        except BadTokenFile:
            if not self.begins_anew:
                raise
            return None
        if not found:
            self._require_never_enrolled()
        return found

    def _require_never_enrolled(self) -> None:
        if self.is_roots:
            return
        if signers.is_marked(self.account):
            raise EnrolmentFailed(
                f"{self.user} had a token that signs, and has none any more, so only root can make one again",
                hint=f"ask an administrator for: {self.command}",
            )
        self._require_not_revoked()

    def _require_not_revoked(self) -> None:
        if revocation.read_for(self.account).closing:
            raise EnrolmentFailed(
                f"all tokens of {self.user} have been revoked, so only root can enrol one that signs",
                hint=f"ask an administrator for: {self.command}",
            )

    def write(self, after: Signers | None, *, instead_of: Signers | None) -> None:
        """Write new tokens, unless somebody else has changed the present ones.

        Args:
            after: the new tokens. None takes the marks away, too.
            instead_of: what `look` returned when the user decided.

        Raises:
            EnrolmentFailed: they were changed.
            PathError: they cannot be written.
        """

        def change(at_last: Signers | None) -> Signers | None:
            if _fingerprints(at_last) != _fingerprints(instead_of):
                raise EnrolmentFailed(
                    f"somebody else has changed the tokens of {self.user} meanwhile; nothing was changed",
                    hint="start again",
                )
            if not at_last:
                self._require_never_enrolled()
            return after

        if not self.is_roots:
            # A user who stops or slows down this process must not hold up others.
            signal.alarm(self_service.LONGEST_LOCK_S)
        try:
            SignerEditor(self.account).exchange(change, terminal.checkpoint, anew=self.begins_anew)
        finally:
            if not self.is_roots:
                signal.alarm(0)
        if not instead_of and not self.is_roots:
            self._take_back_if_revoked()

    def _take_back_if_revoked(self) -> None:
        """Look for a revocation once more. Root's command revokes first, and then looks for tokens that sign. So either
        it sees the new token, or this sees the revocation.
        """
        try:
            self._require_not_revoked()
        except (EnrolmentFailed, PathError):
            SignerEditor(self.account).exchange(lambda present: (), lambda: None)
            raise


def _fingerprints(present: Signers | None) -> list[str] | None:
    return None if present is None else [token.fingerprint() for token in present]


def sudo_asks() -> bool | None:
    """Return whether sudo asks for signatures on this host. None if that is not known."""
    try:
        return sudo_conf.is_on()
    except OSError:
        return None


def sudo_in_words() -> str:
    """Return what `sudo_asks` means, with the command that helps; empty if that is not known."""
    asks = sudo_asks()
    if asks is None:
        return ""
    if asks:
        return "sudo on this host asks for signatures."
    return "sudo on this host does not ask for signatures yet; root turns that on: softtoken-admin enable sudo --sign"
