"""The files of one user while `softtoken-admin move` takes them from one place to another."""

from __future__ import annotations

import errno
import os

from pam_softtoken.account import ram_record, replace, safe_open
from pam_softtoken.account.editor import Editor
from pam_softtoken.account.store import STATE, TOKENS
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.errors import NotEnrolled, NotStored

ASIDE = ".tokens.moving"
"""The name of the old token file from the moment when it is no longer used until the new file is in place."""


class MovingPlace(Editor):
    """The files of one user in their present or future place."""

    __slots__ = ()

    def look(self) -> tuple[TokenFile | None, TokenFile | None]:
        """Open the directory if it exists, and create nothing.

        Returns:
            The tokens, and the tokens that an interrupted move has set aside.
        """
        try:
            return self.open_enrolled(), self.aside()
        except NotEnrolled:
            return None, self.aside()

    def aside(self) -> TokenFile | None:
        """Read the token file that was set aside, if there is one."""
        if self._directory < 0:
            return None
        path = self._path(ASIDE)
        try:
            with self.location.as_owner():
                descriptor = self._open_file(ASIDE, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            return self._parsed(descriptor, path)
        finally:
            os.close(descriptor)

    def set_aside(self) -> None:
        """Set the token file aside, so that it is no longer used."""
        self._rename(TOKENS, ASIDE)

    def put_back(self) -> None:
        """Put the token file back, so that it is used again."""
        self._rename(ASIDE, TOKENS)

    def _rename(self, old: str, new: str) -> None:
        try:
            with self.location.as_owner():
                os.rename(old, new, src_dir_fd=self._directory, dst_dir_fd=self._directory)
                os.fsync(self._directory)
        except OSError as error:
            raise NotStored(self._path(old), safe_open.words_of(error), kind=safe_open.kind_of(error)) from None

    def prepare(self, content: TokenFile) -> replace.Replacement:
        """Write the token file under a temporary name in its directory."""
        return self._prepare(content)

    def put(self, replacement: replace.Replacement) -> None:
        """Move the written token file to its final name."""
        with self.location.as_owner():
            replacement.put()

    def clear(self) -> None:
        """Remove what a move leaves behind. A login that waits for the lock then finds no file, and is refused."""
        with self.location.as_owner():
            for name in (ASIDE, STATE):
                try:
                    replace.remove(self._path(name), below=self._directory)
                except NotStored as error:
                    if error.why != os.strerror(errno.ENOENT):
                        raise
        ram_record.remove(ram_record.path_of(self.location.account.uid, self.location.path))
        with self.location.as_owner():
            try:
                os.rmdir(self.location.path)
            except OSError:
                pass  # the directory contains something else
