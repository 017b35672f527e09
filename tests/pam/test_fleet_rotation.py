"""The seal key of a realm is changed while users log in: each host opens what every other one seals, in every step.

Each service here is a host with a seal.key of its own. A host is late if it has the file of the step before. What a
host records itself is removed before each code, so what one host knows of the other is in the realm.
"""

from __future__ import annotations

import io
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from functools import partial
from pathlib import Path
from typing import ClassVar

import pytest

from pam_softtoken.account import host_key, seal
from pam_softtoken.account.host_key import HostKeys
from pam_softtoken.account.safe_open import Account
from pam_softtoken.admin.fleet import rotation
from pam_softtoken.admin.fleet.cluster import Cluster, user_of
from pam_softtoken.admin.fleet.custody import Custody
from pam_softtoken.admin.fleet.rotation import FINISHED, OLD_SEAL_KEY, PREPARED, SEALING
from pam_softtoken.config import Config
from pam_softtoken.errors import Revoked
from pam_softtoken.fleet import key_files, local_record, store
from pam_softtoken.fleet.editor import FleetEditor
from pam_softtoken.fleet.engine import Entry, Swapped
from pam_softtoken.fleet.etcd import Etcd
from pam_softtoken.fleet.realm import ENROL, FLOOR, STATE, TOKENS, Realm
from pam_softtoken.fleet.store import FleetStore, engine_of
from pam_softtoken.program_errors import AdministrationFailed
from pam_softtoken.ui.terminal import Terminal
from tests.support import tools
from tests.support.account import REALM, Person, Phone
from tests.support.admin import Admin, refused, succeeded
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.etcd_cluster import EtcdCluster, cluster_of
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES, Pam
from tests.support.pam_waiting import Waiting
from tests.support.system_log import SystemLog

pytestmark = tools.needs("etcd", "etcdctl")
SEAL_KEY = key_files.SEAL_KEY
STEPS = {PREPARED: (), SEALING: ("--seal",), FINISHED: ("--finish",)}
SCREEN = Terminal("softtoken-admin", results=sys.stdout)


@pytest.fixture(scope="module")
def cluster() -> Iterator[EtcdCluster]:
    with cluster_of(1) as made:
        (made.root_keys / "address").write_text(made.address)
        (made.root_keys / "address").chmod(0o600)
        (made.root_keys / "ca.key").write_bytes(made.authority.key)
        (made.root_keys / "ca.key").chmod(0o600)
        yield made


class Host:
    """A host of the realm.

    Args:
        keys: the directory of its keys.
        custody: where the administrator has the seal key.
        login: to it.
    """

    def __init__(self, keys: Path, custody: Path, login: Service, log: SystemLog) -> None:
        self.keys, self._custody, self.login, self._log = keys, custody, login, log

    def get_key(self) -> None:
        """Bring the present seal.key there."""
        shutil.copy(self._custody / SEAL_KEY, self.keys / SEAL_KEY)

    def log_in(self, person: Person, code: str) -> tuple[int, str]:
        """Return the result and the logged reason."""
        local_record.forget(local_record.path_of(REALM, person.name))
        return self.login.log_in(person, code).result, self._log.reasons()[-1]


