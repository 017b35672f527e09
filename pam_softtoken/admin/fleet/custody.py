"""The directory in which root of one machine keeps what administers a realm: its authority, the administrator's keys,
and the files for nodes and hosts. It is all that is needed to control the realm.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from pam_softtoken import option_table, option_values
from pam_softtoken.account import replace, safe_open
from pam_softtoken.admin.fleet.authority import Pair
from pam_softtoken.admin.fleet.cluster import Cluster
from pam_softtoken.config import Config
from pam_softtoken.errors import FleetDown, LockTimeout, PathError
from pam_softtoken.fleet import key_files
from pam_softtoken.fleet.etcd import Etcd
from pam_softtoken.fleet.store import engine_of
from pam_softtoken.program_errors import AdministrationFailed

DIRECTORY = "/etc/softtoken/fleet-admin"
ADDRESS, AUTHORITY_KEY = "address", "ca.key"
NODES, HOSTS = "nodes", "hosts"
NODE_CERTIFICATE, NODE_KEY, NODE_SETTINGS = "node.crt", "node.key", "etcd"
PEER_AUTHORITY, PEER_AUTHORITY_KEY = "peer-ca.crt", "peer-ca.key"
PEER_CERTIFICATE, PEER_KEY = "peer.crt", "peer.key"
"""For what the nodes say to each other. etcd checks no rights there, so the certificate of a host must not count."""
_MAX_BYTES = 64 * 1024


class Custody:
    """Such a directory.

    Args:
        path: absolute.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def read(self, name: str) -> bytes | None:
        """Return a file of the directory; None if it is missing.

        Raises:
            AdministrationFailed: it cannot be read, or others could have written it.
        """
        try:
            below = safe_open.open_directory(os.path.dirname(f"{self.path}/{name}"), below=None, owner=0)
        except FileNotFoundError:
            return None
        except PathError as error:
            raise _failed(error) from None
        try:
            descriptor = safe_open.open_file(f"{self.path}/{name}", os.O_RDONLY, below=below, owner=0)
        except FileNotFoundError:
            return None
        except PathError as error:
            raise _failed(error) from None
        finally:
            os.close(below)
        try:
            return safe_open.read(descriptor, _MAX_BYTES, path=f"{self.path}/{name}")
        except PathError as error:
            raise _failed(error) from None
        finally:
            os.close(descriptor)

    def write(self, name: str, content: bytes) -> None:
        """Write a file that only root can read, and the directories above it.

        Raises:
            AdministrationFailed: it is not written.
        """
        write(f"{self.path}/{name}", content)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock that only one change of the files can have.

        Raises:
            AdministrationFailed: another process has it, or there is no such directory.
        """
        try:
            directory = safe_open.open_directory(self.path, below=None, owner=0)
        except (PathError, FileNotFoundError) as error:
            raise AdministrationFailed(str(error), hint="--keys names what administers the realm") from None
        try:
            safe_open.lock(directory, 0.0, path=self.path)
            yield
        except LockTimeout as error:
            if error.path != self.path:
                raise
            raise AdministrationFailed(
                "another change of the keys is at work; nothing was changed", hint="start again when it is done"
            ) from None
        finally:
            os.close(directory)

    def address(self) -> str:
        """Return the address of the realm.

        Raises:
            AdministrationFailed: there is no realm here.
        """
        address = self.read(ADDRESS)
        if address is None:
            raise AdministrationFailed(
                f"{self.path}: no realm was set up here",
                hint="softtoken-admin fleet init etcd://a.example:2379,b.example:2379,c.example:2379/office",
            )
        return address.decode("ascii", "replace").strip()

    def authority(self) -> Pair:
        """Return the authority of the realm, for its hosts and for the nodes as servers.

        Raises:
            AdministrationFailed: it is not here.
        """
        return self._pair(key_files.AUTHORITY, AUTHORITY_KEY)

    def peer_authority(self) -> Pair:
        """Return the authority for what the nodes say to each other.

        Raises:
            AdministrationFailed: it is not here.
        """
        return self._pair(PEER_AUTHORITY, PEER_AUTHORITY_KEY)

    def _pair(self, certificate_name: str, key_name: str) -> Pair:
        certificate, key = self.read(certificate_name), self.read(key_name)
        if certificate is None or key is None:
            raise AdministrationFailed(
                f"{self.path}: the authority of the realm is not here",
                hint="run this on the machine on which the realm was set up, or restore this directory from its backup",
            )
        return Pair(certificate, key)

    def cluster(self) -> Cluster:
        """Return the cluster, as its administrator. Nothing is connected yet.

        Raises:
            AdministrationFailed: the keys are not in order.
        """
        return cluster_of(self.address(), self.path)


def cluster_of(address: str, keys: str) -> Cluster:
    """Return a cluster, as the member with these keys.

    Raises:
        AdministrationFailed: the keys are not in order.
    """
    try:
        engine, realm = engine_of(Config(fleet=address, fleet_keys=keys))
    except (PathError, FleetDown) as error:
        raise AdministrationFailed(str(error), hint="softtoken-admin fleet join makes the keys of a host") from None
    assert isinstance(engine, Etcd)  # noqa: S101 - there is no other
    return Cluster(engine, realm)


def choose(given: str | None, settings: Config) -> Cluster:
    """Return the cluster as the administrator if this machine has the administrator's keys, or else as this host.

    Raises:
        AdministrationFailed: this machine has neither.
    """
    directory = given or DIRECTORY
    if given or Path(directory, ADDRESS).exists():
        return Custody(directory).cluster()
    if not settings.fleet:
        raise AdministrationFailed(
            "this host is in no realm", hint=f"fleet= in {option_table.DEFAULT_CONF} names one, see softtoken-fleet(7)"
        )
    return cluster_of(settings.fleet, settings.fleet_keys)


def of_host(settings: Config) -> Cluster:
    """Return the cluster of the realm whose tokens count on this host: as its administrator if this machine administers
    that one, or else as this host.

    Raises:
        AdministrationFailed: the keys are not in order.
    """
    here = Custody(DIRECTORY)
    if Path(DIRECTORY, ADDRESS).exists() and _realm_of(here.address()) == _realm_of(settings.fleet):
        return here.cluster()
    return cluster_of(settings.fleet, settings.fleet_keys)


def _realm_of(address: str) -> str:
    try:
        return option_values.fleet_parts(address)[1]
    except ValueError:
        return ""


def write(path: str, content: bytes) -> None:
    """Write a file of root's, and make the directories above it, each for root alone.

    Raises:
        AdministrationFailed: it is not written.
    """
    try:
        parts = path.split("/")
        for end in range(2, len(parts)):
            safe_open.make_directory("/".join(parts[:end]), below=None, made=[])
        replace.write_for_root(path, content, mode=0o600)
    except PathError as error:
        raise _failed(error) from None


def _failed(error: PathError) -> AdministrationFailed:
    return AdministrationFailed(str(error), hint="correct it, and run the same command again")
