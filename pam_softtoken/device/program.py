"""`softtoken`: its command line. Each subcommand is in the module that does its work."""

from __future__ import annotations

from pam_softtoken import command

PROGRAM = "softtoken"
DESCRIPTION = "A soft token: keeps keys encrypted, and shows their one-time codes."
EPILOG = """\
examples:
"""
COMMANDS: tuple[command.Command, ...] = ()


def build_parser() -> command.Parser:
    """Make the command line; `--help` is made from it, too."""
    return command.build_parser(PROGRAM, DESCRIPTION, EPILOG, COMMANDS)


def main(arguments: list[str] | None = None) -> int:
    """Run the program: exit status 0 done, 1 failed, 2 usage."""
    return command.main(build_parser(), arguments)
