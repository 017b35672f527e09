"""PAM service files, read as Linux-PAM reads them, and the one line of ours that is put into one and taken out again.

Pure: what a file holds comes from a `Reader`. Text is decoded with `surrogateescape`, so that every byte survives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from pam_softtoken.errors import ProgramError

DIRECTORY = "/etc/pam.d"
DIRECTORIES = (DIRECTORY, "/usr/lib/pam.d")
"""Where libpam looks for a service, in this order."""
FALLBACK = "other"
KINDS = ("auth", "account", "password", "session")
MODULE = "pam_softtoken.so"
SET_UID_SERVICES = frozenset({"sudo", "sudo-i", "su", "su-l", "polkit-1", "doas"})
"""Services of programs that the user starts, and that make him somebody else."""
PASSWORD_MODULES = frozenset(
    f"pam_{name}.so"
    for name in ("unix", "unix2", "pwdfile", "sss", "ldap", "krb5", "winbind", "userdb", "tcb", "himmelblau")
)
_INCLUDE, _INCLUDE_ALL, _SUBSTACK = "include", "@include", "substack"
_ESCAPED = "#softtoken-admin: "
_MOST_LEVELS = 16  # libpam has 16 of substacks and 32 of includes; no honest file comes near
_SPACES = " \t\n"

Reader = Callable[[str], "str | None"]
"""Gives the text of a file by its absolute path, None where there is none."""


class Place(NamedTuple):
    """A line of a file, as people and editors name it.

    Args:
        file: absolute path.
        number: from 1.
    """

    file: str
    number: int

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"


class Line(NamedTuple):
    """One module of a stack, or the head of a substack.

    Args:
        place: where it stands; the first one of a continued line.
        last: number of its last physical line.
        kind: `auth`, `account`, `password` or `session`.
        quiet: the type has a `-`: nothing is logged when the module is missing.
        control: a word in lower case, or what stands in brackets; `substack` for the head of one.
        module: as it is written; for the head of a substack the service that it names.
        arguments: without the brackets.
        via: the lines that included it, the service's own first; empty when it stands in the service's file.
        depth: of substacks around it.
    """

    place: Place
    last: int
    kind: str
    quiet: bool
    control: str
    module: str
    arguments: tuple[str, ...]
    via: tuple[Place, ...] = ()
    depth: int = 0

    @property
    def name(self) -> str:
        """The module without its directory."""
        return self.module.rpartition("/")[2]

    @property
    def is_ours(self) -> bool:
        """Whether it runs our module, directly or through pam_python."""
        return self.control != _SUBSTACK and (
            self.name == MODULE
            or (self.name == "pam_python.so" and any("pam_softtoken" in word for word in self.arguments[:1]))
        )

    @property
    def outermost(self) -> Place:
        """The place in the service's own file."""
        return self.via[0] if self.via else self.place


class Problem(NamedTuple):
    """Something that libpam cannot read, with its place; a stack that has one lets nobody in, or not as it says."""

    place: Place
    why: str

    def __str__(self) -> str:
        return f"{self.place}: {self.why}"


class Stack(NamedTuple):
    """A service as libpam sees it.

    Args:
        service: its name.
        file: that it was read from; empty where there is none.
        lines: of all four types, in order, with what is included in its place.
        problems: what could not be read.
    """

    service: str
    file: str
    lines: tuple[Line, ...]
    problems: tuple[Problem, ...]

    def of(self, kind: str) -> tuple[Line, ...]:
        """Give the lines of one type."""
        return tuple(line for line in self.lines if line.kind == kind)

    @property
    def ours(self) -> tuple[Line, ...]:
        """Our lines of the type `auth`."""
        return tuple(line for line in self.of("auth") if line.is_ours)


class _Raw(NamedTuple):
    """One logical line of a file: its first and last physical line, and its words."""

    number: int
    last: int
    words: tuple[str, ...]


class CannotEdit(ProgramError):
    """There is no place in a service for our line."""


def read(service: str, reader: Reader) -> Stack:
    """Read a service, and what it includes; for a type of which it has no line, the lines of `other`."""
    problems: list[Problem] = []
    path, text = _find(service, reader)
    lines: list[Line] = []
    if text is not None:
        lines = list(_flatten(path, text, reader, problems))
    missing = {kind for kind in KINDS if not any(line.kind == kind for line in lines)}
    if missing and service != FALLBACK:
        other, text = _find(FALLBACK, reader)
        if text is not None:
            # What is wrong in there, and is not needed, is not this service's affair.
            more = [line for line in _flatten(other, text, reader, []) if line.kind in missing]
            lines += more
    return Stack(service, path, tuple(lines), tuple(problems))


def _find(service: str, reader: Reader) -> tuple[str, str | None]:
    paths = (service,) if service.startswith("/") else tuple(f"{directory}/{service}" for directory in DIRECTORIES)
    for path in paths:
        text = reader(path)
        if text is not None:
            return path, text
    return "", None


def _flatten(
    path: str,
    text: str,
    reader: Reader,
    problems: list[Problem],
    *,
    only: str = "",
    via: tuple[Place, ...] = (),
    depth: int = 0,
) -> Iterator[Line]:
    for raw in _logical_lines(path, text, problems):
        place, words = Place(path, raw.number), raw.words
        if words[0].lower() == _INCLUDE_ALL:
            target, kind, level = (words[1] if len(words) > 1 else ""), only, depth
        else:
            line = _line_of(place, raw, via, depth, problems)
            if line is None or (only and line.kind != only):
                continue
            if line.control not in (_INCLUDE, _SUBSTACK):
                yield line
                continue
            target, kind, level = line.module, line.kind, depth
            if line.control == _SUBSTACK:
                yield line
                level += 1
        yield from _included(target, place, reader, problems, only=kind, via=via, depth=level)


