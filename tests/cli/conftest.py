"""Fixtures that the tests of the programs share: the program, full file systems, root's directories."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.account import Person, resident_of
from tests.support.disk import disk_as_home
from tests.support.enroller import ENVIRONMENT, Enroller
from tests.support.installation import Installation


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
    """A user who is not enrolled yet, with a home directory like that of a new user."""
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
    """Alice's home as a separate file system of 256 KiB and 64 files."""
    with disk_as_home(alice, "size=256k,nr_inodes=64"):
        yield alice.home


@pytest.fixture(scope="session")
def locales(world: Path) -> dict[str, dict[str, str]]:
    """Environments of users whose terminals are not set to `C.UTF-8`: `latin` and `utf8`."""
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
