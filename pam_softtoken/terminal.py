"""What the programs say to a person: results, questions, errors, hints, QR codes. The only module that prints.

Results go to stdout, everything else to stderr, so that a script can take the one without the other.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

from pam_softtoken.errors import EnrolmentFailed, ProgramError

_DARK_ON_LIGHT = "\x1b[30;107m"
_DARK, _LIGHT = "\x1b[40m", "\x1b[107m"
_PLAIN = "\x1b[0m"
QUIET_MODULES = 4  # ISO/IEC 18004 asks for a light border of four modules


class Terminal:
    """The person's end of a program.

    Args:
        program: the name before `error:` and `hint:`.
        results: where results go, if not to stdout.
    """

    def __init__(self, program: str, *, results: TextIO | None = None) -> None:
        self._program = program
        self._results = results or sys.stdout

    def show(self, text: str = "") -> None:
        """Print a result."""
        print(text, file=self._results)
        self._results.flush()

    def tell(self, text: str = "") -> None:
        """Print what is not a result."""
        print(text, file=sys.stderr)

    def ask(self, question: str) -> str:
        """Ask the person for one line.

        Raises:
            EnrolmentFailed: the input has ended.
        """
        sys.stderr.write(question + " ")
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            self.tell()
            raise EnrolmentFailed(
                "the input ended before an answer; nothing was changed",
                hint="answer the questions, or use --no-confirm in a script",
            )
        return line.rstrip("\r\n")

    def error(self, error: ProgramError) -> None:
        """Print a mistake and what helps."""
        self.tell(f"{self._program}: error: {error.message}")
        self.tell(f"{self._program}: hint: {error.hint}")

    def can_show_blocks(self) -> bool:
        """Tell whether the results' encoding has block characters."""
        return (self._results.encoding or "").lower().replace("-", "") == "utf8"

    def has_colour(self) -> bool:
        """Tell whether colours can and may be used."""
        return self._results.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def person_is_there() -> bool:
    """Tell whether somebody can answer questions."""
    return sys.stdin.isatty()


def run(program: str, body: Callable[[Terminal], None]) -> int:
    """Run a program's body and turn what it raises into an exit status; the one place where that is done.

    Returns:
        0 done, 1 failed, 2 usage.
    """
    terminal = Terminal(program)
    try:
        body(terminal)
        return 0
    except ProgramError as error:
        terminal.error(error)
        return error.exit_status
    except KeyboardInterrupt:
        terminal.tell()
        terminal.error(EnrolmentFailed("interrupted; nothing was changed", hint=f"start again with {program}"))
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def half_blocks(matrix: Sequence[Sequence[int]], *, colour: bool) -> str:
    """Draw a QR code with two modules in each character.

    Args:
        matrix: rows of modules, 1 is dark; with the quiet zone.
        colour: set black on white, which can be read on any background. Without, light modules are drawn, as on a
            dark terminal.
    """
    rows = [list(row) for row in matrix]
    if len(rows) % 2:
        rows.append([0] * len(rows[0]))
    lines = []
    for upper, lower in zip(rows[::2], rows[1::2], strict=True):
        pairs = zip(upper, lower, strict=True)
        if colour:
            lines.append(_DARK_ON_LIGHT + "".join(" ▄▀█"[up * 2 + down] for up, down in pairs) + _PLAIN)
        else:
            lines.append("".join("█▀▄ "[up * 2 + down] for up, down in pairs))
    return "\n".join(lines)


def backgrounds(matrix: Sequence[Sequence[int]]) -> str:
    """Draw a QR code with coloured spaces, two for each module, for terminals without block characters."""
    return "\n".join("".join((_DARK if module else _LIGHT) + "  " for module in row) + _PLAIN for row in matrix)


def grouped(text: str, size: int = 4) -> str:
    """Set a space after every `size` characters, as people read keys to each other."""
    return " ".join(text[place : place + size] for place in range(0, len(text), size))