def _included(
    target: str,
    place: Place,
    reader: Reader,
    problems: list[Problem],
    *,
    only: str,
    via: tuple[Place, ...],
    depth: int,
) -> Iterator[Line]:
    if len(via) >= _MOST_LEVELS:
        problems.append(Problem(place, "includes itself, or too deep"))
        return
    path, text = _find(target, reader)
    if text is None:
        problems.append(Problem(place, f'there is no "{target}" to include'))
        return
    yield from _flatten(path, text, reader, problems, only=only, via=(*via, place), depth=depth)


def _line_of(place: Place, raw: _Raw, via: tuple[Place, ...], depth: int, problems: list[Problem]) -> Line | None:
    kind = raw.words[0].lower()
    quiet = kind.startswith("-")
    kind = kind.removeprefix("-")
    if kind not in KINDS:
        problems.append(Problem(place, f'"{raw.words[0]}" is no type of line'))
        return None
    if len(raw.words) < 3:
        problems.append(Problem(place, "the control or the module is missing"))
        return None
    control = raw.words[1]
    if control.lower() in ("required", "requisite", "sufficient", "optional", _INCLUDE, _SUBSTACK):
        control = control.lower()
    elif "=" not in control:
        problems.append(Problem(place, f'"{control}" is no control'))
    return Line(place, raw.last, kind, quiet, control, raw.words[2], raw.words[3:], via, depth)


def _logical_lines(path: str, text: str, problems: list[Problem]) -> Iterator[_Raw]:
    """Put continued lines together, and leave out what is empty or a comment.

    Source:
        libpam 1.5.2, `_pam_assemble_line`: a `#` ends the line wherever it stands; a comment or an empty line between
        the parts of a continued line is passed over.
    """
    begun, pending = 0, ""
    number = 0
    for number, physical in enumerate(_physical_lines(text), 1):
        content = physical.rstrip("\n")
        if not content.strip(_SPACES) or content.lstrip(_SPACES).startswith("#"):
            continue
        begun = begun or number
        visible, comment, _ = content.partition("#")
        stripped = visible.rstrip(_SPACES)
        if not comment and stripped.endswith("\\"):
            pending += stripped[:-1] + " "
            continue
        words = tuple(_words(pending + visible))
        if words:
            yield _Raw(begun, number, words)
        begun, pending = 0, ""
    if begun:
        problems.append(Problem(Place(path, begun), "the file ends where the line goes on"))


def _physical_lines(text: str) -> list[str]:
    """Split at line feeds only, and keep them."""
    lines = text.split("\n")
    return [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def _words(text: str) -> Iterator[str]:
    """Take a line apart; what stands in brackets is one word, and `\\]` in there is a bracket."""
    at = 0
    while True:
        while at < len(text) and text[at] in _SPACES:
            at += 1
        if at >= len(text):
            return
        word = ""
        if text[at] == "[":
            at += 1
            while at < len(text) and text[at] != "]":
                at += text.startswith("\\]", at)
                word += text[at]
                at += 1
            at += 1
        else:
            while at < len(text) and text[at] not in _SPACES:
                word += text[at]
                at += 1
        yield word


def jump_of(control: str) -> int:
    """Give how many lines the control hops over at most; 0 for none."""
    actions = (word.partition("=")[2] for word in control.split())
    return max((int(action) for action in actions if action.isdecimal()), default=0)


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
    lines = _physical_lines(text)
    if instead:
        lines[first - 1 : last] = [_ESCAPED + each for each in lines[first - 1 : last]]
    if lines[last - 1].endswith("\n"):
        lines.insert(last, line + "\n")
    else:
        lines.insert(last, "\n" + line)
    return "".join(lines)


def _password_block(stack: Stack) -> tuple[int, int]:
    """Give the first and the last physical line of what asks for the password in the service's own file.

    A control that hops over lines belongs to them: with ours in between, it would hop over ours.
    """
    auth = stack.of("auth")
    asking = [
        number
        for number, line in enumerate(auth)
        if line.name in PASSWORD_MODULES and line.outermost.file == stack.file
    ]
    if not asking:
        raise CannotEdit(
            f'"{stack.service}" asks for no password: neither its file nor what that includes has a module for it',
            hint=f"put the line where it belongs by hand: auth required {MODULE}",
        )
    end = asking[-1]
    number = asking[0]
    while number <= end:
        end = min(max(end, number + jump_of(auth[number].control)), len(auth) - 1)
        number += 1
    block = [line for line in auth[asking[0] : end + 1] if line.outermost.file == stack.file]
    return block[0].outermost.number, max(line.outermost.number if line.via else line.last for line in block)


def take_out(text: str) -> str:
    """Take out every line of ours, and turn what was left as comments back into lines; all other bytes stay."""
    ours = {
        number
        for raw in _logical_lines("", text, [])
        if _is_our_line(raw.words)
        for number in range(raw.number, raw.last + 1)
    }
    kept: list[str] = []
    for number, physical in enumerate(_physical_lines(text), 1):
        if number not in ours:
            kept.append(physical.removeprefix(_ESCAPED))
        elif not physical.endswith("\n") and kept:
            kept[-1] = kept[-1].removesuffix("\n")
    return "".join(kept)


def _is_our_line(words: tuple[str, ...]) -> bool:
    line = _line_of(Place("", 0), _Raw(0, 0, words), (), 0, []) if words[0].lower() != _INCLUDE_ALL else None
    return line is not None and line.is_ours


def places(lines: Iterable[Line]) -> str:
    """Name lines for a message."""
    return ", ".join(str(line.place) for line in lines)
