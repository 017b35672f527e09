"""What an account has: its tokens, when each was made and last used, how many recovery codes are left.

Looks only: it makes, writes and locks nothing, and shows no key.
"""

from __future__ import annotations

import json
import time

from pam_softtoken.account import proc
from pam_softtoken.account.editor import Editor
from pam_softtoken.account.state import NEVER, State
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.errors import CodeExpired, DamagedState
from pam_softtoken.login import clock_doubt, lifetime
from pam_softtoken.login.policy import Limits
from pam_softtoken.otp.token import Token, TOTPToken
from pam_softtoken.ui import terminal
from pam_softtoken.ui.table import padded, width

UNKNOWN = "unknown"
HEADER = ("name", "type", "created", "last used")
_GAP = "  "


class Inventory:
    """All that is said about one account.

    Args:
        store: the user's files, not opened yet.

    Raises:
        NotEnrolled: there is nothing to say.
        PathError: a file cannot be used.
    """

    def __init__(self, store: Editor) -> None:
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
        """Print it for a person."""
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
        """Print it for a program."""
        screen.show(json.dumps(self.facts()))

    def facts(self) -> dict[str, object]:
        """Give all of it as what JSON can hold, times in UTC."""
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
        """When a code of any kind was used last, in Unix seconds; None when that is not known or never."""
        known = self._state or State.new()
        return max((*known.when.values(), *known.sources.values()), default=None)

    @property
    def has_pin(self) -> bool:
        """Whether a PIN is set."""
        return self._content.pin is not None

    @property
    def state(self) -> State | None:
        """What has happened; None when that is not known."""
        return self._state

    def issued_until(self, now: int) -> int | None:
        """Until when a code that an administrator has issued can be used, in Unix seconds; None when there is none."""
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
        """Return how far this machine's clock is behind what is recorded, in seconds; 0 when it is not.

        Recorded are the last accepted code of each token that goes by the clock, and when it was enrolled.
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
        """Count the recovery codes that are not spent; None when nobody can tell."""
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
        why = "the state file is damaged" if self._is_damaged else "nobody can tell which are spent"
        return f"{total} recovery codes, none of them valid: {why}"


def local(when: int) -> str:
    """Write a time as the clock on the wall shows it."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(when))
    except (OverflowError, ValueError, OSError):
        return UNKNOWN


def utc(when: int | None) -> str | None:
    """Write a time for a program."""
    try:
        return None if when is None else time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(when))
    except (OverflowError, ValueError, OSError):
        return None
