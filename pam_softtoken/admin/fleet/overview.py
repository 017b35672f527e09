"""Implement `softtoken-admin fleet status` and `floor`: what is in a realm, and from when on codes count."""

from __future__ import annotations

import collections
import time

from pam_softtoken.admin.common import deed
from pam_softtoken.admin.fleet.cluster import CALL_S, Cluster, Put, hint_after, key_id_in
from pam_softtoken.errors import DamagedState
from pam_softtoken.fleet.engine import EngineDown, Entry
from pam_softtoken.fleet.realm import FLOOR, STATE, TOKENS
from pam_softtoken.program_errors import AdministrationFailed
from pam_softtoken.ui import terminal


def show(screen: terminal.Terminal, cluster: Cluster) -> None:
    """Show how many users the realm has, which values are damaged, and the hosts, as far as we may see them.

    Raises:
        AdministrationFailed: the cluster does not answer.
    """
    try:
        tokens, states = cluster.listed(TOKENS), cluster.listed(STATE)
        floor = cluster.engine.read([cluster.realm.key(FLOOR)], deadline_s=time.monotonic() + CALL_S)[0]
    except EngineDown as error:
        raise AdministrationFailed(str(error), hint="softtoken-fleet(7) says what to do without a quorum") from None
    revoked = sorted(set(states) - set(tokens))
    screen.show(f"realm      {cluster.realm.name}")
    screen.show(f"users      {len(tokens)}")
    screen.show(f"revoked    {len(revoked)}")
    screen.show(f"floor      {_floor_in_words(cluster, floor)}")
    _show_seal_keys(screen, cluster, [*tokens.values(), *states.values(), floor])
    for name, entry in sorted(tokens.items()):
        _show_damage(screen, cluster, TOKENS, name, entry)
    for name, entry in sorted(states.items()):
        _show_damage(screen, cluster, STATE, name, entry)
    try:
        hosts = cluster.hosts()
    except EngineDown:
        return  # only the administrator can list them
    screen.show(f"hosts      {terminal.visible(', '.join(hosts)) or 'none'}")


def raise_floor(screen: terminal.Terminal, cluster: Cluster) -> None:
    """Raise the floor to now: let no TOTP code count that is older than now, and no code that was issued before.

    Raises:
        AdministrationFailed: it is not written.
    """
    key = cluster.realm.key(FLOOR)

    def raised(present: list[Entry]) -> Put:
        value, now = present[0].value, int(time.time())  # another administrator may have raised it a moment ago
        if value is not None and cluster.realm.open_floor(value) > now:
            raise AdministrationFailed(
                "the floor is later than now: this clock, or an earlier one, is wrong", hint="date shows this clock"
            )
        return {key: cluster.realm.sealed_floor(now)}

    try:
        cluster.change([key], raised)
    except EngineDown as error:
        hint = hint_after(error, "only the administrator's machine can write the floor")
        raise AdministrationFailed(str(error), hint=hint) from None
    except DamagedState as error:
        raise AdministrationFailed(str(error), hint="look for the reason before you delete the key") from None
    deed.record("fleet-floor", "all", realm=cluster.realm.name)
    screen.tell("Done. The codes that apps show now are refused, and those of the next time step; later ones count.")
    screen.tell("Codes that softtoken-admin code-for has issued are refused, too.")
    screen.tell("Tokens that count (HOTP) and recovery codes have no time: if the backup was old, make new ones.")


def _show_seal_keys(screen: terminal.Terminal, cluster: Cluster, entries: list[Entry]) -> None:
    """Show how many values each seal key has sealed, if there are several keys."""
    numbers = collections.Counter(key_id_in(entry) for entry in entries if entry.value)
    ids = {*cluster.realm.key_ids(), *(name for name in numbers if name)}
    if len(ids) == 1:
        return
    for name in sorted(ids, key=lambda name: (name != cluster.realm.sealing_id, name)):
        use = "seals" if name == cluster.realm.sealing_id else "opens" if name in cluster.realm.key_ids() else "unknown"
        screen.show(f"seal key   {terminal.visible(name)}: {use} here, {numbers[name]} values")


def _show_damage(screen: terminal.Terminal, cluster: Cluster, kind: str, name: str, entry: Entry) -> None:
    try:
        if kind == TOKENS:
            cluster.realm.open(kind, name, entry.value or b"")
        else:
            cluster.realm.open_state(name, entry.value or b"")
    except DamagedState as error:
        screen.show(f"damaged    {terminal.visible(name)}: {terminal.visible(str(error))}")


def _floor_in_words(cluster: Cluster, entry: Entry) -> str:
    if entry.value is None:
        return "none"
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(cluster.realm.open_floor(entry.value)))
    except DamagedState as error:
        return f"damaged: {terminal.visible(str(error))}"
