"""Run one enrolment: show the key, confirm it with a code, show the recovery codes, write the files.

The token is the first of an account, an additional one, or a replacement. Existing data does not change before the
last step, even if the enrolment is interrupted.
"""

from __future__ import annotations

import contextlib
import json
from typing import NamedTuple

from pam_softtoken.account import mending
from pam_softtoken.account.editor import Editor
from pam_softtoken.account.state import State
from pam_softtoken.account.token_file import MAX_TOKENS, TokenFile
from pam_softtoken.enroll import permission, recovery_hashing, token_display
from pam_softtoken.enroll.permission import Permission
from pam_softtoken.enroll.run_context import PROGRAM, Job
from pam_softtoken.enroll.sheet import Printout
from pam_softtoken.errors import BadTokenFile, PathError, Refused, UnusableFile
from pam_softtoken.login import enrolment_dialogue, policy
from pam_softtoken.login.enrolment_dialogue import Confirmed
from pam_softtoken.otp import recovery_code
from pam_softtoken.otp.mac import compare_digest
from pam_softtoken.otp.recovery_code import RecoverySet
from pam_softtoken.otp.token import Token
from pam_softtoken.program_errors import EnrolmentFailed
from pam_softtoken.ui import terminal


class Plan(NamedTuple):
    """What an enrolment does to existing data.

    Args:
        adds: there are other tokens. They and the recovery codes stay.
        replaces: what is thrown away, if anything: fingerprint of the token, name of the set of recovery codes.
    """

    adds: bool
    replaces: tuple[str, ...] = ()


