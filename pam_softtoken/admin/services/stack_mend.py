"""Find changes that repair a PAM stack. Each is tried on the text first. Show only one that makes the stack sound.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

from pam_softtoken import platform_facts
from pam_softtoken.admin.common.finding import Edit, delete, set_control, shown
from pam_softtoken.pam import installed_libpam, known_modules, paths, service_file
from pam_softtoken.pam.stack import Line, Stack


def skipping(lines: Sequence[Line]) -> list[Line]:
    """Return the lines that let users bypass ours, without those that do it for root only."""
    past = {end.past for end in paths.ends(lines) if end.is_in and not end.ours}
    guilty = [lines[index] for index in sorted(index for index in past if index is not None)]
    return [line for line in guilty if line.name not in known_modules.ROOT_ONLY]


def code_alone(lines: Sequence[Line]) -> bool:
    """Return whether a stack that asks for a password lets in a user who has only a code."""
    return paths.asks_for_password(lines) and any(
        end.is_in and end.ours == paths.SUCCESS for end in paths.ends(lines, paths.no_first_factor)
    )


def denial_is_lost(found: Iterable[paths.End]) -> bool:
    """Return whether a user gets in after a refused code."""
    return any(end.is_in and end.ours not in ("", paths.SUCCESS, paths.IGNORED) for end in found)


def lets_in(found: Iterable[paths.End]) -> bool:
    """Return whether a user gets in with a right code."""
    return any(end.is_in and end.ours == paths.SUCCESS for end in found)


def first_that_helps(stack: Stack, reader: Callable[[str], str | None], changes: Iterable[Sequence[Edit]]) -> str:
    """Return the first change that leaves the stack without gaps and walls; the editor if there is none.

    Args:
        stack: the service.
        reader: reader of its files.
        changes: each is of one file, from its last line to its first, so that no edit moves the line of the next.
    """
    for change in changes:

        def changed(path: str, change: Sequence[Edit] = change) -> str | None:
            text = reader(path)
            for edit in change:
                text = edit.apply(text) if text is not None and path == edit.file else text
            return text

        after = service_file.read(stack.service, changed, installed_libpam.dialect())
        lines = after.of("auth")
        found = paths.ends(lines)
        gaps = [line for line in skipping(lines) if line.name not in known_modules.SELECTING]
        sound = lets_in(found) and not gaps and not denial_is_lost(found) and not code_alone(lines)
        if len(after.ours) == 1 and sound:
            return "\n".join(map(str, change))
    return platform_facts.editor(stack.ours[0].place.file)


def against_skip(stack: Stack, line: Line) -> Iterator[list[Edit]]:
    """Yield changes that could stop a line from bypassing ours."""
    if line.actions.get(paths.SUCCESS, "").isdecimal():
        yield from moves(stack)
    requisite = set_control(line, "requisite")
    yield [requisite]
    # A line that refused all other users until now would refuse everybody.
    walls = [delete(other) for other in stack.of("auth") if other.name == known_modules.DENY]
    yield sorted([requisite, *(edit for edit in walls if edit.file == requisite.file)], key=_number, reverse=True)


def _number(edit: Edit) -> int:
    return edit.number


def against_wall(stack: Stack) -> Iterator[list[Edit]]:
    """Yield changes that could let in users who have all proofs."""
    yield from moves(stack)
    for line in stack.of("auth"):
        if line.name == known_modules.DENY:
            yield [delete(line)]


def moves(stack: Stack) -> Iterator[list[Edit]]:
    """Yield the change that moves our line after the last one of its file."""
    ours = stack.ours[0]
    end = last_number(stack.of("auth"), ours.place.file)
    if end > ours.last:
        yield [Edit(ours.place.file, end + 1, end, shown(ours)), delete(ours)]


def last_number(lines: Iterable[Line], file: str) -> int:
    """Return the number of the last line of a file that is one of these, or includes one."""
    return max(place.last for line in lines for place in (line.place, *line.via) if place.file == file)
