"""Change an enrolled account: remove a token, make new recovery codes.

Nothing changes before the last step, even if interrupted. The change is applied to what exists at that moment.
"""

from __future__ import annotations

import json

from pam_softtoken.account import enrolled_mark
from pam_softtoken.account.state import State
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.enroll import permission, recovery_hashing, token_display
from pam_softtoken.enroll.permission import Permission
from pam_softtoken.enroll.run_context import PROGRAM, Job
from pam_softtoken.errors import NotEnrolled
from pam_softtoken.otp import recovery_code
from pam_softtoken.otp.recovery_code import RecoverySet
from pam_softtoken.otp.token import Token
from pam_softtoken.program_errors import EnrolmentFailed
from pam_softtoken.ui import command_line, consent, terminal


class Removal:
    """Removes one token. With --force, this may be the last one, and then the whole enrolment goes.

    The state keeps what it knows about the token, so that no used code becomes valid again when the key returns.

    Args:
        job: `options.remove` has the token's name.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._page = job.page
        self._options = job.options
        self._name = job.options.remove or ""
        self._store = job.store
        self._user = job.user

    def carry_out(self) -> str:
        """Ask, and remove the token.

        Returns:
            What was done, as text for the user.

        Raises:
            EnrolmentFailed, NotConfirmed, NotEnrolled, PathError, KeyboardInterrupt: nothing was changed.
        """
        store = self._store
        at_first = store.open_enrolled()
        doomed, left = self._chosen(at_first)
        store.begin_state()
        granted = self._ask(left)

        def change(present: TokenFile | None, state: State) -> tuple[TokenFile | None, State]:
            nonlocal left
            if present is None:
                raise NotEnrolled(proven=False)
            granted.require_in(present)
            was_last = left is None
            token, left = self._chosen(present)
            if token.fingerprint() != doomed.fingerprint() or (left is None) != was_last:
                raise self._job.changed_meanwhile()
            # End the grace period: a person who held the token must not get in without a code after a recent use.
            return left, state.without_graces()

        store.exchange(change, terminal.checkpoint)
        if left is None:
            return f'Done. "{self._name}" and the recovery codes are gone; {self._user} is not enrolled any more.'
        names = ", ".join(f'"{token.name}"' for token in left.tokens)
        return f'Done. "{self._name}" is gone; {self._user} is enrolled with {names}.'

    def _chosen(self, present: TokenFile) -> tuple[Token, TokenFile | None]:
        """Return the token with that name, and what remains without it."""
        chosen = [token for token in present.tokens if token.name == self._name]
        left = tuple(token for token in present.tokens if token.name != self._name)
        if not chosen:
            nearest = command_line.did_you_mean(self._name, (token.name for token in present.tokens))
            raise EnrolmentFailed(
                f'{self._user} has no token "{self._name}"',
                hint=f"{nearest}{PROGRAM} --list shows those that there are",
            )
        if left:
            return chosen[0], TokenFile(left, present.recovery, present.pin)
        if not self._options.force:
            raise EnrolmentFailed(
                f'"{self._name}" is the only token of {self._user}',
                hint="with --force all goes, recovery codes included, and logins that require a code are then denied",
            )
        return chosen[0], None

    def _ask(self, left: TokenFile | None) -> Permission:
        if left is None:
            self._warn()
        granted = permission.obtain(self._job)
        if granted.is_roots:
            is_agreed = self._options.force or self._options.no_confirm
            question = f'Remove token "{self._name}" of {self._user}?'
            consent.require(self._page, question, given=is_agreed, option="--no-confirm")
        return granted

    def _warn(self) -> None:
        self._page.tell(
            f'"{self._name}" is the only token of {self._user}. Once it is gone, logins that require a code are denied.'
        )
        uid = self._store.location.account.uid
        if enrolled_mark.is_set(uid):
            self._page.tell(
                f"nullok does not change that: {enrolled_mark.path_of(uid)} says that {self._user} was enrolled, "
                "until root takes it away."
            )


class Renewal:
    """Makes new recovery codes that replace the old ones.

    Args:
        job: `options.recovery_codes` says how many.
    """

    def __init__(self, job: Job) -> None:
        self._job = job

    def carry_out(self) -> str:
        """Ask, show the new codes, and write them.

        Returns:
            What was done, as text for the user.

        Raises:
            EnrolmentFailed, NotEnrolled, PathError, KeyboardInterrupt: the old codes are unchanged.
        """
        options, store = self._job.options, self._job.store
        self._job.screen.require_open()
        at_first = store.open_enrolled()
        store.require_may_enrol()
        store.begin_state()
        store.require_room(TokenFile(at_first.tokens, RecoverySet.unknown(options.recovery_codes), at_first.pin))
        granted = permission.obtain(self._job)
        self._job.require_person()
        codes = recovery_code.generate(options.recovery_codes)
        fresh = recovery_hashing.hashed(codes)
        if not (options.no_confirm and options.json):
            token_display.show_recovery_codes(self._job.page, codes, wait=not options.no_confirm)

        def change(present: TokenFile | None, state: State) -> tuple[TokenFile, State]:
            if present is None:
                raise NotEnrolled(proven=False)
            if present.recovery.name != at_first.recovery.name:
                raise self._job.changed_meanwhile(has_shown=True)
            granted.require_in(present)
            return TokenFile(present.tokens, fresh, present.pin), state.with_set(fresh.name)

        def last_word() -> None:
            terminal.checkpoint()
            if options.json:
                self._job.screen.show(json.dumps({"recovery_codes": codes}))

        store.exchange(change, last_word)
        user = self._job.user
        if not codes:
            return f"Done. {user} has no recovery codes any more."
        return f"Done. The old recovery codes of {user} no longer work; the new ones do."
