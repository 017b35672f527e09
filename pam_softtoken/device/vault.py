"""The vault file: find it, open it, and change it completely or not at all.

A program that changes it holds a lock from the reading to the writing. A program that only reads needs no lock,
because a new vault replaces the old one in one step.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from pam_softtoken.account import file_faults, replace, safe_open, user_path
from pam_softtoken.device import entry, sealing
from pam_softtoken.device.entry import Entry
from pam_softtoken.errors import FULL, InsecureFile, LockTimeout, PathError
from pam_softtoken.program_errors import VaultFailed

MAX_BYTES = 2**24
LOCK_TIMEOUT_S = 10.0
_NOTHING = "nothing was changed"


def default_path() -> str:
    """Return the vault's path (XDG Base Directory Specification: a relative directory must be ignored)."""
    data = os.environ.get("XDG_DATA_HOME", "")
    if not data.startswith("/"):
        data = os.path.join(os.path.expanduser("~"), ".local", "share")
    return os.path.join(data, "softtoken", "vault")


class Vault:
    """The user's vault. Close it, or use it in a `with` block.

    Args:
        path: absolute.
        cost: what opening a new vault costs. An old one costs at least this after it was written.
    """

    def __init__(self, path: str, *, cost: sealing.Cost = sealing.COST) -> None:
        self.path = path
        self._cost = cost
        self._passphrase = b""
        self._key: sealing.SealingKey | None = None
        self._is_new = False

    def exists(self) -> bool:
        """Return whether the vault exists.

        Raises:
            VaultFailed: there is something, but it must not be used.
        """
        with _told(self.path):
            try:
                with self._directory() as directory:
                    os.close(safe_open.open_file(self.path, os.O_RDONLY, below=directory, owner=os.geteuid()))
            except FileNotFoundError:
                return False
            return True

    def create(self, passphrase: bytes) -> None:
        """Create an empty vault. It is on the disk only after the first `changing`."""
        self._passphrase = passphrase
        self._key = sealing.SealingKey.new(passphrase, self._cost)
        self._is_new = True

    def open(self, passphrase: bytes) -> list[Entry]:
        """Open the vault and return its content.

        Raises:
            VaultFailed: it cannot be opened.
        """
        self._passphrase = passphrase
        self._key = None
        with _told(self.path), self._directory() as directory:
            return self._read(directory)

    @contextmanager
    def changing(self) -> Iterator[list[Entry]]:
        """Yield the current content of the vault. Write the changed content at the end of the block.

        After the block, the content is on the disk for good. If the block raises, the vault is unchanged.

        Raises:
            VaultFailed: it cannot be read or written. It is unchanged.
        """
        with _told(self.path), self._locked() as directory:
            entries = self._read(directory)
            yield entries
            self._write(entries, directory)

    def next_code(self, wanted: Entry) -> str:
        """Advance the counter, and return the code only after that is on the disk: no code is ever returned twice.

        Raises:
            VaultFailed: the counter could not be stored, or the entry has gone meanwhile.
        """
        with self.changing() as entries:
            number = next((number for number, each in enumerate(entries) if each.is_same(wanted)), None)
            if number is None:
                raise VaultFailed(f'"{wanted.name}" is no longer in the vault', hint="softtoken list shows what is")
            code, entries[number] = entries[number].counted()
        return code

    def renew(self, passphrase: bytes) -> None:
        """Write the vault under another passphrase, with a new salt.

        Raises:
            VaultFailed: it cannot be read or written. It is unchanged.
        """
        with _told(self.path), self._locked() as directory:
            entries = self._read(directory)
            self._passphrase = passphrase
            self._key = sealing.SealingKey.new(passphrase, self._cost)
            self._write(entries, directory)

    @contextmanager
    def _directory(self, *, making: bool = False) -> Iterator[int]:
        where = os.path.dirname(self.path)
        if os.geteuid() == 0:
            # Root's process may have been started with the HOME of a user, who can put links there.
            directory = user_path.open_directory(where, making=making)
        else:
            if making:
                _make_directory(where)
            directory = safe_open.open_directory(where, below=None, owner=os.geteuid())
        try:
            yield directory
        finally:
            os.close(directory)

    @contextmanager
    def _locked(self) -> Iterator[int]:
        lock_path = f"{self.path}.lock"
        with self._directory(making=True) as directory:
            lock, _ = safe_open.open_or_make_file(lock_path, os.O_RDWR, below=directory, owner=os.geteuid())
            try:
                safe_open.lock(lock, LOCK_TIMEOUT_S, path=lock_path)
                yield directory
            finally:
                os.close(lock)

    def _read(self, directory: int) -> list[Entry]:
        try:
            file = safe_open.open_file(self.path, os.O_RDONLY, below=directory, owner=os.geteuid())
        except FileNotFoundError:
            if self._is_new:
                return []
            raise
        try:
            sealed = safe_open.read(file, MAX_BYTES, path=self.path)
        finally:
            os.close(file)
        content = self._key.unseal(sealed) if self._key is not None and self._key.fits(sealed) else None
        if content is None:
            # Another program may have changed it meanwhile, or even its passphrase.
            self._key, content = sealing.unseal(sealed, self._passphrase, path=self.path)
        return entry.read(content, path=self.path)

    def _write(self, entries: list[Entry], directory: int) -> None:
        key = self._key
        if key is None:
            raise ValueError("the vault is not open")
        if (cost := key.cost.raised_to(self._cost)) != key.cost and cost.is_bearable:
            self._key = key = sealing.SealingKey.new(self._passphrase, cost)
        data = key.seal(entry.write(entries))
        if len(data) > MAX_BYTES:
            raise VaultFailed(f"the vault would be larger than {MAX_BYTES} bytes", hint=f"take fewer; {_NOTHING}")
        self._sweep(directory)
        replace.Replacement(self.path, data, below=directory).put()
        self._is_new = False

    def _sweep(self, directory: int) -> None:
        """Remove what killed programs left. Nobody else writes while the lock is held."""
        left = re.compile(re.escape(f".{os.path.basename(self.path)}.") + "[0-9a-f]{16}")
        for name in filter(left.fullmatch, os.listdir(directory)):
            # What cannot be removed, such as a directory of that name, does no harm.
            with suppress(OSError):
                os.unlink(name, dir_fd=directory)


