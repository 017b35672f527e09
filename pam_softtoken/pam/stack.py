"""A PAM service as libpam sees it: its lines, where they stand, and what could not be read. Values only.

On the way of a login only when somebody is to enrol, so it loads nothing of the standard library.
"""

from __future__ import annotations

from pam_softtoken.pam import known_modules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


class Place:
    """A line of a file, as people and editors name it.

    Args:
        file: absolute path.
        number: of the first physical line, from 1.
        last: of the last one, where the line goes on; 0 for the same.
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
        quiet: the type has a `-`: nothing is logged when the module is missing.
        control: a word in lower case, or what stands in brackets; `substack` for the head of one.
        actions: what the control does for each return code; empty for the head of a substack.
        module: as it is written; for the head of a substack the service that it names.
        arguments: without the brackets.
        via: the lines that included it, the service's own first; empty when it stands in the service's file.
        depth: of substacks around it.
        is_broken: libpam runs no module here, and takes the line for one that was refused.
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
        """The number of the last physical line."""
        return self.place.last

    @property
    def name(self) -> str:
        """The module without its directory."""
        return self.module.rpartition("/")[2]

    @property
    def is_substack(self) -> bool:
        """Whether it is the head of a substack, which runs nothing itself."""
        return not self.actions

    @property
    def is_ours(self) -> bool:
        """Whether it runs our module, directly or through pam_python."""
        return not self.is_substack and not self.is_broken and known_modules.is_ours(self.name, self.arguments)

    @property
    def outermost(self) -> Place:
        """The place in the service's own file."""
        return self.via[0] if self.via else self.place

    @property
    def meaning(self) -> tuple[object, ...]:
        """All that libpam goes by: two readings are the same if this is."""
        return self.kind, sorted(self.actions.items()), self.module, self.arguments, self.depth, self.is_broken

    def __repr__(self) -> str:
        return f"<{self.place} {self.kind} [{self.control}] {self.module} {' '.join(self.arguments)}>"


class Problem:
    """Something that libpam cannot read; a service that has one does not do what it says, or lets nobody in.

    Args:
        place: where.
        why: in words.
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
        file: that it was read from; empty where there is none.
        lines: of all four types, in order, with what is included in its place.
        problems: what could not be read.
        is_given_up: libpam refuses the service as a whole, and runs nothing.
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
        """Our lines of the type `auth`."""
        return tuple(line for line in self.of("auth") if line.is_ours)


def places(lines: Iterable[Line]) -> str:
    """Name lines for a message."""
    return ", ".join(str(line.place) for line in lines)
