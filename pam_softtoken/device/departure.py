"""`softtoken export`: show keys of the vault, as Key URIs or QR codes for another device."""

from __future__ import annotations

import argparse

from pam_softtoken.device import desk, entry, passphrase
from pam_softtoken.errors import VaultFailed
from pam_softtoken.otp import key_uri
from pam_softtoken.otp.token import HOTPToken
from pam_softtoken.ui import qr_code, terminal
from pam_softtoken.ui.command_line import Command


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments to its parser."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="which ones; without it, all of them")
    parser.add_argument("--qr", action="store_true", help="draw QR codes, for the camera of another device")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    passphrase.add_arguments(parser)


def run(screen: terminal.Terminal, options: argparse.Namespace) -> None:
    """Show keys.

    Raises:
        ProgramError: not all of them were shown.
    """
    screen.require_open()
    _, entries = desk.open_vault(desk.passphrase_of(screen, options))
    chosen = [entries[entry.find(entries, name, whole=True)] for name in options.names] or entries
    if not chosen:
        raise VaultFailed("the vault is empty", hint="softtoken add takes a Key URI, softtoken import a file")
    keys = "1 key" if len(chosen) == 1 else f"{len(chosen)} keys"
    onlookers = (
        "everybody who sees this screen has them, too" if screen.is_terminal() else "nothing encrypts the output"
    )
    desk.require_consent(screen, f"Show {keys}? {onlookers.capitalize()}.", given=options.yes)
    if options.yes and screen.is_terminal():
        screen.tell(f"This shows {keys}: {onlookers}.")
    terminal.checkpoint()
    for each in chosen:
        uri = key_uri.build(each.token, issuer=each.issuer, account=each.name)
        if options.qr:
            drawn = qr_code.draw(screen, uri, None, otherwise="leave --qr out")
            if not drawn:
                raise VaultFailed(
                    f'the QR code of "{each.name}" cannot be drawn here', hint="without --qr the Key URI is shown"
                )
            screen.show(f"{screen.spell(each.name)}\n\n{drawn}\n")
        else:
            screen.show(uri)
    if any(isinstance(each.token, HOTPToken) for each in chosen):
        screen.tell("Tokens that count must count in one place only: remove them here once they are used elsewhere.")


COMMAND = Command("export", "show keys, as Key URIs or QR codes, for another device", add_arguments, run)
