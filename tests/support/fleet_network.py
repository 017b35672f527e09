"""A realm on a network whose cables tests cut. See `scripts/lib/fleet_machines.py`."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.account import Person, Phone
from tests.support.client import Outcome, Service
from tests.support.installation import TREE, Installation
from tests.support.leak import keep_answer
from tests.support.pam_waiting import Waiting

sys.path.insert(0, str(TREE / "scripts" / "lib"))
from fleet_machines import Machine, MachineError, Network
from fleet_realm import FleetRealm

__all__ = ["FleetHost", "Machine", "MachineError", "Office", "needs_networks", "network_with_a_realm"]
_TRIAL = ("unshare", "--net", "sh", "-ec", "ip link add whole type bridge; ip link add one type veth peer name two")
_ACCOUNTS = ("passwd", "group", "shadow")


class FleetHost:
    """A host of a realm.

    Args:
        machine: the machine, with the realm in its softtoken.conf.
    """

    def __init__(self, machine: Machine) -> None:
        self.machine = machine

    def log_in(self, service: Service, person: Person, code: str) -> tuple[int, str]:
        """Log in there. Return the result of PAM, and the reason that the host has logged."""
        self.machine.log.take()
        keep_answer(code)
        command = self.machine.command(*service.command(person))
        done = subprocess.run(command, input=f"={code}\n", capture_output=True, text=True, check=True, timeout=300)
        return Outcome(done.stdout).result, self.reason()

    def waiting(self, service: Service, person: Person) -> Waiting:
        """Start a login there that waits at its prompt."""
        self.machine.log.take()
        return Waiting(service, person, around=self.machine.command())

    def reason(self) -> str:
        """Return the reason of the only login that was logged since the last one."""
        (line,) = [each for each in self.machine.log.take() if " result=" in each]
        return line.partition(" reason=")[2].split()[0]


class Office:
    """A network with a realm and two hosts.

    Args:
        directory: a new one that everybody can enter.
        installed: the product.
    """

    def __init__(self, directory: Path, installed: Installation) -> None:
        self.network = Network(directory)
        try:
            self.realm = FleetRealm(self.network, installed.root)
            self.left, self.right = self.host("left"), self.host("right")
        except MachineError:
            self.network.close()
            raise
        self._installed = installed

    def host(self, name: str) -> FleetHost:
        """Add a host to the realm."""
        machine = self.network.add(name)
        self.realm.join(machine)
        return FleetHost(machine)

    def _know_the_users(self) -> None:
        """Write the accounts of this machine to all others."""
        for machine in self.network.machines:
            for name in _ACCOUNTS:
                shutil.copyfile(f"/etc/{name}", machine.path(f"/etc/{name}"))

    def enrol(self, person: Person, *options: str) -> Phone:
        """Enrol a user, and move that into the realm. `options` are those of the import."""
        self._know_the_users()
        phone = person.enrol(self._installed, "--period=300", "--recovery-codes=2")
        self.realm.fleet("import", person.name, *options)
        person.forget()
        return phone

    def heal(self) -> None:
        """Connect all machines again, and wait until the nodes agree."""
        self.network.heal()
        for node in self.realm.nodes:
            node.start()
        self.realm.wait_until_answering()


def needs_networks() -> pytest.MarkDecorator:
    """Return a mark that leaves a test out where no networks of namespaces can be made, as in many containers."""
    possible = shutil.which("ip") and subprocess.run(_TRIAL, check=False, capture_output=True).returncode == 0
    return pytest.mark.skipif(not possible, reason="needs CAP_NET_ADMIN, for networks of namespaces")


@contextmanager
def network_with_a_realm(installed: Installation) -> Iterator[Office]:
    """Run such a network for the length of a `with` block, and leave nothing behind."""
    directory = Path(tempfile.mkdtemp(prefix="softtoken-office-"))
    directory.chmod(0o755)
    try:
        office = Office(directory, installed)
        try:
            yield office
        finally:
            office.network.close()
    finally:
        shutil.rmtree(directory)
