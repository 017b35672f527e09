"""One person under several spellings of the name is one account everywhere."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.account import Person
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, PERMIT
from tests.support.directory_service import DirectoryService
from tests.support.installation import Installation
from tests.support.pam_scene import Pam
from tests.support.private_mounts import PrivateMounts

SPELLINGS = (0, 1, 2)


@pytest.fixture
def directory(world: Path, installed: Installation) -> Iterator[DirectoryService]:
    """A host with a directory service."""
    place = Path(tempfile.mkdtemp(prefix="directory-", dir=world))
    place.chmod(0o755)
    mounts = PrivateMounts(place / "host")
    yield DirectoryService(mounts, installed)
    mounts.close()
    shutil.rmtree(place)


@pytest.fixture(params=["%u", "%U", "home"])
def store(request: pytest.FixtureRequest, directory: DirectoryService) -> str:
    """The `store` option: where root keeps tokens under the name or the uid, or in the home directory."""
    return "store=%h/.softtoken" if request.param == "home" else f"store={directory.stores}/{request.param}"


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_nullok__asks_an_enrolled_user_under_every_spelling(
    directory: DirectoryService, pam: Pam, installed: Installation, alice: Person, store: str, spelling: int
) -> None:
    service = pam.stack(installed.line(store, "nullok") + PERMIT)
    typed = directory.spellings_of(alice)[spelling]
    phone = directory.enrol(alice.name, "--period=300", "--store", store.removeprefix("store="))
    outcome = directory.log_in(service, typed)
    assert len(outcome.prompts) == 1
    assert outcome.result != PAM_SUCCESS
    assert directory.log_in(service, typed, phone.totp()).result == PAM_SUCCESS
    assert directory.log_in(service, alice.name, phone.totp()).result == PAM_AUTH_ERR
