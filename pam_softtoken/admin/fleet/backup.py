"""Implement `softtoken-admin fleet export` and `restore`. A backup has the values as they are in etcd, sealed. It is
text: a line with the realm and the time, a line for each key with its value in Base64, and a line with their number.
"""

from __future__ import annotations

import base64
import os
import time

from pam_softtoken.account import replace, token_file, user_path
from pam_softtoken.account.state import State
from pam_softtoken.admin.common import deed
from pam_softtoken.admin.fleet import overview
from pam_softtoken.admin.fleet.cluster import Cluster, KeepsChanging, Put, place_of
from pam_softtoken.errors import BadTokenFile, DamagedState, PathError
from pam_softtoken.fleet.engine import EngineDown, Entry
from pam_softtoken.fleet.realm import NONCE_BYTES, STATE, TOKENS, Realm
from pam_softtoken.program_errors import AdministrationFailed
from pam_softtoken.ui import progress, terminal

_FIRST, _LAST = "softtoken-realm 1", "end"
_MAX_BYTES = 1 << 30
_MAX_LINE = 4 << 20
"""More than what etcd takes as one value."""
Values = dict[tuple[str, str], bytes]
"""The sealed values by kind and user. The floor has no user."""


def export(screen: terminal.Terminal, cluster: Cluster, path: str) -> None:
    """Write everything that the realm has at one moment into a new file. No seal is opened.

    Raises:
        AdministrationFailed: there is no such file now.
    """
    try:
        found = cluster.everything()
    except EngineDown as error:
        raise AdministrationFailed(str(error), hint="softtoken-fleet(7) says what to do without a quorum") from None
    prefix = cluster.realm.prefix("")
    lines = [f"{_FIRST} {cluster.realm.name} {_now()}"]
    lines += [f"{key.removeprefix(prefix)} {base64.b64encode(value).decode()}" for key, value in found.items()]
    lines.append(f"{_LAST} {len(found)}\n")
    try:
        file = replace.NewFile(path)
        try:
            file.fill("\n".join(lines).encode("ascii"))
        except BaseException:
            file.discard()
            raise
        finally:
            file.close()
    except PathError as error:
        raise AdministrationFailed(str(error), hint="name a new file where there is room") from None
    users = sum(key.startswith(cluster.realm.prefix(TOKENS)) for key in found)
    deed.record("fleet-export", "all", realm=cluster.realm.name)
    screen.tell(f"Done. {path} has the tokens of {users} users, sealed as they are in etcd.")
    screen.tell("It is of no use without the realm's seal.key, so keep a copy of that elsewhere.")


def restore(screen: terminal.Terminal, cluster: Cluster, path: str, *, replaces: bool) -> None:
    """Write the users of a backup into the realm, after raising the floor. Nothing that was used becomes unused.

    Args:
        screen: the output.
        cluster: as its administrator.
        path: the backup.
        replaces: also write users whom the realm knows: their tokens are other ones, or were revoked since.

    Raises:
        AdministrationFailed: it is no backup of this realm, or not all of it was written.
    """
    try:
        values, made = _read(path, cluster.realm.name)
        broken = _broken_in(cluster, values)
    except (OSError, PathError) as error:
        raise AdministrationFailed(f"{path}: {error}", hint="name a file that fleet export has written") from None
    except ValueError as error:
        raise AdministrationFailed(f"{path}: {error}", hint="take another backup") from None
    if made > _now():
        # The floor would be too low, and codes that were used after the backup would count again.
        raise AdministrationFailed(
            f"{path} was made later than now: this clock, or that of the backup, is wrong", hint="date shows this clock"
        )
    # First: otherwise a host could accept a code that was used after the backup was made.
    overview.raise_floor(screen, cluster)
    users = sorted({user for _, user in values if user})
    left: list[str] = []
    busy: list[str] = []
    try:
        with progress.shown(len(users), "restoring") as advance:
            for user in users:
                terminal.checkpoint()
                try:
                    if user not in broken and not _write(cluster, user, values, replaces=replaces):
                        left.append(user)
                except KeepsChanging:
                    busy.append(user)
                advance()
    except EngineDown as error:
        raise AdministrationFailed(
            f"not all users are restored: {error}", hint="run the same command again when the nodes answer"
        ) from None
    deed.record("fleet-restore", "all", realm=cluster.realm.name)
    screen.tell(f"{len(users) - len(left) - len(busy) - len(broken)} of {len(users)} users are restored.")
    if left:
        names = ", ".join(terminal.visible(user) for user in left)
        screen.tell(f"The realm knows these already, and they are as they were: {names}. --force restores them, too.")
    screen.tell(
        "softtoken-admin fleet floor now was part of this. If a host has reached the nodes meanwhile with an older "
        "backup in them, run it again."
    )
    _require_all(sorted(broken), busy)


