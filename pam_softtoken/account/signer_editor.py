"""Change the tokens with which a user signs sudo commands. Only root's programs load this; sudo only reads. No other
module writes these files and marks.

A kill at any point leaves no mark without a token, which would lock the user out of sudo. The directory of a user is
the first mark. So the first token is written into a directory with a temporary name, which then gets its name. The mark
of the name is made after that, and removed before the directory. While it is missing, the account is asked all the
same. The next change makes it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from pam_softtoken.account import file_faults, places, ram_record, replace, roots_files, safe_open, signers
from pam_softtoken.account.editor import LOCK_TIMEOUT_S
from pam_softtoken.account.location import TOKENS
from pam_softtoken.account.signers import SignerStore
from pam_softtoken.errors import MISSING, BadTokenFile, UnusableFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.account.token_file import Owner
    from pam_softtoken.otp.ocra import OCRAToken

    Signers = tuple[OCRAToken, ...]

_TEMPORARY = "."
"""What the names of temporary directories begin with. No mark's name does."""


class SignerEditor(SignerStore):
    """The files of one user's tokens that sign, opened to read them or for one change.

    Args:
        account: the user.
    """

    __slots__ = ()

    def look(self) -> Signers | None:
        """Read the present tokens. Nothing is made, written or locked.

        Returns:
            None if there is no token file.

        Raises:
            OtherAccount: it belongs to another account.
            BadTokenFile, InsecureFile, UnusableFile: as their names say.
        """
        try:
            self._directory = self.location.open_directory()
            return self._read_present()
        except FileNotFoundError:
            return None
        except UnusableFile as error:
            if error.kind == MISSING and error.path == places.SIGNERS:
                return None  # nobody on this host has enrolled one
            raise
        finally:
            self.close()

    def exchange(
        self, change: Callable[[Signers | None], Signers | None], last_word: Callable[[], None], *, anew: bool = False
    ) -> None:
        """Write a change. Everything that can fail comes first.

        Args:
            change: gets the present tokens, or None if there is no token file, and returns the new ones. A user with
                no token is refused from then on. None takes the marks away, too: the user is not asked any more. If it
                raises, nothing is changed.
            last_word: called when only the writing is left. If it raises, nothing is changed.
            anew: a token file that cannot be understood, or belongs to another account, counts as none. What the state
                has recorded is forgotten.

        Raises:
            BadTokenFile, InsecureFile, LockTimeout, NotStored, UnusableFile: as their names say.
            ValueError: the tokens cannot be written, or no mark can have the user's name.
        """
        mark = signers.name_mark(self.location.account.name)
        place = _open_place()
        try:
            safe_open.lock(place, LOCK_TIMEOUT_S, path=places.SIGNERS)
            _clear_away(place)
            is_there = self._open_and_lock()
            after = change(self._read_present_or_none(anew=anew) if is_there else None)
            if after is None:
                last_word()
                self._take_away(place, mark)
                return
            if is_there:
                self._replace(self.prepared(after, self._owner), last_word, anew=anew)
            else:
                self._make(place, after, last_word)
            _make_mark(place, mark)
        except OSError as error:
            raise file_faults.not_stored(self._path(TOKENS), error) from None
        finally:
            self.close()
            os.close(place)

    def prepared(self, tokens: Signers, owner: Owner, *, below: int = -1) -> replace.Replacement:
        """Write a token file beside the present one. Nothing else writes one. Call `put` to put it in place.

        Args:
            tokens: its tokens.
            owner: the account that it is bound to.
            below: descriptor of the user's directory, if it has a temporary name.

        Raises:
            NotStored: it cannot be written.
            ValueError: these tokens cannot be in one file.
        """
        data = signers.serialise(tokens, owner=owner)
        return replace.Replacement(self._path(TOKENS), data, below=self._directory if below < 0 else below)

    @property
    def _owner(self) -> Owner:
        return self.location.account.name, self.location.account.uid

    def _open_and_lock(self) -> bool:
        """Open the user's directory and lock its state. Return whether there is such a directory."""
        try:
            self._directory = self.location.open_directory()
        except FileNotFoundError:
            return False
        self._open_state()
        self.lock(LOCK_TIMEOUT_S)
        return True

    def _read_present(self) -> Signers | None:
        try:
            self._open_tokens()
        except FileNotFoundError:
            return None
        return self._read_signers()

    def _read_present_or_none(self, *, anew: bool) -> Signers | None:
        try:
            return self._read_present()
        except BadTokenFile:
            if not anew:
                raise
            return None

    def _replace(self, replacement: replace.Replacement, last_word: Callable[[], None], *, anew: bool) -> None:
        try:
            last_word()
            if anew:
                ram_record.remove(self._volatile_path)
                os.ftruncate(self._state, 0)
        except OSError as error:
            replacement.discard()
            raise file_faults.not_stored(self._path(TOKENS), error) from None
        except BaseException:
            replacement.discard()
            raise
        replacement.put()

    def _make(self, place: int, tokens: Signers, last_word: Callable[[], None]) -> None:
        name = f"{_TEMPORARY}new-{os.urandom(8).hex()}"
        path = self._path(TOKENS)
        try:
            os.mkdir(name, 0o700, dir_fd=place)
            directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | safe_open.SAFELY, dir_fd=place)
            try:
                self.prepared(tokens, self._owner, below=directory).put()
            finally:
                os.close(directory)
            last_word()
            os.rename(name, os.path.basename(self.location.path), src_dir_fd=place, dst_dir_fd=place)
        except BaseException as error:
            _remove(name, place)
            if isinstance(error, OSError):
                raise file_faults.not_stored(path, error, below=place) from None
            raise
        _sync(place, path)

    def _take_away(self, place: int, mark: str) -> None:
        """Remove the marks and the tokens. The lock is held until the files are gone: an answer that waits for it then
        finds no token.
        """
        ram_record.remove(self._volatile_path)
        _remove_mark(place, mark)
        _remove_mark(place, self.location.path)


