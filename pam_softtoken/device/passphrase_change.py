"""`softtoken passwd`: change the passphrase of the vault."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from pam_softtoken.device import desk, passphrase
from pam_softtoken.program_errors import VaultFailed
from pam_softtoken.ui import terminal
from pam_softtoken.ui.command_line import Command


@dataclass(frozen=True, slots=True)
class PasswdOptions:
    """The options of `passwd`."""

    new_passphrase_fd: int | None
    passphrase: passphrase.PassphraseOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments to its parser."""
    parser.add_argument(
        "--new-passphrase-fd", type=int, metavar="N",
        help="take the new one from descriptor N, one line, instead of asking",
    )  # fmt: skip
    passphrase.add_arguments(parser)


def run(screen: terminal.Terminal, options: PasswdOptions) -> None:
    """Change the passphrase.

    Raises:
        ProgramError: it was not changed.
    """
    source = desk.passphrase_of(screen, options.passphrase)
    vault, _ = desk.open_vault(source)
    if options.new_passphrase_fd is not None:
        new = passphrase.from_descriptor(options.new_passphrase_fd)
    else:
        new = source.ask_twice("New passphrase for the vault:")
    terminal.checkpoint()
    vault.renew(new)
    try:
        source.was_right(new, is_new=True)
    except VaultFailed as error:
        raise VaultFailed(
            f"the vault has the new passphrase, and the keyring does not: {error.message}",
            hint="softtoken list --keyring asks for it and keeps it",
        ) from None
    screen.tell("The vault has a new passphrase. Copies of the file open with the passphrase that they were made with.")


COMMAND = Command("passwd", "change the passphrase", add_arguments, PasswdOptions, run)
