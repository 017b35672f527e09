"""The files in one place of a store of root's, read and written for administration whoever they belong to."""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from pam_softtoken.account import replace, safe_open, token_file
from pam_softtoken.account.editor import LOCK_TIMEOUT_S, Editor
from pam_softtoken.account.store import STATE, TOKENS
from pam_softtoken.account.token_file import Owner, TokenFile
from pam_softtoken.errors import AdministrationFailed, NotStored


class Place(Editor):
    """The files in one place of a store, whoever they belong to."""

    __slots__ = ()

    def look(self) -> tuple[TokenFile, Owner | None] | None:
        """Read the tokens and the account that they are bound to; None where there are none."""
        path = self._path(TOKENS)
        try:
            with self.location.as_owner():
                if self._directory < 0:
                    self._directory = self.location.open_directory()
                tokens = self._open_file(TOKENS, os.O_RDONLY)
        except FileNotFoundError:
            return None
        try:
            return token_file.parse_any(safe_open.read(tokens, token_file.MAX_BYTES, path=path), path=path)
        finally:
            os.close(tokens)

    def bind(self, *, expected: Owner | None, owner: Owner) -> None:
        """Bind the tokens to another account, under the lock, which is kept until `close`.

        Raises:
            AdministrationFailed: somebody has changed them since they were looked at.
            PathError: they are as they were.
        """
        self.begin_state()
        self.lock(LOCK_TIMEOUT_S)
        found = self.look()
        if found is None or found[1] != expected:
            raise AdministrationFailed("somebody else has changed the tokens meanwhile", hint="start again")
        state = self.read_state()
        if state is not None and self._seen is not None and self._seen[1] is not None:
            self.write_state(state)  # a record in /run is named after the old place
        data = token_file.serialise(found[0], owner=owner)
        replace.Replacement(self._path(TOKENS), data, below=self._directory).put()

    def clear(self) -> None:
        """Remove the tokens, then what is known of their use, then the directory."""
        clear(self.location.path, below=self._directory)


def clear(path: str, *, below: int) -> None:
    """Remove what is in a place, tokens first, and the place.

    Args:
        path: absolute.
        below: descriptor of that directory.

    Raises:
        NotStored: some of it is still there.
    """
    for name in (TOKENS, STATE):
        try:
            replace.remove(f"{path}/{name}", below=below)
        except NotStored as error:
            if error.why != os.strerror(errno.ENOENT):
                raise
    with suppress(OSError):
        os.rmdir(path)