def make_mark(name: str) -> None:
    """Create the mark of a name, unless it exists.

    Raises:
        InsecureFile, NotStored, UnusableFile: it may not exist.
        ValueError: no mark can have this name.
    """
    mark = signers.name_mark(name)
    place = _open_place()
    try:
        _make_mark(place, mark)
    finally:
        os.close(place)


def remove_mark(path: str) -> None:
    """Remove a mark, if it exists: the file of a name, or the directory of a uid with the tokens and their state.

    Raises:
        InsecureFile, NotStored, UnusableFile: it may still exist.
    """
    name = os.path.basename(path)
    if name.isdecimal():
        ram_record.remove(ram_record.path_of(int(name), path))
    place = _open_place()
    try:
        _remove_mark(place, path)
    finally:
        os.close(place)


def _remove_mark(place: int, path: str) -> None:
    """Remove a mark. A directory first gets a temporary name, so a kill leaves no mark without tokens."""
    name, gone = os.path.basename(path), f"{_TEMPORARY}gone-{os.urandom(8).hex()}"
    try:
        os.rename(name, gone, src_dir_fd=place, dst_dir_fd=place)
    except FileNotFoundError:
        return
    except OSError as error:
        raise file_faults.not_stored(path, error, below=place) from None
    _sync(place, path)
    _remove(gone, place)


def _open_place() -> int:
    """Open the directory of all users' tokens that sign. It is made if it is missing.

    Raises:
        InsecureFile, NotStored, UnusableFile: as their names say.
    """
    try:
        is_new = not os.path.isdir(places.SIGNERS)
        for directory in (places.DATA, places.SIGNERS):
            roots_files.make_directory(directory)
        if is_new:
            replace.sync_directory(places.DATA)
        return safe_open.open_directory(places.SIGNERS, below=None, owner=os.geteuid())
    except OSError as error:
        raise file_faults.not_stored(places.SIGNERS, error) from None


def _clear_away(place: int) -> None:
    """Remove what killed programs have left. The lock of the place is held, so nobody is making one."""
    with contextlib.suppress(OSError):
        for name in os.listdir(place):
            if name.startswith(_TEMPORARY):
                _remove(name, place)


def _remove(name: str, place: int) -> None:
    """Remove what has a temporary name: a file, or a directory with its files. If that fails, it is harmless, and only
    root can read it.
    """
    with contextlib.suppress(OSError):
        os.unlink(name, dir_fd=place)
        return
    with contextlib.suppress(OSError):
        directory = os.open(name, os.O_RDONLY | os.O_DIRECTORY | safe_open.SAFELY, dir_fd=place)
        try:
            for each in os.listdir(directory):
                os.unlink(each, dir_fd=directory)
        finally:
            os.close(directory)
        os.rmdir(name, dir_fd=place)


def _make_mark(place: int, mark: str) -> None:
    """Create the mark of a name, unless it exists.

    Raises:
        NotStored: it does not exist. The tokens are in place.
        NotSynced: a power failure may take it away.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | safe_open.SAFELY
    try:
        os.close(os.open(os.path.basename(mark), flags, 0o600, dir_fd=place))
    except FileExistsError:
        return
    except OSError as error:
        fault = file_faults.not_stored(mark, error, below=place)
        fault.aftermath = "the tokens are in place, and the next change of them makes this mark"
        raise fault from None
    _sync(place, mark)


def _sync(place: int, path: str) -> None:
    try:
        replace.sync_directory(".", below=place)
    except OSError as error:
        raise file_faults.not_synced(path, error) from None
