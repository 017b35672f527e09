"""Compare every command and option in the programs' texts with the command lines: all advice can be followed.

The texts are taken from the sources, except docstrings. A command is parsed as far as the text spells it. An option
without a command before it belongs to the program that shows the text. If several programs share a module, it belongs
to each of them.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from pam_softtoken.admin import program as admin
from pam_softtoken.device import program as device
from pam_softtoken.enroll import program as enroll
from pam_softtoken.program_errors import UsageError
from tests.unit.test_layering import MODULES, PACKAGE, reachable

PROGRAMS = {"enroll.program": enroll, "admin.program": admin, "device.program": device}
PARSERS = {module: program.build_parser() for module, program in PROGRAMS.items()}
BY_NAME = {program.PROGRAM: PARSERS[module] for module, program in PROGRAMS.items()}
OWN_NAME = re.compile(r"\{(?:\w+\.)?(?:PROGRAM|prog|program)\}")
COMMAND = re.compile(r"(?<![\w/.-])(softtoken(?:-enroll|-admin)?)(?![\w/.-])((?: [^\s]+)*)")
OPTION = re.compile(r"(?<![\w\[{-])(--[a-z][a-z-]*)((?: \w+)?)")
FOREIGN = re.compile(
    r"(?<![\w-])(apt|apt-get|pip|pam-auth-update|journalctl|systemctl|usermod|sudo -k|chown|mount|install|runuser|"
    r"update-alternatives) "
)


class Text(NamedTuple):
    """A text that a module can show.

    Args:
        place: module and line.
        words: the text, with each value that is filled in as `{expression}`.
        is_hint: it is shown after `hint:`.
    """

    place: str
    words: str
    is_hint: bool


def texts_of(module: str) -> Iterator[Text]:
    """Return every text of a module that is not a docstring."""
    tree = ast.parse((PACKAGE / f"{module.replace('.', '/')}.py").read_text())
    hints, passed_by = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            passed_by.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            passed_by |= {id(part) for part in ast.walk(node) if isinstance(part, ast.Constant)}
        elif isinstance(node, ast.keyword) and node.arg == "hint":
            hints |= {id(part) for part in ast.walk(node.value)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = (str(p.value) if isinstance(p, ast.Constant) else _placeholder(p) for p in node.values)
            yield Text(f"{module}:{node.lineno}", "".join(parts), id(node) in hints)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in passed_by:
            yield Text(f"{module}:{node.lineno}", node.value, id(node) in hints)


def _placeholder(part: ast.expr) -> str:
    assert isinstance(part, ast.FormattedValue)
    return "{" + re.sub(r"[\s;,:()]", "", ast.unparse(part.value)) + "}"


def users_of(module: str) -> list[str]:
    """Return the programs that load a module."""
    return [program for program in PROGRAMS if module in REACHABLE[program]]


REACHABLE = {program: reachable(program) for program in PROGRAMS}
TEXTS = [(module, text) for module in MODULES for text in texts_of(module)]


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Return the command line of each subcommand."""
    found = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    return next((dict(action.choices) for action in found), {})


def options_of(parser: argparse.ArgumentParser) -> set[str]:
    """Return every option of a program, including those of its subcommands."""
    lines = [parser, *subcommands(parser).values()]
    return {option for line in lines for option in line._option_string_actions}


def is_foreign_value(parser: argparse.ArgumentParser, option: str, value: str) -> bool:
    """Return whether the word after an option is its value in another program, and in none of these."""

    def values_in(program: argparse.ArgumentParser) -> set[str]:
        lines = [program, *subcommands(program).values()]
        found = (line._option_string_actions[option] for line in lines if option in line._option_string_actions)
        return {str(choice) for action in found for choice in action.choices or ()}

    everywhere = {choice for other in PARSERS.values() for choice in values_in(other)}
    return value.strip() in everywhere - values_in(parser)