class Office:
    """The realm, and what administers it. Its seal key is new in each test."""

    def __init__(self, cluster: EtcdCluster, admin: Admin) -> None:
        self.cluster, self._admin = cluster, admin
        self.path = cluster.root_keys
        cluster.empty()
        shutil.rmtree(self.path / "hosts", ignore_errors=True)
        self.reset_keys()

    def reset_keys(self) -> None:
        """Restore the seal key that the cluster's realm has."""
        (self.path / OLD_SEAL_KEY).unlink(missing_ok=True)
        (self.path / SEAL_KEY).write_bytes(host_key.serialise(HostKeys(self.cluster.seal_key)))

    @property
    def custody(self) -> Custody:
        return Custody(str(self.path))

    def keys(self) -> HostKeys:
        return key_files.seal_keys_from((self.path / SEAL_KEY).read_bytes(), SEAL_KEY)

    def realm(self) -> Realm:
        """The realm with the keys of the administrator."""
        keys = self.keys()
        assert keys.sealing is not None
        return Realm(REALM, keys.sealing, keys.others)

    def rotate(self, stage: str) -> str:
        """Run a step. Return what it said."""
        with redirect_stderr(io.StringIO()) as said:
            rotation.run(SCREEN, self.custody, stage)
        return said.getvalue()

    def rotate_as_people_do(self, stage: str) -> str:
        """Run a step with the program. Return what it said."""
        done = self._admin.run("fleet", "rotate", *STEPS[stage], f"--keys={self.path}")
        succeeded(done)
        return done.stderr

    def run(self, *words: str) -> str:
        return succeeded(self._admin.run("fleet", *words, f"--keys={self.path}"))

    def refused(self, *words: str, status: int = 1) -> tuple[str, str]:
        return refused(self._admin.run("fleet", *words, f"--keys={self.path}"), status)

    def texts(self, realm: Realm) -> dict[str, bytes]:
        """Return what the values are, opened with the keys of a realm."""
        found = {}
        for name, entry in self.cluster.cluster.entries():
            kind, _, user = name.partition("/")
            found[name] = realm.open(kind, user, entry.value or b"")
        return found

    def ids(self) -> dict[str, str]:
        """Return the ids of the keys with which the values are sealed."""
        return {name: seal.key_id_of(entry.value or b"") for name, entry in self.cluster.cluster.entries()}


@pytest.fixture
def office(cluster: EtcdCluster, installed: Installation) -> Office:
    return Office(cluster, Admin(installed))


@pytest.fixture
def hosts(cluster: EtcdCluster, office: Office, outside: Path, pam: Pam, system_log: SystemLog) -> list[Host]:
    """One that gets each file at once, and one that is late."""
    made = []
    for name in ("early", "late"):
        if not (keys := cluster.directory / "members" / name).exists():
            cluster.host(name)
        shutil.copytree(keys, outside / name)
        (outside / name).chmod(0o700)
        service = pam.service(f"fleet={cluster.address}", f"fleet_keys={outside / name}")
        made.append(Host(outside / name, office.path, service, system_log))
        made[-1].get_key()
    return made


@pytest.fixture
def phone(installed: Installation, alice: Person, cluster: EtcdCluster, office: Office) -> Phone:
    """Alice's token in the realm: as many codes as a test needs."""
    found = alice.enrol(installed, "--type=hotp", NO_CODES)
    cluster.take_over(alice)
    return found


def _each_code_works_once(hosts: list[Host], person: Person, phone: Phone) -> None:
    """Log in to each host, then try the same code on all of them."""
    for host in hosts:
        code = phone.hotp()
        assert host.log_in(person, code) == (PAM_SUCCESS, "accepted")
        for each in hosts:
            assert each.log_in(person, code)[0] == PAM_AUTH_ERR


@pytest.mark.claim("While the seal key of a realm is changed, every host accepts each code, and accepts it once.")
def test_rotation__in_each_step_every_host_accepts_each_code_once(
    office: Office, hosts: list[Host], alice: Person, phone: Phone
) -> None:
    early, late = hosts
    (old,) = office.keys().by_id()
    for stage in STEPS:
        said = office.rotate_as_people_do(stage)
        assert f"{office.path}/{SEAL_KEY} root@early:/etc/softtoken/fleet/{SEAL_KEY}.new" in said
        early.get_key()
        _each_code_works_once(hosts, alice, phone)
        late.get_key()
        _each_code_works_once(hosts, alice, phone)
    (new,) = office.keys().by_id()
    assert new != old
    assert set(office.ids().values()) == {new}
    assert (office.path / OLD_SEAL_KEY).stat().st_mode & 0o777 == 0o600


