"""Enrol a user without a token in the login itself, at the `account` line. Loaded only for a user that
`enrolment_offer` has marked. Imports the standard library; `qr_messages` needs segno.

The questions, rules and texts are those of `softtoken-enroll`, from `enrolment_dialogue`. The files are written by the
same code, too, after the last question, in one step. So a cut line or a power failure leaves the user either enrolled
or unchanged.
"""

from __future__ import annotations

import time

from pam_softtoken import errors, log, program_errors
from pam_softtoken.account import cure, enrolled_mark, safe_open
from pam_softtoken.account.editor import EntrantsEditor, UsersEditor
from pam_softtoken.account.location import Location
from pam_softtoken.account.state import State
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.login import application, enrolment_dialogue, first_home, policy, qr_messages
from pam_softtoken.login.enrolment_dialogue import Confirmed
from pam_softtoken.otp import hotp, recovery_code
from pam_softtoken.otp.recovery_code import RecoverySet
from pam_softtoken.otp.token import DEFAULT_NAME, Secret, TOTPToken

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pam_softtoken.config import Config


_NO_HOME = (
    "This host asks for a code at each login. Your soft token would be stored in your home directory, which is not "
    "there yet. Ask an administrator to keep tokens outside the home directories (store=)."
)


class Newcomer:
    """One enrolment in a login, from the first look at the files until the new files are in place.

    Args:
        pamh: the PAM handle.
        account: the user, marked by `enrolment_offer.announce`.
        config: the settings.
        record: the log.
    """

    __slots__ = ("_codes", "_config", "_location", "_matrix", "_record", "_token", "pamh")

    def __init__(self, pamh: Any, account: safe_open.Account, config: Config, record: log.Log) -> None:
        self.pamh = pamh
        self._config = config
        self._record = record
        self._location = Location(config.store, account)
        created = int(time.time())
        self._token = TOTPToken(DEFAULT_NAME, Secret.random("SHA1"), algorithm="SHA1", digits=6, created=created)
        self._codes = recovery_code.generate(recovery_code.USUAL_CODES)
        # The QR code, while it can still be shown with inverted colours. Empty if none can be drawn.
        self._matrix: list[list[int]] = []

    def carry_out(self) -> None:
        """Show the token, ask for a code of it, and write the files.

        Raises:
            EnrolmentRefused, ConversationFailed, PathError: the login is denied, and nothing was changed.
        """
        try:
            self._rehearse()
        except (errors.PathError, errors.EnrolmentRefused) as error:
            cure.add_to(error, self._location)
            if isinstance(error, errors.NoHome):
                error.doubt = first_home.NEEDS_STORE
                self._tell(_NO_HOME)
            else:
                self._tell("This host asks for a code at each login, and a soft token for it cannot be stored now.")
            raise
        try:
            self._introduce()
            confirmed = self._confirm()
            self._hand_out_codes()
            self._write(confirmed)
        except errors.NotSynced as error:
            cure.add_to(error, self._location)
            self._tell("The disk has not confirmed the new token. Keep it in the app, and log in with its next code.")
            raise
        except (errors.PathError, errors.EnrolmentRefused) as error:
            what = "The new token could not be stored" if isinstance(error, errors.PathError) else "Not enrolled"
            cure.add_to(error, self._location)
            self._tell(f"{what}; nothing was changed. Remove the new entry from the app, and log in again.")
            raise
        try:
            enrolled_mark.set_for(self._location.account)
        except errors.UnusableFile as error:  # the token counts, marked or not
            self._record.note(log.WARNING, f"cannot mark the user as enrolled: {error}")
        self._record.outcome(log.INFO, "accepted", "enrolled", token=self._token.name)
        name = self._location.account.name
        self._tell(f'Done. {name} is enrolled with token "{self._token.name}"; the next login asks for its next code.')

    def _rehearse(self) -> None:
        """Check that the files can be written, before anything is shown. Leaves nothing behind."""
        # The path to the home directory may be open only to one of the user's groups.
        self._location.account.look_up_groups()
        store = UsersEditor(self._location)
        try:
            self._require_not_enrolled(store.open_for_enrolment())
            store.begin_state()
            store.require_room(TokenFile((self._token,), RecoverySet.unknown(len(self._codes))))
        finally:
            store.withdraw()
            store.close()

    def _require_not_enrolled(self, present: TokenFile | None) -> None:
        if present is not None or enrolled_mark.was_accepted(self._location.account):
            raise errors.EnrolmentRefused("somebody has enrolled the user meanwhile")

    def _introduce(self) -> None:
        """Show the token in the three forms that an app can read."""
        account = self._location.account
        uri = enrolment_dialogue.uri_of(self._token, account)
        self._tell(f"This host asks for a code at each login, and {account.name} has no soft token yet.")
        self._matrix = qr_messages.matrix_of(uri)
        self._tell(
            "Scan this with an authenticator app:" if self._matrix else "Type this key into an authenticator app:"
        )
        self._draw(self._matrix)
        self._tell(enrolment_dialogue.key_line(self._token))
        uri_line = enrolment_dialogue.uri_line(uri)
        if len(uri_line.encode()) <= qr_messages.MAX_MESSAGE_BYTES:
            self._tell(uri_line)
        if self._matrix:
            self._tell("If the app does not see the QR code, on a light background, press Enter without a code.")

    def _draw(self, matrix: list[list[int]]) -> None:
        """Show a QR code. The terminal's background has to be guessed. The first guess is dark, where the light modules
        have to be drawn.
        """
        for part in qr_messages.messages_of(matrix):
            self._tell(part)

    def _confirm(self) -> Confirmed:
        limits = policy.Limits.of(self._config)
        # The key is new. So nothing is recorded of it, whatever happens in the user's files meanwhile.
        try:
            return enrolment_dialogue.confirm(
                self._token, limits=limits, state=State.new, ask=self._ask_for_code, tell=self._tell
            )
        except program_errors.EnrolmentFailed:
            why = f"no code of the new token in {enrolment_dialogue.TRIES} answers"
        now = int(time.time())
        if now < hotp.RELEASED:
            why += f"; this machine's clock says {errors.day_of(now)}, so none was right: timedatectl set-time"
        raise errors.EnrolmentRefused(why)

    def _ask_for_code(self) -> str:
        typed = self._ask(enrolment_dialogue.QUESTION, shown=self._config.echo)
        if self._matrix and not typed.strip():
            inverted, self._matrix = [[1 - module for module in row] for row in self._matrix], []
            self._draw(inverted)
            typed = self._ask(enrolment_dialogue.QUESTION, shown=self._config.echo)
        return typed

    def _hand_out_codes(self) -> None:
        self._tell(enrolment_dialogue.CODES_TITLE)
        self._tell(enrolment_dialogue.rows_of(self._codes))
        self._tell(enrolment_dialogue.CODES_ADVICE)
        self._ask(enrolment_dialogue.CODES_QUESTION, shown=True)

    def _write(self, confirmed: Confirmed) -> None:
        content = TokenFile((self._token,), RecoverySet.of(self._codes))

        def change(present: TokenFile | None, state: State) -> tuple[TokenFile, State]:
            self._require_not_enrolled(present)
            new_set = content.recovery.name
            return content, enrolment_dialogue.recorded_in(state, self._token, confirmed, new_set=new_set)

        store = EntrantsEditor(self._location)
        try:
            store.open_for_enrolment()
            store.begin_state()
            store.exchange(change, _nothing_more)
        except errors.Revoked:
            store.withdraw()
            raise errors.EnrolmentRefused("an administrator has revoked everything meanwhile") from None
        except program_errors.EnrolmentFailed as error:
            store.withdraw()
            raise errors.EnrolmentRefused(str(error)) from None
        except BaseException:
            store.withdraw()
            raise
        finally:
            store.close()

    def _tell(self, text: str) -> None:
        """Show a text. It does not matter if the application fails to: everything important is asked."""
        application.tell(self.pamh, self.pamh.PAM_TEXT_INFO, text, self._record)

    def _ask(self, question: str, *, shown: bool) -> str:
        return application.ask(self.pamh, question, shown=shown)


def _nothing_more() -> None:
    pass