def _make_directory(path: str) -> None:
    above = os.path.dirname(path)
    try:
        os.makedirs(above, 0o700, exist_ok=True)
    except OSError as error:
        raise file_faults.refusal(above, error) from None
    safe_open.make_directory(path, below=None, made=[])


@contextmanager
def _told(path: str) -> Iterator[None]:
    """Raise errors about a file as `VaultFailed`, in words for the user."""
    try:
        yield
    except FileNotFoundError:
        raise VaultFailed(
            f'there is no vault "{path}" yet', hint="softtoken add makes one, and softtoken import does, too"
        ) from None
    except PathError as error:
        raise VaultFailed(f"{error}; {error.aftermath}", hint=_hint_for(error, path)) from None
    except OSError as error:
        raise VaultFailed(f"{path}: {file_faults.words_of(error)}", hint=_hint(path)) from None


def _hint(path: str) -> str:
    home = os.path.expanduser("~")
    if path.startswith(f"{home}/") and not os.path.isdir(home):
        return "there is no home directory; set XDG_DATA_HOME to a directory that you can write, for the vault"
    return f"see ls -la {os.path.dirname(path)}"


def _hint_for(error: PathError, path: str) -> str:
    # A vault is its caller's own file. `account.cure` has commands for root, about accounts of a host.
    if error.kind == FULL:
        return "make room on the disk and start again"
    if isinstance(error, LockTimeout):
        return "another softtoken is changing it; wait until it ends, then start again"
    if isinstance(error, InsecureFile) and "mode" in error.why:
        only_mine = "700" if error.path == os.path.dirname(path) else "600"
        return f"see who had access, then: chmod {only_mine} {error.path}"
    return _hint(path)
