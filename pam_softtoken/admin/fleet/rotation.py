"""Implement `softtoken-admin fleet rotate`: change the seal key of a realm. Each step needs the file of the step before
on all hosts. So at every moment every host opens what every other host seals:

    seal.key.old    seal.key              what a host may have
    OLD             seal OLD, open NEW    OLD alone, or this     fleet rotate
    OLD             seal NEW, open OLD    the above, or this     fleet rotate --seal
    OLD             seal NEW              the above, or this     fleet rotate --finish

The two files say which step was the last one, so each step can be killed and run again. No value is lost: one that was
changed since it was read is read again. The old key stays here for values that a late host seals with it.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from pathlib import Path

from pam_softtoken import option_table
from pam_softtoken.account import host_key, seal
from pam_softtoken.account.host_key import HostKeys
from pam_softtoken.admin.common import deed
from pam_softtoken.admin.fleet import custody, resealing
from pam_softtoken.admin.fleet.cluster import Cluster, can_be_host, key_id_in
from pam_softtoken.admin.fleet.custody import Custody
from pam_softtoken.errors import PathError
from pam_softtoken.fleet import key_files
from pam_softtoken.fleet.engine import EngineDown
from pam_softtoken.fleet.realm import TOKENS, Realm
from pam_softtoken.program_errors import AdministrationFailed
from pam_softtoken.ui import terminal

NONE, PREPARED, SEALING, FINISHED = "none", "prepared", "sealing", "finished"
OLD_SEAL_KEY = f"{key_files.SEAL_KEY}.old"
_COMMAND = "softtoken-admin fleet rotate"
_KEYS = option_table.DEFAULT_FLEET_KEYS


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a change of the key is.

    Args:
        stage: the last step.
        sealing: the key that seals now.
        old: the key from before the last change; None if there was none.
    """

    stage: str
    sealing: bytes
    old: bytes | None

    def require(self, *stages: str) -> bytes:
        """Check that a step is the next one, or was the last one. Return the key from before the change.

        Raises:
            AdministrationFailed: it is not.
        """
        if self.stage not in stages or self.old is None:
            what, hint = {
                NONE: ("no change of the seal key was begun", _COMMAND),
                PREPARED: ("the new key does not seal yet", f"{_COMMAND} --seal, when every host has the seal.key"),
                SEALING: ("the new key seals already", f"{_COMMAND} --finish, when every host has the seal.key"),
                FINISHED: ("the last change of the seal key is finished", f"{_COMMAND} begins another one"),
            }[self.stage]
            raise AdministrationFailed(what, hint=hint)
        return self.old


def prepare(screen: terminal.Terminal, here: Custody, cluster: Cluster) -> None:
    """Create a new key, which only opens.

    Raises:
        AdministrationFailed: the present change has to be finished first, or the nodes do not answer.
    """
    found, hosts = _of_this_realm(here, cluster), cluster.hosts()
    if found.stage == SEALING:
        found.require()
    if found.stage != PREPARED:
        if found.stage == FINISHED and found.old is not None:
            _require_unused(cluster, found.old)
        here.write(OLD_SEAL_KEY, host_key.serialise(HostKeys(found.sealing)))
        _hand_out(here, HostKeys(found.sealing, (os.urandom(seal.KEY_BYTES),)))
        deed.record("fleet-rotate", "all", realm=cluster.realm.name, step="prepare")
    else:
        _hand_out(here, _keys(here))
    screen.tell("There is a new seal key. It only opens values so far; the old key seals. Nothing is resealed yet.")
    _tell_how(screen, here, hosts)
    screen.tell(f"When every host has it, and not before:\n  {_COMMAND} --seal{_option(here)}")
    screen.tell(f"An offline copy of {here.path} needs this key, too: renew it now.")