def test_host_without_the_new_key__denies_until_it_gets_it_and_a_late_one_is_mended(
    office: Office, hosts: list[Host], alice: Person, phone: Phone
) -> None:
    early, late = hosts
    office.rotate(PREPARED)
    early.get_key()  # the late one misses all files
    for stage in (SEALING, FINISHED):
        office.rotate(stage)
    assert late.log_in(alice, phone.hotp()) == (PAM_AUTH_ERR, "damaged_state")
    code = phone.hotp()
    assert early.log_in(alice, code) == (PAM_SUCCESS, "accepted")  # it seals with the old key still
    late.get_key()
    assert late.log_in(alice, phone.hotp()) == (PAM_AUTH_ERR, "damaged_state")
    early.get_key()
    said = office.rotate(FINISHED)
    assert f"these were sealed with the old key: {STATE}/{alice.name}." in said
    assert late.log_in(alice, code)[0] == PAM_AUTH_ERR
    assert late.log_in(alice, phone.hotp()) == (PAM_SUCCESS, "accepted")


# -- logins between reading and writing


class Interrupted(Etcd):
    """A connection before whose next writes something happens."""

    __slots__ = ()
    before: ClassVar[list[Callable[[], object]]] = []

    def swap(
        self, expected: dict[str, int], put: dict[str, bytes | None], read: list[str], *, deadline_s: float
    ) -> Swapped:
        if Interrupted.before:
            Interrupted.before.pop(0)()
        return super().swap(expected, put, read, deadline_s=deadline_s)


def _interrupted(office: Office, *before: Callable[[], object]) -> Cluster:
    cluster = office.custody.cluster()
    cluster.engine.__class__ = Interrupted
    Interrupted.before[:] = before
    return cluster


def test_login__between_the_reading_and_the_resealing_of_a_state_is_not_lost(
    office: Office, hosts: list[Host], alice: Person, phone: Phone
) -> None:
    early, late = hosts
    office.rotate(PREPARED)
    early.get_key()
    late.get_key()
    code, seen = phone.hotp(), []
    nothing: list[Callable[[], object]] = [lambda: None] * list(office.ids()).index(f"{STATE}/{alice.name}")
    cluster = _interrupted(office, *nothing, lambda: seen.append(late.log_in(alice, code)))
    with office.custody.locked():
        rotation.reseal(SCREEN, office.custody, cluster)
    assert seen == [(PAM_SUCCESS, "accepted")]
    assert set(office.ids().values()) == {office.realm().sealing_id}
    assert early.log_in(alice, code)[0] == PAM_AUTH_ERR
    assert early.log_in(alice, phone.hotp()) == (PAM_SUCCESS, "accepted")


@contextmanager
def prompt_open(host: Host, alice: Person, code: str, pam: Pam, cluster: EtcdCluster) -> Iterator[None]:
    """Keep a login that was asked for its code waiting for the length of a `with` block. Then it gets in."""
    reads_first = pam.service("nullok", f"fleet={cluster.address}", f"fleet_keys={host.keys}")
    with Waiting(reads_first, alice) as client:
        client.write_down(code)
        client.wait_for_prompt()
        yield
        client.release()
        assert client.outcome().result == PAM_SUCCESS


def test_resealing__between_the_prompt_and_the_verdict_denies_nobody(
    office: Office, hosts: list[Host], alice: Person, phone: Phone, pam: Pam, cluster: EtcdCluster
) -> None:
    early, late = hosts
    office.rotate(PREPARED)
    early.get_key()
    late.get_key()
    code = phone.hotp()
    with prompt_open(late, alice, code, pam, cluster):
        office.rotate(SEALING)
    early.get_key()
    assert early.log_in(alice, code)[0] == PAM_AUTH_ERR


@pytest.mark.parametrize("at", [0, 1], ids=["before the change", "after the first step"])
def test_prompt__that_stays_open_during_the_change_leaves_nothing_that_the_old_key_sealed(
    office: Office, hosts: list[Host], alice: Person, phone: Phone, pam: Pam, cluster: EtcdCluster, at: int
) -> None:
    """su waits for ever. Its host gets every file meanwhile, as all others do."""
    early, late = hosts
    stages = list(STEPS)
    for stage in stages[:at]:
        office.rotate(stage)
        late.get_key()
    code = phone.hotp()
    with prompt_open(late, alice, code, pam, cluster):
        for stage in stages[at:]:
            office.rotate(stage)
            late.get_key()
        early.get_key()
    assert set(office.ids().values()) == {office.realm().sealing_id}
    assert early.log_in(alice, code)[0] == PAM_AUTH_ERR
    assert early.log_in(alice, phone.hotp()) == (PAM_SUCCESS, "accepted")


