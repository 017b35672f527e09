"""A host of a realm as its administrator and its users see it: the programs, with a softtoken.conf of its own."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.account import Person, Phone
from tests.support.admin import Admin, succeeded
from tests.support.client import Service
from tests.support.enroller import ENVIRONMENT, Dialogue, Enroller, Finished
from tests.support.etcd_cluster import EtcdCluster
from tests.support.installation import Installation
from tests.support.pam_scene import Pam

_INSIDE = 'mount --bind "$1" /etc/security; shift; exec "$@"'


class FleetHost:
    """One host.

    Args:
        directory: an existing one of root's, for the host's settings and its own tokens.
        cluster: the realm's.
        keys: the keys of the host.
        installed: the programs.
        alone: the host has a store of its own.
    """

    def __init__(
        self, directory: Path, cluster: EtcdCluster, keys: Path, installed: Installation, *, alone: bool = False
    ) -> None:
        self.directory = directory / keys.name
        (self.directory / "security").mkdir(parents=True)
        (self.directory / "alone").mkdir(mode=0o700)
        self.options = [f"fleet={cluster.address}", f"fleet_keys={keys}"]
        if alone:
            self.options.append(f"fleet_alone={self.directory}/alone/%U")
        self.set_conf("")
        inside = ("unshare", "--mount", "--propagation=private", "sh", "-euc", _INSIDE, "sh", self.security)
        self.enroller = Enroller(installed.enroll).after(*inside)
        self.admin = Admin(installed).after(*inside)

    @property
    def security(self) -> Path:
        """What the host has as /etc/security."""
        return self.directory / "security"

    def set_conf(self, more: str) -> None:
        """Write the host's softtoken.conf."""
        (self.security / "softtoken.conf").write_text("\n".join([*self.options, more]))

    def service(self, pam: Pam, *options: str) -> Service:
        """Return a PAM service of the host."""
        return pam.service(*self.options, *options)

    def enrol(self, person: Person, *options: str) -> Phone:
        """Enrol a user as root, without questions."""
        new = ("--user", person.name, "--no-confirm", "--json", "--period=300", *options)
        return Phone(json.loads(succeeded(self.enroller.run(*new))))

    def by_user(self, person: Person, *options: str) -> Finished:
        """Run `softtoken-enroll` as sudo starts it for a user, with pipes."""
        return self.enroller.run("--self", *options, environment=_through_sudo(person))

    def talk_to_user(self, person: Person, *options: str) -> Dialogue:
        """Run `softtoken-enroll` as sudo starts it for a user, in a terminal."""
        return self.enroller.start("--self", *options, environment=_through_sudo(person))


def _through_sudo(person: Person) -> dict[str, str]:
    return {**ENVIRONMENT, "SUDO_UID": str(person.uid), "SUDO_USER": person.name}
