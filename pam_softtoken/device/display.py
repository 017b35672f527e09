"""`softtoken code`: show one code on stdout, or a table of all codes on a terminal."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

from pam_softtoken.device import desk, passphrase
from pam_softtoken.device.entry import Entry, find, with_codes
from pam_softtoken.device.vault import Vault
from pam_softtoken.otp import hotp
from pam_softtoken.otp.token import TOTPToken
from pam_softtoken.program_errors import ProgramError, UsageError, VaultFailed
from pam_softtoken.ui import terminal
from pam_softtoken.ui.command_line import Command


@dataclass(frozen=True, slots=True)
class CodeOptions:
    """The options of `code`."""

    name: str | None
    passphrase: passphrase.PassphraseOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments to its parser."""
    parser.add_argument(
        "name", nargs="?", metavar="NAME",
        help="name of the token, or a part that no other name has; without it, on a terminal, all of them",
    )  # fmt: skip
    passphrase.add_arguments(parser)


def run(screen: terminal.Terminal, options: CodeOptions) -> None:
    """Show codes.

    Raises:
        ProgramError: there is none to show.
    """
    screen.require_open()
    vault, entries = desk.open_vault(desk.passphrase_of(screen, options.passphrase))
    if not entries:
        raise VaultFailed("the vault is empty", hint="softtoken add takes a Key URI, softtoken import a file")
    shown = with_codes(entries)
    if options.name is None and not shown:
        raise VaultFailed("no token in the vault has codes; all of them sign requests", hint="softtoken sign uses them")
    if options.name is None and screen.is_terminal() and terminal.person_is_there():
        from pam_softtoken.device import live_table  # noqa: PLC0415 - its library takes as long as everything else

        live_table.show(screen, vault, shown)
        return
    if options.name is None and len(shown) > 1:
        raise UsageError("whose code?", hint="softtoken code NAME; softtoken list shows the names")
    chosen = entries[find(entries, options.name)] if options.name is not None else shown[0]
    terminal.checkpoint()
    show_one(screen, vault, chosen)


def show_one(screen: terminal.Terminal, vault: Vault, entry: Entry) -> None:
    """Write one code to stdout.

    Raises:
        ProgramError: it could not be stored as used, or could not be shown.
    """
    token = entry.otp_token
    if isinstance(token, TOTPToken):
        now = int(time.time())
        screen.show(token.otp_at(hotp.time_step(now, token.period_s)))
        if screen.is_terminal():
            screen.tell(f"{screen.spell(entry.name)}: {token.period_s - now % token.period_s} s left")
        return
    code = vault.next_code(entry)
    try:
        screen.show(code)
    except ProgramError as error:
        raise VaultFailed(
            error.message.replace("nothing was changed", "the code was not shown and counts as used"), hint=error.hint
        ) from None


COMMAND = Command("code", "show a code, or a live table of all of them", add_arguments, CodeOptions, run)
