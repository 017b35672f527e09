"""Share fixtures among the tests of the module, besides those for all tests."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.account import Person, Phone, resident_of
from tests.support.directory_service import DirectoryService
from tests.support.installation import Installation
from tests.support.oracle import Enrolments, Pair
from tests.support.pam_scene import NO_CODES, Backends, Clock, Pam
from tests.support.private_mounts import PrivateMounts
from tests.support.relay import RelayHost


@pytest.fixture
def backends(world: Path) -> Iterator[Backends]:
    """Return the factory for backends that misbehave."""
    parent = Path(tempfile.mkdtemp(prefix="backends-", dir=world))
    parent.chmod(0o755)
    yield Backends(parent)
    shutil.rmtree(parent)


@pytest.fixture
def phone(installed: Installation, alice: Person) -> Phone:
    """Alice's token. Its codes outlast every test."""
    return alice.enrol(installed, "--period=300", NO_CODES)


@pytest.fixture
def clock(world: Path, installed: Installation) -> Iterator[Clock]:
    """A clock that the test sets. Services use it through `clock.backend`."""
    parent = Path(tempfile.mkdtemp(prefix="clock-", dir=world))
    parent.chmod(0o755)
    yield Clock(parent / "clock", installed)
    shutil.rmtree(parent)


@pytest.fixture
def standing_clock(outside: Path, installed: Installation) -> Clock:
    """The same clock, for tests that do not measure when a refusal comes."""
    return Clock(outside / "clock", installed, patient=False)


@pytest.fixture(scope="module")
def google_records(world: Path, installed: Installation) -> Iterator[Enrolments]:
    """A user with a token of each kind, for the comparison with google-authenticator."""
    directory = Path(tempfile.mkdtemp(prefix="google-", dir=world))
    directory.chmod(0o755)
    with resident_of(directory / "homes") as person:
        yield Enrolments(directory, installed, person)
    shutil.rmtree(directory)


@pytest.fixture
def pair(outside: Path, pam: Pam, google_records: Enrolments, standing_clock: Clock) -> Pair:
    """Our module and google-authenticator's."""
    return Pair(outside, pam, google_records, standing_clock)


@pytest.fixture
def make_relay_host(world: Path, installed: Installation) -> Iterator[Callable[..., RelayHost]]:
    """Return a function that makes hosts on which programs without root ask root's service."""
    directory = Path(tempfile.mkdtemp(prefix="relay-", dir=world))
    directory.chmod(0o755)
    hosts: list[RelayHost] = []

    def make(of: Installation | None = None, *, bridge: Path | None = None) -> RelayHost:
        hosts.append(RelayHost(directory / f"host{len(hosts)}", of or installed, bridge=bridge))
        return hosts[-1]

    yield make
    for host in hosts:
        host.close()
    shutil.rmtree(directory)


@pytest.fixture
def relay_host(make_relay_host: Callable[..., RelayHost]) -> RelayHost:
    """Such a host with our own copy."""
    return make_relay_host()


@pytest.fixture
def directory(world: Path, installed: Installation) -> Iterator[DirectoryService]:
    """A host with a directory service."""
    place = Path(tempfile.mkdtemp(prefix="directory-", dir=world))
    place.chmod(0o755)
    mounts = PrivateMounts(place / "host")
    yield DirectoryService(mounts, installed)
    mounts.close()
    shutil.rmtree(place)
