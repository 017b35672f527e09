"""Files that come into being, replace others or go, whole and durable. Not on the way of a usual login."""

from __future__ import annotations

import os

from pam_softtoken.account.safe_open import OURSELVES, SAFELY, AsUser, kind_of, overwrite, refusal, words_of
from pam_softtoken.errors import NotStored


def not_stored(path: str, error: OSError, *, below: int) -> NotStored:
    """Return our error for a file that cannot be written, with the directory that is closed where that is why."""
    found = refusal(path, error, below=below)
    return NotStored(path, words_of(error), kind=kind_of(error), culprit=found.culprit, owner=found.owner)


class Replacement:
    """A new file beside an old one, durable and complete, that takes its place in one step or not at all.

    Args:
        path: absolute path of the file to be replaced.
        data: the new content; the file's mode is 0600.
        below: descriptor of the directory that it is in.

    Raises:
        NotStored: there is no room, and nothing has changed.
    """

    __slots__ = ("_below", "_path", "_temporary")

    def __init__(self, path: str, data: bytes, *, below: int) -> None:
        self._path = path
        self._below = below
        # A name of its own, so that what a killed enrolment left behind is in nobody's way.
        self._temporary = f".{os.path.basename(path)}.{os.urandom(8).hex()}"
        try:
            descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFELY, 0o600, dir_fd=below)
        except OSError as error:
            raise not_stored(path, error, below=below) from None
        try:
            os.fchmod(descriptor, 0o600)
            overwrite(descriptor, data, 0, path=path)
            os.fsync(descriptor)
        except BaseException:
            self.discard()
            raise
        finally:
            os.close(descriptor)

    def put(self) -> None:
        """Take the old file's place.

        Raises:
            NotStored: nothing has changed.
        """
        try:
            name = os.path.basename(self._path)
            os.rename(self._temporary, name, src_dir_fd=self._below, dst_dir_fd=self._below)
        except OSError as error:
            self.discard()
            raise not_stored(self._path, error, below=self._below) from None
        os.fsync(self._below)

    def discard(self) -> None:
        """Leave the old file where it is."""
        os.unlink(self._temporary, dir_fd=self._below)


class NewFile:
    """A file where there was none before, 0600 and empty at first, that its maker fills or takes away again.

    Its name may be taken by nothing, not even by a link to nowhere. Whether the way to its directory can be trusted is
    for `user_path` to check.

    Args:
        path: absolute, or as seen from the working directory; for messages, if there is a `way`.
        way: the path as seen from `below`.
        below: descriptor of a directory; it is not kept.
        identity: a block in which the file is made, filled and taken away, as the user whose file it is.

    Raises:
        UnusableFile: it cannot be made; nothing has changed.
    """

    __slots__ = ("_descriptor", "_directory", "_identity", "_name", "path")

    def __init__(
        self,
        path: str,
        *,
        way: str | None = None,
        below: int | None = None,
        identity: AsUser | None = None,
    ) -> None:
        self.path = path
        directory, self._name = os.path.split(path if way is None else way)
        self._identity = identity or AsUser(OURSELVES)
        with self._identity:
            self._make(directory or ".", below)

    def _make(self, directory: str, below: int | None) -> None:
        try:
            self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=below)
        except OSError as error:
            raise refusal(self.path, error) from None
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFELY
            self._descriptor = os.open(self._name, flags, 0o600, dir_fd=self._directory)
        except OSError as error:
            os.close(self._directory)
            raise refusal(self.path, error) from None
        try:
            os.fchmod(self._descriptor, 0o600)
        except OSError as error:  # a file system without modes would show it to everybody
            self._take_away()
            self.close()
            raise refusal(self.path, error) from None

    def fill(self, data: bytes) -> None:
        """Write the content, once, and return only when it would survive a power failure.

        Raises:
            NotStored: not all of it is there.
        """
        with self._identity:
            overwrite(self._descriptor, data, 0, path=self.path)
            try:
                os.fsync(self._descriptor)
                os.fsync(self._directory)
            except OSError as error:
                raise NotStored(self.path, words_of(error)) from None

    def discard(self) -> None:
        """Take it away. What was written is gone even if the file has got another name meanwhile."""
        with self._identity:
            self._take_away()

    def _take_away(self) -> None:
        try:
            os.ftruncate(self._descriptor, 0)
            present = os.stat(self._name, dir_fd=self._directory, follow_symlinks=False)
            if os.path.samestat(present, os.fstat(self._descriptor)):
                os.unlink(self._name, dir_fd=self._directory)
        except OSError:
            pass  # somebody has moved it, or closed the directory; it is empty

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)
        os.close(self._directory)


def remove(path: str, *, below: int) -> None:
    """Take a file away, and return only when it would stay away after a power failure.

    Args:
        path: absolute.
        below: descriptor of the directory that it is in.

    Raises:
        NotStored: it is still there, or may come back.
    """
    try:
        os.unlink(os.path.basename(path), dir_fd=below)
        os.fsync(below)
    except OSError as error:
        raise not_stored(path, error, below=below) from None