def test_change_of_tokens__that_was_begun_before_is_sealed_with_the_new_key(
    office: Office, alice: Person, phone: Phone, cluster: EtcdCluster
) -> None:
    """An enrolment waits for a person, too."""
    config = Config(fleet=cluster.address, fleet_keys=str(office.path))
    editor = FleetEditor(Account(alice.name, alice.uid, alice.gid, home=str(alice.home)), config)
    assert editor.open_for_enrolment() is not None
    for stage in STEPS:
        office.rotate(stage)
    editor.change_state(lambda _, state: state, lambda: None, salvaging=True)
    editor.close()
    assert set(office.ids().values()) == {office.realm().sealing_id}


class LosesAnswers(Etcd):
    """A connection that loses the answer to a write, and sends it again. In between something happens."""

    __slots__ = ()
    between: ClassVar[list[Callable[[], object]]] = []

    def swap(
        self, expected: dict[str, int], put: dict[str, bytes | None], read: list[str], *, deadline_s: float
    ) -> Swapped:
        assert super().swap(expected, put, read, deadline_s=deadline_s).done
        LosesAnswers.between.pop()()
        return super().swap(expected, put, read, deadline_s=deadline_s)


def _engine_that_loses_answers(config: Config) -> tuple[Etcd, Realm]:
    engine, realm = engine_of(config)
    engine.__class__ = LosesAnswers
    assert isinstance(engine, Etcd)
    return engine, realm


