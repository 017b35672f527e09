"""`softtoken sign`: sign one pasted request, or requests that come through a socket."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

from pam_softtoken.device import desk, entry, listener, passphrase, signing_request
from pam_softtoken.otp import ocra, signing
from pam_softtoken.program_errors import NotConfirmed, VaultFailed
from pam_softtoken.ui import terminal
from pam_softtoken.ui.command_line import Command


@dataclass(frozen=True, slots=True)
class SignOptions:
    """The options of `sign`."""

    listen: str | None
    passphrase: passphrase.PassphraseOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments to its parser."""
    parser.add_argument(
        "--listen", metavar="SOCKET",
        help="take requests from a socket until Ctrl-C, which ssh forwards from a host, instead of a pasted one",
    )  # fmt: skip
    passphrase.add_arguments(parser)


def run(screen: terminal.Terminal, options: SignOptions) -> None:
    """Sign one pasted request, or requests from a socket.

    Raises:
        ProgramError: nothing was signed.
    """
    if not (terminal.person_is_there() and terminal.person_sees_messages()):
        raise VaultFailed(
            "there is no terminal to show a request on; nothing was signed",
            hint="run softtoken sign in a terminal, without redirecting stdin or stderr",
        )
    screen.require_open()
    _, entries = desk.open_vault(desk.passphrase_of(screen, options.passphrase))
    signers = [each for each in entry.signing(entries) if each[1].suite.text == ocra.SIGNING_SUITE]
    if not signers:
        raise VaultFailed(
            "no token in the vault signs requests",
            hint="softtoken add takes the Key URI that the host shows when you enrol a token that signs",
        )
    if options.listen is not None:
        listener.serve(screen, signers, options.listen)
        return
    try:
        request = signing_request.check(desk.ask(screen, "Request"), signers, now=int(time.time()))
    except VaultFailed:
        # A request that was pasted in several lines, which the host chooses, must not be read by the shell.
        terminal.discard_typed_ahead()
        raise
    code = signing_request.confirm(screen, request)
    if code is None:
        raise NotConfirmed("not signed", hint="to sign a request, answer y")
    screen.show(signing.grouped(code))


COMMAND = Command("sign", "sign a command that a host asks about", add_arguments, SignOptions, run)
