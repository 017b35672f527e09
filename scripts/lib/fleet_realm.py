"""A realm on machines of `fleet_machines`: three nodes of etcd, a desk that administers it, and hosts. It is made as
softtoken-fleet(7) tells an administrator to, with the product's own commands and settings. Only ssh is left out: files
are copied.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from fleet_machines import WAIT_S, Machine, MachineError, Network

NODES = ("a.example", "b.example", "c.example")
PORT = 2379
_CUSTODY, _NODE_FILES, _HOST_FILES = "/etc/softtoken/fleet-admin", "/etc/softtoken-etcd", "/etc/softtoken/fleet"
_START = "set -a; . /etc/default/etcd; exec setpriv --reuid=etcd --regid=etcd --init-groups etcd >>/run/etcd.log 2>&1"


class Node:
    """A node of etcd on its own machine.

    Args:
        machine: the machine, with the node's files.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start etcd as Debian's service does, if it does not run."""
        if self._process is None:
            self._process = subprocess.Popen(self.machine.command("sh", "-euc", _START), stdin=subprocess.DEVNULL)

    def kill(self) -> None:
        """End etcd at once, as when the power fails."""
        if self._process is not None:
            self.machine.run("pkill", "-KILL", "-x", "etcd")
            self._process.wait(WAIT_S)
            self._process = None

    @property
    def is_running(self) -> bool:
        """Whether it was started."""
        return self._process is not None

    def log(self) -> str:
        """Return the end of what etcd has written."""
        path = self.machine.path("/run/etcd.log")
        return path.read_text(errors="replace")[-2000:] if path.exists() else ""


class FleetRealm:
    """A realm.

    Args:
        network: its nodes and its desk are added to it.
        product: the files of a login, in a place that only root can write.
        name: of the realm.

    Raises:
        MachineError: it cannot be set up.
    """

    def __init__(self, network: Network, product: Path, name: str = "office") -> None:
        self.name = name
        self.admin = product / "scripts" / "softtoken-admin"
        self.enroll = product / "scripts" / "softtoken-enroll"
        self._network = network
        self.address = f"etcd://{','.join(f'{node}:{PORT}' for node in NODES)}/{name}"
        self.nodes = [Node(network.add(each)) for each in NODES]
        self.desk = network.add("desk")
        self.said: list[str] = []
        """What the commands said, in order."""
        self._set_up()

    def _set_up(self) -> None:
        self.said.append(self.fleet("init", self.address))
        for node in self.nodes:
            target = node.machine.path(_NODE_FILES)
            shutil.copytree(self.desk.path(f"{_CUSTODY}/nodes/{node.machine.name}"), target)
            shutil.copy2(target / "etcd", node.machine.path("/etc/default/etcd"))
            node.machine.run("chown", "-R", "etcd", _NODE_FILES, "/var/lib/etcd")
            node.start()
        deadline_s = time.monotonic() + WAIT_S
        while "is ready" not in (said := self.fleet("init", self.address)):
            if time.monotonic() > deadline_s:
                raise MachineError(f"the nodes do not answer:\n{said}\n{self.nodes[0].log()}")
        self.said.append(said)

    def fleet(self, *words: str) -> str:
        """Run `softtoken-admin fleet` at the desk, and return what it said.

        The nodes may share a busy machine with much other work, and then answer late. So a command is run again, as its
        hint says.

        Raises:
            MachineError: it failed.
        """
        deadline_s = time.monotonic() + WAIT_S
        while True:
            try:
                return self.desk.run(self.admin, "fleet", *words)
            except MachineError as error:
                if "timed out" not in str(error) or time.monotonic() > deadline_s:
                    raise

    def join(self, host: Machine, *settings: str, enrols: bool = False) -> str:
        """Add a machine to the realm as a host, and return what the command said.

        Args:
            host: the machine.
            settings: more lines of its softtoken.conf.
            enrols: users are enrolled there.
        """
        said = self.fleet("join", host.name, *(["--enrol"] if enrols else []))
        given, target = self.desk.path(f"{_CUSTODY}/hosts/{host.name}"), host.path(_HOST_FILES)
        target.parent.mkdir(mode=0o755, exist_ok=True)
        shutil.copytree(given, target)
        os.chmod(target, 0o700)
        host.write("/etc/security/softtoken.conf", "\n".join((f"fleet = {self.address}", *settings, "")))
        return said

    def leader(self) -> Node:
        """Return the node that leads, as the nodes say themselves.

        Raises:
            MachineError: none does.
        """
        deadline_s = time.monotonic() + WAIT_S
        while True:
            for node in self.nodes:
                if node.is_running:
                    fields = self.status_of(node)
                    if fields.get("Leader", "0") == fields.get("MemberID"):
                        return node
            if time.monotonic() > deadline_s:
                raise MachineError("no node leads")
            time.sleep(0.1)

    def status_of(self, node: Node) -> dict[str, str]:
        """Return what etcdctl shows of one node; empty if the node does not answer."""
        try:
            shown = self.etcdctl("endpoint", "status", "--write-out=fields", node=node)
        except MachineError:
            return {}
        pairs = (line.split(" : ", 1) for line in shown.splitlines() if " : " in line)
        return {name.strip('"'): value.strip('"') for name, value in pairs}

    def etcdctl(self, *words: str, node: Node | None = None, host: Machine | None = None) -> str:
        """Run etcdctl at the desk, with the administrator's keys, or on a host with the host's.

        Args:
            words: its command line.
            node: the only one to ask.
            host: the host.

        Raises:
            MachineError: it failed.
        """
        endpoints = [node] if node is not None else self.nodes
        places = ",".join(f"https://{each.machine.name}:{PORT}" for each in endpoints)
        files = _HOST_FILES if host is not None else _CUSTODY
        keys = (f"--cacert={files}/ca.crt", f"--cert={files}/host.crt", f"--key={files}/host.key")
        return (host or self.desk).run("env", "ETCDCTL_API=3", "etcdctl", f"--endpoints={places}", *keys, *words)

    def wait_until_answering(self) -> None:
        """Wait until the nodes agree on a leader again.

        Raises:
            MachineError: they do not.
        """
        deadline_s = time.monotonic() + WAIT_S
        while True:
            try:
                self.desk.run(self.admin, "fleet", "status")
                return
            except MachineError:
                if time.monotonic() > deadline_s:
                    raise
