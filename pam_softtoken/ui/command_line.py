"""What all programs' command lines share, and a command line that consists of subcommands."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, NoReturn

import pam_softtoken
from pam_softtoken.errors import UsageError
from pam_softtoken.ui import terminal

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_KEPT = frozenset(
    {
        "COLORTERM", "COLUMNS", "HOME", "LANG", "LINES", "LOGNAME", "NO_COLOR", "PATH",
        "PYTHON_KEYRING_BACKEND", "SHELL", "SUDO_GID", "SUDO_UID", "SUDO_USER", "TERM", "TMUX", "TZ", "USER",
        "XDG_CONFIG_HOME", "XDG_DATA_HOME",
    }
)  # fmt: skip
"""The variables that our programs use. Others are removed, because libraries may run programs that they name."""


class Parser(argparse.ArgumentParser):
    """A command line that raises `UsageError` for mistakes, with a hint at what was meant, or at the help.

    No option can be abbreviated. An abbreviation changes its meaning when another option with the same beginning is
    added. It also gets past rules that name options, such as those of sudo.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(**{"formatter_class": terminal.HelpFormatter, **settings, "allow_abbrev": False})

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


class Command(NamedTuple):
    """One subcommand of a program.

    Args:
        name: the word on the command line.
        help: what it does, in one line, lower case.
        add_arguments: adds the subcommand's own arguments to a parser.
        run: does the work. It raises `ProgramError` for what the user must know.
    """

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[terminal.Terminal, argparse.Namespace], None]


def build_parser(program: str, description: str, epilog: str, commands: Iterable[Command]) -> Parser:
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
        own.set_defaults(run=command.run)
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
    before: Callable[[terminal.Terminal, argparse.Namespace], None] = lambda screen, options: None,
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
        options = parser.parse_args(arguments)
        before(screen, options)
        options.run(screen, options)

    return terminal.run(parser.prog, body)
