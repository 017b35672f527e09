"""Implement `softtoken-admin fleet revoke` and `unlock`: help a user on all hosts of the realm at once."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from pam_softtoken.account.state import State
from pam_softtoken.admin.common import deed
from pam_softtoken.admin.fleet.cluster import CALL_S, Cluster, Put, hint_after
from pam_softtoken.errors import DamagedState
from pam_softtoken.fleet.engine import EngineDown, Entry
from pam_softtoken.fleet.realm import NONCE_BYTES, STATE, TOKENS
from pam_softtoken.program_errors import AdministrationFailed
from pam_softtoken.ui import terminal


def revoke(screen: terminal.Terminal, cluster: Cluster, user: str, *, forced: bool = False) -> None:
    """End all tokens and recovery codes of a user. On return no host accepts them.

    The state stays: it proves that the user was enrolled. So no `nullok` lets them in.

    Args:
        screen: the output.
        cluster: the realm's.
        user: the name, as the realm has it.
        forced: a user whom the realm does not know counts as one who was enrolled.

    Raises:
        AdministrationFailed: they still count, or may do so; or the realm does not know the user.
    """
    key, state_key = cluster.realm.key(TOKENS, user), cluster.realm.key(STATE, user)
    try:
        tokens, state = cluster.engine.read([key, state_key], deadline_s=time.monotonic() + CALL_S)
        if tokens.value is None and state.value is None and not forced:
            raise _unknown(user)  # another spelling may be the one that counts, and its tokens would go on
        if tokens.value is not None or forced:
            _require_state(cluster, user)
        # It compares the tokens only: a host that keeps changing the state cannot prevent this.
        cluster.change([key], lambda present: None if present[0].value is None else {key: None}, [tokens])
    except EngineDown as error:
        raise AdministrationFailed(
            f"{user} is not revoked: {error}",
            hint=hint_after(error, "only a host that joined with --enrol, or the administrator's machine, can revoke"),
        ) from None
    deed.record("fleet-revoke", user, realm=cluster.realm.name)
    screen.tell(
        f"The realm {cluster.realm.name} has no tokens of {terminal.visible(user)}. No host accepts their codes."
    )


def _require_state(cluster: Cluster, user: str) -> None:
    """Write a state if there is none: a user without both keys would count as one who never enrolled."""
    key = cluster.realm.key(STATE, user)
    value = cluster.realm.sealed_state(user, State.new(), os.urandom(NONCE_BYTES), frozenset())
    cluster.change([key], lambda present: {key: value} if present[0].value is None else None)


def _unknown(user: str) -> AdministrationFailed:
    return AdministrationFailed(
        f"the realm does not know {user}", hint="softtoken-admin fleet status shows who is in it"
    )


def unlock(screen: terminal.Terminal, cluster: Cluster, user: str) -> None:
    """Forget the wrong answers of a user, so that nobody has to wait for them.

    Raises:
        AdministrationFailed: it was not done.
    """
    _change_state(cluster, user, State.without_waits)
    deed.record("fleet-unlock", user, realm=cluster.realm.name)
    screen.tell(f"Nobody has to wait for wrong answers of {terminal.visible(user)} any more.")


def _change_state(cluster: Cluster, user: str, change: Callable[[State], State]) -> None:
    realm, key = cluster.realm, cluster.realm.key(STATE, user)

    def changed(present: list[Entry]) -> Put:
        value = present[0].value
        if value is None:
            raise _unknown(user)
        _, state = realm.open_state(user, value)
        live = frozenset((*state.last, *state.spent))
        return {key: realm.sealed_state(user, change(state), os.urandom(NONCE_BYTES), live)}

    try:
        cluster.change([key], changed)
    except EngineDown as error:
        hint = hint_after(error, "run the same command again when the nodes answer")
        raise AdministrationFailed(str(error), hint=hint) from None
    except DamagedState as error:
        raise AdministrationFailed(str(error), hint="softtoken-fleet(7) says what a broken seal can mean") from None