def reseal(screen: terminal.Terminal, here: Custody, cluster: Cluster) -> None:
    """Seal with the new key from now on, and everything that is there. The old one still opens.

    Raises:
        AdministrationFailed: the step before is missing, or not everything was resealed.
    """
    found, hosts = _of_this_realm(here, cluster), cluster.hosts()
    old = found.require(PREPARED, SEALING)
    if found.stage == PREPARED:
        (new,) = _keys(here).others
        deed.record("fleet-rotate", "all", realm=cluster.realm.name, step="seal")
    else:
        new = found.sealing
    _hand_out(here, HostKeys(new, (old,)))
    done = resealing.reseal_all(cluster, Realm(cluster.realm.name, new, (old,)))
    screen.tell(f"The new key seals now. {_values(len(done.done))} sealed again with it.")
    _tell_broken(screen, done)
    done.require_all()
    _tell_how(screen, here, hosts)
    screen.tell("Until a host has it, the host seals with the old key. Every host opens both.")
    screen.tell(f"When every host has it, and not before:\n  {_COMMAND} --finish{_option(here)}")


def finish(screen: terminal.Terminal, here: Custody, cluster: Cluster) -> None:
    """Reseal what hosts have sealed with the old key since, and let it open nothing any more.

    Raises:
        AdministrationFailed: the step before is missing, or something is still sealed with the old key.
    """
    found, hosts = _of_this_realm(here, cluster), cluster.hosts()
    old = found.require(SEALING, FINISHED)
    own = Realm(cluster.realm.name, found.sealing, (old,))
    done = resealing.reseal_all(cluster, own)
    done.require_all()
    left = resealing.names_with(cluster, old)
    if left:
        raise AdministrationFailed(
            f"sealed with the old key a moment ago: {resealing.named(left)}",
            hint="a host of these users has no new seal.key yet; bring it there, and run the same command again; "
            "softtoken-fleet(7) says what to do if every host has it",
        )
    _hand_out(here, HostKeys(found.sealing))
    if found.stage == SEALING:
        deed.record("fleet-rotate", "all", realm=cluster.realm.name, step="finish")
    screen.tell(f"The old key opens nothing any more. {_values(len(done.done))} sealed again with the new one.")
    if found.stage == FINISHED and done.done:
        screen.tell(f"Since the change was finished, these were sealed with the old key: {resealing.named(done.done)}.")
        screen.tell("If no late host explains that, somebody who knows the old key has written them.")
    _tell_broken(screen, done)
    _tell_how(screen, here, hosts)
    screen.tell("Until a host has it, the host also takes what was sealed with the old key.")
    screen.tell(
        "A host that never got the file of --seal still seals with the old key. Its users are then denied on the other "
        "hosts, with reason=damaged_state. One that got no file at all denies everybody so. Bring it the file, and run "
        "the same command again."
    )
    screen.tell(
        f"{here.path}/{OLD_SEAL_KEY} is kept for that. Backups from before need the old key: make one now, and renew "
        f"the offline copy of {here.path}."
    )


STEPS = {PREPARED: prepare, SEALING: reseal, FINISHED: finish}


def run(screen: terminal.Terminal, here: Custody, step: str) -> None:
    """Run a step: `PREPARED`, `SEALING` or `FINISHED`.

    Raises:
        AdministrationFailed: it is not done, or not all of it. Running it again goes on.
    """
    here.address()  # there must be a realm
    with here.locked():
        try:
            STEPS[step](screen, here, here.cluster())
        except EngineDown as error:
            raise AdministrationFailed(str(error), hint="run the same command again when the nodes answer") from None


def _keys(here: Custody) -> HostKeys:
    data = here.read(key_files.SEAL_KEY)
    if data is None:
        raise AdministrationFailed(
            f"{here.path}/{key_files.SEAL_KEY} is missing", hint="restore this directory from its backup"
        )
    try:
        return key_files.seal_keys_from(data, f"{here.path}/{key_files.SEAL_KEY}")
    except PathError as error:
        raise AdministrationFailed(str(error), hint="restore this directory from its backup") from None


