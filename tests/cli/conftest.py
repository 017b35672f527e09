"""Share fixtures among the tests of the programs: the program, full file systems, directories owned by root."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pam_softtoken.fleet.realm import FLOOR, STATE, TOKENS
from tests.support.account import Person, resident_of
from tests.support.client import Service
from tests.support.disk import disk_as_home
from tests.support.enroller import ENVIRONMENT, Enroller
from tests.support.etcd_cluster import EtcdCluster, cluster_of
from tests.support.fleet_host import FleetHost
from tests.support.installation import Installation
from tests.support.pam_scene import Pam


@pytest.fixture
def enroller(installed: Installation) -> Enroller:
    """The installed `softtoken-enroll`."""
    return Enroller(installed.enroll)


@pytest.fixture(scope="session")
def resident(world: Path) -> Iterator[Person]:
    """The one user of all tests here."""
    with resident_of(world / "homes-cli") as person:
        yield person


@pytest.fixture
def alice(resident: Person) -> Person:
    """A user without an enrolment. Their home directory is made as for any new user."""
    home = resident.home
    resident.forget_on_the_host()
    for entry in home.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()
    shutil.copytree("/etc/skel", home, dirs_exist_ok=True)
    for path in [home, *home.iterdir()]:
        os.chown(path, resident.uid, resident.gid)
    home.chmod(0o755)
    return resident


@pytest.fixture
def small_home(alice: Person) -> Iterator[Path]:
    """Alice's home as a file system of its own, with 256 KiB and 64 files."""
    with disk_as_home(alice, "size=256k,nr_inodes=64"):
        yield alice.home


@pytest.fixture(scope="session")
def locales(world: Path) -> dict[str, dict[str, str]]:
    """Environments for terminals that are not set to `C.UTF-8`: `latin` and `utf8`."""
    made: dict[str, dict[str, str]] = {}
    for name, charmap in (("latin", "ISO-8859-1"), ("utf8", "UTF-8")):
        locale = f"en_US.{charmap}"
        command = ["localedef", "-i", "en_US", "-f", charmap, str(world / locale)]
        try:
            subprocess.run(command, check=True, capture_output=True, timeout=60)
        except (FileNotFoundError, subprocess.CalledProcessError):
            pytest.skip("needs the locales package, to make a locale that is not UTF-8")
        made[name] = {**ENVIRONMENT, "LOCPATH": str(world), "LC_ALL": locale}
    return made


@pytest.fixture(scope="module")
def cluster() -> Iterator[EtcdCluster]:
    """A realm on one node."""
    with cluster_of(1) as made:
        yield made


@pytest.fixture
def empty_realm(cluster: EtcdCluster, alice: Person) -> None:
    """A realm that does not know Alice, and has no floor."""
    for kind in (TOKENS, STATE):
        cluster.put(cluster.realm.key(kind, alice.name), None)
    cluster.put(cluster.realm.key(FLOOR), None)


@pytest.fixture(scope="module")
def member_keys(cluster: EtcdCluster) -> dict[str, Path]:
    """The keys of a host that may write tokens, and of one that may not."""
    return {name: cluster.host(name, enrols=name == "desk") for name in ("desk", "web")}


@pytest.fixture
def desk(outside: Path, cluster: EtcdCluster, member_keys: dict[str, Path], installed: Installation) -> FleetHost:
    """A host that may write tokens, with a store of its own."""
    return FleetHost(outside, cluster, member_keys["desk"], installed, alone=True)


@pytest.fixture
def web(outside: Path, cluster: EtcdCluster, member_keys: dict[str, Path], installed: Installation) -> FleetHost:
    """A host that may not."""
    return FleetHost(outside, cluster, member_keys["web"], installed)


@pytest.fixture
def login(web: FleetHost, pam: Pam) -> Service:
    """A login to that host."""
    return web.service(pam)
