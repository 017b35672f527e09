"""Programs without root ask root's service: what it serves, and each of its rules, with a broken copy for each."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.account import Person
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS
from tests.support.installation import Installation
from tests.support.pam_scene import PROMPT
from tests.support.relay import RelayHost


@pytest.fixture
def make_host(world: Path, installed: Installation) -> Iterator[Callable[..., RelayHost]]:
    """Return a function that makes such hosts."""
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
def host(make_host: Callable[..., RelayHost]) -> RelayHost:
    """A host with our own copy."""
    return make_host()


def test_caller__is_judged_by_the_tokens_that_only_root_can_read(host: RelayHost, alice: Person) -> None:
    phone = host.enrol(alice, "--type=hotp")
    code = phone.hotp()
    outcome = host.ask(alice, alice, code)
    assert (outcome.result, outcome.messages) == (PAM_SUCCESS, PROMPT)
    assert host.ask(alice, alice, code).result == PAM_AUTH_ERR
    assert host.root_asks(alice, code).result == PAM_AUTH_ERR
    assert host.root_asks(alice, phone.hotp()).result == PAM_SUCCESS
    assert host.log.reasons() == ["accepted", "replayed", "replayed", "accepted"]
