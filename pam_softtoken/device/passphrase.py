"""Obtain the passphrase of the vault: ask, read a descriptor, or use the desktop's keyring. It never comes from argv or
the environment, which other programs can read.
"""

from __future__ import annotations

import argparse
import os
import unicodedata
from dataclasses import dataclass
from types import ModuleType

from pam_softtoken import platform_facts
from pam_softtoken.account import user_path
from pam_softtoken.errors import PathError
from pam_softtoken.program_errors import NotOpened, UsageError, VaultFailed
from pam_softtoken.ui import terminal

MAX_BYTES = 1024
TRIES = 3
SERVICE = "softtoken"
_QUESTION = "Passphrase of the vault:"
_SCRIPT_HINT = "run it in a terminal, or hand the passphrase over: --passphrase-fd 3 3<FILE"


@dataclass(frozen=True, slots=True)
class PassphraseOptions:
    """Where the passphrase of the vault comes from, if it is not asked for.

    Attributes:
        passphrase_fd: the number of a descriptor.
        keyring: the desktop's keyring keeps it.
    """

    passphrase_fd: int | None
    keyring: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for the source of the passphrase to a subcommand."""
    where = parser.add_argument_group("the passphrase").add_mutually_exclusive_group()
    where.add_argument(
        "--passphrase-fd", type=int, metavar="N", help="take it from descriptor N, one line, instead of asking"
    )
    where.add_argument(
        "--keyring", action="store_true", help="take it from the desktop's keyring; it is kept there once it was right"
    )


class Passphrase:
    """The source of the passphrase.

    Args:
        screen: for questions.
        options: what the command line says. A descriptor is read at once. Data after the passphrase may be for
            another reader.
        path: the vault's path, its name in the keyring.

    Raises:
        UsageError: the descriptor has no passphrase.
        VaultFailed: there is no keyring.
    """

    def __init__(self, screen: terminal.Terminal, options: PassphraseOptions, path: str) -> None:
        self._screen = screen
        self._given = from_descriptor(options.passphrase_fd) if options.passphrase_fd is not None else None
        self._keyring = _Keyring(path) if options.keyring else None
        self._is_kept = False

    def of_vault(self) -> bytes:
        """Return the passphrase of the existing vault.

        Raises:
            VaultFailed: there is none to be had.
            UsageError: there is nobody to ask.
        """
        if self._given is not None:
            return self._given
        if self._keyring is not None and (kept := self._keyring.get()) is not None:
            self._is_kept = True
            return _bytes_of(kept)
        return _bytes_of(self._ask(_QUESTION))

    def instead_of(self, error: NotOpened, path: str) -> bytes:
        """Return another passphrase after one that did not open the vault: the keyring's can be out of date.

        Raises:
            NotOpened: the wrong one is not the keyring's, or there is nobody to ask.
            VaultFailed: there is none to be had.
        """
        if not self._is_kept:
            raise error
        typed = self._screen.ask_person(f"The passphrase in the keyring does not open the vault. {_QUESTION}")
        if typed is None:
            raise NotOpened(
                f'cannot open "{path}": the passphrase in the keyring is wrong, or the file is damaged',
                hint="in a terminal, softtoken list --keyring asks for the right one and keeps it",
            )
        self._is_kept = False
        return _bytes_of(_required(typed))

    def of_new_vault(self) -> bytes:
        """Return the passphrase for a new vault. A person types it twice.

        Raises:
            VaultFailed: there is none to be had.
            UsageError: there is nobody to ask.
        """
        if self._given is not None:
            return self._given
        return self.ask_twice("New passphrase for the vault:")

    def ask_twice(self, question: str) -> bytes:
        """Ask for a new passphrase twice. If the two differ, ask again.

        Raises:
            VaultFailed: the two differed each time, or one was empty.
            UsageError: there is nobody to ask.
        """
        for _ in range(TRIES):
            typed = self._ask(question)
            if self._ask("The same again:") == typed:
                return _bytes_of(typed)
            self._screen.tell("That was not the same.")
        raise VaultFailed("the two passphrases differ; nothing was changed", hint="start again")

    def was_right(self, passphrase: bytes, *, is_new: bool = False) -> None:
        """Store in the keyring the passphrase that opened the vault, if the keyring was requested."""
        if self._keyring is not None and (is_new or not self._is_kept):
            self._keyring.keep(passphrase.decode("utf-8", "surrogateescape"))

    def introduce_keyring(self, path: str) -> None:
        """Show, after a new vault was made, how to avoid typing its passphrase each time."""
        if self._given is None and self._keyring is None:
            self._screen.tell(
                f'Made the vault "{terminal.visible(path)}". '
                "With --keyring the desktop's keyring keeps the passphrase."
            )

    def _ask(self, question: str) -> str:
        typed = self._screen.ask_person(question)
        if typed is None:
            raise UsageError("there is no terminal to ask for the passphrase", hint=_SCRIPT_HINT)
        return _required(typed)


def _required(typed: str) -> str:
    if not typed:
        raise VaultFailed("the passphrase is empty; nothing was changed", hint="start again and type one")
    return typed


def from_descriptor(descriptor: int) -> bytes:
    """Read a passphrase of the vault. See `line_from_descriptor`."""
    return _bytes_of(line_from_descriptor(descriptor))


def line_from_descriptor(descriptor: int) -> str:
    """Read one line unchanged, byte for byte. What follows is left for other readers.

    Raises:
        UsageError: the descriptor cannot be read, or holds no passphrase.
    """
    line = b""
    try:
        with terminal.interruptible():
            while len(line) <= MAX_BYTES and (piece := os.read(descriptor, 1)) not in (b"", b"\n"):
                line += piece
    except OSError as error:
        raise UsageError(
            f"cannot read descriptor {descriptor}: {os.strerror(error.errno or 0)}",
            hint="as in --passphrase-fd 3 3<FILE",
        ) from None
    line = line.removesuffix(b"\r")
    if not 1 <= len(line) <= MAX_BYTES:
        raise UsageError(
            f"a passphrase has 1 to {MAX_BYTES} bytes, and that of descriptor {descriptor} has not",
            hint="as in --passphrase-fd 3 3<FILE",
        )
    return line.decode("utf-8", "surrogateescape")


def _bytes_of(typed: str) -> bytes:
    """Return the bytes for key derivation, the same from every keyboard: some compose letters and some do not."""
    return unicodedata.normalize("NFC", typed).encode("utf-8", "surrogateescape")


class _Keyring:
    """The desktop's keyring, through the library of that name."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._library = _load_keyring()

    def get(self) -> str | None:
        """Return what is stored for the vault, if anything."""
        try:
            kept = self._library.get_password(SERVICE, self._path)
        except self._library.errors.KeyringError as error:
            raise _unusable(error) from None
        return str(kept) if kept is not None else None

    def keep(self, passphrase: str) -> None:
        """Store the passphrase for the next time."""
        try:
            self._library.set_password(SERVICE, self._path, passphrase)
        except self._library.errors.KeyringError as error:
            raise _unusable(error) from None