def test_lost_answer__to_a_login_whose_tokens_were_resealed_since_is_still_a_success(
    office: Office, alice: Person, phone: Phone, cluster: EtcdCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tokens that were revoked meanwhile still deny."""
    monkeypatch.setattr(store, "engine_of", _engine_that_loses_answers)
    key = cluster.realm.key(TOKENS, alice.name)
    value = cluster.read(key).value
    assert value is not None
    text = cluster.realm.open(TOKENS, alice.name, value)
    config = Config(fleet=cluster.address, fleet_keys=str(office.path))
    for then, error in ((cluster.realm.seal(TOKENS, alice.name, text), None), (None, Revoked)):
        login = FleetStore(Account(alice.name, alice.uid, alice.gid, home=str(alice.home)), config)
        login.open()
        LosesAnswers.between.append(partial(cluster.put, key, then))
        login.lock(60)
        state = login.read_state()
        assert state is not None
        with nullcontext() if error is None else pytest.raises(error):
            login.write_state(state)
        login.close()


def test_finish__refuses_while_a_host_still_seals_with_the_old_key(
    office: Office, hosts: list[Host], alice: Person, phone: Phone
) -> None:
    early, late = hosts
    office.rotate(PREPARED)
    early.get_key()
    late.get_key()
    office.rotate(SEALING)
    early.get_key()
    before = (office.path / SEAL_KEY).read_bytes()

    class Busy(Cluster):
        reads = 0

        def entries(self) -> Iterator[tuple[str, Entry]]:
            Busy.reads += 1
            if Busy.reads == 3:  # between the resealing and the look at what is left
                assert late.log_in(alice, phone.hotp()) == (PAM_SUCCESS, "accepted")
            return super().entries()

    cluster = office.custody.cluster()
    with pytest.raises(AdministrationFailed) as caught:
        rotation.finish(SCREEN, office.custody, Busy(cluster.engine, cluster.realm))
    assert f"{STATE}/{alice.name}" in caught.value.message
    assert (office.path / SEAL_KEY).read_bytes() == before
    late.get_key()
    office.rotate(FINISHED)
    early.get_key()
    late.get_key()
    _each_code_works_once(hosts, alice, phone)


# -- what goes wrong


def _die_before(number: int, step: str, here: Custody) -> bool:
    """Run a step in another process, which is killed before it writes for the nth time. Return whether it was done."""
    child = os.fork()
    if not child:
        left = [number]

        def count() -> None:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)

        write, swap = Custody.write, Etcd.swap

        def counted_write(self: Custody, name: str, content: bytes) -> None:
            count()
            write(self, name, content)

        def counted_swap(self: Etcd, *words: object, **more: object) -> Swapped:
            count()
            return swap(self, *words, **more)  # type: ignore[arg-type]

        Custody.write, Etcd.swap = counted_write, counted_swap  # type: ignore[method-assign]
        status = 1
        try:
            rotation.run(SCREEN, here, step)
            status = 0
        finally:
            os._exit(status)
    status = os.waitpid(child, 0)[1]
    assert status in (0, signal.SIGKILL), status
    return status == 0


def _all_open(office: Office, texts: dict[str, bytes], *files: bytes) -> None:
    """Check that hosts with these files open everything, and that each opens what the others seal.

    Args:
        texts: what is sealed. Resealing changes nothing in it, such as the nonce of a state.
    """
    realms = []
    for data in files:
        keys = key_files.seal_keys_from(data, SEAL_KEY)
        assert keys.sealing is not None
        realms.append(Realm(REALM, keys.sealing, keys.others))
    for each in realms:
        assert office.texts(each) == texts
        for other in realms:
            each.open(FLOOR, "", other.seal(FLOOR, "", b"1"))


def test_step__that_is_killed_at_any_write_is_finished_by_running_it_again(
    office: Office, cluster: EtcdCluster, hosts: list[Host], alice: Person, phone: Phone
) -> None:
    new_host = office.path / "hosts" / "new"
    new_host.mkdir(parents=True)
    for each in (new_host, new_host.parent):
        each.chmod(0o700)
    cluster.put(cluster.realm.key(ENROL), cluster.realm.sealed_enrolment_hosts(["desk"]))
    for stage in STEPS:
        shutil.copy(office.path / SEAL_KEY, new_host / SEAL_KEY)
        cluster.set_floor(1)  # sealed with the old key
        files = {(office.path / SEAL_KEY).read_bytes()}
        texts, number = office.texts(office.realm()), 1
        while not _die_before(number, stage, office.custody):
            number += 1
            if stage != PREPARED:  # before, no host gets anything
                files.add((office.path / SEAL_KEY).read_bytes())
            _all_open(office, texts, *files)
        assert number >= 3
        written = (office.path / SEAL_KEY).read_bytes()
        _all_open(office, texts, written, *files)
        assert _die_before(100, stage, office.custody)
        assert (new_host / SEAL_KEY).read_bytes() == (office.path / SEAL_KEY).read_bytes() == written
    assert len(office.keys().by_id()) == 1
    assert set(office.ids().values()) == {office.realm().sealing_id}
    for host in hosts:
        host.get_key()
    _each_code_works_once(hosts, alice, phone)


def test_steps__are_refused_out_of_order_and_change_nothing(office: Office) -> None:
    wrong: dict[str, dict[tuple[str, ...], str]] = {
        "": {("--seal",): "no change of the seal key was begun", ("--finish",): "no change of the seal key was begun"},
        PREPARED: {("--finish",): "the new key does not seal yet"},
        SEALING: {(): "the new key seals already"},
        FINISHED: {("--seal",): "the last change of the seal key is finished"},
    }
    for stage, steps in wrong.items():
        if stage:
            office.rotate(stage)
        before = {path: path.read_bytes() for path in office.path.iterdir() if path.is_file()}
        for words, message in steps.items():
            error, hint = office.refused("rotate", *words)
            assert error == message
            assert hint.startswith("softtoken-admin fleet rotate")
        assert {path: path.read_bytes() for path in office.path.iterdir() if path.is_file()} == before
    with office.custody.locked():
        assert "another change of the keys is at work" in office.refused("rotate", "--finish")[0]
    assert office.refused("rotate", "--seal", "--finish", status=2)[0] == "either --seal or --finish"
    (office.path / OLD_SEAL_KEY).write_bytes(host_key.serialise(HostKeys(bytes(32))))
    office.rotate(PREPARED)
    (office.path / OLD_SEAL_KEY).unlink()
    assert "do not belong together" in office.refused("rotate", "--seal")[0]


def test_next_change__waits_until_nothing_has_the_key_from_before_the_last_one(
    office: Office, cluster: EtcdCluster
) -> None:
    for stage in STEPS:
        office.rotate(stage)
    cluster.set_floor(1)  # a late host
    error, hint = office.refused("rotate")
    assert error.endswith(f": {FLOOR}")
    assert "--finish" in hint
    office.rotate(FINISHED)
    office.rotate(PREPARED)


def test_values_that_no_key_opens__are_named_and_left_as_they_are(
    office: Office, cluster: EtcdCluster, alice: Person, phone: Phone
) -> None:
    key = cluster.realm.key(STATE, alice.name)
    good = cluster.read(key).value
    assert good is not None
    broken = {
        key: good[:-1] + bytes((good[-1] ^ 1,)),
        cluster.realm.key(STATE, "bob"): good,
        cluster.realm.key(TOKENS, "bob"): Realm(REALM, bytes(32)).seal(TOKENS, "bob", b"{}"),
        cluster.realm.key(TOKENS, "carol"): b"",
        cluster.realm.prefix("") + "else": cluster.realm.seal("else", "", b""),
    }
    for each, value in broken.items():
        cluster.put(each, value)
    for stage in STEPS:
        said = office.rotate(stage)
        if stage != PREPARED:
            line = next(line for line in said.splitlines() if line.startswith("No key here opens these"))
            names = {cluster.realm.prefix("") + name.strip(" .") for name in line.partition(":")[2].split(",")}
            assert names == set(broken)
    assert {each: cluster.read(each).value for each in broken} == broken


OF_NOBODY = (b"", b"\xff", b"a\nstate/b", b"a b", b"%zz", b"x" * 20_000)
"""Names of states that a host can make, and that are the names of no user."""
LARGE_B = 59_000


@pytest.mark.parametrize("what", ["names of nobody", "much at once"])
def test_host_that_was_broken_into__cannot_keep_the_others_from_the_change_or_from_a_backup(
    office: Office,
    hosts: list[Host],
    alice: Person,
    phone: Phone,
    cluster: EtcdCluster,
    outside: Path,
    what: str,
) -> None:
    """Each host may make states. The second one makes more of them than fit into an answer."""
    early, late = hosts
    start, file = cluster.realm.prefix(STATE).encode(), outside / "backup"
    names = OF_NOBODY if what == "names of nobody" else tuple(b"%d" % number for number in range(80))
    for name in names:
        cluster.make_as(late.keys, start + name, b"x" * (10 if names is OF_NOBODY else LARGE_B))
    office.run("status")
    for stage in STEPS:
        said = office.rotate(stage)
    assert said.isprintable() or "\n" in said
    values = [entry.value or b"" for _, entry in cluster.cluster.entries()]
    ids = [seal.key_id_of(value) for value in values if seal.MAGIC in value]
    assert ids == [office.realm().sealing_id] * 2
    office.run("export", str(file))
    cluster.empty()
    error, _ = office.refused("restore", str(file))
    assert error.startswith("not restored, because nobody can open what the backup has of them: ")
    early.get_key()
    cluster.put(cluster.realm.key(FLOOR), None)
    assert early.log_in(alice, phone.hotp()) == (PAM_SUCCESS, "accepted")


def test_host_that_keeps_changing_a_value__delays_only_that_one(
    office: Office, hosts: list[Host], alice: Person, phone: Phone, cluster: EtcdCluster
) -> None:
    """And a seal that names the old key, and is none, does not stop the next change."""
    key, old = cluster.realm.key(STATE, "aaron"), cluster.realm

    class Hasty(Etcd):
        __slots__ = ()

        def swap(
            self, expected: dict[str, int], put: dict[str, bytes | None], read: list[str], *, deadline_s: float
        ) -> Swapped:
            if key in put:
                cluster.put(key, old.seal(STATE, "aaron", b""))
            return super().swap(expected, put, read, deadline_s=deadline_s)

    office.rotate(PREPARED)
    for stage, step in ((SEALING, rotation.reseal), (FINISHED, rotation.finish)):
        cluster.put(key, old.seal(STATE, "aaron", b""))
        hasty = office.custody.cluster()
        hasty.engine.__class__ = Hasty
        with pytest.raises(AdministrationFailed) as caught:
            step(SCREEN, office.custody, hasty)
        assert f"{STATE}/aaron" in caught.value.message
        assert office.ids()[f"{TOKENS}/{alice.name}"] == office.realm().sealing_id
        office.rotate(stage)
    cluster.put(key, old.seal(STATE, "aaron", b"")[:-1])
    office.rotate(PREPARED)


@pytest.mark.parametrize("taken_after", [(), (PREPARED,), tuple(STEPS)], ids=lambda stages: f"{len(stages)} steps")
def test_copy_of_the_directory_from_before__changes_nothing(
    office: Office, phone: Phone, cluster: EtcdCluster, taken_after: tuple[str, ...]
) -> None:
    """The hosts have the only copies of the present key. Its files would replace them."""
    for stage in taken_after:
        office.rotate(stage)
    files = [office.path / name for name in (SEAL_KEY, OLD_SEAL_KEY)]
    copies = {file: file.read_bytes() for file in files if file.exists()}
    for stage in (*list(STEPS)[len(taken_after) % len(STEPS) :], *STEPS):
        office.rotate(stage)
    present = files[0].read_bytes()
    for file in files:
        file.unlink()
    for file, content in copies.items():
        file.write_bytes(content)
        file.chmod(0o600)
    step = {0: "", 1: "--seal", 3: "--finish"}[len(taken_after)]
    for words in {(), (step,)} - {("",)}:
        error, hint = office.refused("rotate", *words)
        assert "with a key that is not here" in error
        assert f"/etc/softtoken/fleet/{SEAL_KEY}" in hint
    assert {file: file.read_bytes() for file in files if file.exists()} == copies
    files[0].write_bytes(present)  # as the hint says
    files[1].unlink(missing_ok=True)
    for stage in STEPS:
        office.rotate(stage)
    assert set(office.ids().values()) == {office.realm().sealing_id}


STRANGE = "$(reboot)", "-x", "a;b", "\x1b[2J", "a\nscp x y"


def test_members_that_etcd_has_and_no_join_made__are_in_no_command(
    office: Office, hosts: list[Host], cluster: EtcdCluster
) -> None:
    """The administrator of etcd is not trusted with the seal key, and people run these commands as root."""
    for name in STRANGE:
        cluster.cluster.add_host(name, enrols=False)
    try:
        said = office.rotate(PREPARED)
        commands = [line for line in said.splitlines() if line.startswith("  scp")]
        assert commands
        assert not [line for line in commands for name in STRANGE if name in line]
        assert "\\x1b[2J" in said
        for text in (said, office.run("status")):
            assert "\x1b" not in text
            assert "\nscp x y" not in text
    finally:
        for name in STRANGE:
            cluster.ctl(cluster.nodes[0], "user", "delete", "--", user_of(REALM, name))


def test_commands_of_a_realm__go_on_during_the_change(
    office: Office, cluster: EtcdCluster, hosts: list[Host], alice: Person, phone: Phone, outside: Path
) -> None:
    old = cluster.realm.sealing_id
    assert "seal key" not in office.run("status")
    before = outside / "before"
    office.run("export", str(before))
    office.rotate(PREPARED)
    (new,) = {*office.keys().by_id()} - {old}
    shown = office.run("status")
    assert f"seal key   {old}: seals here, 2 values\n" in shown
    assert f"seal key   {new}: opens here, 0 values\n" in shown
    office.run("join", "early")
    assert (office.path / "hosts" / "early" / SEAL_KEY).read_bytes() == (office.path / SEAL_KEY).read_bytes()
    office.rotate(SEALING)
    assert (office.path / "hosts" / "early" / SEAL_KEY).read_bytes() == (office.path / SEAL_KEY).read_bytes()
    cluster.put(cluster.realm.key(TOKENS, alice.name), None)
    office.run("restore", str(before), "--force")
    assert f"seal key   {old}: opens here, 1 values\n" in office.run("status")
    office.rotate(FINISHED)
    assert "seal key" not in office.run("status")
    assert "cannot be used with the seal key" in office.refused("restore", str(before))[0]
    hosts[0].get_key()
    assert hosts[0].log_in(alice, phone.hotp()) == (PAM_SUCCESS, "accepted")
    cluster.set_floor(1)
    assert f"seal key   {old}: unknown here, 1 values\n" in office.run("status")
