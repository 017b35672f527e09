"""What all programs' command lines share, and a command line that consists of subcommands.

What argparse has parsed becomes a frozen value here, of the type that a command declares. No other module sees a
`Namespace`.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import textwrap
import typing
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, NoReturn, TypeVar

import pam_softtoken
from pam_softtoken.program_errors import UsageError
from pam_softtoken.ui import terminal

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_Options = TypeVar("_Options", bound="DataclassInstance")

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT = frozenset(
    {
        "COLORTERM", "COLUMNS", "HOME", "LANG", "LINES", "LOGNAME", "NO_COLOR", "PATH",
        "PYTHON_KEYRING_BACKEND", "SHELL", "SUDO_GID", "SUDO_UID", "SUDO_USER", "TERM", "TMUX", "TZ", "USER",
        "XDG_CONFIG_HOME", "XDG_DATA_HOME",
    }
)  # fmt: skip
"""The variables that our programs use. Others are removed, because libraries may run programs that they name."""


class HelpFormatter(argparse.HelpFormatter):
    """Writes the help for any width. Examples keep their lines: a command stays whole and can be copied."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return "\n".join(self._fitting(line, width, indent) for line in text.splitlines())

    def _fitting(self, line: str, width: int, indent: str) -> str:
        words = line.lstrip()
        indent += line[: len(line) - len(words)]
        if words.startswith(self._prog):
            return indent + words
        return textwrap.fill(words, width, initial_indent=indent, subsequent_indent=indent)


class Parser(argparse.ArgumentParser):
    """A command line that raises `UsageError` for mistakes, with a hint at what was meant, or at the help.

    No option can be abbreviated. An abbreviation changes its meaning when another option with the same beginning is
    added. It also gets past rules that name options, such as those of sudo.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"formatter_class": HelpFormatter, **settings, "allow_abbrev": False})

    def error(self, message: str) -> NoReturn:
        """Raise what argparse has found.

        Raises:
            UsageError: always.
        """
        raise UsageError(message, hint=f"see {self.prog} --help")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Return the parsed command line, with nothing left over. argparse also calls this for subcommands.

        Raises:
            UsageError: the command line is wrong.
        """
        words = list(sys.argv[1:] if args is None else args)
        self._require_known_options(words)
        found, left = super().parse_known_args(words, namespace)
        if left:
            self._refuse(left[0])
        return found, []

    def given(self, options: DataclassInstance) -> list[str]:
        """List the fields of parsed options that differ from their default, in the order of `--help`."""
        values = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
        names = dict.fromkeys(action.dest for action in self._actions if action.dest in values)
        return [name for name in names if values[name] != self.get_default(name)]

    def _require_known_options(self, words: Sequence[str]) -> None:
        """Check the names of long options first. Otherwise argparse would complain about something less helpful."""
        for word in words:
            if word == "--" or (self._subparsers is not None and not word.startswith("-")):
                return  # the rest has no options, or belongs to the subcommand
            if word.startswith("--") and " " not in word and word.partition("=")[0] not in self._option_string_actions:
                self._refuse(word)

    def _refuse(self, word: str) -> NoReturn:
        name = word.partition("=")[0]
        if not name.startswith("-"):
            raise UsageError(f'unexpected argument: "{word}"', hint=f"see {self.prog} --help")
        options = [option for option in self._option_string_actions if option.startswith("--")]
        raise UsageError(f'unknown option: "{name}"', hint=f"{did_you_mean(name, options)}see {self.prog} --help")

    def _check_value(self, action: argparse.Action, value: object) -> None:
        """Check a value against the choices. argparse also calls this for the name of a subcommand."""
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        nearest = did_you_mean(str(value), choices)
        if isinstance(action, argparse._SubParsersAction):
            raise UsageError(f'unknown command: "{value}"', hint=f"{nearest}see {self.prog} --help")
        name = action.option_strings[-1] if action.option_strings else action.metavar or action.dest
        raise UsageError(f'{name}: unknown value: "{value}"', hint=f"{nearest}one of {', '.join(choices)}")


