"""`softtoken add`: add one token, from a Key URI, from a picture of a QR code, or typed field by field."""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

from pam_softtoken.device import desk, passphrase, typed_token
from pam_softtoken.device.entry import Entry, Names
from pam_softtoken.interchange import google_export, key_uri_reader, qr_picture, record
from pam_softtoken.otp import key_uri, ocra, ocra_uri
from pam_softtoken.otp.token import require_name
from pam_softtoken.program_errors import Unreadable, UsageError, VaultFailed
from pam_softtoken.ui import terminal
from pam_softtoken.ui.command_line import Command

_MAX_URI_BYTES = 4096
_SCHEMES = (f"{key_uri.SCHEME}:", f"{google_export.SCHEME}:")
_FIRST_QUESTION = "Paste the line that begins with otpauth://, or type a name to enter a key yourself"
_HINT = "a Key URI is like otpauth://totp/host:alice?secret=...&issuer=host"


@dataclass(frozen=True, slots=True)
class AddOptions:
    """The options of `add`."""

    name: str | None
    image: str | None
    advanced: bool
    echo: bool
    passphrase: passphrase.PassphraseOptions


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommand's arguments to its parser."""
    parser.add_argument("--name", metavar="NAME", help="what to call it (default: the account in the Key URI)")
    parser.add_argument(
        "--image", metavar="FILE", help="take it from the QR code in a PNG or JPEG picture, - for stdin"
    )
    parser.add_argument(
        "--advanced", action="store_true", help="ask for type, digits, algorithm and period or counter, too"
    )
    parser.add_argument("--echo", action="store_true", help="show the key while it is typed")
    passphrase.add_arguments(parser)


def run(screen: terminal.Terminal, options: AddOptions) -> None:
    """Add a token.

    Raises:
        ProgramError: nothing was added.
    """
    if options.name is not None:
        _require_name(options.name, hint="as in --name work")
    source = desk.passphrase_of(screen, options.passphrase)
    new, other_name = _new_entry(screen, options)
    vault, _ = desk.open_or_make_vault(source)
    terminal.checkpoint()
    with vault.changing() as entries:
        same = next((entry for entry in entries if entry.is_same(new)), None)
        if same is not None:
            raise VaultFailed(f'that token is there already, as "{same.name}"', hint=_hint_for(same))
        name = options.name or Names(entries).take(new.name, other_name)
        if any(entry.name == name for entry in entries):
            raise VaultFailed(f'there is another entry "{name}"', hint="--name gives it another name")
        entries.append(new.named(name))
    screen.tell(f'Added "{screen.spell(name)}".')


def _hint_for(same: Entry) -> str:
    if isinstance(same.token, ocra.OCRAToken):
        return "softtoken sign uses it"
    return f'softtoken code "{same.name}" shows its code'


def _require_name(name: str, *, hint: str) -> None:
    try:
        require_name(name)
    except ValueError as error:
        raise UsageError(str(error), hint=hint) from None


def _new_entry(screen: terminal.Terminal, options: AddOptions) -> tuple[Entry, str]:
    """Add the token. Return its name, which is a new one if its own is already used."""
    if options.image is not None:
        return _from_uri(_in_picture(desk.read_file(options.image)))
    if terminal.person_is_there():
        return _asked_for(screen, options)
    data = desk.read_file("-")
    if len(data) > _MAX_URI_BYTES:
        raise VaultFailed("there is more than a Key URI on stdin", hint="softtoken import takes a file of them")
    lines = data.decode("utf-8", "surrogateescape").split()
    if len(lines) != 1:
        found = "no Key URI" if not lines else "more than a Key URI"
        raise VaultFailed(f"there is {found} on stdin", hint=f"{_HINT}; softtoken import takes a file of them")
    return _from_uri(lines[0])


def _in_picture(data: bytes) -> str:
    """Return the one Key URI in a picture. Other QR codes may be there, too."""
    texts = qr_picture.read(data)
    found = [text.strip() for text in texts if text.lower().startswith(_SCHEMES)]
    if not found:
        raise VaultFailed("no QR code in the picture is a Key URI", hint=_HINT)
    if len(found) > 1:
        raise VaultFailed(
            f"there are {len(found)} Key URIs in the picture", hint="softtoken import takes them all; or cut one out"
        )
    return found[0]


def _from_uri(uri: str) -> tuple[Entry, str]:
    if uri.lower().startswith(ocra_uri.START):
        return _signer_from(uri)
    if uri.lower().startswith(f"{google_export.SCHEME}:"):
        raise VaultFailed("this is an export with any number of tokens", hint="softtoken import takes it")
    try:
        token = key_uri_reader.parse(uri, now=int(time.time()), min_key_bytes=record.SHORTEST_KEY_BYTES).token
    except Unreadable as error:
        raise VaultFailed(error.message, hint=error.hint or _HINT) from None
    issuer, account = key_uri_reader.label_of(uri)
    issuer = record.name_from(issuer) if issuer else ""
    return Entry(token, issuer).named(record.name_from(account or issuer)), token.name


def _signer_from(uri: str) -> tuple[Entry, str]:
    """Read the Key URI of a token that signs. Its one spelling has small letters, so nothing is guessed."""
    token, issuer, account = ocra_uri.parse(uri, now=int(time.time()))
    if token.suite.text != ocra.SIGNING_SUITE:
        raise VaultFailed(
            f"this token answers challenges of another kind: {token.suite.text}",
            hint=f"softtoken sign uses {ocra.SIGNING_SUITE}",
        )
    issuer = record.name_from(issuer) if issuer else ""
    return Entry(token, issuer), record.name_from(f"{issuer or account} {token.name}")


def _asked_for(screen: terminal.Terminal, options: AddOptions) -> tuple[Entry, str]:
    """Ask for the fields. A user with a Key URI can paste it as the first answer."""

    def name_or_entry(typed: str) -> str | tuple[Entry, str]:
        if typed.lower().startswith(_SCHEMES):
            return _from_uri(typed)
        _require_name(typed, hint="for instance work")
        return typed

    first = options.name or typed_token.ask(screen, _FIRST_QUESTION, name_or_entry)
    if isinstance(first, tuple):
        return first
    return Entry(typed_token.token(screen, first, advanced=options.advanced, echo=options.echo)), first


COMMAND = Command("add", "add a token: a Key URI on stdin, a picture, or typed", add_arguments, AddOptions, run)
