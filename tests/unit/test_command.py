"""The command lines of the three programs: one version, no abbreviations, and a hint at what was meant."""

from __future__ import annotations

import argparse
import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

import pytest

import pam_softtoken
from pam_softtoken.admin import program as admin
from pam_softtoken.device import program as device
from pam_softtoken.enroll import program as enroll
from pam_softtoken.enroll.options import Options
from pam_softtoken.enroll.run_context import PROGRAM
from pam_softtoken.program_errors import UsageError
from pam_softtoken.ui import command_line

PARSERS = {program.PROGRAM: program.build_parser() for program in (enroll, admin, device)}


def command_lines() -> Iterator[tuple[list[str], argparse.ArgumentParser]]:
    """Return each program and subcommand: the words that lead to it, and its parser."""
    for program, parser in PARSERS.items():
        yield [program], parser
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                yield from (([program, name], own) for name, own in action.choices.items())


LINES = {" ".join(words): (words, parser) for words, parser in command_lines()}


def kinds() -> Iterator[tuple[str, Any]]:
    """Return the type of the options of each line that has some."""
    yield PROGRAM, Options
    for program in (admin, device):
        yield from ((f"{program.PROGRAM} {command.name}", command.options) for command in program.COMMANDS)


KINDS = dict(kinds())


def fields_of(kind: Any) -> Iterator[tuple[str, Any]]:
    """Return the fields of options with their types, those of shared options among them."""
    for name, hint in typing.get_type_hints(kind).items():
        if dataclasses.is_dataclass(hint):
            yield from fields_of(hint)
        else:
            yield name, hint


def type_of(action: argparse.Action) -> Any:
    """Return the type of what an argument can give."""
    if isinstance(action, argparse._StoreTrueAction):
        return bool
    one: Any = int if action.type is int or getattr(action.type, "__annotations__", {}).get("return") == "int" else str
    if action.nargs == "*" or isinstance(action, argparse._AppendAction):
        return tuple[one, ...]
    return one | None if action.default is None and not action.required else one


def refusal(*words: str) -> UsageError:
    """Check that a command line is wrong."""
    program, *arguments = words
    with pytest.raises(UsageError) as caught:
        PARSERS[program].parse_args(arguments)
    return caught.value


@pytest.mark.parametrize("program", PARSERS)
def test_version__is_shown_by_every_program(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        PARSERS[program].parse_args(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr() == (f"{program} {pam_softtoken.__version__}\n", "")


@pytest.mark.parametrize("line", KINDS)
def test_options__have_a_field_of_the_right_type_for_each_argument(line: str) -> None:
    """mypy believes these types, and cannot see what argparse gives."""
    kind = KINDS[line]
    assert kind.__dataclass_params__.frozen
    arguments = [action for action in LINES[line][1]._actions if action.default is not argparse.SUPPRESS]
    assert sorted(name for name, _ in fields_of(kind)) == sorted(action.dest for action in arguments)
    assert dict(fields_of(kind)) == {action.dest: type_of(action) for action in arguments}


@pytest.mark.parametrize("line", LINES)
def test_option__is_known_by_its_whole_name_only(line: str) -> None:
    words, parser = LINES[line]
    assert parser.allow_abbrev is False
    options = [option for option in parser._option_string_actions if option.startswith("--")]
    assert options
    for option in options:
        for end in range(3, len(option)):
            if option[:end] not in options:
                assert f'unknown option: "{option[:end]}"' in refusal(*words, f"{option[:end]}=1").message


@pytest.mark.parametrize("line", LINES)
def test_option__misspelt_one_gets_a_suggestion(line: str) -> None:
    words, parser = LINES[line]
    for option in parser._option_string_actions:
        if len(option) > 4:
            misspelt = option[:-1] + "x" + option[-1]
            assert f'did you mean "{option}"?' in refusal(*words, misspelt).hint


@pytest.mark.parametrize("program", [admin.PROGRAM, device.PROGRAM])
def test_command__misspelt_one_gets_a_suggestion(program: str) -> None:
    for words, _ in command_lines():
        if words[0] == program and len(words) == 2 and len(words[1]) > 3:
            misspelt = words[1][:-1] + "x" + words[1][-1]
            mistake = refusal(program, misspelt)
            assert mistake.message == f'unknown command: "{misspelt}"'
            assert mistake.hint == f'did you mean "{words[1]}"? see {program} --help'


@pytest.mark.parametrize("line", LINES)
def test_choice__misspelt_one_gets_the_list_of_choices(line: str) -> None:
    words, parser = LINES[line]
    for action in parser._actions:
        if action.choices and action.option_strings:
            choices = [str(choice) for choice in action.choices]
            mistake = refusal(*words, action.option_strings[-1], choices[0].lower() + "x")
            assert mistake.message == f'{action.option_strings[-1]}: unknown value: "{choices[0].lower()}x"'
            assert mistake.hint == f'did you mean "{choices[0]}"? one of {", ".join(choices)}'


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["softtoken-admin", "--vresion"], 'did you mean "--version"? see softtoken-admin --help'),
        (["softtoken-admin", "enable", "--dryrun"], 'did you mean "--dry-run"? see softtoken-admin enable --help'),
        (["softtoken-admin", "xyzzy"], "see softtoken-admin --help"),
        (["softtoken-enroll", "--xyzzy"], "see softtoken-enroll --help"),
        (["softtoken-enroll", "alice"], "see softtoken-enroll --help"),
        (["softtoken", "code", "host", "--keyrnig"], 'did you mean "--keyring"? see softtoken code --help'),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_mistake__hint_is_for_the_command_line_that_is_wrong(words: list[str], hint: str) -> None:
    assert refusal(*words).hint == hint


def test_did_you_mean__is_silent_without_a_similar_word() -> None:
    assert command_line.did_you_mean("xyzzy", ["--name", "--type"]) == ""
    assert command_line.did_you_mean("sha-256", ["SHA1", "SHA256"]) == 'did you mean "SHA256"? '
