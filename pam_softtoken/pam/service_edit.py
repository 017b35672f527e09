"""The one line of ours that is put into a PAM service file and taken out again. Pure.

Every other byte stays, but for the count of what hops over our line.

Texts are decoded with `surrogateescape`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pam_softtoken.pam import jumps, known_modules, service_file
from pam_softtoken.pam.control import jump_of
from pam_softtoken.pam.dialect import Dialect
from pam_softtoken.pam.jumps import CannotEdit
from pam_softtoken.pam.logical_lines import assemble, physical_lines
from pam_softtoken.pam.stack import Line, Stack

if TYPE_CHECKING:
    from pam_softtoken.pam.service_file import Reader

_ESCAPED = "#softtoken-admin: "
_NAME = "softtoken-edited"
_FILE = f"{service_file.DIRECTORY}/{_NAME}"
"""Stands for the one that is edited."""


def our_line(module: str, *options: str) -> str:
    """Write our line.

    Args:
        module: its name or path, and what has to stand behind it.
        options: more of them, each as it stands in the line.
    """
    return " ".join(("auth\trequired\t" + module, *options))


def put(text: str, stack: Stack, line: str, *, instead: bool = False) -> str:
    """Put our line behind the one that asks for the password.

    Args:
        text: of the service's own file.
        stack: the service, read with this text.
        line: of ours, from `our_line`.
        instead: leave the lines that ask for the password as comments.

    Raises:
        CannotEdit: there is none, or not in this file.
    """
    first, last = _password_block(stack)
    lines = physical_lines(text)
    if instead:
        lines[first - 1 : last] = [_ESCAPED + each for each in lines[first - 1 : last]]
    if lines[last - 1].endswith("\n"):
        lines.insert(last, line + "\n")
    else:
        lines.insert(last, "\n" + line)
    return "".join(lines)


def _password_block(stack: Stack) -> tuple[int, int]:
    """Return the first and the last physical line of what asks for the password in the service's own file.

    A control that hops over lines belongs to them: with ours in between, it would hop over ours.
    """
    auth = stack.of("auth")
    asking = [
        number
        for number, line in enumerate(auth)
        if line.name in known_modules.PASSWORD and line.outermost.file == stack.file
    ]
    if not asking:
        raise CannotEdit(
            f'"{stack.service}" asks for no password: neither its file nor what that includes has a module for it',
            hint=f"put the line where it belongs by hand: auth required {known_modules.OURS}",
        )
    end = asking[-1]
    number = asking[0]
    while number <= end:
        end = min(max(end, number + jump_of(auth[number].actions)), len(auth) - 1)
        number += 1
    block = [line for line in auth[asking[0] : end + 1] if line.outermost.file == stack.file]
    return block[0].outermost.number, max(line.outermost.last for line in block)


def take_out(text: str, dialect: Dialect, reader: Reader) -> str:
    """Return a text without every line of ours, and with what was left as comments as lines again.

    Args:
        text: of the file.
        dialect: of the libpam that reads it.
        reader: of the files that it includes, for what hops over our line.

    Raises:
        CannotEdit: a line hops over ours, and cannot be changed to hop over one line less.
    """
    return without(text, lambda line: line.is_ours, dialect, reader, uncover=True)


def asks_no_password(text: str) -> bool:
    """Check whether a text is one of `put` with `instead`."""
    return any(line.startswith(_ESCAPED) for line in physical_lines(text))


def without(
    text: str, unwanted: Callable[[Line], bool], dialect: Dialect, reader: Reader, *, uncover: bool = False
) -> str:
    """Return the text of a service file without some lines. What hops over them hops over so many lines less.

    Args:
        text: of the file.
        unwanted: says which lines.
        dialect: of the libpam that reads it.
        reader: of the files that it includes, for what hops over these lines.
        uncover: turn what `put` left as comments back into lines.

    Raises:
        CannotEdit: a line hops over one of them, and cannot be changed.
    """
    stack = _read(text, dialect, reader)
    own = [line for line in stack.lines if line.place.file == _FILE and not line.via and unwanted(line)]
    guilty = _count(range(line.place.number, line.last + 1) for line in own)
    # libpam can see two lines in one that is too long for it; then the other one must stay.
    present = _count(range(line.first, line.last + 1) for line in assemble(text, dialect)[0])
    gone = {number for number in guilty if guilty[number] >= present[number]}
    taken = {line.place for line in own if gone.issuperset(range(line.place.number, line.last + 1))}
    lines = physical_lines(text)
    uncovered = [number for number, line in enumerate(lines, 1) if uncover and line.startswith(_ESCAPED)]
    shorter = jumps.shortened(stack, taken, uncovered, _FILE)
    if shorter:
        text = jumps.rewritten(text, shorter)
        jumps.require_only_these(stack, _read(text, dialect, reader), shorter)
    kept: list[str] = []
    for number, physical in enumerate(physical_lines(text), 1):
        if number not in gone:
            kept.append(physical.removeprefix(_ESCAPED) if uncover else physical)
        elif not physical.endswith("\n") and kept:
            kept[-1] = kept[-1].removesuffix("\n")
    return "".join(kept)


def _read(text: str, dialect: Dialect, reader: Reader) -> Stack:
    return service_file.read(_NAME, lambda path: text if path == _FILE else reader(path), dialect)


def _count(ranges: Iterable[range]) -> dict[int, int]:
    """Return in how many of the ranges each number is."""
    counts: dict[int, int] = {}
    for numbers in ranges:
        for number in numbers:
            counts[number] = counts.get(number, 0) + 1
    return counts
