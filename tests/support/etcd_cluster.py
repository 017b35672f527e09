"""Real nodes of etcd on this machine, with TLS and rights, and realms in it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pam_softtoken.account import host_key, seal
from pam_softtoken.account.host_key import HostKeys
from pam_softtoken.account.state import State
from pam_softtoken.account.state_format import decode
from pam_softtoken.account.token_file import TokenFile, parse, serialise
from pam_softtoken.admin.fleet import authority
from pam_softtoken.admin.fleet.cluster import ADMINISTRATOR, Cluster
from pam_softtoken.config import Config
from pam_softtoken.fleet import etcd_messages, key_files
from pam_softtoken.fleet.engine import EngineDown, Entry, Swapped
from pam_softtoken.fleet.etcd import TRANSACTION, Etcd
from pam_softtoken.fleet.realm import FLOOR, STATE, TOKENS, Realm
from pam_softtoken.fleet.store import engine_of
from tests.support.account import REALM, Person

HOST = "127.0.0.1"
PATIENCE_S = 60.0


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


class Node:
    """One node of the cluster.

    Args:
        directory: for its data and its log.
        number: of the node.
    """

    def __init__(self, directory: Path, number: int) -> None:
        self.name = f"n{number}"
        self.directory = directory / self.name
        self.directory.mkdir()
        self.port, self.peer_port = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, members: str, keys: Path) -> None:
        """Start the node, or start it again with the data that it had."""
        command = [
            "etcd", f"--name={self.name}", f"--data-dir={self.directory}/data",
            f"--listen-client-urls=https://{HOST}:{self.port}",
            f"--advertise-client-urls=https://{HOST}:{self.port}",
            f"--listen-peer-urls=https://{HOST}:{self.peer_port}",
            f"--initial-advertise-peer-urls=https://{HOST}:{self.peer_port}",
            f"--initial-cluster={members}", "--initial-cluster-state=new",
            "--client-cert-auth", f"--trusted-ca-file={keys}/ca.crt",
            f"--cert-file={keys}/node.crt", f"--key-file={keys}/node.key",
            "--peer-client-cert-auth", f"--peer-trusted-ca-file={keys}/ca.crt",
            f"--peer-cert-file={keys}/node.crt", f"--peer-key-file={keys}/node.key",
            "--heartbeat-interval=50", "--election-timeout=500", "--log-outputs=stderr", "--logger=zap",
            "--unsafe-no-fsync" if _knows_no_fsync() else "--snapshot-count=10000",
        ]  # fmt: skip
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.directory)

    def start_as_set_up(self, settings: Path, keys: Path) -> None:
        """Start the node with the settings that `fleet init` has written for it, apart from paths and ports."""
        environment = {"PATH": os.environ["PATH"]}
        for line in settings.read_text().splitlines():
            name, _, value = line.partition("=")
            value = value.strip('"').replace("/etc/softtoken-etcd", str(keys)).replace("[::]", HOST)
            environment[name] = value.replace(":2380", f":{self.peer_port}")
        environment["ETCD_DATA_DIR"] = f"{self.directory}/data"
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(["etcd"], env=environment, stdout=log, stderr=log, cwd=self.directory)

    def send(self, number: int) -> None:
        """Send the node a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def kill(self) -> None:
        """End the node at once."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def is_running(self) -> bool:
        return self._process is not None


def _knows_no_fsync() -> bool:
    return "unsafe-no-fsync" in subprocess.run(["etcd", "--help"], capture_output=True, text=True, check=False).stdout


class EtcdCluster:
    """A cluster with one realm. Its directory is root's.

    Args:
        directory: a new one.
        nodes: their number.
    """

    def __init__(self, directory: Path, *, nodes: int = 3) -> None:
        self.directory = directory
        self.authority = authority.new_authority(REALM)
        self.seal_key = os.urandom(seal.KEY_BYTES)
        self.realm = Realm(REALM, self.seal_key)
        self._keys = directory / "keys"
        self._keys.mkdir(mode=0o700)
        pair = authority.certify_node(self.authority, (HOST, "localhost"))
        for name, content in (
            ("ca.crt", self.authority.certificate),
            ("node.crt", pair.certificate),
            ("node.key", pair.key),
        ):
            (self._keys / name).write_bytes(content)
        self.nodes = [Node(directory, number) for number in range(nodes)]
        self._members = ",".join(f"{node.name}=https://{HOST}:{node.peer_port}" for node in self.nodes)
        self.start()
        self.root_keys = self.member("root", user=ADMINISTRATOR)
        self._engine: Etcd | None = None
        self._wait_until_answering()
        self.cluster.set_up()

    def start(self) -> None:
        """Start all nodes that do not run."""
        for node in self.nodes:
            if not node.is_running:
                node.start(self._members, self._keys)

    def close(self) -> None:
        for node in self.nodes:
            node.kill()

    @property
    def address(self) -> str:
        """The `fleet` option."""
        return f"etcd://{','.join(f'{HOST}:{node.port}' for node in self.nodes)}/{REALM}"

    def member(self, name: str, *, user: str = "", certifier: authority.Pair | None = None, days: int = 100) -> Path:
        """Create the keys of a member in a directory, and return that."""
        pair = authority.certify_member(certifier or self.authority, user or name, days=days)
        directory = self.directory / "members" / name
        directory.mkdir(parents=True, mode=0o700)
        for each, content in (
            (key_files.AUTHORITY, self.authority.certificate),
            (key_files.CERTIFICATE, pair.certificate),
            (key_files.KEY, pair.key),
            (key_files.SEAL_KEY, host_key.serialise(HostKeys(self.seal_key))),
        ):
            (directory / each).write_bytes(content)
            (directory / each).chmod(0o600)
        return directory

    def host(self, name: str, *, enrols: bool = False) -> Path:
        """Create a host a member of the realm, and return the directory of its keys."""
        return self.member(name, user=self.cluster.add_host(name, enrols=enrols))

    @property
    def cluster(self) -> Cluster:
        """The cluster, as its administrator."""
        return Cluster(self.engine(), self.realm)

    def engine(self, keys: Path | None = None) -> Etcd:
        """Connect with the keys of a member, or the administrator's."""
        config = Config(fleet=self.address, fleet_keys=str(keys or self.root_keys))
        engine, _ = engine_of(config)
        assert isinstance(engine, Etcd)
        return engine

    def read(self, key: str) -> Entry:
        return self.engine().read([key], deadline_s=time.monotonic() + PATIENCE_S)[0]

    def put(self, key: str, value: bytes | None) -> None:
        """Write a key as the administrator, whatever is there; None deletes it."""
        engine = self.engine()
        while True:
            entry = engine.read([key], deadline_s=time.monotonic() + PATIENCE_S)[0]
            expected = {key: entry.revision}
            if engine.swap(expected, {key: value}, [key], deadline_s=time.monotonic() + PATIENCE_S).done:
                break
        engine.close()

    def make_as(self, keys: Path, key: bytes, value: bytes) -> None:
        """Create a key of any name as a member, which may be root of a host that was broken into."""
        engine = self.engine(keys)
        request = etcd_messages.transaction({key: 0}, {key: value}, [])
        answer = engine.call(TRANSACTION, request, deadline_s=time.monotonic() + PATIENCE_S)
        assert etcd_messages.read_transaction(answer, [])[0], "there is such a key"
        engine.close()

    def empty(self) -> None:
        """Remove everything of the realm."""
        self.ctl(self.nodes[0], "del", "--prefix", self.realm.prefix(""))

    def enrol(self, user: str, content: TokenFile, state: State | None) -> None:
        """Write a user's tokens and state."""
        self.put(self.realm.key(TOKENS, user), self.realm.seal(TOKENS, user, serialise(content)))
        value = None if state is None else self.realm.sealed_state(user, state, os.urandom(16), frozenset())
        if value is not None or self.read(self.realm.key(STATE, user)).value is not None:
            self.put(self.realm.key(STATE, user), value)

    def take_over(self, person: Person) -> None:
        """Move what a person has enrolled on this machine into the realm."""
        content = parse((person.store / "tokens").read_bytes(), path="tokens")
        state = decode((person.store / "state").read_bytes(), path="state")[1]
        self.enrol(person.name, content, state)
        shutil.rmtree(person.store)

    def state_of(self, user: str) -> State | None:
        value = self.read(self.realm.key(STATE, user)).value
        return None if value is None else self.realm.open_state(user, value)[1]

    def set_floor(self, seconds: int) -> None:
        self.put(self.realm.key(FLOOR), self.realm.sealed_floor(seconds))

    def leader(self) -> Node:
        """Return the node that leads, as the nodes say themselves."""
        for node in self.nodes:
            if node.is_running:
                words = self.ctl(node, "endpoint", "status", "--write-out=fields").splitlines()
                fields = dict(line.split(" : ") for line in words if " : " in line)
                if fields.get('"Leader"') == fields.get('"MemberID"'):
                    return node
        raise AssertionError("no node leads")

    def ctl(self, node: Node, *words: str) -> str:
        """Run etcdctl as the administrator."""
        command = [
            "etcdctl", f"--endpoints=https://{HOST}:{node.port}", f"--cacert={self.root_keys}/{key_files.AUTHORITY}",
            f"--cert={self.root_keys}/{key_files.CERTIFICATE}", f"--key={self.root_keys}/{key_files.KEY}", *words,
        ]  # fmt: skip
        environment = {**os.environ, "ETCDCTL_API": "3"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
        return done.stdout + done.stderr

    def wait_until_healthy(self) -> None:
        """Wait until the cluster answers again."""
        self._wait_until_answering()

    def _wait_until_answering(self) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        engine = self.engine()
        while True:
            try:
                engine.read([self.realm.key(FLOOR)], deadline_s=time.monotonic() + 2)
            except EngineDown:
                assert time.monotonic() < deadline_s, "the cluster does not answer"
            else:
                engine.close()
                return


class HastyOthers:
    """Others, such as a host that was broken into, who change a key just before each of our own changes of it.

    Args:
        cluster: has the key.
        key: which one.
        value: returns what they write.
        times: how often they do so.
    """

    def __init__(self, cluster: EtcdCluster, key: str, value: Callable[[], bytes], *, times: int = sys.maxsize) -> None:
        self._own, self._key, self._value, self._left = cluster, key, value, times

    def cluster(self) -> Cluster:
        """Return the cluster as its administrator sees it meanwhile."""
        others = self

        class Late(Etcd):
            __slots__ = ()

            def swap(
                self, expected: dict[str, int], put: dict[str, bytes | None], read: list[str], *, deadline_s: float
            ) -> Swapped:
                others.come_first(put)
                return super().swap(expected, put, read, deadline_s=deadline_s)

        engine = self._own.engine()
        engine.__class__ = Late
        return Cluster(engine, self._own.realm)

    def come_first(self, put: dict[str, bytes | None]) -> None:
        """Change the key, if it is one of those."""
        if self._key in put and self._left:
            self._left -= 1
            self._own.put(self._key, self._value())


@contextlib.contextmanager
def cluster_of(nodes: int) -> Iterator[EtcdCluster]:
    """Run a cluster for the length of a `with` block, and leave nothing behind. Without root, skip the test."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes users and PAM services")
    parent = Path(tempfile.mkdtemp(prefix="softtoken-fleet-"))
    directory = parent / "etcd"
    directory.mkdir(mode=0o700)
    cluster = None
    try:
        cluster = EtcdCluster(directory, nodes=nodes)
        yield cluster
    finally:
        if cluster is not None:
            cluster.close()
        shutil.rmtree(directory)
        parent.rmdir()
