"""Write the man pages, in mdoc: templates, with tables made from the code: options, reasons, folders, claims."""

from __future__ import annotations

import argparse
import ast
import importlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from pam_softtoken import config, log, option_table
from pam_softtoken.admin import program as admin
from pam_softtoken.device import program as device
from pam_softtoken.enroll import program as enroll
from pam_softtoken.pam import known_modules

TEMPLATES = Path(config.__file__).parent / "man"
PUNCTUATION = ".,:;)?!"
PROGRAMS = {"ENROLL": enroll, "ADMIN": admin, "DEVICE": device}
"""By the word for each in the templates."""


def pages() -> dict[str, str]:
    """Return the text of each page, by its path below the directory of all documents."""
    made = {}
    for path in sorted(TEMPLATES.glob("*.in")):
        name = path.name.removesuffix(".in")
        made[f"man/man{name[-1]}/{name}"] = _filled(path.read_text())
    return made


def _filled(template: str) -> str:
    parts = {
        "PAM_OPTIONS": _module_options(option for option in option_table.OPTIONS if not option.file_only),
        "CONF_OPTIONS": _module_options(option for option in option_table.OPTIONS if not option.argument_only),
        "RELAYED": _enumeration([option.name for option in option_table.OPTIONS if option.relayed]),
        "ARGUMENT_ONLY": _enumeration([option.name for option in option_table.OPTIONS if option.argument_only]),
    }
    parts["REASONS"] = _table("bad_token_file", [(f"Cm {name}", text) for name, text in log.REASONS.items()])
    parts["FOLDERS"] = _table("Ds", [(f"Pa {name}", text) for name, text in _folders()])
    parts["CLAIMS"] = _claims((TEMPLATES / "claims.txt").read_text())
    names = sorted(known_modules.PASSWORD)
    parts["PASSWORD_MODULES"] = "\n".join(f".Pa {name} {',' if name != names[-1] else ';'}" for name in names)
    for word, program in PROGRAMS.items():
        parser = program.build_parser()
        parts[f"{word}_SYNOPSIS"] = "\n".join(_synopses(parser))
        parts[f"{word}_OPTIONS"] = _program_options(parser)
        parts[f"{word}_COMMANDS"] = _commands(parser)
        parts[f"{word}_EXAMPLES"] = _examples(parser.epilog or "")
    for name, text in parts.items():
        template = template.replace(f"@{name}@\n", text + "\n")
    return re.sub(r"@([\w.]+)\.(\w+)@", _constant, template)


def _constant(match: re.Match[str]) -> str:
    """Return a constant of the code. A time is in everyday units."""
    value = getattr(importlib.import_module(f"pam_softtoken.{match[1]}"), match[2])
    if not match[2].endswith("_S"):
        return str(value)
    units = (("day", 24 * 60 * 60), ("minute", 60), ("second", 1))
    unit, seconds = next((unit, seconds) for unit, seconds in units if value % seconds == 0)
    number = value // seconds
    return f"{number} {unit}" + ("s" if number != 1 else "")


def _module_options(options: Iterable[option_table.Option]) -> str:
    lines = [".Bl -tag -width Ds"]
    for option in options:
        lines.append(f".It Cm {option.name}" + (f" Ns = Ns Ar {option.value}" if option.value else ""))
        lines += _prose(option.meaning)
        if option.value:
            default = f"`{option.default}`" if option.default != "" else option.unset
            lines += _prose(f"The default is {default}.")
    return "\n".join([*lines, ".El"])


def _table(width: str, items: Iterable[tuple[str, str]]) -> str:
    lines = [f".Bl -tag -width {width}"]
    for head, text in items:
        lines += [f".It {head}", *_prose(text)]
    return "\n".join([*lines, ".El"])


def _folders() -> Iterator[tuple[str, str]]:
    """List the folders of the package, each with the first sentence of its docstring."""
    for path in sorted(TEMPLATES.parent.glob("*/__init__.py")):
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        yield f"{path.parent.name}/", re.split(r"(?<=\.)\s", " ".join(text.split()))[0]


def _claims(text: str) -> str:
    """Return a list of claims for each topic: a topic ends with a colon, and a claim begins with a hyphen."""
    lines: list[str] = []
    for line in text.splitlines():
        if line.endswith(":"):
            lines += [f".Ss {line[:-1]}", ".Bl -bullet -compact"]
        elif line:
            lines += [".It", *_prose(line.removeprefix("- "))]
        else:
            lines.append(".El")
    return "\n".join([*lines, ".El"])


def _enumeration(names: list[str]) -> str:
    *first, last = names
    return "\n".join([*(f".Cm {name} ," for name in first[:-1]), f".Cm {first[-1]}", "and", f".Cm {last}"])


def actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the options of a command line, in order."""
    return [action for action in parser._actions if action.option_strings]


def meaning(action: argparse.Action) -> str:
    """Return what an option does, from its program's help, with the values that argparse fills in."""
    return (action.help or "") % {**vars(action), "prog": ""}