class Enrolment:
    """One enrolment, from the first look at existing data until the new files are in place.

    Args:
        job: the target of the enrolment and its options.
        token: the token to enrol.
        printed: the files that the user asked for.
        given: hashes of recovery codes that the user already has. None: new codes are made.
    """

    def __init__(self, job: Job, token: Token, printed: Printout, given: RecoverySet | None = None) -> None:
        self._job = job
        self._screen = job.screen
        self._page = job.page
        self._options = job.options
        self._store = job.store
        self._token = token
        self._printed = printed
        self._given = given
        self._user = job.user
        self._plan = Plan(adds=False)
        self._permission = Permission(self._user, "")
        self._codes: list[str] = []
        self._recovery = given or RecoverySet.unknown(job.options.recovery_codes)

    def carry_out(self) -> str:
        """Run the dialogue and write the result.

        Returns:
            What was done, as text for the user.

        Raises:
            EnrolmentFailed, PathError, KeyboardInterrupt: nothing was changed except what `Editor.withdraw` removes.
        """
        options = self._options
        self._screen.require_open()
        if self._begins_anew and isinstance(self._store, Editor):
            self._clear_the_way(self._store)
        present = self._store.open_for_enrolment(anew=self._begins_anew)
        self._plan = self._plan_for(present)
        self._store.begin_state()
        self._store.require_room(self._applied_to(present))
        if self._plan.adds or (self._plan.replaces and self._job.through_sudo):
            self._ask_for_permission(present)
        if not self._plan.adds and self._given is None:
            self._codes = recovery_code.generate(options.recovery_codes)
        confirmed: Confirmed | None = None
        account = self._store.location.account
        self._printed.fill_pictures(self._token, account)
        if not (options.no_confirm and options.json):
            token_display.introduce(self._page, self._token, account, options.qr)
            self._printed.announce(self._page)
            if not options.no_confirm:
                confirmed = self._confirm()
            token_display.show_recovery_codes(self._page, self._codes, wait=not options.no_confirm)
        kept = self._plan.adds or self._given is not None
        self._printed.fill_sheet(self._token, account, None if kept else self._codes)
        self._recovery = self._given or recovery_hashing.hashed(self._codes)
        self._write(confirmed)
        if self._plan.adds:
            return f'Done. {self._user} has another token, "{self._token.name}"; the recovery codes are as they were.'
        done = f'Done. {self._user} is enrolled with token "{self._token.name}", in {self._store.location.path}.'
        if self._job.settings.pin_required and (present is None or present.pin is None):
            done += f"\nThis host refuses codes without a PIN: {PROGRAM} --pin sets one."
        return done

    def _clear_the_way(self, store: Editor) -> None:
        """Repair, or move away, files that every login refuses. With --force, always throw them away."""
        store.require_may_enrol()
        try:
            try:
                with contextlib.suppress(Refused):
                    store.open_enrolled()
                if store.is_open:
                    store.glance_at_state()
            finally:
                store.close()
        except PathError as error:
            if mending.is_mendable(error, store.location):
                self._put_in_order(store)

    def _put_in_order(self, store: Editor) -> None:
        mender = mending.Mender(store.location)
        try:
            done = mender.mend()
        except (EnrolmentFailed, BadTokenFile, UnusableFile):
            path = mender.set_aside()
            done = f"what was in {store.location.path} is {path} now"
        if not self._options.json:
            self._page.tell(f"Put in order: {done}.")

    @property
    def _begins_anew(self) -> bool:
        """Return whether unreadable files are thrown away: with --force, but never for a user served through sudo."""
        return bool(self._options.force) and not self._job.through_sudo

    def _plan_for(self, present: TokenFile | None) -> Plan:
        """Return what happens to existing data. Without --force, nothing is thrown away."""
        if present is None:
            self._job.require_never_enrolled()
            return Plan(adds=False)
        names = [token.name for token in present.tokens]
        if self._token.name not in names:
            if self._given is not None:
                raise EnrolmentFailed(
                    f"{self._user} has recovery codes already, and they stay when a token is added",
                    hint="leave --recovery-hashes out",
                )
            return Plan(adds=True)
        if not self._options.force:
            other = next(name for name in _other_names() if name not in names)
            raise EnrolmentFailed(
                f'{self._user} is already enrolled with token "{self._token.name}"',
                hint=f"{PROGRAM} --name {other} adds another one; --force replaces it and the recovery codes",
            )
        old = present.tokens[names.index(self._token.name)]
        return Plan(adds=False, replaces=(old.fingerprint(), present.recovery.name))

    def _applied_to(self, present: TokenFile | None) -> TokenFile:
        """Return the new content of the token file."""
        token = self._token
        if present is None:
            return TokenFile((token,), self._recovery)
        others = [each for each in present.tokens if each.name != token.name]
        if len(others) == MAX_TOKENS:
            raise EnrolmentFailed(
                f"{self._user} has {MAX_TOKENS} tokens, and there can be no more",
                hint=f"{PROGRAM} --remove NAME takes one away, --list shows them",
            )
        for other in others:
            if have_one_key(token, other):
                raise EnrolmentFailed(
                    f'token "{other.name}" of {self._user} has the same key',
                    hint="each token needs a key of its own; without --key-file a new one is made",
                )
        if len(others) == len(present.tokens):
            return TokenFile((*others, token), present.recovery, present.pin)
        tokens = tuple(token if each.name == token.name else each for each in present.tokens)
        return TokenFile(tokens, self._recovery, present.pin)

    def _ask_for_permission(self, present: TokenFile | None) -> None:
        names = ", ".join(f'"{token.name}"' for token in present.tokens) if present is not None else ""
        if not self._options.no_confirm:
            does = f'This {"adds" if self._plan.adds else "replaces"} "{self._token.name}"'
            also = "" if self._plan.adds else " and the recovery codes"
            self._page.tell(f"{self._user} is enrolled with {names}. {does}{also}.")
        self._permission = permission.obtain(self._job)

    def _confirm(self) -> Confirmed:
        question = self._job.addressed(enrolment_dialogue.QUESTION, enrolment_dialogue.QUESTION_ABOUT_OTHERS)
        return enrolment_dialogue.confirm(
            self._token,
            limits=policy.Limits.of(self._job.settings),
            state=lambda: self._store.read_state() or State.new(),
            ask=lambda: self._page.ask(question),
            tell=self._page.tell,
        )

    def _write(self, confirmed: Confirmed | None) -> None:
        """Write the plan's result, based on what exists at this moment."""

        def change(present: TokenFile | None, state: State) -> tuple[TokenFile, State]:
            try:
                plan, content = self._plan_for(present), self._applied_to(present)
            except EnrolmentFailed:  # nothing was in the way when it began
                raise self._job.changed_meanwhile(has_shown=True) from None
            if plan != self._plan:
                raise self._job.changed_meanwhile(has_shown=True)
            if present is not None:
                self._permission.require_in(present)
            new_set = "" if plan.adds else content.recovery.name
            return content, enrolment_dialogue.recorded_in(state, self._token, confirmed, new_set=new_set)

        def last_word() -> None:
            terminal.checkpoint()
            if self._options.json:
                record = token_display.as_json(self._token, self._store.location.account, self._codes)
                self._screen.show(json.dumps(record))

        self._store.exchange(change, last_word, anew=self._begins_anew)


def _other_names() -> list[str]:
    return ["spare", *(f"spare{number}" for number in range(2, MAX_TOKENS + 2))]


def have_one_key(one: Token, other: Token) -> bool:
    """Return whether two tokens share a key. A code of one would then also be valid for the other, and usable twice.

    HMAC pads short keys with zeros and hashes long ones (RFC 2104, section 2), so other bytes can be the same key.
    """
    if compare_digest(one.secret.reveal(), other.secret.reveal()):
        return True
    return all(one.otp_at(counter)[-6:] == other.otp_at(counter)[-6:] for counter in range(4))
