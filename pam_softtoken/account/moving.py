"""Move one user's tokens and their state from one place to another. No login loads this.

The old place stops being used at one moment. Only after that moment the new place is used. If the command is killed in
between, the user has no token until the command is run again. The user never has two tokens with different counters.
Used codes are recorded in the new place before that moment.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from typing import NamedTuple

from pam_softtoken.account import enrolled_mark, file_faults, ram_record, replace, state
from pam_softtoken.account.editor import LOCK_TIMEOUT_S, Editor
from pam_softtoken.account.location import STATE, TOKENS, Location
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.errors import NotEnrolled, NotStored, NotSynced, PathError
from pam_softtoken.program_errors import MoveFailed

ASIDE = ".tokens.moving"
"""The name of the old token file from the moment when it is no longer used until the new file is in place."""


class Place(Editor):
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
        """Set the token file aside, so that it is no longer used. Raises `NotStored` if it is used as before."""
        try:
            self._rename(TOKENS, ASIDE)
        except NotSynced as error:
            with suppress(NotSynced):
                self.put_back()
            raise NotStored(error.path, error.why, kind=error.kind) from None

    def put_back(self) -> None:
        """Rename the token file back, so that it is used again."""
        self._rename(ASIDE, TOKENS)

    def _rename(self, old: str, new: str) -> None:
        try:
            with self.location.as_owner():
                os.rename(old, new, src_dir_fd=self._directory, dst_dir_fd=self._directory)
        except OSError as error:
            raise file_faults.not_stored(self._path(old), error) from None
        try:
            os.fsync(self._directory)
        except OSError as error:
            raise file_faults.not_synced(self._path(old), error) from None

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


class Move(NamedTuple):
    """The move of one user.

    Args:
        source, target: the two places.
    """

    source: Place
    target: Place

    def rehearse(self) -> TokenFile:
        """Return the tokens that would be moved, and change nothing.

        Raises:
            MoveFailed, NotEnrolled, PathError: nothing can be moved.
        """
        try:
            live, aside = self.source.look()
            content = live or aside
            if content is None:
                raise NotEnrolled(proven=False)
            try:
                there, _ = self.target.look()
            except PathError:
                if is_there(self.target.location):
                    raise
                there = None
            if live is not None and there is not None:
                raise self._occupied()
            return content
        finally:
            self._close()

    def carry_out(self) -> None:
        """Move the tokens, or continue an interrupted move.

        Raises:
            MoveFailed, NotEnrolled, PathError: everything is as it was.
            NotSynced: the tokens are in the new place. The same command removes what is left in the old one.
        """
        try:
            live, aside = self.source.look()
            if live is None and aside is None:
                raise NotEnrolled(proven=False)
            try:
                self._carry_out()
            except BaseException:
                self.target.withdraw()
                raise
        finally:
            self._close()

    def _carry_out(self) -> None:
        source, target = self.source, self.target
        source.begin_state()
        # A login that still looks in the old place then finds no token. That must not count as "never enrolled".
        enrolled_mark.set_for(target.location.account)
        target.open_for_enrolment()
        target.begin_state()
        # Always lock in this order, or two moves could wait for each other.
        for place in sorted((source, target), key=lambda place: not place.location.in_home):
            place.lock(LOCK_TIMEOUT_S)
        live, there, aside = source.present_tokens(), target.present_tokens(), source.aside()
        if there is not None:
            if live is not None:
                raise self._occupied()
            source.clear()  # an earlier move was killed after its last important step
            return
        content = live or aside
        if content is None:
            raise NotEnrolled(proven=False)
        used = source.read_state() or state.State.new()
        fingerprints = {token.fingerprint() for token in content.tokens}
        replacement = target.prepare(content)
        try:
            target.write_state(state.moved_onto(target.read_state() or state.State.new(), used, fingerprints))
            if live is not None:
                source.set_aside()
        except BaseException:
            with target.location.as_owner():
                replacement.discard()
            raise
        try:
            target.put(replacement)
        except NotSynced:
            raise  # the target is used now; with the source there would be two
        except NotStored:
            if live is not None:
                source.put_back()
            raise
        source.clear()

    def _occupied(self) -> MoveFailed:
        path = self.target.location.path
        return MoveFailed(
            f"there are tokens in {path} already",
            hint="softtoken-enroll --list --store TEMPLATE shows which are where; take one of the two away",
        )

    def _close(self) -> None:
        for place in self:
            place.close()


def is_there(location: Location) -> bool:
    """Check whether anything has the name of a place, as far as its owner can see."""
    with location.as_owner():
        return os.path.lexists(location.path)