def pieces(words: str, program: str) -> Iterator[str]:
    """Return a text in pieces, cut between pieces of advice."""
    yield from re.split(r"[;,:()\n]| or | and ", OWN_NAME.sub(program, words))


def spelt_out(parser: argparse.ArgumentParser, words: list[str]) -> list[str]:
    """Return the words of a command line from the beginning of a sentence, such as `--remove NAME takes one away`."""
    taken: list[str] = []
    if words and words[0] in subcommands(parser):
        taken, parser, words = [words[0]], subcommands(parser)[words[0]], words[1:]
    needed = [action for action in parser._actions if not action.option_strings and action.nargs is None]
    while words:
        word = words.pop(0)
        action = parser._option_string_actions.get(word)
        if word.startswith("-"):
            taken.append(word)
            if action is not None and action.nargs is None and words:
                value = words.pop(0)
                if "{" in value and (action.choices or action.type is not None):
                    value = str(next(iter(action.choices or ["1"])))
                taken.append(value)
        elif needed:
            needed.pop()
            taken.append(word)
        elif re.fullmatch(r"\{.*\}|[A-Z]+", word):
            taken.append(word)
        else:
            break
    return taken


def require_parsed(parser: argparse.ArgumentParser, words: list[str]) -> None:
    """Parse a command as the program would. Raise `UsageError` if the program would refuse it."""
    if len(words) == 1 and words[0] in subcommands(parser):
        return  # it is only named
    try:
        if parser is PARSERS["enroll.program"]:
            enroll.parse(words)
        else:
            parser.parse_args(words)
    except SystemExit:  # --help and --version
        return


def commands_in(text: Text, program: str) -> Iterator[tuple[str, list[str]]]:
    for piece in pieces(text.words, program):
        for name, rest in COMMAND.findall(piece):
            words = rest.split()
            is_command = text.is_hint or text.words.startswith(name) or " --" in rest
            if words and "..." not in words and "{" not in words[0] and is_command:
                yield name, words


def test_commands__in_every_text_are_valid() -> None:
    tried, wrong = 0, []
    for module, text in TEXTS:
        for program in users_of(module):
            for name, words in commands_in(text, PROGRAMS[program].PROGRAM):
                parser = BY_NAME[name]
                known = subcommands(parser)
                if not words[0].startswith("-") and (not known or not text.is_hint):
                    continue  # softtoken-enroll takes no words
                tried += 1
                try:
                    require_parsed(parser, spelt_out(parser, words))
                except UsageError as error:
                    wrong.append(f"{text.place}: {text.words!r}: {name}: {error}")
    assert wrong == []
    assert tried > 60


def test_options__named_without_a_command_exist_in_each_program_that_shows_the_text() -> None:
    tried, wrong = 0, []
    for module, text in TEXTS:
        if " " not in text.words:
            continue  # the word itself, for the command line of this or another program
        for program in users_of(module):
            known = options_of(PARSERS[program])
            for piece in pieces(text.words, PROGRAMS[program].PROGRAM):
                advice = COMMAND.sub("", FOREIGN.split(piece)[0])
                for option, value in OPTION.findall(advice):
                    tried += 1
                    if option not in known or is_foreign_value(PARSERS[program], option, value):
                        wrong.append(f"{text.place}: {PROGRAMS[program].PROGRAM} has no {option}: {text.words!r}")
    assert wrong == []
    assert tried > 60


@pytest.mark.parametrize(
    "words",
    [
        "{PROGRAM} --dry-run shows those there are",
        "softtoken-admin dismiss USER does it",
        "softtoken-admin disable {service} --now",
        "sudo softtoken-enroll --remove",
    ],
)
def test_commands__that_the_program_would_refuse_are_found(words: str) -> None:
    ((name, found),) = commands_in(Text("here", words, is_hint=True), "softtoken-enroll")
    with pytest.raises(UsageError):
        require_parsed(BY_NAME[name], spelt_out(BY_NAME[name], found))
