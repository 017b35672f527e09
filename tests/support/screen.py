"""A small terminal: it draws a program's output as a picture of the screen, and reads QR codes in that picture.

It supports only what our programs may send: text, line ends, half blocks and colours (ECMA-48, 8.3.117). Anything else
is an error, because not every terminal has it.
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from pathlib import Path

from PIL import Image

Colour = tuple[int, int, int]
CELL_WIDTH, CELL_HEIGHT = 5, 10  # a character is twice as high as wide in nearly every typeface
_HALVES = {" ": (0, 0), "▀": (1, 0), "▄": (0, 1), "█": (1, 1)}


class Theme:
    """The colours of a user's terminal.

    Args:
        foreground, background: of text without its own colour.
        black, bright_white: the look of the colours 0 and 15.
    """

    def __init__(self, foreground: Colour, background: Colour, *, black: Colour, bright_white: Colour) -> None:
        self.foreground = foreground
        self.background = background
        self.palette = {30: black, 40: black, 97: bright_white, 107: bright_white}


_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
THEMES = {
    "dark": Theme((204, 204, 204), _BLACK, black=_BLACK, bright_white=_WHITE),
    "light": Theme(_BLACK, _WHITE, black=_BLACK, bright_white=_WHITE),
    # The values that Solarized publishes for base0, base03, base02 (colour 0) and base3 (colour 15).
    "solarized": Theme((131, 148, 150), (0, 43, 54), black=(7, 54, 66), bright_white=(253, 246, 227)),
}


class Screen:
    """A terminal window of a given width, with everything that has scrolled out of it.

    Args:
        theme: its colours.
        columns: longer lines continue on the next line.
    """

    def __init__(self, theme: Theme, *, columns: int = 80) -> None:
        self._theme = theme
        self._columns = columns
        self._lines: list[list[tuple[str, Colour, Colour]]] = [[]]
        self._foreground, self._background = theme.foreground, theme.background

    def write(self, text: str) -> None:
        """Draw a program's output.

        Raises:
            ValueError: this terminal does not support a control character or sequence.
        """
        for piece in re.findall(r"\x1b\[[0-9;]*m|.", text, re.DOTALL):
            if len(piece) > 1:
                for parameter in piece[2:-1].split(";"):
                    self._set_colour(int(parameter or "0"))
            elif piece == "\n":
                self._lines.append([])
            elif piece == "\r":
                pass  # comes only before a line end
            elif not piece.isprintable():
                raise ValueError(f"the terminal does not know {piece!r}")
            else:
                self._put(piece)

    def picture(self) -> Image.Image:
        """Return a picture of the screen, without letters."""
        size = (self._columns * CELL_WIDTH, len(self._lines) * CELL_HEIGHT)
        picture = Image.new("RGB", size, self._theme.background)
        half = CELL_HEIGHT // 2
        for row, line in enumerate(self._lines):
            for column, (character, foreground, background) in enumerate(line):
                for place, is_set in enumerate(_HALVES.get(character, (0, 0))):
                    left, top = column * CELL_WIDTH, row * CELL_HEIGHT + place * half
                    box = (left, top, left + CELL_WIDTH, top + half)
                    picture.paste(foreground if is_set else background, box)
        return picture

    def read_qr_codes(self) -> list[str]:
        """Return the QR codes on the screen, as a phone would read them."""
        with tempfile.NamedTemporaryFile(suffix=".png") as file:
            self.picture().save(file, "PNG")
            file.flush()
            return read_qr_codes_of(Path(file.name))

    def _set_colour(self, parameter: int) -> None:
        if parameter == 0:
            self._foreground, self._background = self._theme.foreground, self._theme.background
        elif parameter in (30, 97):
            self._foreground = self._theme.palette[parameter]
        elif parameter in (40, 107):
            self._background = self._theme.palette[parameter]
        else:
            raise ValueError(f"the terminal does not know colour {parameter}")

    def _put(self, character: str) -> None:
        if len(self._lines[-1]) == self._columns:
            self._lines.append([])
        self._lines[-1].append((character, self._foreground, self._background))


def read_qr_codes_of(picture: Path) -> list[str]:
    """Read the QR codes in a picture with zbarimg, which shares no code with us or with segno."""
    command = ["zbarimg", "--quiet", "--raw", "--nodbus", "-Sdisable", "-Sqrcode.enable=1", str(picture)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=30)
    if done.returncode not in (0, 4):  # 4: no code in the picture
        raise AssertionError(f"zbarimg failed: {done.stderr}")
    return done.stdout.splitlines()


def read_qr_codes(text: str, *, theme: str = "dark", columns: int = 80) -> list[str]:
    """Read the QR codes in a program's terminal output."""
    screen = Screen(THEMES[theme], columns=columns)
    screen.write(text)
    return screen.read_qr_codes()
