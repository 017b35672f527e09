"""Implement `softtoken-admin revoke`: remove a token of a user, or all of them, at once and for ever.

A revocation counts as soon as root's own record contains it. That needs no lock and no file of the user's; see
`revocation` for the argument. The user's files are changed afterwards, in a separate process with a time limit.
Nothing depends on that process.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

from pam_softtoken.account import enrolled_mark, places, revoking
from pam_softtoken.account.location import Location
from pam_softtoken.admin import revoke_files
from pam_softtoken.admin.common import deed, person
from pam_softtoken.admin.revoke_files import Seen
from pam_softtoken.admin.revoke_in_realm import RealmRevocation
from pam_softtoken.admin.signers.signer_revocation import SigningRevocation
from pam_softtoken.errors import NotSynced, PathError
from pam_softtoken.program_errors import AdministrationFailed
from pam_softtoken.ui import consent, terminal
from pam_softtoken.ui.command_line import Command


@dataclass(frozen=True, slots=True)
class RevokeOptions:
    """The options of `revoke`."""

    user: str
    name: str | None
    force: bool
    yes: bool
    store: str | None


class _Revocation:
    """One revocation.

    Args:
        options: `name` is the token's name, None for all tokens.
        location: the user, and the place of the files.
    """

    def __init__(self, screen: terminal.Terminal, options: RevokeOptions, location: Location) -> None:
        self._screen = screen
        self._name = options.name
        self._options = options
        self._location = location
        self._user = location.account.name
        self._signing = SigningRevocation(screen, location.account, options.name)

    def carry_out(self) -> None:
        """Ask, revoke, and clean up."""
        seen = revoke_files.look(self._location)
        signing = self._signing if self._signing.is_called_for else None
        has_codes = signing is None or not self._has_only_signed(seen)
        doomed = self._chosen(seen) if has_codes else ()
        left = [name for name, fingerprint in seen.tokens if fingerprint not in doomed]
        if has_codes:
            self._warn(left)
        elif seen.trouble:
            self._screen.tell(f"{terminal.visible(seen.trouble)}; only what signs is revoked.")
        if signing is not None:
            signing.warn()
        consent.require(self._screen, "Revoke?", given=self._options.yes)
        terminal.checkpoint()
        try:
            if has_codes:
                self._revoke_codes(seen, doomed, left)
        finally:  # neither waits for the other to succeed
            self._signing.look()
            if self._signing.is_called_for:
                self._signing.carry_out()

    def _has_only_signed(self, seen: Seen) -> bool:
        """Check whether only signing tokens are to be revoked: no token for logins fits."""
        if self._name is not None:
            return all(name != self._name for name, _ in seen.tokens)
        return seen.is_absent and not self._options.force and not enrolled_mark.was_accepted(self._location.account)

    def _revoke_codes(self, seen: Seen, doomed: tuple[str, ...], left: list[str]) -> None:
        self._record(doomed, everything=not left)
        which = f'"{self._name}" of {self._user}' if left else self._user
        self._screen.tell(f"From now on no code of {which} is accepted.")
        if not seen.is_absent:
            self._tidy()
        if not left:
            self._screen.tell(
                f"Done. {self._user} has no token any more; softtoken-enroll --user {self._user} makes a new one."
            )
        else:
            self._tell_what_is_left(left)

    def _tell_what_is_left(self, known: list[str]) -> None:
        """Show which tokens count now. A thief of the revoked one may have used it to add another."""
        present = revoke_files.look(self._location)
        left = known if present.trouble else [name for name, _ in present.tokens]
        names = ", ".join(f'"{terminal.visible(name)}"' for name in left)
        self._screen.tell(f'Done. "{self._name}" is gone; {self._user} has {names or "no token any more"}.')
        added = ", ".join(f'"{terminal.visible(name)}"' for name in left if name not in known)
        if added:
            self._screen.tell(
                f"Added while you were asked: {added}. "
                f"If that was not {self._user}: {person.PROGRAM} revoke {self._user} takes everything away."
            )

    def _chosen(self, seen: Seen) -> tuple[str, ...]:
        """Return the fingerprints of the chosen tokens.

        Raises:
            AdministrationFailed: as far as can be read, there is nothing to revoke.
        """
        if self._name is None:
            if seen.is_absent and not self._options.force and not enrolled_mark.was_accepted(self._location.account):
                raise person.not_enrolled(self._location)
            return tuple(fingerprint for _, fingerprint in seen.tokens)
        if seen.is_absent:
            raise person.not_enrolled(self._location)
        everything = (
            f"softtoken-admin mend {self._user} puts the files in order; "
            f"softtoken-admin revoke {self._user} takes everything away, whatever they say"
        )
        if seen.trouble:
            raise AdministrationFailed(f"{seen.trouble}; nothing was changed", hint=everything)
        chosen = tuple(fingerprint for name, fingerprint in seen.tokens if name == self._name)
        if not chosen:
            names = ", ".join(f'"{name}"' for name in [each for each, _ in seen.tokens] + [*self._signing.names])
            raise AdministrationFailed(f'{self._user} has no token "{self._name}"', hint=f"there are: {names}")
        return chosen

    def _warn(self, left: list[str]) -> None:
        user = self._user
        if not left:
            self._screen.tell(
                f"All tokens, recovery codes and the PIN of {user} go for ever, and with them every code that was "
                f"issued.\nLogins that ask for a code are denied until root enrols {user} again, under nullok, too."
            )
        else:
            self._screen.tell(
                f'The codes of token "{self._name}" of {user} are refused from now on and for ever, '
                "and so is a code that was issued.\n"
                "The recovery codes stay. Somebody who found the phone may have found them, too: without a "
                "name, all goes."
            )

    def _record(self, doomed: tuple[str, ...], *, everything: bool) -> None:
        account = self._location.account
        try:
            # Do this first. Without it, `nullok` would let in an enrolled user who has never used a code.
            enrolled_mark.set_for(account)
            revoking.bring_along(account, keeping=True)  # the former uid may belong to another user
            revoking.revoke(account.uid, fingerprints=doomed, everything=everything, now=int(time.time()))
        except PathError as error:
            aftermath = error.aftermath if isinstance(error, NotSynced) else "nothing was revoked"
            raise AdministrationFailed(
                f"{error}; {aftermath}", hint=f"make room on the disk of {places.DATA}, and start again"
            ) from None
        deed.record("revoke", self._user, token="(all)" if everything else self._name or "(all)")

    def _tidy(self) -> None:
        trouble = revoke_files.tidy(self._location)
        if trouble:
            self._screen.tell(
                f"The files in {self._location.path} are as they were: {terminal.visible(trouble)}.\n"
                "They may stay: nothing in them that was revoked counts any more."
            )


def _run(screen: terminal.Terminal, options: RevokeOptions) -> None:
    person.require_root(f"revoke {options.user}")
    settings = person.settings_of(options.store)
    if settings.fleet:
        account = person.account_of(options.user)
        RealmRevocation(screen, account, options.name, settings).carry_out(agreed=options.yes, forced=options.force)
        return
    _Revocation(screen, options, person.location_of(options.user, settings)).carry_out()


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("user", metavar="USER", help="whose tokens")
    parser.add_argument(
        "name",
        metavar="NAME",
        nargs="?",
        help="only the token of that name, for codes or for sudo's signatures (default: everything)",
    )
    parser.add_argument("--force", action="store_true", help="even if no token of the user can be seen")
    consent.add_yes(parser)
    person.add_store(parser)


REVOKE = Command("revoke", "take a token of a user away for ever, or all of them", _add_arguments, RevokeOptions, _run)
