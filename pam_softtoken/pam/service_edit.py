"""Add our one line to a PAM service file, and remove it again. Pure. Every other byte stays, except the counts of
jumps over our line. Texts are decoded with `surrogateescape`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pam_softtoken.pam import jumps, known_modules, service_file
from pam_softtoken.pam.control import jump_of
from pam_softtoken.pam.dialect import Dialect
from pam_softtoken.pam.jumps import CannotEdit
from pam_softtoken.pam.logical_lines import assemble, physical_lines
from pam_softtoken.pam.stack import Line, Place, Stack

if TYPE_CHECKING:
    from pam_softtoken.pam.service_file import Reader

_INCLUDE = re.compile(r"^(auth[ \t]+)include(?=[ \t])")
_ESCAPED = "#softtoken-admin: "
_NAME = "softtoken-edited"
_FILE = f"{service_file.DIRECTORY}/{_NAME}"
"""Stands for the path of the edited file."""


def our_line(module: str, *options: str) -> str:
    """Return our line.

    Args:
        module: its name or path, and the arguments that must follow.
        options: more arguments, each as it stands in the line.
    """
    return " ".join(("auth\trequired\t" + module, *options))


def put(text: str, stack: Stack, line: str, *, instead: bool = False) -> str:
    """Return the text with our line after the one that asks for the password.

    Args:
        text: text of the service's own file.
        stack: the service, read from this text.
        line: our line, from `our_line`.
        instead: turn the lines that ask for the password into comments.

    Raises:
        CannotEdit: no line asks for the password, or it is not in this file.
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


def fenced(text: str, stack: Stack, place: Place) -> str:
    """Return the text with an `include` turned into a `substack`. A line in the included file can then no longer end
    the whole stack. It is unchanged if another line jumps: the count of a jump could change its meaning.

    Args:
        text: text of the service's own file.
        stack: the service, read from this text.
        place: of the line that includes.
    """
    if place.file != stack.file or any(jump_of(line.actions) for line in stack.of("auth") if not line.via):
        return text
    lines = physical_lines(text)
    lines[place.number - 1] = _INCLUDE.sub(rf"\1{service_file.SUBSTACK}", lines[place.number - 1])
    return "".join(lines)


def _password_block(stack: Stack) -> tuple[int, int]:
    """Return the first and the last physical line of the part that asks for the password, in the service's own file.

    A control that jumps over these lines belongs to them. It would jump over our line, if that stood in between.
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
    """Return a text without our lines. Lines that `put` left as comments are lines again.

    Args:
        text: text of the file.
        dialect: dialect of the libpam that reads it.
        reader: reader of included files, to find jumps over our line.

    Raises:
        CannotEdit: a line jumps over ours, and cannot be changed to jump over one line less.
    """
    return without(text, lambda line: line.is_ours, dialect, reader, uncover=True)


def asks_no_password(text: str) -> bool:
    """Check whether a text comes from `put` with `instead`."""
    return any(line.startswith(_ESCAPED) for line in physical_lines(text))


def without(
    text: str, unwanted: Callable[[Line], bool], dialect: Dialect, reader: Reader, *, uncover: bool = False
) -> str:
    """Return the text of a service file without some lines. Jumps over them become shorter.

    Args:
        text: text of the file.
        unwanted: selects the lines.
        dialect: dialect of the libpam that reads it.
        reader: reader of included files, to find jumps over these lines.
        uncover: turn comments that `put` left back into lines.

    Raises:
        CannotEdit: a line jumps over one of them, and cannot be changed.
    """
    stack = _read(text, dialect, reader)
    own = [line for line in stack.lines if line.place.file == _FILE and not line.via and unwanted(line)]
    guilty = _count(range(line.place.number, line.last + 1) for line in own)
    # libpam can see two lines in one that is too long for it. The other one must then stay.
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
    """Return for each number the count of ranges that contain it."""
    counts: dict[int, int] = {}
    for numbers in ranges:
        for number in numbers:
            counts[number] = counts.get(number, 0) + 1
    return counts
