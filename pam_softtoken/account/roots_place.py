"""Read and write the files in one place of a root-owned store for administration, for any owner."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from pam_softtoken.account import replace, safe_open, token_file
from pam_softtoken.account.editor import LOCK_TIMEOUT_S, Editor
from pam_softtoken.account.location import STATE, TOKENS
from pam_softtoken.account.store import text_of
from pam_softtoken.account.token_file import Owner, TokenFile
from pam_softtoken.errors import NotStored
from pam_softtoken.program_errors import AdministrationFailed


class Place(Editor):
    """The files in one place of a store, for any owner."""

    __slots__ = ()

    def look(self) -> tuple[TokenFile, Owner | None] | None:
        """Read the tokens and the account that they are bound to; return None if there are none."""
        path = self._path(TOKENS)
        try:
            with self.location.as_owner():
                if self._directory < 0:
                    self._directory = self.location.open_directory()
                tokens = self._open_file(TOKENS, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            data = safe_open.read(tokens, token_file.MAX_FILE_BYTES, path=path)
            return token_file.parse_any(text_of(data, path=path, is_roots=not self.location.in_home), path=path)
        finally:
            os.close(tokens)

    def bind(self, *, expected: Owner | None, owner: Owner) -> None:
        """Bind the tokens to another account, under the lock. The lock is held until `close`.

        Raises:
            AdministrationFailed: the tokens have changed since they were read.
            PathError: the files are unchanged.
        """
        self.begin_state()
        self.lock(LOCK_TIMEOUT_S)
        found = self.look()
        if found is None or found[1] != expected:
            raise AdministrationFailed("somebody else has changed the tokens meanwhile", hint="start again")
        state = self.read_state()
        if state is not None and self._seen is not None and self._seen[1] is not None:
            self.write_state(state)  # the name of a record in /run comes from the old place
        data = self._text_of(found[0], owner)
        replace.Replacement(self._path(TOKENS), data, below=self._directory).put()

    def clear(self) -> None:
        """Remove the tokens, then their state, then the directory."""
        clear(self.location.path, below=self._directory)


def clear(path: str, *, below: int) -> None:
    """Remove the content of a place, tokens first, and then the place.

    Args:
        path: absolute path.
        below: descriptor of that directory.

    Raises:
        NotStored: some of it still exists.
    """
    for name in (TOKENS, STATE):
        try:
            replace.remove(f"{path}/{name}", below=below)
        except NotStored as error:
            if error.why != os.strerror(errno.ENOENT):
                raise
    with suppress(OSError):
        os.rmdir(path)
