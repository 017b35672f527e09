"""`softtoken`: define its command line. Each subcommand is in the module that does its work."""

from __future__ import annotations

from typing import Any

from pam_softtoken.device import (
    addition,
    arrival,
    catalogue,
    clock_check,
    departure,
    display,
    passphrase_change,
    signature,
)
from pam_softtoken.ui import command_line

PROGRAM = "softtoken"
DESCRIPTION = "A soft token: keeps keys encrypted, and shows their one-time codes."
EPILOG = """\
examples:
  softtoken add --image screenshot.png
      add the token whose QR code is on a web page or in a terminal
  softtoken add < uri.txt
      add a Key URI; in a terminal, without anything, it is typed
  softtoken code
      all codes, with the seconds left; type to search, Enter copies
  softtoken code host
      one code on stdout, by a part of the name
  softtoken sign
      sign a command that sudo on a host asks about: paste its line
  softtoken sign --listen ~/.softtoken-sign
      take requests over ssh; 1000 is your user id on the host:
      ssh -R /run/user/1000/softtoken-sign:$HOME/.softtoken-sign host
  softtoken list
      which tokens are there?
  softtoken import aegis.json
      import what another app has exported
  softtoken export --qr work
      show a key to the camera of another device
  softtoken verify work
      is this machine's clock right?
  softtoken passwd --keyring
      a new passphrase, kept in the desktop's keyring
"""
COMMANDS: tuple[command_line.Command[Any], ...] = (
    addition.COMMAND,
    display.COMMAND,
    signature.COMMAND,
    catalogue.LIST,
    catalogue.RENAME,
    catalogue.REMOVE,
    arrival.COMMAND,
    departure.COMMAND,
    clock_check.COMMAND,
    passphrase_change.COMMAND,
)


def build_parser() -> command_line.Parser:
    """Return the command line's parser. `--help` is made from it, too."""
    return command_line.build_parser(PROGRAM, DESCRIPTION, EPILOG, COMMANDS)


def main(arguments: list[str] | None = None) -> int:
    """Run the program. Exit status: 0 done, 1 failed, 2 usage."""
    return command_line.main(build_parser, arguments)
