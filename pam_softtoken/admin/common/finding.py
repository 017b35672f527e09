"""What the doctor finds: values, and the small words that make the commands that mend it. Does no I/O."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import NamedTuple

from pam_softtoken.pam.stack import Line

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)
"""A factor is skipped, or people are locked out; it will go wrong one day; it is worth knowing."""


class Finding(NamedTuple):
    """One thing that is not as it should be.

    Args:
        severity: one of `SEVERITIES`.
        place: `/etc/pam.d/sshd:7`, a file, or a word for what has no file.
        line: what stands there; empty where it is no line.
        what: what is wrong with it, in one sentence.
        mend: a command for root's shell that mends it.
    """

    severity: str
    place: str
    line: str
    what: str
    mend: str


class Report(NamedTuple):
    """What one check has seen.

    Args:
        findings: what is wrong.
        looked_at: what it has looked at.
        not_looked_at: what it could not look at, and why.
    """

    findings: tuple[Finding, ...] = ()
    looked_at: tuple[str, ...] = ()
    not_looked_at: tuple[str, ...] = ()


def sed(script: str, file: str) -> str:
    """Write the command that edits a file."""
    return f"sed -i {shlex.quote(script)} {shlex.quote(file)}"


def lines_of(line: Line) -> str:
    """Write the address of a PAM line for sed; a continued one has several."""
    first, last = line.place.number, line.last
    return str(first) if first == last else f"{first},{last}"


def delete(line: Line) -> str:
    """Write the command that takes a PAM line out."""
    return sed(f"{lines_of(line)}d", line.place.file)


def drop_argument(line: Line, argument: str) -> str:
    """Write the command that takes an argument out of a PAM line, in brackets or not."""
    pattern = "".join(f"\\{character}" if character in r"\.*[]^$/" else character for character in argument)
    bracketed = "".join(f"\\\\{character}" if character == "]" else character for character in pattern.split("]"))
    whole = bracketed if "]" in argument else pattern
    return sed(rf"{lines_of(line)}s/[[:space:]]\(\[{whole}\]\|{pattern}\)\([[:space:]]\|$\)/\2/", line.place.file)


def shown(line: Line) -> str:
    """Write a PAM line as it would stand in a file."""
    kind = f"-{line.kind}" if line.quiet else line.kind
    control = f"[{line.control}]" if "=" in line.control else line.control
    words = [f"[{word}]" if " " in word else word for word in line.arguments]
    return " ".join((kind, control, line.module, *words))


def named(names: Iterable[str], most: int = 5) -> str:
    """List names in a sentence, the first ones of many."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
