"""Decide what the live table shows: the entries, the chosen one, the look of each line. No I/O, and no clock."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from pam_softtoken import drawing
from pam_softtoken.device.entry import Entry, matches
from pam_softtoken.otp import hotp
from pam_softtoken.otp.token import TOTPToken

Fragment = tuple[str, str]
"""Style and text."""
HELP = ("Type to search, Enter copies, Esc leaves", "Enter copies, Esc leaves")
PRESS = "press Enter for a code"
_CODE_COLUMNS = 9  # 8 digits in two groups
_SECONDS_COLUMNS = 5  # "300 s"
_WIDE = 60
_SHORT_S = 5


class Look:
    """What the terminal can show.

    Args:
        width: returns how many columns a text takes there.
        spell: writes a name in characters that the terminal has.
        blocks: whether it has block characters.
    """

    def __init__(self, *, width: Callable[[str], int], spell: Callable[[str], str], blocks: bool) -> None:
        self.width = width
        self.spell = spell
        self.full, self.empty, self.cut = ("█", "░", "…") if blocks else ("#", ".", "~")

    def fit(self, text: str, columns: int) -> str:
        """Return a text, cut or padded with spaces to a number of columns."""
        if self.width(text) > columns:
            kept = ""
            for character in text:
                if self.width(kept + character) > columns - 1:
                    break
                kept += character
            text = kept + self.cut if columns > 0 else ""
        return text + " " * (columns - self.width(text))


class Board:
    """The entries that match a search, and the chosen one among them.

    Args:
        entries: all entries.
        look: what the terminal can show.
    """

    def __init__(self, entries: Sequence[Entry], look: Look) -> None:
        self._entries = entries
        self._look = look
        self.search = ""
        self.message = ""
        self._found = list(range(len(entries)))
        self._chosen = 0
        self._top = 0
        self._counted: dict[int, str] = {}
        self.rows = 1

    @property
    def chosen(self) -> Entry | None:
        """Return the entry that Enter acts on, None if no entry matches the search."""
        return self._entries[self._found[self._chosen]] if self._found else None

    def search_for(self, text: str) -> None:
        """Keep only the entries that match, and choose the first of them."""
        self.search = "".join(character for character in text if character.isprintable())
        self._found = [number for number, entry in enumerate(self._entries) if matches(entry, self.search)]
        self._chosen = self._top = 0

    def move(self, by: int) -> None:
        """Choose an entry further down, or further up if negative. It stops at the ends."""
        self._chosen = max(0, min(len(self._found) - 1, self._chosen + by))

    def keep(self, code: str) -> None:
        """Show the code of the chosen counter-based entry from now on."""
        if self._found:
            self._counted[self._found[self._chosen]] = code

    def draw(self, columns: int, lines: int, *, now: int) -> list[list[Fragment]]:
        """Return the whole picture.

        Args:
            columns, lines: size of the terminal.
            now: Unix seconds.

        Returns:
            As many lines as the terminal has, each as wide as the terminal. The first one has the search.
        """
        roomy = lines >= 8
        self.rows = max(1, lines - (4 if roomy else 2))
        self._top = max(min(self._top, self._chosen), self._chosen - self.rows + 1)
        shown = range(self._top, min(self._top + self.rows, len(self._found)))
        body = [self._row(place, columns, now) for place in shown]
        if not self._found:
            body = [[("", self._look.fit("  No name or issuer has that in it.", columns))]]
        body += [[("", "")]] * (self.rows - len(body))
        gap: list[list[Fragment]] = [[("", "")]] if roomy else []
        return [self._head(columns), *gap, *body, *gap, [("dim", self._foot(columns))]][:lines]

    def _head(self, columns: int) -> list[Fragment]:
        count = f"{len(self._found)} of {len(self._entries)}"
        left = self._look.fit(f"Search: {self.search}", max(0, columns - len(count) - 1))
        typed = left.rstrip() if self.search else "Search: "
        return [("bold", typed), ("cursor", ""), ("", left[len(typed) :] + " "), ("dim", count)]

    def _foot(self, columns: int) -> str:
        if self.message:
            return self._look.fit(self.message, columns).rstrip()
        return next((text for text in HELP if len(text) <= columns), "")

    def _row(self, place: int, columns: int, now: int) -> list[Fragment]:
        number = self._found[place]
        entry = self._entries[number]
        bar_columns = 10 if columns >= _WIDE else 5
        right = _CODE_COLUMNS + 2 + bar_columns + 1 + _SECONDS_COLUMNS
        is_chosen = place == self._chosen
        style = "reverse" if is_chosen else ""
        fragments = [(style, ("> " if is_chosen else "  ") + self._name(entry, max(4, columns - right - 4)) + "  ")]
        token = entry.otp_token
        if isinstance(token, TOTPToken):
            left_s = token.period_s - now % token.period_s
            filled = -(-left_s * bar_columns // token.period_s)
            bar = self._look.full * filled + self._look.empty * (bar_columns - filled)
            code = _grouped(token.otp_at(hotp.time_step(now, token.period_s)))
            fragments.append((f"{style} bold", code.rjust(_CODE_COLUMNS)))
            fragments.append((f"{style} {'hurry' if left_s <= _SHORT_S else 'time'}", "  " + bar))
            fragments.append((style, f"{left_s:{_SECONDS_COLUMNS - 1}} s"))
        elif number in self._counted:
            fragments.append((f"{style} bold", _grouped(self._counted[number]).rjust(_CODE_COLUMNS)))
            fragments.append((style, " " * (right - _CODE_COLUMNS)))
        else:
            fragments.append((f"{style} dim", PRESS.rjust(right)))
        return fragments

    def _name(self, entry: Entry, columns: int) -> str:
        name, issuer = self._look.spell(entry.name), self._look.spell(entry.issuer)
        both = f"{name}  ({issuer})"
        return self._look.fit(both if issuer and self._look.width(both) <= columns else name, columns)


def _grouped(code: str) -> str:
    return drawing.grouped(code, 4 if len(code) > 6 else 3)
