"""Check the options of our lines and of the configuration file: wrong options, and temporary ones."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Iterator
from typing import NamedTuple

from pam_softtoken import config, option_table, platform_facts
from pam_softtoken.account import safe_open
from pam_softtoken.admin.common.finding import ERROR, NOTE, WARNING, Edit, Finding, Report, drop_argument, shown
from pam_softtoken.admin.services import stack_mend
from pam_softtoken.admin.services.stack_check import Services
from pam_softtoken.config import Config
from pam_softtoken.errors import ConfigError
from pam_softtoken.pam import enrolment_safety, known_modules, paths
from pam_softtoken.pam.service_file import SET_UID_SERVICES
from pam_softtoken.pam.stack import Line, Stack


class Setting(NamedTuple):
    """The place where an option was set.

    Args:
        place: the place of the line.
        line: the line.
        drop: what removes the option.
    """

    place: str
    line: str
    drop: str


def check(services: Services) -> Report:
    """Check the options of all our lines, and the configuration file."""
    findings: list[Finding] = []
    looked_at = []
    for stack in services.ours:
        for line in our_lines(stack):
            findings += [*_wrong(line), *_of_line(stack, line)]
    conf, problems = _conf_text(option_table.DEFAULT_CONF, required=False)
    if conf or problems:
        findings += [_in_conf(problem) for problem in problems or _problems([f"conf={option_table.DEFAULT_CONF}"])]
        looked_at.append(option_table.DEFAULT_CONF)
    unique = {(finding.place, finding.what): finding for finding in findings}
    return Report(tuple(unique.values()), ("options of our lines", *looked_at))


def our_lines(stack: Stack) -> Iterator[Line]:
    """Return our lines of all types."""
    return (line for line in stack.lines if line.is_ours)


def arguments_of(line: Line) -> list[str]:
    """Return the module arguments. Under pam_python the first one is the module's path."""
    return list(line.arguments[1:] if line.name == known_modules.PYTHON else line.arguments)


def settings_of(line: Line) -> Config | None:
    """Return the settings of a line; None if it is wrong."""
    try:
        return config.load(arguments_of(line), safe_open.read_conf)
    except ConfigError:
        return None


def set_where(line: Line, name: str) -> Setting:
    """Find where an option of a line was set."""
    for argument in arguments_of(line):
        if argument.partition("=")[0] == name:
            return Setting(str(line.place), shown(line), str(drop_argument(line, argument)))
    given = [argument[5:] for argument in arguments_of(line) if argument.startswith("conf=")]
    path = given[0] if given else option_table.DEFAULT_CONF
    for number, text in enumerate(_conf_text(path, required=False)[0].split("\n"), 1):
        if text.partition("=")[0].strip() == name:
            return Setting(f"{path}:{number}", text.strip(), str(Edit(path, number, number, None)))
    return Setting(str(line.place), shown(line), platform_facts.editor(line.place.file))


def _conf_text(path: str, *, required: bool) -> tuple[str, list[str]]:
    try:
        return safe_open.read_conf(path, required), []
    except ConfigError as error:
        return "", list(error.problems)


def _problems(arguments: list[str]) -> list[str]:
    try:
        config.load(arguments, safe_open.read_conf)
    except ConfigError as error:
        return list(error.problems)
    return []


def _wrong(line: Line) -> Iterator[Finding]:
    """Report every mistake. Each one denies all logins."""
    arguments = arguments_of(line)
    told = 0
    seen: set[str] = set()
    for argument in arguments:
        name = argument.partition("=")[0]
        problems = [f"{name} is given twice"] if name in seen else _problems_of(argument)
        seen.add(name)
        for problem in problems:
            what = f"every login is refused: {problem}"
            yield Finding(ERROR, str(line.place), shown(line), what, str(drop_argument(line, argument)))
            told += 1
    for problem in _problems(arguments):
        if re.match(r"/.*?:[0-9]+: ", problem) or (problem.startswith("/") and not told):
            yield _in_conf(problem)
        elif not told and not problem.startswith("module argument"):
            mend = platform_facts.editor(line.place.file)
            yield Finding(ERROR, str(line.place), shown(line), f"every login is refused: {problem}", mend)


def _problems_of(argument: str) -> list[str]:
    """Return the mistakes in one argument alone."""
    try:
        config.load([argument], lambda path, required: safe_open.read_conf(path, required) and "" if required else "")
    except ConfigError as error:
        return [problem.removeprefix("module argument: ") for problem in error.problems]
    return []


def _in_conf(problem: str) -> Finding:
    place, _, why = problem.partition(": ")
    path, _, number = place.rpartition(":")
    what = f"every login is refused: {why}"
    if path and number.isdecimal():
        lines = _conf_text(path, required=False)[0].split("\n")
        mend = str(Edit(path, int(number), int(number), None))
        return Finding(ERROR, place, lines[int(number) - 1].strip(), what, mend)
    file = shlex.quote(place)
    mend = f"chown root: {file} && chmod 644 {file}" if "others" in why else f"mv {file} {file}.broken"
    return Finding(ERROR, place, "", what, mend)


def _of_line(stack: Stack, line: Line) -> Iterator[Finding]:
    """Report options that are correct but should not stay."""
    settings = settings_of(line)
    if settings is None or line.kind != "auth":
        return
    if settings.debug:
        where = set_where(line, "debug")
        yield Finding(NOTE, where.place, where.line, "each step of each login is logged", where.drop)
    if settings.no_throttle:
        where = set_where(line, "no_throttle")
        yield Finding(
            WARNING,
            where.place,
            where.line,
            "nothing slows down an attacker who tries one code after the other",
            where.drop,
        )
    if settings.place.startswith("%h") and stack.service in SET_UID_SERVICES:
        what = f"a program of the user's can read the key of the token, and answer {stack.service} by itself"
        yield Finding(NOTE, str(line.place), shown(line), what, "softtoken-admin move --all --to system")
    day = getattr(settings, "required_from", "")
    if day and day <= time.strftime("%Y-%m-%d"):
        where = set_where(line, "required_from")
        what = f"since {day} everybody is asked for a code, so this option has no effect any more"
        yield Finding(NOTE, where.place, where.line, what, where.drop)
    if settings.enrol:
        yield from _of_enrolment(stack, line)


def _of_enrolment(stack: Stack, line: Line) -> Iterator[Finding]:
    """Report why new users are refused although they should enrol."""
    where = set_where(line, "enrol")
    if not any(each.kind == "account" for each in our_lines(stack)):
        what = f"nobody can enrol while logging in: {stack.service} lacks our line of the type account"
        end = stack_mend.last_number(stack.lines, stack.file)
        account = shown(line, control="required").replace(line.kind, "account", 1)
        yield Finding(ERROR, where.place, where.line, what, str(Edit(stack.file, end + 1, end, account)))
        return
    try:
        # In a stack without a password module, sshd has checked a key.
        by_host = not paths.asks_for_password(stack.of("auth"))
        enrolment_safety.require_that_enrolment_is_safe(stack.service, factor_seen_by_host=by_host)
    except ConfigError as error:
        what = f"nobody can enrol while logging in: {error.problems[0].removeprefix('enrol: ')}"
        mend = platform_facts.editor(stack.file)
        yield Finding(ERROR, where.place, where.line, what, mend)
