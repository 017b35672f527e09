"""Define the doctor's findings, and the changes of lines that repair them. No I/O."""

from __future__ import annotations

import re
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
        mend: what repairs it: a command for root's shell, or changes of lines, one a line, from the last to the first.
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


class Edit(NamedTuple):
    """A change at one place of a file, for a person who has it in an editor.

    Args:
        file: absolute path.
        number, last: the lines to replace. If `last` is the line before `number`, the text comes between them.
        text: the new line; None to delete the lines.
    """

    file: str
    number: int
    last: int
    text: str | None

    def __str__(self) -> str:
        """Return the change as a sentence."""
        if self.last < self.number:
            where = f"below line {self.last}, insert" if self.last else "at the top, insert"
            return f"in {self.file}, {where}: {self.text}"
        lines = f"line {self.number}" if self.number == self.last else f"lines {self.number} to {self.last}"
        what = f"delete {lines}" if self.text is None else f"{lines}, write: {self.text}"
        return f"in {self.file}, {what}"

    def apply(self, text: str) -> str:
        """Return the changed text of the file."""
        lines = text.split("\n")
        lines[self.number - 1 : self.last] = [] if self.text is None else [self.text]
        return "\n".join(lines)


_EDITED = re.compile(r"in (/.*?), (?:at the top|below line|delete line|line)")


def edited_file(mend: str) -> str:
    """Return the file whose lines a finding's repair changes; "" if the repair is a command."""
    edit = _EDITED.match(mend)
    return edit[1] if edit is not None else ""


def delete(line: Line) -> Edit:
    """Return the change that deletes a PAM line."""
    return Edit(line.place.file, line.place.number, line.last, None)


def set_control(line: Line, control: str) -> Edit:
    """Return the change that gives a PAM line another control."""
    return Edit(line.place.file, line.place.number, line.last, shown(line, control=control))


def drop_argument(line: Line, argument: str) -> Edit:
    """Return the change that removes an argument from a PAM line."""
    arguments = list(line.arguments)
    arguments.remove(argument)
    return Edit(line.place.file, line.place.number, line.last, shown(line, arguments=arguments))


def shown(line: Line, *, control: str | None = None, arguments: Iterable[str] | None = None) -> str:
    """Return a PAM line as it would be written in a file.

    Args:
        line: the line.
        control, arguments: in place of its own.
    """
    kind = f"-{line.kind}" if line.quiet else line.kind
    control = line.control if control is None else control
    words = [_in_brackets(word) for word in (line.arguments if arguments is None else arguments)]
    return " ".join((kind, f"[{control}]" if "=" in control else control, line.module, *words))


def _in_brackets(word: str) -> str:
    if word.split() == [word] and not word.startswith("["):
        return word
    return "[" + word.replace("]", "\\]") + "]"


def named(names: Iterable[str], most: int = 5) -> str:
    """List names in a sentence; only the first ones if there are many."""
    listed = list(names)
    more = f" and {len(listed) - most} more" if len(listed) > most else ""
    return ", ".join(listed[:most]) + more
