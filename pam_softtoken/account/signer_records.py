"""List what root keeps of users who sign commands, for administration: whose it is, and how it is handed over and
forgotten. sudo loads only `signers`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from pam_softtoken.account import (
    entries,
    places,
    ram_record,
    replace,
    signer_editor,
    signer_keeper,
    signers,
    user_lookup,
)
from pam_softtoken.account.safe_open import Account
from pam_softtoken.account.token_file import Owner
from pam_softtoken.errors import LookUpFailed, NotStored, PathError, UnknownUser
from pam_softtoken.otp.ocra import OCRAToken


class Record(NamedTuple):
    """What is in the directory that is the mark of a uid.

    Attributes:
        uid: the directory's name.
        owner: the account that the token file names; None if that is not known.
        tokens: those in the file; none after a revocation.
        problem: why they are not known; empty if they are, or if there is no file.
        is_absent: there is no token file.
    """

    uid: int
    owner: Owner | None = None
    tokens: tuple[OCRAToken, ...] = ()
    problem: str = ""
    is_absent: bool = False

    @property
    def path(self) -> str:
        """The directory."""
        return signers.uid_mark(self.uid)


def uids() -> list[int]:
    """Return the uids that have a mark."""
    names = entries.names_in(places.SIGNERS)
    return sorted(int(name) for name in names if name.isascii() and name.isdecimal() and str(int(name)) == name)


def names() -> Iterator[str]:
    """Yield the names that have a mark."""
    for entry in entries.names_in(places.SIGNERS):
        if entry.startswith(signers.NAME_PREFIX):
            with suppress(ValueError):
                name = bytes.fromhex(entry.removeprefix(signers.NAME_PREFIX)).decode("utf-8", "surrogateescape")
                if signers.name_mark(name) == f"{places.SIGNERS}/{entry}":
                    yield name


def read(uid: int) -> Record:
    """Read what is under the mark of a uid. Nothing is made, written or locked."""
    keeper = signer_keeper.Keeper(_somebody("", uid))
    try:
        content = keeper.look_at_any()
    except FileNotFoundError:
        return Record(uid, is_absent=True)
    except PathError as error:
        return Record(uid, problem=str(error))
    finally:
        keeper.close()
    return Record(uid, content[1], content[0]) if content is not None else Record(uid, is_absent=True)


def of_account(account: Account) -> list[Record]:
    """Return the records under an account's uid, and those that its name has left under another one."""
    found = [read(uid) for uid in uids()]
    return [each for each in found if each.uid == account.uid or (each.owner or ("", 0))[0] == account.name]


def has_name_mark(name: str) -> bool:
    """Check whether a name has a mark. A name that is too long has none."""
    try:
        return os.path.lexists(signers.name_mark(name))
    except ValueError:
        return False


def _may_have_user(key: str | int) -> bool:
    """Return whether a name or a uid has a user. If there is no answer, it counts as if it had."""
    try:
        user_lookup.account_of_name(key) if isinstance(key, str) else user_lookup.account_of_uid(key)
    except UnknownUser:
        return False
    except LookUpFailed:
        return True
    return True


def _somebody(name: str, uid: int) -> Account:
    return Account(name, uid, uid, home="/")


def has_left(former: Account, account: Account) -> bool:
    """Check whether there is something under an account's former name or uid that `hand_over` would hand over."""
    return _is_left(read(former.uid), former, account) or _has_left_name(former, account)


def _is_left(record: Record, former: Account, account: Account) -> bool:
    return record.owner == (former.name, former.uid) != (account.name, account.uid)


def _has_left_name(former: Account, account: Account) -> bool:
    return former.name != account.name and has_name_mark(former.name)


def hand_over(former: Account, account: Account) -> None:
    """Hand over the tokens under an account's former name or uid to its present name and uid, if there are any.

    At every moment of it one of the marks says that the account is to be asked. After a kill, the same goes on.

    Raises:
        PathError: some of it may still be under the former name or uid.
    """
    record = read(former.uid)
    is_begun = former.uid != account.uid and record.owner == (account.name, account.uid)
    is_left = _is_left(record, former, account) or is_begun
    if is_left or _has_left_name(former, account):
        _make_mark(account.name)
    if is_left:
        _bind_and_move(record, account)
    if _has_left_name(former, account) and not _owners_of(former.name) and not _may_have_user(former.name):
        signer_editor.remove_mark(signers.name_mark(former.name))


def _bind_and_move(record: Record, account: Account) -> None:
    there = read(account.uid)
    if record.uid != account.uid and there.owner == (account.name, account.uid):
        signer_editor.remove_mark(record.path)  # the account has enrolled anew; what it had before is not needed
        return
    keeper = signer_keeper.Keeper(_somebody(account.name, record.uid))
    try:
        keeper.bind((account.name, account.uid))
    finally:
        keeper.close()
    if record.uid == account.uid:
        return
    if os.path.lexists(there.path):
        signer_editor.remove_mark(there.path)
    ram_record.rename(ram_record.path_of(record.uid, record.path), ram_record.path_of(account.uid, there.path))
    try:
        os.rename(record.path, there.path)
        replace.sync_directory(places.SIGNERS)
    except OSError as error:
        raise NotStored(there.path, os.strerror(error.errno or 0)) from None


def _make_mark(name: str) -> None:
    try:
        signer_editor.make_mark(name)
    except ValueError as error:
        raise NotStored(places.SIGNERS, str(error)) from None


def of_others(account: Account) -> list[str]:
    """Return the marks that a former user of an account's name or uid has left, and none that may be its own."""
    present, own = (account.name, account.uid), read(account.uid)
    records = [each for each in of_account(account) if each.owner not in (None, present) and not _is_in_use(each)]
    paths = [each.path for each in records if each.uid == account.uid or not _may_have_user(each.uid)]
    may_be_own = own.owner == present or (own.owner is None and os.path.lexists(own.path))
    if has_name_mark(account.name) and not may_be_own:
        paths.append(signers.name_mark(account.name))
    return paths


def _is_in_use(record: Record) -> bool:
    """Check whether tokens may be those of an account that is there, perhaps a second one with the same uid."""
    if record.owner is None:
        return True
    try:
        return user_lookup.account_of_name(record.owner[0]).uid == record.owner[1]
    except UnknownUser:
        return False
    except LookUpFailed:
        return True


def _owners_of(name: str) -> list[int]:
    """Return the uids under which there are tokens of a name."""
    return [uid for uid in uids() if (read(uid).owner or ("", 0))[0] == name]
