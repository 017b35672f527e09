"""`softtoken export`: show keys of the vault, as Key URIs, an export of Aegis or QR codes, for another device."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from pam_softtoken.device import desk, entry, passphrase
from pam_softtoken.device.entry import Entry
from pam_softtoken.interchange.apps import aegis
from pam_softtoken.otp import key_uri
from pam_softtoken.otp.ocra import OCRAToken
from pam_softtoken.otp.token import HOTPToken
from pam_softtoken.program_errors import UsageError, VaultFailed
from pam_softtoken.ui import consent, qr_code, terminal
from pam_softtoken.ui.command_line import Command

FORMATS = ("uri", "aegis")
_ENROL_ANOTHER = "enrol another token on the host, for another device"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """The options of `export`."""

    names: tuple[str, ...]
    format: str
    qr: bool
    yes: bool
    passphrase: passphrase.PassphraseOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments to its parser."""
    parser.add_argument("names", nargs="*", metavar="NAME", help="which ones; without it, all of them")
    parser.add_argument(
        "--format", choices=FORMATS, default=FORMATS[0],
        help="uri: one Key URI a line; aegis: JSON of the app Aegis in clear, for other apps (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--qr", action="store_true", help="draw QR codes, for the camera of another device")
    consent.add_yes(parser)
    passphrase.add_arguments(parser)


def run(screen: terminal.Terminal, options: ExportOptions) -> None:
    """Show keys.

    Raises:
        ProgramError: not all of them were shown.
    """
    screen.require_open()
    if options.qr and options.format != FORMATS[0]:
        raise UsageError("--qr does not go with --format", hint="a QR code has a Key URI")
    _, entries = desk.open_vault(desk.passphrase_of(screen, options.passphrase))
    chosen = [entries[entry.find(entries, name, whole=True)] for name in options.names]
    for named in chosen:
        _require_code(named)
    left_out = [] if chosen else entry.signing(entries)
    chosen = chosen or entry.with_codes(entries)
    if not chosen and left_out:
        _require_code(left_out[0][0])
    if not chosen:
        raise VaultFailed("the vault is empty", hint="softtoken add takes a Key URI, softtoken import a file")
    keys = "1 key" if len(chosen) == 1 else f"{len(chosen)} keys"
    onlookers = (
        "everybody who sees this screen has them, too" if screen.is_terminal() else "nothing encrypts the output"
    )
    consent.require(screen, f"Show {keys}? {onlookers.capitalize()}.", given=options.yes)
    if options.yes and screen.is_terminal():
        screen.tell(f"This shows {keys}: {onlookers}.")
    terminal.checkpoint()
    if options.format == "aegis":
        screen.show(aegis.write((each.otp_token, each.issuer, each.name) for each in chosen))
    for each in chosen if options.format == FORMATS[0] else ():
        uri = key_uri.build(each.otp_token, issuer=each.issuer, account=each.name)
        if options.qr:
            drawn = qr_code.draw(screen, uri, None, otherwise="leave --qr out")
            if not drawn:
                raise VaultFailed(
                    f'the QR code of "{each.name}" cannot be drawn here', hint="without --qr the Key URI is shown"
                )
            screen.show(f"{screen.spell(each.name)}\n\n{drawn}\n")
        else:
            screen.show(uri)
    for each, _ in left_out:
        screen.tell(f'Left out: "{screen.spell(each.name)}", which signs requests. Its key is not shown again.')
    if any(isinstance(each.token, HOTPToken) for each in chosen):
        screen.tell("Tokens that count must count in one place only: remove them here once they are used elsewhere.")


def _require_code(each: Entry) -> None:
    """Check that an entry is not one that signs. Nothing else can use its key, so it is not shown again."""
    if isinstance(each.token, OCRAToken):
        raise VaultFailed(f'"{each.name}" signs requests, and its key is not shown again', hint=_ENROL_ANOTHER)


COMMAND = Command("export", "show keys, as Key URIs or QR codes, for another device", add_arguments, ExportOptions, run)
