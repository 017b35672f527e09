"""End the wait of a user's wrong signatures, and start a damaged record of them anew."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pam_softtoken.account import lock_holder, signer_keeper, signers
from pam_softtoken.account.state import State
from pam_softtoken.admin.common import person
from pam_softtoken.errors import MISSING, DamagedState, LockTimeout, PathError, UnusableFile
from pam_softtoken.program_errors import AdministrationFailed


def has_tokens(user: str) -> bool:
    """Check whether root keeps signing tokens of a user."""
    with _opened(user) as keeper:
        return _has_file(keeper)


def is_damaged(user: str) -> bool:
    """Check whether the record of a user's wrong signatures is damaged."""
    with _opened(user) as keeper:
        try:
            if _has_file(keeper):
                keeper.glance_at_state()
        except DamagedState:
            return True
    return False


def unlock(user: str) -> int:
    """Forget a user's wrong signatures, and return how many there were.

    Raises:
        AdministrationFailed: they are not forgotten.
    """
    counted = 0

    def change(before: State) -> State:
        nonlocal counted
        counted = sum(count for count, _ in before.wrong.values())
        return before.without_waits() if counted else before

    with _opened(user) as keeper:
        if _has_file(keeper):
            keeper.change_state(change)
    return counted


def start_anew(user: str) -> None:
    """Write a new record. Only the waits are lost: a signature fits one question, so none can be used twice.

    Raises:
        AdministrationFailed: it is as it was.
    """
    with _opened(user) as keeper:
        keeper.change_state(lambda _: State.new(), anew=True)


def _has_file(keeper: signer_keeper.Keeper) -> bool:
    try:
        return keeper.has_file()
    except FileNotFoundError:
        return False
    except UnusableFile as error:
        if error.kind != MISSING:
            raise
        return False  # nobody on this host has enrolled such a token


@contextmanager
def _opened(user: str) -> Iterator[signer_keeper.Keeper]:
    account = person.account_of(user)
    keeper = signer_keeper.Keeper(account)
    try:
        yield keeper
    except LockTimeout as error:
        raise AdministrationFailed(lock_holder.describe(error), hint="end that process, and start again") from None
    except DamagedState:
        raise AdministrationFailed(
            f"the record of wrong signatures in {signers.uid_mark(account.uid)} is damaged",
            hint=f"{person.PROGRAM} reset-state {account.name}",
        ) from None
    except PathError as error:
        raise AdministrationFailed(
            f"{error}; {error.aftermath}", hint=f"{person.PROGRAM} status {account.name} shows what helps"
        ) from None
    finally:
        keeper.close()
