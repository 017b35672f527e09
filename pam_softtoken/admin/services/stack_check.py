"""Check the PAM services with our line: ways past it, ways that end before it, missing modules."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from typing import NamedTuple

from pam_softtoken import platform_facts
from pam_softtoken.admin.common import host_file
from pam_softtoken.admin.common.bounded import Reading
from pam_softtoken.admin.common.finding import (
    ERROR,
    NOTE,
    WARNING,
    Edit,
    Finding,
    Report,
    delete,
    named,
    set_control,
    shown,
)
from pam_softtoken.admin.services import exempt, stack_mend
from pam_softtoken.pam import installed_libpam, known_modules, paths, service_file
from pam_softtoken.pam.stack import Line, Stack

MOST_SERVICES = 500
_COST = "; with the change below those who are not enrolled do not get in any more"


class Services(NamedTuple):
    """The PAM services of this host.

    Args:
        stacks: all services, by name.
        reading: the reader that has read them.
    """

    stacks: dict[str, Stack]
    reading: Reading

    @property
    def ours(self) -> tuple[Stack, ...]:
        """The services that run our module, without the files that only serve to be included."""
        running = {name: stack for name, stack in self.stacks.items() if stack.ours}
        return tuple(stack for name, stack in running.items() if not platform_facts.is_included_only(name))


def read_services() -> Services:
    """Read all services. `Reading.refused` lists what cannot be read."""
    names: list[str] = []
    for directory in service_file.directories_of(installed_libpam.dialect()):
        try:
            found = sorted(os.listdir(directory))
        except OSError:
            continue
        names += [name for name in found if name not in names and not _is_old(name)]
    shared = Reading()
    stacks = {}
    for name in names[:MOST_SERVICES]:
        # An endless include in one service must not affect the next service.
        shared.again()
        stacks[name] = service_file.read(name, shared.reader, installed_libpam.dialect())
    return Services(stacks, shared)


def _is_old(name: str) -> bool:
    return name.endswith((".dpkg-old", ".dpkg-dist", "~")) or host_file.is_beside(name)


def check(services: Services) -> Report:
    """Check all services with our line."""
    findings = []
    for stack in services.ours:
        findings += [*_unreadable(stack, services.reading), *_missing(stack), *_ways(stack, services.reading)]
    findings += _uncovered(services)
    for path, why in sorted(services.reading.refused.items()):
        what = f"it cannot be read, and maybe not by libpam either: {why}"
        findings.append(Finding(WARNING, path, "", what, f"ls -l {shlex.quote(path)}"))
    # A fault in a file that several services include is reported once.
    unique = {(finding.place, finding.mend): finding for finding in reversed(findings)}
    names = [stack.service for stack in services.ours]
    looked = f"PAM services with our line: {', '.join(names) or 'none'}, of {len(services.stacks)}"
    return Report(tuple(reversed(unique.values())), (looked,))


def _unreadable(stack: Stack, reading: Reading) -> Iterator[Finding]:
    for problem in stack.problems:
        place = problem.place
        yield Finding(
            ERROR,
            str(place),
            reading.line(place.file, place.number),
            f"{stack.service} cannot be read as it is meant: {problem.why}",
            str(Edit(place.file, place.number, place.last, None)),
        )


def _missing(stack: Stack) -> Iterator[Finding]:
    for line in stack.lines:
        if line.is_substack or line.is_broken or line.quiet or line.actions.get("module_unknown") == "ignore":
            continue
        if installed_libpam.module_file(line.module):
            continue
        if line.is_ours:
            what = f"the module is not there, so that {stack.service} refuses everybody"
            yield Finding(ERROR, str(line.place), shown(line), what, platform_facts.reinstall())
        else:
            what = f"{stack.service} names a module that is not there, which counts as a denial"
            severity = WARNING if line.control == "optional" else ERROR
            yield Finding(severity, str(line.place), shown(line), what, str(delete(line)))


def _ways(stack: Stack, reading: Reading) -> Iterator[Finding]:
    lines = stack.of("auth")
    if len(stack.ours) > 1:
        first, second = stack.ours[0], stack.ours[-1]
        what = f"{stack.service} runs the module twice, here and at {first.place}: the second code cannot be right"
        yield Finding(ERROR, str(second.place), shown(second), what, str(delete(second)))
        return
    ours = stack.ours[0]
    past = stack_mend.skipping(lines)
    for line in past:
        if exempt.group_of(line) not in exempt.groups_of(lines):
            yield _skipped(stack, line, reading)
        elif stack.service != "sshd":
            again = f"softtoken-admin disable {stack.service} && softtoken-admin enable {stack.service}"
            what = f"the group {exempt.group_of(line)} is exempt from codes at {stack.service}; the command below asks "
            yield Finding(NOTE, str(line.place), shown(line), f"{what}its members, too", again)
    if any(line.name not in known_modules.SELECTING for line in past):
        return  # all other findings follow from it
    found = paths.ends(lines)
    if stack_mend.denial_is_lost(found):
        what = f"a refused code keeps nobody out of {stack.service}, whatever else is there{_COST}"
        yield Finding(ERROR, str(ours.place), shown(ours), what, _require(stack, ours, reading))
    elif not stack_mend.lets_in(found):
        yield _closed(stack, ours, reading, reached=any(end.open_minded for end in found))
    elif "done" in ours.actions.values():
        what = f"a right code ends the stack of {stack.service}: the lines below it are skipped"
        yield Finding(WARNING, str(ours.place), shown(ours), what, _require(stack, ours, reading))
    if stack_mend.code_alone(lines):
        guilty = next(line for line in lines if line.name in known_modules.PASSWORD)
        what = (
            f"a wrong password does not keep anybody out of {stack.service} who has a right code; with the change "
            "below those who have no password do not get in any more"
        )
        mend = stack_mend.first_that_helps(stack, reading.reader, [[set_control(guilty, "requisite")]])
        yield Finding(ERROR, str(guilty.place), shown(guilty), what, mend)


def _skipped(stack: Stack, line: Line, reading: Reading) -> Finding:
    if line.name in known_modules.SELECTING:
        what = f"users whom {line.name} selects get into {stack.service} without a code{_COST}"
        return Finding(NOTE, str(line.place), shown(line), what, str(delete(line)))
    what = (
        f'users whom {line.name} accepts get into {stack.service} without a code: "{line.control}" leads past our line'
    )
    what += _COST
    mend = stack_mend.first_that_helps(stack, reading.reader, stack_mend.against_skip(stack, line))
    return Finding(ERROR, str(line.place), shown(line), what, mend)


def _closed(stack: Stack, ours: Line, reading: Reading, *, reached: bool) -> Finding:
    what = f"nobody gets into {stack.service}: " + (
        "the lines around ours refuse everybody" if reached else "the stack has ended before our line"
    )
    mend = stack_mend.first_that_helps(stack, reading.reader, stack_mend.against_wall(stack))
    return Finding(ERROR, str(ours.place), shown(ours), what, mend)


def _require(stack: Stack, ours: Line, reading: Reading) -> str:
    return stack_mend.first_that_helps(stack, reading.reader, [[set_control(ours, "required")]])


def _uncovered(services: Services) -> Iterator[Finding]:
    asking = {stack.service for stack in services.ours}
    if not asking:
        what = "no service of this host asks for a code"
        yield Finding(NOTE, service_file.DIRECTORY, "", what, "softtoken-admin enable sshd")
        return
    for first, second in service_file.TWINS:
        for with_code, without in ((first, second), (second, first)):
            if with_code in asking and without not in asking and without in services.stacks:
                what = f"{with_code} asks for a code, and {without} does not: it is another way to the same place"
                file = services.stacks[without].file
                yield Finding(WARNING, file, "", what, f"softtoken-admin enable {named([without])}")
