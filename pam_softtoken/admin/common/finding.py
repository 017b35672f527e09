"""Define the doctor's findings, and build the short commands that repair them. No I/O."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import NamedTuple

from pam_softtoken.pam.stack import Line

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)
"""Users skip a factor or are locked out; it may fail later; it is worth knowing."""


class Finding(NamedTuple):
    """One fault.

    Args:
        severity: one of `SEVERITIES`.
        place: `/etc/pam.d/sshd:7`, a file, or a word if there is no file.
        line: the faulty line; empty if the fault is not in a line.
        what: the fault, in one sentence.
        mend: a command for root's shell that repairs it.
    """

    severity: str
    place: str
    line: str
    what: str
    mend: str


class Report(NamedTuple):
    """The result of one check.

    Args:
        findings: the faults.
        looked_at: what was checked.
        not_looked_at: what could not be checked, and why.
    """

    findings: tuple[Finding, ...] = ()
    looked_at: tuple[str, ...] = ()
    not_looked_at: tuple[str, ...] = ()


def sed(script: str, file: str) -> str:
    """Return the command that edits a file with a sed script."""
    return f"sed -i {shlex.quote(script)} {shlex.quote(file)}"


def lines_of(line: Line) -> str:
    """Return sed's address of a PAM line; a continued line has several line numbers."""
    first, last = line.place.number, line.last
    return str(first) if first == last else f"{first},{last}"


def delete(line: Line) -> str:
    """Return the command that removes a PAM line."""
    return sed(f"{lines_of(line)}d", line.place.file)


def drop_argument(line: Line, argument: str) -> str:
    """Return the command that removes an argument, in brackets or not, from a PAM line."""
    pattern = "".join(f"\\{character}" if character in r"\.*[]^$/" else character for character in argument)
    bracketed = "".join(f"\\\\{character}" if character == "]" else character for character in pattern.split("]"))
    whole = bracketed if "]" in argument else pattern
    return sed(rf"{lines_of(line)}s/[[:space:]]\(\[{whole}\]\|{pattern}\)\([[:space:]]\|$\)/\2/", line.place.file)


def shown(line: Line) -> str:
    """Return a PAM line as it would be written in a file."""
    kind = f"-{line.kind}" if line.quiet else line.kind
    control = f"[{line.control}]" if "=" in line.control else line.control
    words = [f"[{word}]" if " " in word else word for word in line.arguments]
    return " ".join((kind, control, line.module, *words))


def named(names: Iterable[str], most: int = 5) -> str:
    """List names in a sentence; only the first ones if there are many."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