def _unusable(error: Exception) -> VaultFailed:
    # Show only the kind of the error. Some back ends repeat the secret in its text.
    return VaultFailed(
        f"the keyring cannot be used: {type(error).__name__}", hint="log in to a desktop, or leave --keyring out"
    )


def _load_keyring() -> ModuleType:
    _require_own_configuration()
    try:
        import keyring  # noqa: PLC0415 - it looks for every desktop there is
        import keyring.errors  # noqa: PLC0415
    except ImportError:
        raise VaultFailed(
            "--keyring needs the keyring library",
            hint=f"{platform_facts.install('keyring', extra='keyring')}; or leave --keyring out",
        ) from None
    return keyring


def _require_own_configuration() -> None:
    """Check, for root with a user's HOME, that no library comes from a place that the keyring's configuration names.

    Raises:
        VaultFailed: somebody else can write that configuration.
    """
    if os.geteuid() != 0:
        return
    for variable, usual in (("XDG_CONFIG_HOME", "~/.config"), ("XDG_DATA_HOME", "~/.local/share")):
        directory = os.environ.get(variable) or os.path.expanduser(usual)
        try:
            user_path.require_no_way_in(f"{directory}/python_keyring/keyringrc.cfg")
        except PathError as error:
            raise VaultFailed(
                f"root uses no keyring that others configure: {error}", hint="leave --keyring out, or use your own HOME"
            ) from None