def operands(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return the positional arguments of a command line, in order."""
    return [action for action in parser._actions if not action.option_strings and not _is_choice_of_commands(action)]


def subcommands(parser: argparse.ArgumentParser) -> dict[str, tuple[str, argparse.ArgumentParser]]:
    """Return what each subcommand does, and its command line. Return nothing for a program without subcommands."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            meanings = {choice.dest: choice.help or "" for choice in action._choices_actions}
            return {name: (meanings[name], own) for name, own in action.choices.items()}
    return {}


def _is_choice_of_commands(action: argparse.Action) -> bool:
    return isinstance(action, argparse._SubParsersAction)


def _synopses(parser: argparse.ArgumentParser) -> list[str]:
    commands = subcommands(parser)
    if not commands:
        return [".Nm", *(f".Op {_spelt(action)}" for action in actions(parser))]
    lines = []
    for name, (_, own) in commands.items():
        lines += [".Nm", f".Cm {name}"]
        lines += [f".Op {_spelt(action)}" for action in actions(own) if action.dest != "help"]
        lines += [_spelt_operand(action) for action in operands(own)]
    for action in actions(parser):
        lines += [".Nm", f".{_spelt(action)}"]
    return lines


def _spelt_operand(action: argparse.Action) -> str:
    name = action.metavar or "|".join(choices(action)) or action.dest.upper()
    spelt = f"Ar {name}" + (" ..." if action.nargs in ("*", "+") else "")
    return f".Op {spelt}" if action.nargs in ("?", "*") else f".{spelt}"


def _spelt(action: argparse.Action) -> str:
    """Write an option as in a synopsis."""
    spelt = " | ".join(f"Fl {name[1:]}" for name in action.option_strings)
    if choices(action):
        return f"{spelt} Cm {' | '.join(choices(action))}"
    return f"{spelt} Ar {action.metavar or action.dest.upper()}" if action.nargs != 0 else spelt


def choices(action: argparse.Action) -> list[str]:
    """Return the values that an option can have, if they are few."""
    if action.choices and not _is_choice_of_commands(action):
        return [str(choice) for choice in action.choices]
    return action.metavar.split("|") if isinstance(action.metavar, str) and "|" in action.metavar else []


def _program_options(parser: argparse.ArgumentParser) -> str:
    lines = []
    for group in parser._action_groups:
        if not group._group_actions or any(map(_is_choice_of_commands, group._group_actions)):
            continue
        if group.title != "options":  # argparse's title for options without a group
            lines.append(f".Ss {_capital(group.title or '')}")
        lines.append(".Bl -tag -width Ds")
        for action in group._group_actions:
            lines += _item(action)
        lines.append(".El")
    return "\n".join(lines)


def _item(action: argparse.Action) -> list[str]:
    spelt = _spelt(action) if action.option_strings else _spelt_operand(action).removeprefix(".").removeprefix("Op ")
    return [f".It {spelt}", *_prose(_sentence(meaning(action)))]


def _commands(parser: argparse.ArgumentParser) -> str:
    lines = []
    for name, (purpose, own) in subcommands(parser).items():
        lines += [f".Ss {name}", *_prose(_sentence(own.description or purpose))]
        arguments = [*operands(own), *(action for action in actions(own) if action.dest != "help")]
        if arguments:
            lines += [".Bl -tag -width Ds", *(line for action in arguments for line in _item(action)), ".El"]
    return "\n".join(lines)


def _examples(epilog: str) -> str:
    """Return the examples of the help: a command in the third column, and what it does below it."""
    lines = []
    for line in epilog.splitlines()[1:]:
        if not line.strip():
            continue
        if re.match(r" {2}\S", line):
            command = line.strip()
        else:
            lines += [".Pp", *_prose(_sentence(line.strip()))]
            lines.append(".Dl " + " ".join(_word(word) for word in command.split()))
    return "\n".join(lines[1:])


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _sentence(text: str) -> str:
    return _capital(text) if text.endswith(("?", ".")) else _capital(text) + "."


def _prose(text: str) -> list[str]:
    """Return a text with code in backquotes as mdoc, one line for each sentence."""
    lines = []
    pieces = text.split("`")
    for number, piece in enumerate(pieces):
        if number % 2:
            behind = pieces[number + 1]
            mark = behind[: len(behind) - len(behind.lstrip(PUNCTUATION))]
            pieces[number + 1] = behind[len(mark) :]
            lines.append(" ".join([f'.Ql "{_word(piece)}"', *mark]))
        else:
            sentences = re.split(r"(?<=[.?!]) +", piece.strip())
            lines += [re.sub(r"^(?=[.'])", r"\\&", _escaped(each)) for each in sentences if each]
    return lines


def _word(text: str) -> str:
    """Return a word that mdoc does not read as a macro. Its end is not read as punctuation."""
    return rf"\&{_escaped(text)}" + (r"\&" if text[-1:] in PUNCTUATION else "")


def _escaped(text: str) -> str:
    return text.replace("\\", "\\e").replace('"', "\\(dq")
