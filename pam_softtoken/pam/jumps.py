"""Shorten jumps over lines that are removed from a service file. If a jump cannot be shortened, the edit is refused.
Pure.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from pam_softtoken.pam import paths
from pam_softtoken.pam.logical_lines import physical_lines
from pam_softtoken.pam.service_file import KINDS
from pam_softtoken.pam.stack import Line, Place, Stack
from pam_softtoken.program_errors import ProgramError

_CONTROL = re.compile(r"\A(\s*-?[A-Za-z]+(?:\s|\\\n)+\[)([^\]]*)\]", re.ASCII)
_HOPS = re.compile(r"(=\s*)([0-9]+)")
_NOTHING = "ignore"
"""The action that replaces a jump over no line. libpam knows no jump of 0."""


class CannotEdit(ProgramError):
    """A service file cannot be changed as requested."""


class Shorter:
    """A line whose jumps become shorter.

    Args:
        line: the line.
        hops: for each of its counts, the new count; 0 for none.
    """

    __slots__ = ("hops", "line")

    def __init__(self, line: Line, hops: dict[int, int]) -> None:
        self.line = line
        self.hops = hops

    def action(self, action: str) -> str:
        """Return the new action for an old one."""
        if not action.isdecimal() or int(action) not in self.hops:
            return action
        return str(self.hops[int(action)] or _NOTHING)


def over(lines: Sequence[Line], target: Line) -> list[Line]:
    """Return the lines that hop over another one.

    Args:
        lines: of one type, in order.
        target: one of them.
    """
    return [
        line
        for index, line in enumerate(lines)
        for count in {int(action) for action in line.actions.values() if action.isdecimal()}
        if target in lines[index + 1 : paths.jump(lines, index, count)[0]]
    ]


def shortened(stack: Stack, taken: Collection[Place], uncovered: Sequence[int], file: str) -> list[Shorter]:
    """Return the lines whose jumps must become shorter.

    Args:
        stack: the service, with what it includes.
        taken: places of the removed lines, in the service's own file.
        uncovered: line numbers of the comments in that file that become lines.
        file: that file.

    Raises:
        CannotEdit: such a line is in another file, or would hop over something else.
    """
    found = []
    for kind in KINDS:
        lines = stack.of(kind)
        for index, line in enumerate(lines):
            hops = {}
            for count in {int(action) for action in line.actions.values() if action.isdecimal()}:
                end, _ = paths.jump(lines, index, count)
                skipped = lines[index + 1 : end]
                left = count - sum(each.place in taken for each in skipped)
                if left and skipped and _any_between(uncovered, line, skipped[-1]):
                    raise _refusal(line, file, "the lines that ask for the password are included again below it")
                if left != count:
                    hops[count] = left
            if hops and line.place not in taken:
                if line.place.file != file:
                    raise _refusal(line, file, "other services may include that file")
                found.append(Shorter(line, hops))
    return found


def _any_between(numbers: Sequence[int], first: Line, last: Line) -> bool:
    return any(first.outermost.last < number < last.outermost.number for number in numbers)


def _refusal(line: Line, file: str, why: str) -> CannotEdit:
    place = f"line {line.place.number}" if line.place.file == file else str(line.place)
    return CannotEdit(
        f"{place} jumps over the line with pam_softtoken ([{line.control}] {line.module}), and cannot be "
        f"changed: {why}",
        hint=f"remove that jump from {place} by hand",
    )


def rewritten(text: str, shorter: Sequence[Shorter]) -> str:
    """Return the text of a service file with shorter jumps. `require_only_these` checks the result."""
    lines = physical_lines(text)
    for each in shorter:
        first, last = each.line.place.number - 1, each.line.last
        control = _CONTROL.match("".join(lines[first:last]))
        if control is not None:
            changed = _HOPS.sub(lambda match, each=each: match[1] + each.action(match[2]), control[2])
            whole = control[1] + changed + "".join(lines[first:last])[control.end() - 1 :]
            lines[first:last] = physical_lines(whole)
    return "".join(lines)


def require_only_these(before: Stack, after: Stack, shorter: Sequence[Shorter]) -> None:
    """Check that libpam reads the new text like the old one, except for the jumps.

    Raises:
        CannotEdit: it does not.
    """
    by_place = {each.line.place: each for each in shorter}
    wanted = [_meaning(line, by_place.get(line.place)) for line in before.lines]
    if wanted != [_meaning(line, None) for line in after.lines]:
        line = shorter[0].line
        raise _refusal(line, line.place.file, "its control is written in a way that this program does not know")


def _meaning(line: Line, shorter: Shorter | None) -> tuple[object, ...]:
    actions = {code: shorter.action(action) if shorter else action for code, action in line.actions.items()}
    return line.place, line.kind, actions, line.module, line.arguments, line.depth, line.is_broken
