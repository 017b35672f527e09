"""`softtoken-admin`: its command line. Each subcommand is in the module that does its work."""

from __future__ import annotations

from pam_softtoken import command
from pam_softtoken.admin import move

PROGRAM = "softtoken-admin"
DESCRIPTION = "Turn the second factor on and off for the services of this host, and help its users."
EPILOG = """\
examples:
  softtoken-admin move --all --to system --dry-run
      which tokens would go out of the users' homes into root's hands?
"""
COMMANDS: tuple[command.Command, ...] = (move.COMMAND,)


def build_parser() -> command.Parser:
    """Make the command line; `--help` is made from it, too."""
    return command.build_parser(PROGRAM, DESCRIPTION, EPILOG, COMMANDS)


def main(arguments: list[str] | None = None) -> int:
    """Run the program: exit status 0 done, 1 failed, 2 usage."""
    return command.main(build_parser(), arguments)
