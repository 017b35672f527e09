"""What an enrolment may write after a revocation: decide whether it would count, and record that it does. Older tokens
gain nothing by it. A login does not load this.
"""

from __future__ import annotations

import os

from pam_softtoken.account import revoking
from pam_softtoken.account.revocation import Revocation
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.program_errors import EnrolmentFailed


class Admission:
    """The right to enrol one user.

    Args:
        known: what was revoked for the user, at the moment on which the decision is based.
        name: the user's name.
        is_users: the user decides what is written, even where the process is root's.
    """

    __slots__ = ("_is_users", "_known", "_name")

    def __init__(self, known: Revocation, name: str, *, is_users: bool) -> None:
        self._known = known
        self._name = name
        self._is_users = is_users

    def require_root_to_enrol(self, *, is_first: bool = False) -> None:
        """Check that what is enrolled now would count.

        Args:
            is_first: the user has no token.

        Raises:
            EnrolmentFailed: everything was revoked. Since then only root enrols this user.
        """
        if self._known.closing and (os.geteuid() != 0 or (is_first and self._is_users)):
            raise EnrolmentFailed(
                f"an administrator has revoked all tokens of {self._name}, and only root can enrol a new one",
                hint=f"ask an administrator for: softtoken-enroll --user {self._name}",
            )

    def require_not_dead(self, content: TokenFile) -> None:
        """Check that no key was revoked.

        Raises:
            EnrolmentFailed: one was.
        """
        for token in content.tokens:
            if token.fingerprint() in self._known.dead:
                raise EnrolmentFailed(
                    f'the key of token "{token.name}" has been revoked, and a revoked key never works again',
                    hint="enrol a token with a new key, which softtoken-enroll makes unless it is given one",
                )

    def admit(self, content: TokenFile, present: TokenFile | None) -> None:
        """Write that root's new enrolment counts, if everything was revoked before.

        It counts after the revocations that were known when `present` was read: root decided on that basis. Do not look
        here for a newer revocation, because it revokes this enrolment too.

        Args:
            content: what is enrolled now.
            present: what was enrolled before.

        Raises:
            EnrolmentFailed: it could not count.
            NotStored: nothing has changed.
        """
        self.require_not_dead(content)
        if not self._known.closing:
            return
        before = {token.fingerprint() for token in present.tokens} if present is not None else set()
        fresh = [token.fingerprint() for token in content.tokens if token.fingerprint() not in before]
        is_new_set = present is None or present.recovery.name != content.recovery.name
        if fresh or is_new_set:
            self.require_root_to_enrol(is_first=present is None)
            revoking.admit(self._known, tokens=fresh, recovery_set=content.recovery.name if is_new_set else "")
