"""Find commands that repair a PAM stack. Each is tried on the text first. Show only one that makes the stack sound.

Pure.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence

from pam_softtoken.admin.common.finding import lines_of
from pam_softtoken.pam import installed_libpam, known_modules, paths, service_file
from pam_softtoken.pam.stack import Line, Stack


class Edit:
    """A change of one file, as a command and as a function on the text.

    Args:
        file: absolute path.
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self._scripts: list[str] = []
        self._texts: dict[int, str] = {}
        self._patterns: dict[int, tuple[str, str]] = {}
        self._gone: set[int] = set()
        self._moved: tuple[int, int] | None = None

    def set_control(self, line: Line, control: str) -> Edit:
        """Return the change that replaces the control of a line."""
        pattern = r"\[[^]]*\]" if "=" in line.control else line.control
        self._scripts.append(f"{lines_of(line)}s/{pattern}/{control}/I")
        self._patterns.update(dict.fromkeys(range(line.place.number, line.last + 1), (pattern, control)))
        return self

    def delete(self, line: Line) -> Edit:
        """Return the change that deletes a line."""
        self._scripts.append(f"{lines_of(line)}d")
        self._gone.update(range(line.place.number, line.last + 1))
        return self

    def move(self, line: Line, last: int) -> Edit:
        """Return the change that moves a line after a later one."""
        self._scripts += [f"{line.place.number}{{h;d}}", f"{last}G"]
        self._moved = (line.place.number, last)
        return self

    @property
    def command(self) -> str:
        words = " ".join(f"-e {shlex.quote(script)}" for script in self._scripts)
        return f"sed -i {words} {shlex.quote(self.file)}"

    def apply(self, text: str) -> str:
        """Return the changed text."""
        kept = []
        lines = text.split("\n")
        for number, line in enumerate(lines, 1):
            pattern, control = self._patterns.get(number, ("(?!)", ""))
            if number not in self._gone and not (self._moved and number == self._moved[0]):
                kept.append(re.sub(pattern, control, line, count=1, flags=re.IGNORECASE))
            if self._moved and number == self._moved[1]:
                kept.append(lines[self._moved[0] - 1])
        return "\n".join(kept)


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


def first_that_helps(stack: Stack, reader: Callable[[str], str | None], edits: Iterable[Edit]) -> str:
    """Return the first command that leaves the stack without gaps and walls; the editor if there is none."""
    for edit in edits:

        def changed(path: str, edit: Edit = edit) -> str | None:
            text = reader(path)
            return edit.apply(text) if text is not None and path == edit.file else text

        after = service_file.read(stack.service, changed, installed_libpam.dialect())
        lines = after.of("auth")
        found = paths.ends(lines)
        gaps = [line for line in skipping(lines) if line.name not in known_modules.SELECTING]
        sound = lets_in(found) and not gaps and not denial_is_lost(found) and not code_alone(lines)
        if len(after.ours) == 1 and sound:
            return edit.command
    return f"sensible-editor {shlex.quote(stack.ours[0].place.file)}"


def against_skip(stack: Stack, line: Line) -> Iterator[Edit]:
    """Yield changes that could stop a line from bypassing ours."""
    if line.actions.get(paths.SUCCESS, "").isdecimal():
        yield from moves(stack)
    yield Edit(line.place.file).set_control(line, "requisite")
    # A line that refused all other users until now would refuse everybody.
    edit = Edit(line.place.file).set_control(line, "requisite")
    for other in stack.of("auth"):
        if other.name == known_modules.DENY and other.place.file == line.place.file:
            edit.delete(other)
    yield edit


def against_wall(stack: Stack) -> Iterator[Edit]:
    """Yield changes that could let in users who have all proofs."""
    yield from moves(stack)
    for line in stack.of("auth"):
        if line.name == known_modules.DENY:
            yield Edit(line.place.file).delete(line)


def moves(stack: Stack) -> Iterator[Edit]:
    """Yield the change that moves our line after the last one of its file."""
    ours = stack.ours[0]
    places = [place for line in stack.of("auth") for place in line.via if place.file == ours.place.file]
    numbers = [place.last for place in places]
    numbers += [line.last for line in stack.of("auth") if line.place.file == ours.place.file]
    if max(numbers) > ours.last == ours.place.number:
        yield Edit(ours.place.file).move(ours, max(numbers))