def _require_all(broken: list[str], busy: list[str]) -> None:
    """Check that everybody is restored. A host that was broken into can write a state that nobody opens, or keep
    changing one. The others come back all the same.
    """
    failures: list[tuple[str, str]] = []
    if broken:
        names = ", ".join(map(terminal.visible, broken))
        what = f"not restored, because nobody can open what the backup has of them: {names}"
        failures.append((what, "softtoken-enroll --user USER enrols anew those that there are"))
    if busy:
        what = f"not restored, because others keep changing them: {', '.join(map(terminal.visible, busy))}"
        failures.append((what, KeepsChanging.HINT))
    if failures:
        whats, hints = zip(*failures, strict=True)
        raise AdministrationFailed("; ".join(whats), hint="; ".join(hints))


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _read(path: str, name: str) -> tuple[Values, str]:
    """Read a backup. Return what is in it, and when it was made. Raises `OSError`, or `ValueError` if it is not a whole
    backup of this realm.
    """
    with open(user_path.open_regular(path), "rb") as file:
        if os.fstat(file.fileno()).st_size > _MAX_BYTES:
            raise ValueError("is too large")
        words = _line(file.readline(_MAX_LINE)).split(" ")
        if " ".join(words[:2]) != _FIRST or len(words) != 4:
            raise ValueError("is no backup of a realm")
        if words[2] != name:
            raise ValueError(f"is a backup of the realm {terminal.visible(words[2])}, and this is {name}")
        values: Values = {}
        for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE), b"")):
            key, _, value = _line(line).partition(" ")
            if key == _LAST:
                if value != str(number) or file.read(1):
                    break
                return values, words[3]
            values[_place_of(key)] = base64.b64decode(value, validate=True)
    raise ValueError("is not complete")


def _line(data: bytes) -> str:
    try:
        if not data.endswith(b"\n"):
            raise ValueError
        return data[:-1].decode("ascii")
    except ValueError:
        raise ValueError("is no backup of a realm") from None


def _place_of(name: str) -> tuple[str, str]:
    try:
        return place_of(name)
    except ValueError:
        raise ValueError(f"has an unknown key: {terminal.visible(name[:100])}") from None


def _broken_in(cluster: Cluster, values: Values) -> set[str]:
    """Return the users of whom something cannot be opened. Raises `ValueError` if that is all users."""
    broken: dict[str, str] = {}
    for (kind, user), value in values.items():
        try:
            if kind == TOKENS:
                token_file.parse(cluster.realm.open(kind, user, value), path=user)
            elif kind == STATE:
                cluster.realm.open_state(user, value)
        except (DamagedState, BadTokenFile) as error:
            broken[user] = str(error)
    users = {user for _, user in values if user}
    if users and not users - broken.keys():
        raise ValueError(f"cannot be used with the seal key that is here: {next(iter(broken.values()))}")
    return set(broken)


def _write(cluster: Cluster, user: str, values: Values, *, replaces: bool) -> bool:
    """Write one user. Return False if the realm knows them, and they are not to be replaced."""
    own = cluster.realm
    keys = [own.key(TOKENS, user), own.key(STATE, user)]
    tokens, backup = values.get((TOKENS, user)), values.get((STATE, user))
    older = State.new() if backup is None else own.open_state(user, backup)[1]
    live: frozenset[str] = frozenset()
    if tokens is not None:
        live = token_file.parse(own.open(TOKENS, user, tokens), path=user).record_names()
    is_written = True

    def restored(present: list[Entry]) -> Put | None:
        nonlocal is_written
        has_them = present[0].value is not None and present[0].value == tokens  # by an earlier run, or never lost
        if not has_them and not replaces and any(entry.value is not None for entry in present):
            is_written = False
            return None
        known = _known(own, user, present[1])
        after = older if known is None else known.with_uses_of(older)
        adds_nothing = known is None or (known.last, known.spent) == (after.last, after.spent)
        if has_them and present[1].value is not None and adds_nothing:
            return None
        # A time of grace may have been ended since, for instance by a revocation.
        state = own.sealed_state(user, after.without_graces(), os.urandom(NONCE_BYTES), live)
        return {keys[0]: tokens, keys[1]: state}

    cluster.change(keys, restored)
    return is_written


def _known(own: Realm, user: str, present: Entry) -> State | None:
    """Return what the realm knows to have been used; None if there is nothing, or nothing can be learned from it."""
    if present.value is None:
        return None
    try:
        return own.open_state(user, present.value)[1]
    except DamagedState:
        return None
