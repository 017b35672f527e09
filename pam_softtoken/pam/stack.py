"""A PAM service as libpam sees it: its lines, their places, and what could not be read. Values only. A login loads it
only when a user is to enrol, and it imports nothing of the standard library.
"""

from __future__ import annotations

from pam_softtoken.pam import known_modules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Place:
    """The place of a line in a file, as people and editors name it.

    Args:
        file: absolute path.
        number: number of the first physical line, from 1.
        last: number of the last physical line, if the line is continued; 0 if it is the same.
    """

    __slots__ = ("file", "last", "number")

    def __init__(self, file: str, number: int, last: int = 0) -> None:
        self.file = file
        self.number = number
        self.last = last or number

    def __str__(self) -> str:
        return f"{self.file}:{self.number}"

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place) and (self.file, self.number) == (other.file, other.number)

    def __hash__(self) -> int:
        return hash((self.file, self.number))


class Line:
    """One module of a stack, or the head of a substack.

    Args:
        place: where it stands.
        kind: `auth`, `account`, `password` or `session`.
        quiet: the type has a `-`. Then a missing module is not logged.
        control: a word in lower case, or the text in brackets; `substack` for the head of a substack.
        actions: the control's action for each return code; empty for the head of a substack.
        module: as written. For the head of a substack, the service that it names.
        arguments: without the brackets.
        via: the lines that included it, the service's own first. Empty if it is in the service's own file.
        depth: of substacks around it.
        is_broken: libpam runs no module here, and treats the line as refused.
    """

    __slots__ = (
        "actions",
        "arguments",
        "control",
        "depth",
        "is_broken",
        "kind",
        "module",
        "place",
        "quiet",
        "via",
    )

    def __init__(
        self,
        place: Place,
        kind: str,
        control: str,
        *,
        actions: dict[str, str],
        module: str,
        arguments: tuple[str, ...] = (),
        quiet: bool = False,
        via: tuple[Place, ...] = (),
        depth: int = 0,
        is_broken: bool = False,
    ) -> None:
        self.place = place
        self.kind = kind
        self.quiet = quiet
        self.control = control
        self.actions = actions
        self.module = module
        self.arguments = arguments
        self.via = via
        self.depth = depth
        self.is_broken = is_broken

    @property
    def last(self) -> int:
        """Return the number of the last physical line."""
        return self.place.last

    @property
    def name(self) -> str:
        """Return the file name of the module, without its directory."""
        return self.module.rpartition("/")[2]

    @property
    def is_substack(self) -> bool:
        """Whether it is the head of a substack. The head itself runs nothing."""
        return not self.actions

    @property
    def is_ours(self) -> bool:
        """Whether it runs our module, directly or through pam_python."""
        return not self.is_substack and not self.is_broken and known_modules.is_ours(self.name, self.arguments)

    @property
    def outermost(self) -> Place:
        """Return the place in the service's own file: of the line, or of the include that leads to it."""
        return self.via[0] if self.via else self.place

    @property
    def meaning(self) -> tuple[object, ...]:
        """Return everything that libpam uses. Two readings are the same if this is the same."""
        return self.kind, sorted(self.actions.items()), self.module, self.arguments, self.depth, self.is_broken

    def __repr__(self) -> str:
        return f"<{self.place} {self.kind} [{self.control}] {self.module} {' '.join(self.arguments)}>"


class Problem:
    """Something that libpam cannot read. A service with a problem does not do what it says, or lets nobody in.

    Args:
        place: the place.
        why: the cause, in words.
    """

    __slots__ = ("place", "why")

    def __init__(self, place: Place, why: str) -> None:
        self.place = place
        self.why = why

    def __str__(self) -> str:
        return f"{self.place}: {self.why}"

    __repr__ = __str__


class Stack:
    """A service as libpam sees it.

    Args:
        service: its name.
        file: the file that it was read from; empty if there is none.
        lines: lines of all four types, in order. Included lines stand in place of their include.
        problems: what could not be read.
        is_given_up: libpam refuses the whole service, and runs nothing.
    """

    __slots__ = ("file", "is_given_up", "lines", "problems", "service")

    def __init__(
        self,
        service: str,
        file: str,
        lines: tuple[Line, ...],
        problems: tuple[Problem, ...],
        *,
        is_given_up: bool,
    ) -> None:
        self.service = service
        self.file = file
        self.lines = lines
        self.problems = problems
        self.is_given_up = is_given_up

    def of(self, kind: str) -> tuple[Line, ...]:
        """Return the lines of one type."""
        return tuple(line for line in self.lines if line.kind == kind)

    @property
    def ours(self) -> tuple[Line, ...]:
        """Return our own lines of the type `auth`."""
        return tuple(line for line in self.of("auth") if line.is_ours)


def places(lines: Iterable[Line]) -> str:
    """Return the places of lines, for a message."""
    return ", ".join(str(line.place) for line in lines)
