"""List what an account has: its tokens, when each was made and last used, how many recovery codes are left.

This module only reads. It makes, writes and locks nothing, and shows no key.
"""

from __future__ import annotations

import json
import time

from pam_softtoken.account import proc
from pam_softtoken.account.editor import Editor
from pam_softtoken.account.state import NEVER, State
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.errors import CodeExpired, DamagedState
from pam_softtoken.fleet.editor import FleetEditor
from pam_softtoken.login import clock_doubt, lifetime
from pam_softtoken.login.policy import Limits
from pam_softtoken.otp.token import Token, TOTPToken
from pam_softtoken.ui import terminal
from pam_softtoken.ui.table import padded, width

UNKNOWN = "unknown"
HEADER = ("name", "type", "created", "last used")
_GAP = "  "


class Inventory:
    """Everything that is shown about one account.

    Args:
        store: the user's files, not opened yet.

    Raises:
        NotEnrolled: there is nothing to show.
        PathError: a file cannot be used.
    """

    def __init__(self, store: Editor | FleetEditor) -> None:
        self._account = store.location.account.name
        self._path = store.location.path
        self._content: TokenFile = store.open_enrolled()
        self._state: State | None = None
        self._is_all = True
        self._is_damaged = False
        try:
            self._state, self._is_all = store.glance_at_state()
        except DamagedState:
            self._is_damaged = True

    def show(self, screen: terminal.Terminal) -> None:
        """Show it for a person."""
        names = [(screen.spell(token.name), token) for token in self._content.tokens]
        rows = [(name, token.kind, local(token.created), self._last_used_in_words(token)) for name, token in names]
        widths = [max(width(row[place]) for row in (HEADER, *rows)) for place in range(len(HEADER))]
        if not screen.is_terminal() or sum(widths) + len(_GAP) * (len(widths) - 1) <= screen.columns():
            for row in (HEADER, *rows):
                screen.show(_GAP.join(padded(*cell) for cell in zip(row, widths, strict=True)).rstrip())
        else:
            for name, kind, created, last_used in rows:
                screen.show(f"{name}\n  {kind}\n  created   {created}\n  last used {last_used}")
        screen.show(f"\n{self._recovery_in_words()}")
        if not self._is_all:
            screen.tell("Uses while the home directory was read-only are not among this; only root can see them.")

    def show_json(self, screen: terminal.Terminal) -> None:
        """Show it for a program."""
        screen.show(json.dumps(self.facts()))

    def facts(self) -> dict[str, object]:
        """Return all of it as values for JSON. Times are in UTC."""
        return {
            "user": self._account,
            "store": self._path,
            "tokens": [
                {
                    "name": token.name,
                    "type": token.kind,
                    "created": utc(token.created),
                    "last_used": utc(self._when(token)),
                }
                for token in self._content.tokens
            ],
            "recovery_codes": {"total": len(self._content.recovery.hashes), "left": self._left()},
            "state": "damaged" if self._is_damaged else "missing" if self._state is None else "ok",
        }

    @property
    def last_used(self) -> int | None:
        """Return when a code of any kind was last used, in Unix seconds. Return None if never or unknown."""
        known = self._state or State.new()
        return max((*known.when.values(), *known.sources.values()), default=None)

    @property
    def has_pin(self) -> bool:
        """Return whether a PIN is set."""
        return self._content.pin is not None

    @property
    def state(self) -> State | None:
        """Return the recorded state, None if it is not known."""
        return self._state

    def issued_until(self, now: int) -> int | None:
        """Return when the code issued by an administrator expires, in Unix seconds. Return None if there is none."""
        name = self._content.recovery.name
        issued = self._state.issued.get(name) if self._state is not None else None
        if self._state is None or issued is None or not issued[-1]:
            return None
        try:
            lifetime.require_issued_code_in_time(self._state, name, now=now, boot=proc.boot())
        except CodeExpired:
            return None
        return issued[2]

    def record_ahead_s(self, now: int, limits: Limits) -> int:
        """Return how many seconds this machine's clock is behind the recorded times. Return 0 if it is not behind.

        The recorded times are the enrolment, and the last accepted code, of each time-based token.
        """
        known = self._state or State.new()
        tokens = [token for token in self._content.tokens if isinstance(token, TOTPToken)]
        ahead = [clock_doubt.record_ahead_s(token, known, now=now, limits=limits) for token in tokens]
        return max((0, *ahead, *(token.created - now for token in tokens)))

    def _when(self, token: Token) -> int | None:
        return self._state.when.get(token.fingerprint()) if self._state is not None else None

    def _last_used_in_words(self, token: Token) -> str:
        when = self._when(token)
        if when is not None:
            return local(when)
        never_used = self._state is not None and self._state.last.get(token.fingerprint(), NEVER) == NEVER
        return "never" if never_used else UNKNOWN

    def _left(self) -> int | None:
        """Return the number of unused recovery codes, None if it is unknown."""
        codes = self._content.recovery
        if not codes.hashes:
            return 0
        if self._state is None or codes.name not in self._state.spent:
            return None
        return len(set(codes.names()) - set(self._state.spent[codes.name]))

    def _recovery_in_words(self) -> str:
        total, left = len(self._content.recovery.hashes), self._left()
        if total == 0:
            return "no recovery codes"
        if left is not None:
            return f"{left} of {total} recovery codes left"
        why = "the state file is damaged" if self._is_damaged else "it is not known which were used"
        return f"{total} recovery codes, none of them valid: {why}"


def local(when: int) -> str:
    """Return a time as the local clock shows it."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(when))
    except (OverflowError, ValueError, OSError):
        return UNKNOWN


def utc(when: int | None) -> str | None:
    """Return a time for a program."""
    try:
        return None if when is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))
    except (OverflowError, ValueError, OSError):
        return None
