"""Exempt groups from the code with standard parts: `pam_succeed_if` in a stack, `Match Group` in sshd.

Pure. The lines stand directly around ours and jump over it. They are removed together with it, because without ours
they would jump over another line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from pam_softtoken.admin.sshd.config_lines import LOGIN_SETTINGS, METHODS
from pam_softtoken.pam import control, known_modules, service_edit, service_file
from pam_softtoken.pam.dialect import Dialect
from pam_softtoken.pam.logical_lines import physical_lines
from pam_softtoken.pam.stack import Line

if TYPE_CHECKING:
    from pam_softtoken.pam.service_file import Reader

MODULE = known_modules.SUCCEED_IF
_WORDS = ("quiet", "user", "ingroup")
_NAME = "softtoken-edited"
_FILE = f"{service_file.DIRECTORY}/{_NAME}"
_PERMIT = f"auth\trequired\t{known_modules.PERMIT}"
GROUP_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}")


def lines_with(line: str, groups: Sequence[str], *, permit: bool) -> str:
    """Return the lines of a stack for our line: one line before it for each exempt group.

    Args:
        line: our line.
        groups: names that match `GROUP_NAME`.
        permit: no other line of the stack accepts a user whom ours ignores.
    """
    most = len(groups) + permit
    hops = [
        f"auth\t[success={most - number} default=ignore]\t{MODULE} {' '.join(_WORDS)} {group}"
        for number, group in enumerate(groups)
    ]
    return "\n".join([*hops, line, *([_PERMIT] if permit else [])])


def group_of(line: Line) -> str:
    """Return the group that a line exempts; empty for any other line."""
    hops = re.fullmatch(r"success=[1-9] default=ignore", line.control) is not None
    if line.name == MODULE and hops and line.arguments[:-1] == _WORDS:
        return line.arguments[-1]
    return ""


def groups_of(auth: Sequence[Line]) -> list[str]:
    """Return the groups that a stack exempts: those in the lines directly before ours."""
    found: list[str] = []
    ours = next((number for number, line in enumerate(auth) if line.is_ours), 0)
    for line in reversed(auth[:ours]):
        group = group_of(line)
        if not group:
            break
        found.insert(0, group)
    return found


def asked(auth: Sequence[Line]) -> tuple[Line, ...]:
    """Return the stack for a user whom no line exempts."""
    exempt = groups_of(auth)
    return tuple(_powerless(line) if group_of(line) in exempt else line for line in auth)


def _powerless(line: Line) -> Line:
    return Line(
        line.place, line.kind, "optional", actions=control.actions_of("optional"),
        module=known_modules.DENY, via=line.via, depth=line.depth,
    )  # fmt: skip


def take_out(text: str, dialect: Dialect, reader: Reader) -> str:
    """Return a text without our lines and the lines that belong to them.

    All other bytes stay, except the count of a jump over our line.

    Args:
        text: the text of a service file.
        dialect: the dialect of the libpam that reads it.
        reader: reads the files that it includes.

    Raises:
        CannotEdit: a line jumps over ours and cannot be changed.
    """
    stack = service_file.read(_NAME, lambda path: text if path == _FILE else "", dialect)
    own = [line for line in stack.of("auth") if not line.via]
    around: set[int] = set()
    for number, line in enumerate(own):
        if not line.is_ours:
            continue
        for before in reversed(own[:number]):
            if not group_of(before):
                break
            around.add(before.place.number)
        # Our line was put after a last line without a newline, so here the newline is missing.
        following = physical_lines(text)[own[number + 1].place.number - 1] if number + 1 < len(own) else ""
        if following.rstrip("\n") == _PERMIT:
            around.add(own[number + 1].place.number)
    text = service_edit.without(text, lambda line: line.kind == "auth" and line.place.number in around, dialect, reader)
    return service_edit.take_out(text, dialect, reader)


def match_blocks(groups: Iterable[str], today: Mapping[str, str]) -> Iterator[str]:
    """Return the lines of sshd's file that keep the settings of exempt groups as they are today.

    Args:
        groups: the names of the groups.
        today: the settings by name in lower case.
    """
    for group in groups:
        yield f"Match Group {group}"
        yield from (f"\t{spelt} {_kept(name, today)}" for name, spelt in LOGIN_SETTINGS.items() if name in today)


def _kept(name: str, today: Mapping[str, str]) -> str:
    value = today[name]
    if name != "authenticationmethods" or value != "any":
        return value
    # sshd does not accept "any" after other lists, so everything that it includes is named.
    return " ".join(method for method, setting in METHODS.items() if today.get(setting) == "yes") or "publickey"
