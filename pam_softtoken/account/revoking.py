"""Root's half of `revocation`: write that something is revoked, and what root has enrolled since. Takes no lock, and
opens no file of a user's. Each step renames one file that is already on the disk. So a killed command has revoked
everything or nothing. No login loads this.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable

from pam_softtoken.account import account_record, places, replace, revocation, roots_files
from pam_softtoken.account.revocation import Revocation
from pam_softtoken.errors import NotStored

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.account.safe_open import Account

MAX_DEAD = 1000
"""The most fingerprints in one record. Nobody loses so many tokens."""
_READABLE = 0o644  # a screen locker is its user's process and has to read it


def revoke(uid: int, *, fingerprints: Iterable[str], everything: bool, now: int) -> None:
    """Write that tokens, and every issued code, are revoked. It is durable on return, and every later login sees it.

    Args:
        uid: the user's uid.
        fingerprints: of the tokens. With `everything`, those of the tokens that were seen; they can never be enrolled
            again.
        everything: from now on only what root enrols afterwards counts.
        now: Unix seconds.

    Raises:
        NotStored: nothing was revoked.
        UnusableFile: earlier revocations cannot be read.
    """
    present = revocation.read(uid)
    dead = list({**present.dead, **dict.fromkeys(fingerprints)})[-MAX_DEAD:]
    lines = ["everything"] if everything else []
    lines += [f"at {now}", *(f"token {each}" for each in dead)]
    _make_directory(uid)
    _put(uid, os.urandom(revocation.NAME_DIGITS // 2).hex(), [revocation.HEADER, *lines])
    # Older records that the new one includes are not needed any more. If one stays, it is harmless.
    for name in present.names if everything else present.names - present.closing:
        with contextlib.suppress(OSError):
            os.unlink(f"{revocation.directory_of(uid)}/{name}")


def admit(present: Revocation, *, tokens: Iterable[str] = (), recovery_set: str = "", issued: str = "") -> None:
    """Write that something counts which root enrols or issues after a revocation.

    Args:
        present: what was revoked when root decided that. A later revocation revokes this too.
        tokens: fingerprints.
        recovery_set: name of a set of recovery codes; empty for none.
        issued: hash of an issued code, hexadecimal; empty for none.

    Raises:
        NotStored: nothing has changed.
    """
    if not present.names:
        return
    sets = dict.fromkeys([*present.sets, *([recovery_set] if recovery_set else [])])
    code = issued[: revocation.DIGEST_DIGITS] or present.issued
    lines = [f"after {name}" for name in sorted(present.names)]
    lines += [f"token {each}" for each in dict.fromkeys([*present.tokens, *tokens])]
    lines += [f"set {name}" for name in sets]
    lines += [f"issued {code}"] if code else []
    _put(present.uid, revocation.LIVING, [revocation.LIVING_HEADER, *lines])


def hand_over(old_uid: int, new_uid: int, *, keeping: bool) -> None:
    """Write the revocations of an account's old uid for its new uid. They are durable on return.

    If this is killed and run again, everything arrives: a record is copied before it is removed. What root has enrolled
    since is copied only if nothing was revoked for the new uid. Otherwise root enrols once more.

    Args:
        old_uid, new_uid: of the account.
        keeping: another user has the old uid now. Nobody can tell whose revocations these are, so they count for both.

    Raises:
        NotStored, UnusableFile: some records may still be where they were.
    """
    old = revocation.read(old_uid)
    if not old.names:
        return
    new = revocation.read(new_uid)
    _make_directory(new_uid)
    copied = [revocation.LIVING] if new.names <= old.names else []
    for name in (*copied, *old.names):
        lines = _text_of(old_uid, name)
        if lines:
            _put(new_uid, name, lines)
    if not keeping:
        forget(old_uid)


def bring_along(account: Account, *, keeping: bool) -> None:
    """Write an account's revocations from its former uid for its present one, if it had another uid.

    Args:
        account: the account.
        keeping: as for `hand_over`.

    Raises:
        NotStored, UnusableFile: some records may still be where they were.
    """
    former = account_record.former_uid(account)
    if former is not None and former != account_record.NOT_A_UID:
        hand_over(former, account.uid, keeping=keeping)
        account_record.record(account)


def _text_of(uid: int, name: str) -> list[str]:
    path = f"{revocation.directory_of(uid)}/{name}"
    try:
        with open(path, encoding="ascii") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        raise NotStored(path, str(error)) from None


def forget(uid: int) -> None:
    """Remove all revocations of a uid, when another user has it now.

    Raises:
        NotStored: some of them are still there.
    """
    directory = revocation.directory_of(uid)
    try:
        for name in os.listdir(directory):
            with contextlib.suppress(FileNotFoundError):  # another command removes them at the same time
                os.unlink(f"{directory}/{name}")
        os.rmdir(directory)
    except FileNotFoundError:
        return
    except OSError as error:
        raise NotStored(directory, os.strerror(error.errno or 0)) from None


def _make_directory(uid: int) -> None:
    path = revocation.directory_of(uid)
    try:
        roots_files.make_directory(places.DATA)
        roots_files.make_directory(places.REVOKED)
        roots_files.make_directory(path, mode=0o755)
        for above in (places.REVOKED, places.DATA):
            replace.sync_directory(above)
    except OSError as error:
        raise NotStored(path, os.strerror(error.errno or 0)) from None


def _put(uid: int, name: str, lines: list[str]) -> None:
    path = f"{revocation.directory_of(uid)}/{name}"
    data = ("\n".join(lines) + "\n").encode("ascii")
    if len(data) > revocation.MAX_BYTES:
        raise NotStored(path, "is too long")
    replace.write_for_root(path, data, mode=_READABLE)
