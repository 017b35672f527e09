"""Implement `softtoken-admin revoke` on a host of a realm: the user's tokens in the realm go, and those of this host
alone, and what signs here.
"""

from __future__ import annotations

import time

from pam_softtoken.account import enrolled_mark, places, revoking
from pam_softtoken.account.location import Location
from pam_softtoken.account.safe_open import Account
from pam_softtoken.account.state import State
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.admin import revoke_files
from pam_softtoken.admin.common import deed, person
from pam_softtoken.admin.fleet import custody, relief
from pam_softtoken.admin.revoke_files import Seen
from pam_softtoken.admin.signers.signer_revocation import SigningRevocation
from pam_softtoken.config import Config
from pam_softtoken.errors import ConfigError, NotEnrolled, PathError
from pam_softtoken.fleet.editor import FleetEditor
from pam_softtoken.program_errors import AdministrationFailed, EnrolmentFailed
from pam_softtoken.ui import consent, terminal

_LOOKS = 5
"""How often tokens that somebody has added meanwhile are revoked, too."""


class RealmRevocation:
    """One revocation.

    Args:
        screen: the output.
        account: the user.
        name: the token; None for all of them.
        settings: the host's.
    """

    def __init__(self, screen: terminal.Terminal, account: Account, name: str | None, settings: Config) -> None:
        self._screen = screen
        self._account = account
        self._user = account.name
        self._name = name
        self._settings = settings
        self._signing = SigningRevocation(screen, account, name)
        self._alone: Location | None = None
        self._alone_seen = Seen(is_absent=True)
        if settings.fleet_alone:
            try:
                self._alone = Location(settings.fleet_alone, account)
            except ConfigError as error:
                raise AdministrationFailed(str(error), hint="correct fleet_alone in softtoken.conf") from None
            self._alone_seen = revoke_files.look(self._alone)

    def carry_out(self, *, agreed: bool, forced: bool) -> None:
        """Ask, and revoke.

        Args:
            agreed: do not ask.
            forced: even if no token of the user can be seen.

        Raises:
            AdministrationFailed: some of it still counts; the message says what.
        """
        seen = self._look()
        in_realm = self._is_in(seen, forced=forced)
        here = self._doomed_in(self._alone_seen) or self._alone_seen.trouble
        if not in_realm and not here and not self._signing.is_called_for:
            raise self._nothing(seen)
        self._warn(seen, in_realm=in_realm)
        if self._signing.is_called_for:
            self._signing.warn()
        consent.require(self._screen, "Revoke?", given=agreed)
        terminal.checkpoint()
        try:
            if in_realm:
                self._revoke_in_realm()
        finally:  # what is on this host does not wait for the nodes
            try:
                self._revoke_here()
            finally:
                self._signing.look()
                if self._signing.is_called_for:
                    self._signing.carry_out()

    def _look(self) -> Seen:
        """Read which tokens the realm has."""
        store = FleetEditor(self._account, self._settings)
        try:
            content = store.open_enrolled()
        except NotEnrolled as error:
            return Seen(is_absent=error.proven)
        except EnrolmentFailed as error:
            return Seen(trouble=error.message)
        except PathError as error:
            return Seen(trouble=str(error))
        finally:
            store.close()
        return Seen(tuple((token.name, token.fingerprint()) for token in content.tokens))

    def _doomed_in(self, seen: Seen) -> tuple[str, ...]:
        """Return the fingerprints of the chosen tokens."""
        return tuple(mark for name, mark in seen.tokens if self._name in (None, name))

    def _is_in(self, seen: Seen, *, forced: bool) -> bool:
        if self._name is None:
            return forced or bool(seen.tokens or seen.trouble)
        if seen.trouble:
            raise AdministrationFailed(
                f"{seen.trouble}; nothing was changed", hint=f"{person.PROGRAM} revoke {self._user} takes all away"
            )
        return any(name == self._name for name, _ in seen.tokens)

    def _nothing(self, seen: Seen) -> AdministrationFailed:
        if self._name is None:
            return AdministrationFailed(
                f"the realm has no tokens of {self._user}", hint="softtoken-admin status shows who is enrolled"
            )
        known = [*seen.tokens, *self._alone_seen.tokens]
        names = ", ".join(f'"{name}"' for name in dict.fromkeys([*(name for name, _ in known), *self._signing.names]))
        return AdministrationFailed(
            f'{self._user} has no token "{self._name}"', hint=f"there are: {names}" if names else "there is none"
        )

    def _warn(self, seen: Seen, *, in_realm: bool) -> None:
        if seen.trouble:
            self._screen.tell(terminal.visible(seen.trouble))
        if not in_realm:
            self._screen.tell(f"Only what counts on this host alone goes: the realm has no such token of {self._user}.")
        elif self._name is None:
            self._screen.tell(
                f"All tokens, recovery codes and the PIN of {self._user} go, on all hosts of the realm.\n"
                f"Logins that ask for a code are denied until root enrols {self._user} again, under nullok, too."
            )
        else:
            self._screen.tell(
                f'The codes of token "{self._name}" of {self._user} are refused from now on, on all hosts of the '
                "realm.\nThe recovery codes stay. Somebody who found the phone may have found them, too: without a "
                "name, all goes."
            )
        if self._settings.fleet_alone:
            self._screen.tell("So do those of this host alone. Other hosts may have some: run it there, too.")

    def _revoke_in_realm(self) -> None:
        if self._name is None:
            relief.revoke(self._screen, custody.of_host(self._settings), self._user, forced=True)
            return
        left: tuple[str, ...] = ()

        def change(present: TokenFile | None, state: State) -> tuple[TokenFile | None, State]:
            nonlocal left
            kept = tuple(token for token in present.tokens if token.name != self._name) if present is not None else ()
            left = tuple(token.name for token in kept)
            state = state.without_graces().without_issued()
            if present is None or not kept:
                return None, state
            return TokenFile(kept, present.recovery, present.pin), state

        with person.opened(self._user, self._settings) as store:
            store.open_enrolled()
            store.begin_state()
            store.exchange(change, terminal.checkpoint)
        deed.record("revoke", self._user, token=self._name)
        names = ", ".join(f'"{terminal.visible(name)}"' for name in left)
        self._screen.tell(f'Done. "{self._name}" is gone; {self._user} has {names or "no token any more"}.')

    def _revoke_here(self) -> None:
        """End tokens of this host alone, also one that somebody has added meanwhile. Those of the realm, and what is
        enrolled later, are not touched by this record. So it names tokens, and those that cannot be read stay.

        Raises:
            AdministrationFailed: some may still count.
        """
        if self._alone is None:
            return
        seen = revoke_files.look(self._alone)
        is_done = False
        for _ in range(_LOOKS):
            doomed = self._doomed_in(seen)
            if not doomed:
                break
            self._record(doomed)
            is_done = True
            seen = revoke_files.look(self._alone)
        if is_done:
            self._tidy(self._alone)
        trouble = seen.trouble or ("somebody keeps adding some" if self._doomed_in(seen) else "")
        if trouble:
            way = "correct it" if self._alone.in_home else f"correct it, or remove {self._alone.path}"
            raise AdministrationFailed(
                f"tokens of this host alone may still count: {trouble}", hint=f"{way}, and run the same command again"
            )

    def _record(self, doomed: tuple[str, ...]) -> None:
        try:
            enrolled_mark.set_for(self._account)
            revoking.revoke(self._account.uid, fingerprints=doomed, everything=False, now=int(time.time()))
        except PathError as error:
            raise AdministrationFailed(
                f"the tokens of this host alone are not revoked: {error}; {error.aftermath}",
                hint=f"make room on the disk of {places.DATA}, and start again",
            ) from None
        deed.record("revoke", self._user, token=self._name or "(all)", alone="yes")

    def _tidy(self, alone: Location) -> None:
        trouble = revoke_files.tidy(alone)
        self._screen.tell("The tokens of this host alone are revoked.")
        if trouble:
            self._screen.tell(
                f"The files in {alone.path} are as they were: {terminal.visible(trouble)}.\n"
                "They may stay: nothing in them that was revoked counts any more."
            )
