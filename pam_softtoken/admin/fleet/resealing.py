"""Seal the values of a realm again, with another key. No value changes apart from that: a login may be at work."""

from __future__ import annotations

from dataclasses import dataclass, field

from pam_softtoken.admin.fleet.cluster import Cluster, KeepsChanging, Put, key_id_in, place_of
from pam_softtoken.errors import DamagedState
from pam_softtoken.fleet.engine import Entry
from pam_softtoken.fleet.realm import Realm
from pam_softtoken.program_errors import AdministrationFailed
from pam_softtoken.ui import progress, terminal

_NAMED = 20


@dataclass(slots=True)
class Resealed:
    """What was done to the values of a realm.

    Args:
        done: names of those that were sealed with another key.
        broken: names of those that no key here opens. They are as they were.
        busy: names of those that others have changed again and again. A host that was broken into can do that.
    """

    done: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)

    def require_all(self) -> None:
        """Check that nothing is left that could be sealed.

        Raises:
            AdministrationFailed: something is.
        """
        if self.busy:
            raise AdministrationFailed(
                f"others keep changing these, and they are as they were: {named(self.busy)}",
                hint=KeepsChanging.HINT,
            )


def reseal_all(cluster: Cluster, own: Realm) -> Resealed:
    """Seal everything that another key has sealed.

    Args:
        cluster: has the values.
        own: the realm, with the key that seals, and the others that open.

    Raises:
        EngineDown: the cluster does not answer.
    """
    todo = [(name, entry) for name, entry in cluster.entries() if key_id_in(entry) != own.sealing_id]
    found = Resealed()
    with progress.shown(len(todo), "resealing") as advance:
        for name, entry in todo:
            terminal.checkpoint()
            try:
                is_done = _reseal_one(cluster, own, name, entry)
                (found.done if is_done else found.busy).append(name)
            except (DamagedState, ValueError):
                found.broken.append(name)
            advance()
    return found


def _reseal_one(cluster: Cluster, own: Realm, name: str, entry: Entry) -> bool:
    """Reseal a value. If others have changed it since it was read, reseal theirs. Return False if they do not stop.

    Raises:
        DamagedState: no key here opens it.
        ValueError: it has no name of ours.
    """
    kind, user = place_of(name)
    key = own.key(kind, user)

    def resealed(present: list[Entry]) -> Put | None:
        value = present[0].value
        if value is None or key_id_in(present[0]) == own.sealing_id:
            return None  # gone, or sealed by others or by a request whose answer was lost
        return {key: own.seal(kind, user, own.open(kind, user, value))}

    try:
        cluster.change([key], resealed, [entry])
    except KeepsChanging:
        return False
    return True


def names_with(cluster: Cluster, key: bytes) -> list[str]:
    """Return the names of the values that a key opens. A host can write any text that only names the key."""
    realm = Realm(cluster.realm.name, key)
    return [name for name, entry in cluster.entries() if _opens(realm, name, entry)]


def _opens(realm: Realm, name: str, entry: Entry) -> bool:
    try:
        realm.open(*place_of(name), entry.value or b"")
    except (DamagedState, ValueError):
        return False
    return True


def named(names: list[str]) -> str:
    """Return the first names of a list for a message."""
    shown = ", ".join(terminal.visible(name) for name in names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"
