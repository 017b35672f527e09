"""Revoke tokens that sign sudo commands. The marks stay: sudo refuses the user, and does not wave them through.

The files are root's, so nothing of the user's can delay this. An attempt that waits for an answer reads the tokens
again before it judges.
"""

from __future__ import annotations

from pam_softtoken.account import lock_holder, safe_open, signer_keeper, signer_records
from pam_softtoken.admin.common import deed, person
from pam_softtoken.admin.signers import signer_facts
from pam_softtoken.errors import LockTimeout, PathError
from pam_softtoken.otp.ocra import OCRAToken
from pam_softtoken.program_errors import AdministrationFailed
from pam_softtoken.ui import terminal


class SigningRevocation:
    """The revocation of one user's signing tokens, or of one of them.

    Args:
        screen: the output.
        account: the user.
        name: the token; None for all of them.

    Attributes:
        names: of all signing tokens of the user that can be read.
    """

    def __init__(self, screen: terminal.Terminal, account: safe_open.Account, name: str | None) -> None:
        self._screen = screen
        self._account = account
        self._name = name
        self.look()

    def look(self) -> None:
        """Read what there is now. A thief may add a token while root is asked."""
        records = signer_records.of_account(self._account)
        self._records = [each for each in records if not _is_of_another(each, self._account)]
        self.names = tuple(dict.fromkeys(token.name for each in self._records for token in each.tokens))

    @property
    def is_called_for(self) -> bool:
        """Whether there is anything to take away: the token of that name, or a mark."""
        if self._name is not None:
            return self._name in self.names
        return any(not each.is_absent for each in self._records)

    def warn(self) -> None:
        """Show what goes."""
        if self._name is None:
            names = f": {_quoted(self.names)}" if self.names else ""
            self._screen.tell(f"The tokens that sign sudo commands go, too{names}.")
        else:
            self._screen.tell(f'Token "{self._name}" of {self._account.name} goes, and signs no command any more.')
        self._screen.tell(self._at_sudo("Then"))

    def carry_out(self) -> None:
        """Remove the tokens, and show what happens at sudo now.

        Raises:
            AdministrationFailed: some of them are still there.
        """
        user = self._account.name
        try:
            for record in self._records:
                if not record.is_absent and (self._name is None or self._has_name(record)):
                    self._take_away(record)
        except LockTimeout as error:
            raise AdministrationFailed(
                f"the signing tokens were taken away, but {lock_holder.describe(error)}, and may write them back",
                hint=f"end that process, then start again: {person.PROGRAM} revoke {user}",
            ) from None
        except PathError as error:
            raise AdministrationFailed(
                f"{error}; the signing tokens there were not revoked",
                hint="correct that, and start again; sudo asks for them meanwhile",
            ) from None
        deed.record("revoke", user, signing=self._name or "(all)")
        self._tell_what_is_left()

    def _has_name(self, record: signer_records.Record) -> bool:
        return any(token.name == self._name for token in record.tokens)

    def _take_away(self, record: signer_records.Record) -> None:
        name, uid = record.owner or (self._account.name, record.uid)
        keeper = signer_keeper.Keeper(safe_open.Account(name, record.uid, uid, home="/"))
        try:
            keeper.take_away(self._is_doomed, anew=self._name is None)
        finally:
            keeper.close()

    def _is_doomed(self, token: OCRAToken) -> bool:
        return self._name in (None, token.name)

    def _left(self) -> list[str]:
        return [name for name in self.names if self._name not in (None, name)]

    def _at_sudo(self, when: str) -> str:
        """Return what happens to the user at sudo without the tokens that go."""
        user, left = self._account.name, self._left()
        if left:
            return f"{when} {_quoted(left)} of {user} still signs sudo commands."
        if signer_facts.sudo_asks() == signer_facts.OFF:
            return f"sudo asks nobody for a signature on this host, so {user} uses it as before."
        return f"{when} sudo refuses {user}, who has no signing token any more."

    def _tell_what_is_left(self) -> None:
        user = self._account.name
        self._screen.tell(self._at_sudo("Now"))
        if self._left() or signer_facts.sudo_asks() == signer_facts.OFF:
            return
        self._screen.tell(
            "What helps, on root's console:\n"
            f"  {signer_facts.enrolling(user)}    makes a new one\n"
            f"  {signer_facts.stop_asking(user)}    lets {user} use sudo without a signature"
        )


def _is_of_another(record: signer_records.Record, account: safe_open.Account) -> bool:
    """Check whether tokens under the account's uid or name are those of another account that is there."""
    if record.owner in (None, (account.name, account.uid)):
        return False
    present = person.account_if_known(record.owner[0]) if record.owner is not None else None
    return present is not None and (present.name, present.uid) == record.owner


def _quoted(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f'"{terminal.visible(name)}"' for name in names)
