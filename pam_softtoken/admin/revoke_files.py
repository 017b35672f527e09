"""Read and tidy up a user's files for a revocation. It has limits on time, because it may meet a disk that does not
answer, or a user who works against it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import NamedTuple

from pam_softtoken.account import lock_holder, mending
from pam_softtoken.account.editor import Editor
from pam_softtoken.account.location import Location
from pam_softtoken.account.state import State
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.admin.common import bounded
from pam_softtoken.errors import BadTokenFile, LockTimeout, NotEnrolled, NotStored, PathError
from pam_softtoken.program_errors import EnrolmentFailed

LOOK_LIMIT_S = 5.0
TIDY_LIMIT_S = 5.0
TIDY_LOCK_TIMEOUT_S = 1.0


class Seen(NamedTuple):
    """What could be read of a user's tokens. Only root's record is certain.

    Args:
        tokens: name and fingerprint of each.
        trouble: why nothing could be read; empty otherwise.
        is_absent: there is no token file.
    """

    tokens: tuple[tuple[str, str], ...] = ()
    trouble: str = ""
    is_absent: bool = False


class _Tidier(Editor):
    """An editor of the user's files that waits only a moment for the lock."""

    __slots__ = ()

    def lock(self, timeout_s: float) -> None:
        """Lock the files, and wait only a moment for another process that holds the lock."""
        super().lock(min(timeout_s, TIDY_LOCK_TIMEOUT_S))


def look(location: Location) -> Seen:
    """Read a user's tokens, even if their disk is slow or hostile."""
    try:
        answer = bounded.answer_of(lambda: _seen(location), limit_s=LOOK_LIMIT_S)
    except TimeoutError:
        return Seen(trouble=f"{location.path}: the disk does not answer")
    except ValueError:
        return Seen(trouble=f"{location.path}: cannot be read")
    tokens, trouble, is_absent = answer
    return Seen(tuple((name, fingerprint) for name, fingerprint in tokens), trouble, is_absent)


def _seen(location: Location) -> Seen:
    store = Editor(location)
    try:
        content = store.open_enrolled()
    except NotEnrolled:
        return Seen(is_absent=True)
    except PathError as error:
        return Seen(trouble=str(error))
    finally:
        store.close()
    return Seen(tuple((token.name, token.fingerprint()) for token in content.tokens))


def tidy(location: Location) -> str:
    """Remove the revoked tokens from the user's files, so that they do not mislead anybody.

    Returns:
        Why this failed; empty on success.
    """
    try:
        return str(bounded.answer_of(lambda: _tidy(location), limit_s=TIDY_LIMIT_S))
    except TimeoutError:
        return "the disk does not answer"
    except ValueError:
        return "they cannot be changed"


def _tidy(location: Location) -> str:
    store = _Tidier(location)
    try:
        _put_in_order(location)
        with contextlib.suppress(NotEnrolled, BadTokenFile):  # in its present state it contains nothing that counts
            store.open_enrolled()
        store.begin_state()
        store.exchange(_without_revoked, lambda: None, anew=True)
    except LockTimeout as error:
        return lock_holder.describe(error)
    except NotStored as error:
        return "" if error.why == os.strerror(errno.ENOENT) else str(error)
    except (PathError, OSError) as error:
        return str(error)
    finally:
        store.close()
    return ""


def _put_in_order(location: Location) -> None:
    """Replace files that cannot be edited as they are, such as a file with a second name in a backup."""
    store = Editor(location)
    try:
        store.open_enrolled()
        store.glance_at_state()
    except PathError as error:
        if mending.is_mendable(error, location):
            with contextlib.suppress(EnrolmentFailed, BadTokenFile):
                mending.Mender(location).mend()
    except NotEnrolled:
        pass
    finally:
        store.close()


def _without_revoked(present: TokenFile | None, state: State) -> tuple[TokenFile | None, State]:
    return present, state.without_graces().without_issued()
