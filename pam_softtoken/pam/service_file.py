"""Read PAM services the way libpam reads them. This is the only reader of service files. Pure: texts come from a
`Reader`. A login loads it only when a user is to enrol, and it imports nothing of the standard library.

Source:
    `_pam_parse_conf_file`, `_pam_load_conf_file`, `_pam_init_handlers` of libpam 1.5.2 and 1.7.0, and Debian's patch
    031_pam_include.
"""

from __future__ import annotations

from pam_softtoken import platform_facts
from pam_softtoken.pam.control import ALL_BAD, BadControl, actions_of
from pam_softtoken.pam.dialect import Dialect
from pam_softtoken.pam.logical_lines import LogicalLine, assemble
from pam_softtoken.pam.stack import Line, Place, Problem, Stack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Reader = Callable[[str], str | None]
    """Returns the text of a file by its absolute path. It is empty for a directory, and None if fopen(3) would fail."""

DIRECTORIES = platform_facts.SERVICE_DIRECTORIES
DIRECTORY = DIRECTORIES[0]
ONE_FILE = "/etc/pam.conf"
"""All services in one file. It counts if none of the directories exists."""
FALLBACK = "other"
KINDS = ("auth", "account", "password", "session")
SET_UID_SERVICES = frozenset({"sudo", "sudo-i", "su", "su-l", "polkit-1", "doas"})
"""Services of programs that a user starts to become another user."""
LOCKERS = frozenset(
    {
        "cinnamon-screensaver", "gnome-screensaver", "gtklock", "hyprlock", "i3lock", "kde", "mate-screensaver",
        "swaylock", "waylock", "xfce4-screensaver", "xlock", "xscreensaver", "xsecurelock",
    }
)  # fmt: skip
"""Services of screen lockers that run as their user, without root. Others, such as vlock and physlock, run as root."""
TWINS = (("sudo", "sudo-i"), ("su", "su-l"))
"""Pairs of services of one program. Users who are asked by one expect to be asked by the other."""
SUBSTACK = "substack"
_INCLUDE, _INCLUDE_ALL = "include", "@include"
_SUGAR = ("required", "requisite", "sufficient", "optional", _INCLUDE, SUBSTACK)
_MOST_LEVELS = 16
"""libpam's own limit, for substacks or for all includes."""
_MOST_INCLUDES = 64
"""Our limit if libpam has no limit of includes. No honest file comes near it."""
_MOST_FILES = 1000
"""The most files opened for one service. Files that include each other twice would take for ever."""


def directories_of(dialect: Dialect) -> tuple[str, ...]:
    """Return where a libpam looks for services, in this order."""
    return (*DIRECTORIES, platform_facts.VENDOR_DIRECTORY) if dialect.vendor else DIRECTORIES


def read(service: str, reader: Reader, dialect: Dialect) -> Stack:
    """Read a service with its included files. A type without a line gets the lines of `other`.

    Args:
        service: its name. As in pam_start(3), it can have any case and any path in front.
        reader: of files.
        dialect: of the libpam that reads the service.
    """
    name = _lower(service.rpartition("/")[2])
    directories = directories_of(dialect)
    path, text = _find(name, directories, reader)
    other_path, other_text = _find(FALLBACK, directories, reader)
    own = _Reading(reader, dialect)
    other = _Reading(reader, dialect)
    if text is None and other_text is None and all(reader(directory) is None for directory in directories):
        path, text = ONE_FILE, reader(ONE_FILE)
        _read_one_file(name, text or "", own, other)
    else:
        own.read_all(path, text)
        other.read_all(other_path, other_text)
    # The service "other" itself has its lines twice.
    missing = [kind for kind in KINDS if name == FALLBACK or not any(line.kind == kind for line in own.lines)]
    lines = [*own.lines, *(line for line in other.lines if line.kind in missing)]
    # Faults in "other" do not concern this service, unless libpam gives up or needs the line.
    needed = {line.place for line in lines}
    problems = [*own.problems, *(each for each in other.problems if other.is_given_up or each.place in needed)]
    return Stack(
        service,
        path if text is not None else "",
        tuple(lines),
        tuple(problems),
        is_given_up=own.is_given_up or other.is_given_up,
    )


def _find(name: str, directories: Iterable[str], reader: Reader) -> tuple[str, str | None]:
    for directory in directories:
        text = reader(f"{directory}/{name}")
        if text is not None:
            return f"{directory}/{name}", text
    return "", None


def _read_one_file(name: str, text: str, own: _Reading, other: _Reading) -> None:
    """Read /etc/pam.conf, where each line starts with the service."""
    lines, flaws = assemble(text, own.dialect)
    own.problems += [Problem(Place(ONE_FILE, flaw.number), flaw.why) for flaw in flaws]
    own.is_given_up = any(flaw.fatal for flaw in flaws)
    for line in lines:
        wanted = {FALLBACK: other, name: own}.get(_lower(line.words[0]))
        rest = LogicalLine(line.first, line.last, line.words[1:])
        try:
            own.is_given_up |= wanted is not None and not wanted.take(Place(ONE_FILE, line.first, line.last), rest)
        except _GivenUp:
            own.is_given_up = True


class _GivenUp(Exception):
    """libpam crashes, hangs or uses memory that it has not set. Nothing of the service counts."""


