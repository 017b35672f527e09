"""Create, replace and remove files, whole and durably. A usual login does not load this."""

from __future__ import annotations

import os

from pam_softtoken.account.file_faults import not_stored, not_synced, refusal
from pam_softtoken.account.safe_open import OURSELVES, SAFELY, AsUser, overwrite


class Replacement:
    """A new file beside an old one, durable and complete. It takes the old file's place in one step or not at all.

    Args:
        path: absolute path of the file to replace.
        data: the new content.
        below: descriptor of the file's directory.
        mode: the new file's mode, whatever the umask.

    Raises:
        NotStored: there is no space, and nothing has changed.
    """

    __slots__ = ("_below", "_path", "_temporary")

    def __init__(self, path: str, data: bytes, *, below: int, mode: int = 0o600) -> None:
        self._path = path
        self._below = below
        # A new random name, so that a file that a killed enrolment left behind is not in the way.
        self._temporary = f".{os.path.basename(path)}.{os.urandom(8).hex()}"
        try:
            descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | SAFELY, 0o600, dir_fd=below)
        except OSError as error:
            raise not_stored(path, error, below=below) from None
        try:
            os.fchmod(descriptor, mode)
            overwrite(descriptor, data, 0, path=path)
            os.fsync(descriptor)
        except BaseException as error:
            self.discard()
            if isinstance(error, OSError):
                raise not_stored(path, error, below=below) from None
            raise
        finally:
            os.close(descriptor)

    def put(self) -> None:
        """Rename the new file over the old one. On return this would survive a power failure.

        Raises:
            NotStored: nothing has changed.
            NotSynced: it is in place, and a power failure may undo it.
        """
        try:
            name = os.path.basename(self._path)
            os.rename(self._temporary, name, src_dir_fd=self._below, dst_dir_fd=self._below)
        except OSError as error:
            self.discard()
            raise not_stored(self._path, error, below=self._below) from None
        try:
            os.fsync(self._below)
        except OSError as error:
            raise not_synced(self._path, error) from None

    def discard(self) -> None:
        """Remove the new file. The old file stays where it is. If the new one cannot be removed, it is harmless."""
        try:
            os.unlink(self._temporary, dir_fd=self._below)
        except OSError:
            pass


def write_for_root(path: str, data: bytes, *, mode: int) -> None:
    """Write a file in a directory of root's, in place of the present one if there is one. It is durable on return.

    Args:
        path: absolute path. Only root can write its directory.
        data: the content.
        mode: the file's mode, whatever the umask.

    Raises:
        NotStored: nothing has changed.
        NotSynced: it is in place, and a power failure may undo it.
    """
    try:
        directory = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise not_stored(path, error) from None
    try:
        Replacement(path, data, below=directory, mode=mode).put()
    finally:
        os.close(directory)


def sync_directory(path: str, *, below: int | None = None) -> None:
    """Sync the names in a directory. Raises `OSError` if that fails.

    Args:
        path: absolute, or as seen from `below`.
        below: descriptor of a directory. It may be one with `O_PATH`, for which fsync(2) fails.
    """
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=below)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


class NewFile:
    """A file where there was none before. It is 0600 and empty at first. Its maker fills it or removes it again.

    Nothing may have the name yet, not even a dangling link. `user_path` checks whether the way to the directory can be
    trusted.

    Args:
        path: absolute, or as seen from the working directory. If there is a `way`, it is for messages only.
        way: the path as seen from `below`.
        below: descriptor of a directory; it is not kept.
        identity: a block in which the file is made, filled and removed, as the user who owns the file.

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
        except OSError as error:  # on a file system without modes everybody could read it
            self._take_away()
            self.close()
            raise refusal(self.path, error) from None

    def fill(self, data: bytes) -> None:
        """Write the content, once. On return it would survive a power failure.

        Raises:
            NotStored: the content is incomplete.
        """
        with self._identity:
            overwrite(self._descriptor, data, 0, path=self.path)
            try:
                os.fsync(self._descriptor)
                os.fsync(self._directory)
            except OSError as error:
                raise not_stored(self.path, error) from None

    def discard(self) -> None:
        """Remove the file. What was written is gone even if the file has got another name since."""
        with self._identity:
            self._take_away()

    def _take_away(self) -> None:
        try:
            os.ftruncate(self._descriptor, 0)
            present = os.stat(self._name, dir_fd=self._directory, follow_symlinks=False)
            if os.path.samestat(present, os.fstat(self._descriptor)):
                os.unlink(self._name, dir_fd=self._directory)
        except OSError:
            pass  # another process moved it or closed the directory; it is empty

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self._descriptor)
        os.close(self._directory)


def remove(path: str, *, below: int) -> None:
    """Remove a file. On return it would stay away even after a power failure.

    Args:
        path: absolute.
        below: descriptor of the file's directory.

    Raises:
        NotStored: it is still there.
        NotSynced: it is gone, but may come back.
    """
    try:
        os.unlink(os.path.basename(path), dir_fd=below)
    except OSError as error:
        raise not_stored(path, error, below=below) from None
    try:
        os.fsync(below)
    except OSError as error:
        raise not_synced(path, error) from None