class OptionalValue(argparse.Action):
    """Stores the value of an option, or another text where the option has none. That text is no choice to type.

    Args:
        without: the text to store if there is no value.
    """

    def __init__(self, *, without: str, **settings: Any) -> None:
        super().__init__(nargs="?", **settings)
        self._without = without

    def __call__(self, parser: object, namespace: object, values: object, option_string: str | None = None) -> None:
        """Store it. argparse calls this."""
        setattr(namespace, self.dest, values or self._without)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the start of a hint that names the known word nearest to an unknown one, "" if none is near."""
    import difflib  # noqa: PLC0415 - only mistakes need it

    names = {name.lower(): name for name in known}
    nearest = difflib.get_close_matches(word.lower(), names, n=1)
    return f'did you mean "{names[nearest[0]]}"? ' if nearest else ""


def add_version(parser: argparse.ArgumentParser) -> None:
    """Add `--version`, which shows the version of the package."""
    version = f"{parser.prog} {pam_softtoken.__version__}"
    parser.add_argument("--version", action="version", version=version, help="show the version and exit")


class Command(NamedTuple, Generic[_Options]):
    """One subcommand of a program.

    Args:
        name: the word on the command line.
        help: what it does, in one line, lower case.
        add_arguments: adds the subcommand's own arguments to a parser.
        options: the frozen dataclass of its parsed arguments. See `options_of`.
        run: does the work. It raises `ProgramError` for what the user must know.
    """

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    options: type[_Options]
    run: Callable[[terminal.Terminal, _Options], None]


@dataclasses.dataclass(frozen=True, slots=True)
class NoOptions:
    """The options of a command that has none."""


def options_of(kind: type[_Options], parsed: argparse.Namespace) -> _Options:
    """Return what was parsed as a frozen value, by the names of its fields.

    Args:
        kind: its type, a dataclass. A field whose own type is a dataclass is filled in the same way: these are options
            that several commands share.
        parsed: the values by the `dest` of their arguments. Lists become tuples.
    """
    types = typing.get_type_hints(kind)
    values = {}
    for field in dataclasses.fields(kind):
        if dataclasses.is_dataclass(types[field.name]):
            values[field.name] = options_of(types[field.name], parsed)
        else:
            value = getattr(parsed, field.name)
            values[field.name] = tuple(value) if isinstance(value, list) else value
    return kind(**values)


def build_parser(program: str, description: str, epilog: str, commands: Iterable[Command[Any]]) -> Parser:
    """Return the parser of a program with subcommands. `--help`, man page and completions are made from it, too."""
    parser = Parser(
        prog=program,
        description=description,
        epilog=epilog,
        usage="%(prog)s COMMAND [ARGUMENT ...]",
    )
    add_version(parser)
    subcommands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=Parser, prog=program
    )
    for command in commands:
        own = subcommands.add_parser(
            command.name,
            help=command.help,
            description=command.help[:1].upper() + command.help[1:] + ".",
        )
        command.add_arguments(own)
        own.set_defaults(command=command)
    return parser


def settle_in() -> None:
    """Undo what a caller's environment could do to a program. Call it before making a command line, which loads texts.

    A umask could create files that their owner cannot open. `su` leaves the environment of a user to root. That user
    could then choose programs and libraries (OPENSSL_CONF, KRB5_CONFIG), directories for new files, and translations
    (gettext(3)). So root keeps only the few variables that are known to be harmless.
    """
    os.umask(0o077)
    if os.geteuid() != 0:
        return
    for name in [name for name in os.environ if not _is_harmless(name, os.environ[name])]:
        del os.environ[name]
    os.environ["PATH"] = _PATH


def _is_harmless(name: str, value: str) -> bool:
    if name == "LANG" or name.startswith("LC_"):
        return "/" not in value
    if name == "TZ":
        return not value.startswith(("/", ":")) and ".." not in value
    return name in _KEPT


def main(
    build: Callable[[], Parser],
    arguments: list[str] | None,
    before: Callable[[terminal.Terminal, Command[Any]], None] = lambda screen, command: None,
) -> int:
    """Run a program with subcommands. Exit status: 0 done, 1 failed, 2 usage.

    Args:
        build: makes its command line.
        arguments: its words. None: those of the process.
        before: what each command does first.
    """
    settle_in()
    parser = build()

    def body(screen: terminal.Terminal) -> None:
        parsed = parser.parse_args(arguments)
        command: Command[Any] = parsed.command
        before(screen, command)
        command.run(screen, options_of(command.options, parsed))

    return terminal.run(parser.prog, body, sys.argv[1:] if arguments is None else arguments)
