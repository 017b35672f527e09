"""A program's command line: one that says what is wrong with it as all our programs do, and one made of subcommands."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterable
from typing import NamedTuple, NoReturn

from pam_softtoken import terminal
from pam_softtoken.errors import UsageError

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PLACES = ("TMPDIR", "TEMP", "TMP", "LANGUAGE")


class Parser(argparse.ArgumentParser):
    """A command line whose mistakes are `UsageError`, with a hint at the help."""

    def error(self, message: str) -> NoReturn:
        """Say what is wrong.

        Raises:
            UsageError: always.
        """
        raise UsageError(message, hint=f"see {self.prog} --help")


class Command(NamedTuple):
    """One subcommand of a program.

    Args:
        name: the word on the command line.
        help: what it does, in one line, lower case.
        add_arguments: gives a parser the subcommand's own arguments.
        run: does the work; raises `ProgramError` for what the person has to know.
    """

    name: str
    help: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[terminal.Terminal, argparse.Namespace], None]


def build_parser(program: str, description: str, epilog: str, commands: Iterable[Command]) -> Parser:
    """Make the command line of a program with subcommands; `--help`, man page and completions are made from it, too."""
    parser = Parser(
        prog=program,
        description=description,
        epilog=epilog,
        usage="%(prog)s COMMAND [ARGUMENT ...]",
        formatter_class=terminal.HelpFormatter,
        allow_abbrev=False,
    )
    subcommands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=Parser, prog=program
    )
    for command in commands:
        own = subcommands.add_parser(
            command.name,
            help=command.help,
            description=command.help[:1].upper() + command.help[1:] + ".",
            formatter_class=terminal.HelpFormatter,
            allow_abbrev=False,
        )
        command.add_arguments(own)
        own.set_defaults(run=command.run)
    return parser


def settle_in() -> None:
    """Undo what a caller's surroundings could do to a program; before a command line is made, which looks for texts.

    A umask could make files that lock their owner out. `su` leaves the environment of a user to root: programs,
    directories for new files, and translations (gettext(3)) would come from where that user says.
    """
    os.umask(0o077)
    if os.geteuid() != 0:
        return
    os.environ["PATH"] = _PATH
    for name in _PLACES:
        os.environ.pop(name, None)
    for name in [name for name in os.environ if name == "LANG" or name.startswith("LC_")]:
        if "/" in os.environ[name]:
            del os.environ[name]


def main(build: Callable[[], Parser], arguments: list[str] | None) -> int:
    """Run a program with subcommands: exit status 0 done, 1 failed, 2 usage.

    Args:
        build: makes its command line.
        arguments: its words; None for those of the process.
    """
    settle_in()
    parser = build()

    def body(screen: terminal.Terminal) -> None:
        options = parser.parse_args(arguments)
        options.run(screen, options)

    return terminal.run(parser.prog, body)
