"""Import another program's tokens into an account. Codes that were used stay used.

`importer` reads the bytes. This module decides what happens to the tokens. Nothing changes before the last step.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable

from pam_softtoken.account import user_lookup
from pam_softtoken.account.location import Location
from pam_softtoken.account.state import NEVER, State
from pam_softtoken.account.token_file import MAX_TOKENS, TokenFile
from pam_softtoken.account.user_path import NamedFiles, reason
from pam_softtoken.enroll import permission, recovery_hashing, token_display
from pam_softtoken.enroll.enrolment import have_one_key
from pam_softtoken.enroll.options import token_name
from pam_softtoken.enroll.permission import Permission
from pam_softtoken.enroll.run_context import PROGRAM, Job
from pam_softtoken.errors import NotEnrolled, PathError
from pam_softtoken.fleet.store import Place
from pam_softtoken.interchange import reader
from pam_softtoken.interchange.record import Harvest, Imported, LeftOut, used_as_in
from pam_softtoken.login import policy
from pam_softtoken.otp import recovery_code
from pam_softtoken.otp.pin import PIN
from pam_softtoken.otp.recovery_code import RecoverySet
from pam_softtoken.otp.token import Token, TOTPToken, require_name
from pam_softtoken.program_errors import EnrolmentFailed, UsageError
from pam_softtoken.ui import terminal

MAX_PASSPHRASE_BYTES = 1024


def read(path: str, passphrase_file: str | None, named_files: NamedFiles, *, only_text: bool = False) -> Harvest:
    """Read a file of another program, with the entries that cannot be used.

    Args:
        path: the file, or - for stdin.
        passphrase_file: the file with the passphrase, if the export is encrypted.
        named_files: opens both files.
        only_text: refuse formats that need a library. Root may be reading a file that somebody else made, and a flaw
            in the library would then be root's.

    Raises:
        EnrolmentFailed: the file cannot be read.
        ImportFailed: the content cannot be understood.
    """
    data = _read(path, reader.MAX_BYTES + 1, named_files)
    if only_text and not reader.is_text_of_ours(data):
        raise EnrolmentFailed(
            "root does not take over pictures or PSKC files for users",
            hint="take over the Key URI (otpauth://) instead",
        )
    passphrase = None
    if passphrase_file is not None:
        passphrase = _read(passphrase_file, MAX_PASSPHRASE_BYTES, named_files).decode("utf-8", "surrogateescape")
        passphrase = passphrase.rstrip("\r\n")
    return reader.read(
        data,
        path=name_of(path),
        now=int(time.time()),
        passphrase=passphrase,
        skipping=True,
        is_login=user_lookup.is_login,
    )


def name_of(path: str) -> str:
    """Return what messages call the file of --import."""
    return "stdin" if path == "-" else path


class Takeover:
    """Imports the tokens of one account.

    Args:
        job: the target of the import and its options.
        found: the content of the file.
        alone: the file belongs to this account only. Its owner is present and can be shown recovery codes.
    """

    def __init__(self, job: Job, found: list[Imported], *, alone: bool) -> None:
        self._job = job
        self._found = found
        self._now = int(time.time())
        self._alone = alone
        codes = len(self._scratch_codes) or (job.options.recovery_codes if alone else 0)
        self._recovery = RecoverySet.unknown(min(codes, recovery_code.MAX_CODES))
        self._pin: PIN | None = None
        self._taken: list[Token] = []
        self._is_new = True

    @property
    def user(self) -> str:
        """Return the name of the user that gets the tokens."""
        return self._job.user

    @property
    def location(self) -> Location | Place:
        """Return the place of the user's files, or the realm."""
        return self._job.store.location

    @property
    def _scratch_codes(self) -> tuple[str, ...]:
        return tuple(code for each in self._found for code in each.scratch_codes)

    def look(self) -> list[LeftOut]:
        """Check what the import would do, without changing anything. What cannot be imported is dropped here.

        Returns:
            The entries that cannot be imported because of what is there already or of their values.

        Raises:
            EnrolmentFailed, PathError: none of the user's tokens can be imported.
        """
        try:
            present: TokenFile | None = self._job.store.open_enrolled()
        except NotEnrolled:
            present = None
        finally:
            self._job.store.close()
        there = list(present.tokens) if present is not None else []
        kept: list[Imported] = []
        left_out: list[LeftOut] = []
        for each in self._found:
            fault = self._fault_of(each, there)
            if fault is None:
                kept.append(each)
                there.append(each.token)
            else:
                left_out.append(fault)
                kept = [_with_uses_of(each, other) for other in kept]
        self._found = kept
        self._is_new = present is None
        if kept:
            self._applied_to(present)
        return left_out

    def left_out(self, why: str, *, hint: str = "") -> list[LeftOut]:
        """Return all entries as ones that cannot be imported."""
        return [LeftOut(each.place, self.user, why, hint) for each in self._found]

    def drop(self) -> None:
        """Import none of the tokens."""
        self._found = []

    @property
    def is_empty(self) -> bool:
        """Return whether nothing is left to import."""
        return not self._found

    def describe(self) -> None:
        """Show what will be imported. Call it after `look`."""
        for token, each in zip(self._taken, self._found, strict=True):
            self._job.screen.show(f'{self._job.user}: "{self._job.screen.spell(token.name)}", {_kind(token)}')
            for note in each.notes:
                self._job.page.tell(f"  {terminal.visible(note)}")
            if each.pin and not self._is_new:
                self._job.page.tell("  its PIN is not taken over: all tokens of an account share one PIN, or have none")
        if self._scratch_codes and self._is_new:
            self._job.page.tell(f"  {len(self._scratch_codes)} unspent scratch codes become recovery codes")
        elif self._scratch_codes:
            self._job.page.tell("  the scratch codes are not taken over: there are recovery codes already")

    def carry_out(self) -> str:
        """Write the tokens.

        Returns:
            What was done, as text for the user.

        Raises:
            EnrolmentFailed, PathError, KeyboardInterrupt: nothing was changed.
        """
        job, store = self._job, self._job.store
        at_first = store.open_for_enrolment()
        store.begin_state()
        if self._alone:  # otherwise nothing is shown or asked that a full disk could make useless
            store.require_room(self._applied_to(at_first))
        granted = permission.obtain(job) if at_first is not None else Permission(job.user, "")
        if at_first is None:
            job.require_never_enrolled()
            self._make_recovery_codes()
            self._pin = self._pin_of_all(PIN.of)

        def change(present: TokenFile | None, state: State) -> tuple[TokenFile, State]:
            if (present is None) != (at_first is None):
                raise job.changed_meanwhile()
            if present is None:
                job.require_never_enrolled()
            else:
                granted.require_in(present)
            return self._applied_to(present), self._recorded_in(state, is_new=present is None)

        store.exchange(change, terminal.checkpoint)
        names = ", ".join(f'"{token.name}"' for token in self._taken)
        done = f"Done. {job.user} is enrolled with {names}, in {store.location.path}."
        if any(isinstance(token, TOTPToken) for token in self._taken):
            done += " The code that the app shows now counts as used; the next one logs in."
        return done

    def is_done(self) -> bool:
        """Return whether all the tokens are in the user's file."""
        try:
            there = self._job.store.open_enrolled().tokens
        except (EnrolmentFailed, NotEnrolled, PathError):
            return False
        finally:
            self._job.store.close()
        return all(any(have_one_key(each.token, other) for other in there) for each in self._found)

    def withdraw(self) -> None:
        """Remove what was created and is not needed."""
        self._job.store.withdraw()

    def close(self) -> None:
        """Close the user's files."""
        self._job.store.close()

    def _make_recovery_codes(self) -> None:
        codes = list(self._scratch_codes)
        if not codes and self._alone:
            self._job.require_person()
            codes = recovery_code.generate(self._job.options.recovery_codes)
            token_display.show_recovery_codes(self._job.page, codes, wait=not self._job.options.no_confirm)
        if len(codes) > recovery_code.MAX_CODES:
            raise EnrolmentFailed(
                f"{len(codes)} scratch codes are more than the {recovery_code.MAX_CODES} that there can be",
                hint="take some out of the file",
            )
        self._recovery = recovery_hashing.hashed(codes)

    def _applied_to(self, present: TokenFile | None) -> TokenFile:
        """Return the new content of the token file."""
        there = list(present.tokens) if present is not None else []
        self._taken = []
        for each in self._found:
            fault = self._fault_of(each, there)
            if fault is not None:
                raise EnrolmentFailed(fault.text, hint=fault.hint)
            token = _renamed(each.token, self._name_of(each.token, {other.name for other in there}))
            self._taken.append(token)
            there.append(token)
        if len(there) > MAX_TOKENS:
            raise EnrolmentFailed(
                f"{self._job.user} would have {len(there)} tokens, and there can be {MAX_TOKENS}",
                hint=f"{PROGRAM} --remove NAME takes one away",
            )
        if present is not None:
            return TokenFile(tuple(there), present.recovery, present.pin)
        return TokenFile(tuple(there), self._recovery, self._pin or self._pin_of_all(PIN.unknown))

    def _fault_of(self, each: Imported, there: list[Token]) -> LeftOut | None:
        """Return why one token cannot be imported beside those that are there; None if it can."""
        for other in there:
            if have_one_key(each.token, other):
                why = f'its key is that of token "{other.name}" of {self.user}'
                hint = f"{PROGRAM} --list shows the tokens, --remove takes one away"
                return LeftOut(each.place, self.user, why, hint)
        if abs(each.drift) > policy.RESYNC_STEPS:
            steps = abs(each.drift)
            why = f"the token's clock is {steps} time steps off, and at most {policy.RESYNC_STEPS} can be followed"
            return LeftOut(each.place, self.user, why, "set the app's clock right and enrol again")
        return None

    def _name_of(self, token: Token, taken: set[str]) -> str:
        name = token_name(self._job.options) if len(self._found) == 1 and self._job.has_name else token.name
        if name not in taken:
            return name
        return next(longer for number in range(2, 99) if (longer := f"{name[:60]} {number}") not in taken)

    def _pin_of_all(self, make: Callable[[str], PIN]) -> PIN | None:
        """Return the PIN that all tokens share. Hashing it takes a while, so a check makes one without its hash."""
        pins = {each.pin for each in self._found}
        if pins == {""}:
            return None
        if len(pins) > 1:
            raise EnrolmentFailed(
                f"the tokens of {self._job.user} have different PINs, and here one PIN is for all",
                hint=f"take over one of them, and set a PIN with {PROGRAM} --pin",
            )
        try:
            return make(pins.pop())
        except ValueError as error:
            raise EnrolmentFailed(
                f"the PIN of {self._job.user} cannot be taken over: {error}",
                hint="in the file, put + in its place for no PIN",
            ) from None

    def _recorded_in(self, state: State, *, is_new: bool) -> State:
        """Record the used codes as used. Assume the same of codes that may have been used up to now."""
        for token, each in zip(self._taken, self._found, strict=True):
            name = token.fingerprint()
            used = each.last if each.last is not None else NEVER
            state = state.with_last(name, max(NEVER, used)).with_drift(name, 2 * each.drift)
            start = policy.starting_point(token, now=self._now)
            if start is not None:
                # The code shown now: google-authenticator does not record the code that taught it a skew.
                state = state.with_assumed(name, max(0, start + each.drift))
        return state.with_set(self._recovery.name).without_graces() if is_new else state


def _with_uses_of(left_out: Imported, kept: Imported) -> Imported:
    return used_as_in(kept, left_out) if have_one_key(kept.token, left_out.token) else kept


def _renamed(token: Token, name: str) -> Token:
    try:
        require_name(name)
    except ValueError as error:
        raise UsageError(str(error), hint=f"see {PROGRAM} --help") from None
    renamed = copy.copy(token)
    renamed.name = name
    return renamed


def _kind(token: Token) -> str:
    counts = f"{token.period_s} s" if isinstance(token, TOTPToken) else "counting"
    return f"{token.kind.upper()}, {token.algorithm}, {token.digits} digits, {counts}"


def _read(path: str, max_bytes: int, named_files: NamedFiles) -> bytes:
    try:
        # A user may leave a pipe for root to open, to which nobody ever writes.
        return named_files.read(path, max_bytes)
    except PathError as error:
        raise EnrolmentFailed(
            f'cannot read "{path}": {reason(error, path)}',
            hint=named_files.hint_for(error, otherwise="give a file, or - for stdin"),
        ) from None
