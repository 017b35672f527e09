"""Set, change or remove the PIN of an account. Nothing changes before the last step, even if interrupted."""

from __future__ import annotations

from pam_softtoken.account.state import State
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.enroll import permission
from pam_softtoken.enroll.run_context import PROGRAM, Job
from pam_softtoken.errors import NotEnrolled
from pam_softtoken.otp.pin import MAX_CHARACTERS, MIN_CHARACTERS, PIN
from pam_softtoken.program_errors import EnrolmentFailed
from pam_softtoken.ui import terminal

QUESTION = f"New PIN, {MIN_CHARACTERS} to {MAX_CHARACTERS} letters and digits:"
FOR_OTHERS = f"New PIN for {{}}, {MIN_CHARACTERS} to {MAX_CHARACTERS} letters and digits:"
AGAIN = "The same again:"
TRIES = 3


class PINChange:
    """Replaces the PIN.

    Args:
        job: `options.pin` sets a PIN, `options.no_pin` removes it.
    """

    def __init__(self, job: Job) -> None:
        self._job = job
        self._page = job.page
        self._removes = job.options.no_pin

    def carry_out(self) -> str:
        """Ask for a current code (and PIN) and for the new PIN, then write.

        Returns:
            What was done, as text for the user.

        Raises:
            EnrolmentFailed, NotEnrolled, PathError, KeyboardInterrupt: nothing was changed.
        """
        job, store = self._job, self._job.store
        at_first = store.open_enrolled()
        self._require_sense(at_first)
        store.begin_state()
        store.require_room(TokenFile(at_first.tokens, at_first.recovery, PIN.of("0" * MIN_CHARACTERS)))
        granted = permission.obtain(job, without_pin=True)
        pin = None if self._removes else self._ask()

        def change(present: TokenFile | None, state: State) -> tuple[TokenFile, State]:
            if present is None:
                raise NotEnrolled(proven=False)
            granted.require_in(present)
            if _digest(present) != _digest(at_first):
                raise job.changed_meanwhile()
            # End the grace period: a person with only the old PIN must not get in without a code after a recent login.
            return TokenFile(present.tokens, present.recovery, pin), state.without_graces()

        store.exchange(change, terminal.checkpoint)
        if pin is None:
            return f"Done. {job.user} types codes without a PIN again."
        return f"Done. {job.user} types the PIN in front of each code from now on, also of a recovery code."

    def _require_sense(self, present: TokenFile) -> None:
        if not self._removes:
            self._job.require_person()
        elif present.pin is None:
            raise EnrolmentFailed(f"{self._job.user} has no PIN", hint=f"{PROGRAM} --pin sets one")
        elif self._job.settings.pin_required and not self._job.is_roots:
            raise EnrolmentFailed("this host requires a PIN", hint=f"{PROGRAM} --pin sets another one")

    def _ask(self) -> PIN:
        for _ in range(TRIES):
            typed = self._page.ask(self._job.addressed(QUESTION, FOR_OTHERS), hidden=True)
            try:
                pin = PIN.of(typed)
            except ValueError:
                self._page.tell(f"That is not {MIN_CHARACTERS} to {MAX_CHARACTERS} letters (A to Z) and digits.")
                continue
            if self._page.ask(AGAIN, hidden=True) == typed:
                return pin
            self._page.tell("That was not the same.")
        raise EnrolmentFailed("there is no new PIN; nothing was changed", hint="start again")


def _digest(content: TokenFile) -> bytes:
    return content.pin.salt + content.pin.digest if content.pin is not None else b""