def _progress(here: Custody) -> Progress:
    """Return how far the change is.

    Raises:
        AdministrationFailed: the files do not say it.
    """
    keys, saved = _keys(here), here.read(OLD_SEAL_KEY)
    try:
        old = None if saved is None else key_files.seal_keys_from(saved, f"{here.path}/{OLD_SEAL_KEY}").sealing
    except PathError as error:
        raise AdministrationFailed(str(error), hint="restore this directory from its backup") from None
    assert keys.sealing is not None  # noqa: S101 - `seal_keys_from` checks that
    if not keys.others:
        stage = NONE if old in (None, keys.sealing) else FINISHED
    elif len(keys.others) == 1 and old in (keys.sealing, *keys.others):
        stage = PREPARED if old == keys.sealing else SEALING
    else:
        raise AdministrationFailed(
            f"{here.path}: {key_files.SEAL_KEY} and {OLD_SEAL_KEY} do not belong together",
            hint="restore this directory from its backup",
        )
    return Progress(stage, keys.sealing, old)


def _of_this_realm(here: Custody, cluster: Cluster) -> Progress:
    """Return how far the change is. After a restore of an old copy of the directory, only the hosts have the present
    key, and the file that they would get replaces it.

    Raises:
        AdministrationFailed: as for `_progress`, or most tokens of the realm have another key.
    """
    found = _progress(here)
    known = {*cluster.realm.key_ids(), *([] if found.old is None else [seal.key_id(found.old)])}
    ids = [key_id_in(entry) for name, entry in cluster.entries() if name.startswith(f"{TOKENS}/")]
    foreign = [name for name in ids if name and name not in known]
    if 2 * len(foreign) > len(ids):
        raise AdministrationFailed(
            f"{_values(len(foreign))} sealed with a key that is not here; {here.path} is an old copy",
            hint=f"copy {_KEYS}/{key_files.SEAL_KEY} of a host that users can log in to into {here.path}, "
            f"and remove {OLD_SEAL_KEY} there",
        )
    return found


def _hand_out(here: Custody, keys: HostKeys) -> None:
    """Write the keys here, and then into the directories that are to be brought to new hosts."""
    text = host_key.serialise(keys)
    here.write(key_files.SEAL_KEY, text)
    for path in sorted(Path(here.path, custody.HOSTS).glob(f"*/{key_files.SEAL_KEY}")):
        here.write(f"{custody.HOSTS}/{path.parent.name}/{key_files.SEAL_KEY}", text)


def _require_unused(cluster: Cluster, old: bytes) -> None:
    names = resealing.names_with(cluster, old)
    if names:
        raise AdministrationFailed(
            f"sealed with the key from before the last change: {resealing.named(names)}",
            hint=f"{_COMMAND} --finish comes first",
        )


def _tell_how(screen: terminal.Terminal, here: Custody, hosts: list[str]) -> None:
    if not hosts:
        return
    source, target = shlex.quote(f"{here.path}/{key_files.SEAL_KEY}"), f"{_KEYS}/{key_files.SEAL_KEY}"
    screen.tell(f"Bring {source} to every host, here for those that etcd knows. Leave out a host that you do not know:")
    for host in filter(can_be_host, hosts):
        screen.tell(f"  scp -p {source} root@{host}:{target}.new && ssh root@{host} mv {target}.new {target}")
    strange = [host for host in hosts if not can_be_host(host)]
    if strange:
        screen.tell(f"An administrator of etcd has made members that are no hosts: {resealing.named(strange)}")


def _tell_broken(screen: terminal.Terminal, done: resealing.Resealed) -> None:
    if done.broken:
        screen.tell(f"No key here opens these, and they are as they were: {resealing.named(done.broken)}.")


def _values(number: int) -> str:
    return "1 value was" if number == 1 else f"{number} values were"


def _option(here: Custody) -> str:
    return f" --keys {shlex.quote(here.path)}" if here.path != custody.DIRECTORY else ""
