"""What most subcommands begin with: open the vault, read a file, ask a question."""

from __future__ import annotations

import os
import sys

from pam_softtoken.account.user_path import NamedFiles, reason
from pam_softtoken.device.entry import Entry
from pam_softtoken.device.passphrase import Passphrase, PassphraseOptions
from pam_softtoken.device.vault import Vault, default_path
from pam_softtoken.errors import PathError
from pam_softtoken.program_errors import EnrolmentFailed, NotOpened, VaultFailed
from pam_softtoken.ui import terminal

MAX_FILE_BYTES = 2**24


def passphrase_of(screen: terminal.Terminal, options: PassphraseOptions) -> Passphrase:
    """Return the source of the vault's passphrase."""
    return Passphrase(screen, options, default_path())


def open_vault(passphrase: Passphrase) -> tuple[Vault, list[Entry]]:
    """Open the existing vault.

    Raises:
        VaultFailed, UsageError: it cannot be opened.
    """
    vault = Vault(default_path())
    if not vault.exists():
        raise VaultFailed(
            f'there is no vault "{vault.path}" yet', hint="softtoken add makes one, and softtoken import does, too"
        )
    return vault, _open(vault, passphrase)


def open_or_make_vault(passphrase: Passphrase) -> tuple[Vault, list[Entry]]:
    """Open the vault, or create an empty one if there is none.

    Raises:
        VaultFailed, UsageError: neither is possible.
    """
    vault = Vault(default_path())
    if vault.exists():
        return vault, _open(vault, passphrase)
    new = passphrase.of_new_vault()
    vault.create(new)
    passphrase.was_right(new, is_new=True)
    passphrase.introduce_keyring(vault.path)
    return vault, []


def _open(vault: Vault, passphrase: Passphrase) -> list[Entry]:
    given = passphrase.of_vault()
    try:
        entries = vault.open(given)
    except NotOpened as error:
        given = passphrase.instead_of(error, vault.path)
        entries = vault.open(given)
    passphrase.was_right(given)
    return entries


def read_file(path: str) -> bytes:
    """Read a file that the user named, or stdin for -.

    Raises:
        VaultFailed: it cannot be read, or is larger than any valid file.
    """
    named_files = NamedFiles()
    try:
        if path == "-":
            data = _read_stdin()
        else:
            # A pipe can keep the user waiting for as long as its writer likes.
            with terminal.interruptible():
                data = named_files.read(path, MAX_FILE_BYTES + 1, waits=True)
    except PathError as error:
        raise VaultFailed(
            f'cannot read "{path}": {reason(error, path)}',
            hint=named_files.hint_for(error, otherwise="give a file that you can read, or - for stdin"),
        ) from None
    except OSError as error:
        raise VaultFailed(f'cannot read "{path}": {os.strerror(error.errno or 0)}', hint="give a file") from None
    if len(data) > MAX_FILE_BYTES:
        raise VaultFailed(f'"{path}" is larger than {MAX_FILE_BYTES} bytes', hint="check the name of the file")
    return data


def _read_stdin() -> bytes:
    """Read from the descriptor. A line that --passphrase-fd 0 has already read does not come again."""
    if sys.stdin is None:
        return b""
    data = b""
    with terminal.interruptible():
        while len(data) <= MAX_FILE_BYTES and (piece := os.read(sys.stdin.fileno(), 65536)):
            data += piece
    return data


def ask(screen: terminal.Terminal, question: str, *, default: str = "", hidden: bool = False) -> str:
    """Ask a question that has a default answer.

    Raises:
        VaultFailed: there was no answer.
    """
    try:
        typed = screen.ask(f"{question} [{default}]:" if default else f"{question}:", hidden=hidden)
    except EnrolmentFailed:
        raise VaultFailed("the input ended before an answer; nothing was changed", hint="start again") from None
    return typed.strip() or default