class _Reading:
    """The reading of one service, from files to lines. Methods return False if libpam gives a file up.

    Args:
        reader: of files.
        dialect: of the libpam that reads the service.

    Attributes:
        lines, problems: found so far.
        is_given_up: libpam refuses the service as a whole.
    """

    def __init__(self, reader: Reader, dialect: Dialect) -> None:
        self.dialect = dialect
        self.lines: list[Line] = []
        self.problems: list[Problem] = []
        self.is_given_up = False
        self._reader = reader
        self._files = 0

    def read_all(self, path: str, text: str | None) -> None:
        """Read the file of a service, if there is one."""
        try:
            self.is_given_up = text is not None and not self.read(path, text)
        except _GivenUp:
            self.is_given_up = True

    def read(self, path: str, text: str, only: str = "", via: tuple[Place, ...] = (), depth: int = 0) -> bool:
        """Read a file.

        Args:
            path, text: of the file.
            only: type of the lines that count; empty for all.
            via: the lines that included the file.
            depth: of substacks around it.
        """
        lines, flaws = assemble(text, self.dialect)
        self.problems += [Problem(Place(path, flaw.number), flaw.why) for flaw in flaws]
        if not all(self.take(Place(path, line.first, line.last), line, only, via, depth) for line in lines):
            return False
        if any(flaw.hangs for flaw in flaws):
            raise _GivenUp
        return not any(flaw.fatal for flaw in flaws)

    def take(
        self, place: Place, line: LogicalLine, only: str = "", via: tuple[Place, ...] = (), depth: int = 0
    ) -> bool:
        """Store a line, with the lines that it includes."""
        words = line.words
        kind = _lower(words[0]) if words else ""
        quiet = kind.startswith("-")
        kind = kind.removeprefix("-")
        if kind == _INCLUDE_ALL and self.dialect.debian:
            return self._include(place, words[1:2], kind=only, via=via, depth=depth, head="")
        broken = ""
        if kind not in KINDS:
            broken = f'"{words[0]}" is not a type of line' if words else "the type is missing"
            kind = only or "auth"
        if only and kind != only:
            return True
        control = words[1] if len(words) > 1 else ""
        if _lower(control) in _SUGAR:
            control = _lower(control)
        if control in (_INCLUDE, SUBSTACK):
            return self._include(place, words[2:3], kind=kind, via=via, depth=depth, head=control)
        try:
            actions = actions_of(control)
        except BadControl:
            actions = ALL_BAD
            self.problems.append(Problem(place, f'"{control}" is not a control'))
        if len(words) < 3:
            broken = broken or "the control or the module is missing"
        module, arguments = (words[2], words[3:]) if len(words) > 2 else ("", ())
        if broken:
            self.problems.append(Problem(place, broken))
        if len(words) > 2 and not _is_module_name(module):
            self.problems.append(Problem(place, f'"{module}" is not the name of a module'))
            raise _GivenUp
        self.lines.append(
            Line(
                place, kind, control, actions=actions, module=module, arguments=arguments, quiet=quiet,
                via=via, depth=depth, is_broken=bool(broken),
            )
        )  # fmt: skip
        return True

    def _include(
        self,
        place: Place,
        target: tuple[str, ...],
        *,
        kind: str,
        via: tuple[Place, ...],
        depth: int,
        head: str,
    ) -> bool:
        """Read the file that a line includes.

        Args:
            place: of the line.
            target: the named file; empty if none is named.
            kind: type of the lines that count; empty for all.
            via: the lines that included this one.
            depth: of substacks around it.
            head: `include` or `substack`; empty for `@include`.
        """
        if not target:
            self.problems.append(Problem(place, "what to include is missing"))
            raise _GivenUp
        inner = depth
        if head == SUBSTACK:
            if not _is_module_name(target[0]):
                self.problems.append(Problem(place, f'"{target[0]}" is not the name of a substack'))
                raise _GivenUp
            self.lines.append(Line(place, kind, head, actions={}, module=target[0], via=via, depth=depth))
            inner += 1
        if self._load(target[0], place, kind, via, inner):
            return True
        if not kind:
            return False  # libpam has no type for which to add a failing line
        self.lines.append(
            Line(
                place,
                kind,
                head or _INCLUDE_ALL,
                actions=ALL_BAD,
                module="",
                via=via,
                depth=depth,
                is_broken=True,
            )
        )
        return True

    def _load(self, target: str, place: Place, kind: str, via: tuple[Place, ...], depth: int) -> bool:
        levels = len(via) + 1 if self.dialect.whole_lines else depth
        self._files += 1
        if levels >= _MOST_LEVELS or len(via) >= _MOST_INCLUDES or self._files > _MOST_FILES:
            self.problems.append(Problem(place, "includes itself, or too deep"))
            return False
        if target.startswith("/"):
            path, text = target, self._reader(target)
        else:
            directories = directories_of(self.dialect)
            path, text = _find(target, directories[: 1 if self.dialect.debian else None], self._reader)
        if text is None:
            self.problems.append(Problem(place, f'there is no "{target}" to include'))
            return False
        return self.read(path, text, kind, (*via, place), depth)


def _lower(text: str) -> str:
    """Return a word in lower case, as for strcasecmp(3). Only ASCII letters change."""
    return text.lower() if text.isascii() else text


def _is_module_name(module: str) -> bool:
    """Check whether libpam accepts a name. Without directory and ending it must not be empty."""
    name = module.rpartition("/")[2]
    stem = name.rpartition(".")[0] if "." in name else name
    return stem not in ("", "?")
