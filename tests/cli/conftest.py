"""What the tests of the programs share: the program, file systems that are full, directories that are root's."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.account import Person
from tests.support.enroller import ENVIRONMENT, Enroller
from tests.support.installation import Installation


@pytest.fixture
def enroller(installed: Installation) -> Enroller:
    """The installed `softtoken-enroll`."""
    return Enroller(installed.enroll)


@pytest.fixture(scope="session")
def resident(world: Path) -> Iterator[Person]:
    """The one user of all tests here: to make one takes longer than most of the tests."""
    homes = world / "homes-cli"
    homes.mkdir(mode=0o755)
    homes.chmod(0o755)
    person = Person(homes)
    yield person
    person.remove()


@pytest.fixture
def alice(resident: Person) -> Person:
    """A user who is not enrolled yet, with a home directory as it is made for new users."""
    home = resident.home
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
def outside(world: Path) -> Iterator[Path]:
    """A directory of root's that is nobody's home, and that everybody can enter."""
    path = Path(tempfile.mkdtemp(prefix="outside-", dir=world))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture
def small_home(alice: Person) -> Iterator[Path]:
    """Alice's home as a file system of its own, 256 KiB and 64 files large."""
    options = f"size=256k,nr_inodes=64,mode=0755,uid={alice.uid},gid={alice.gid}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", alice.home], check=True)
    yield alice.home
    subprocess.run(["umount", alice.home], check=True)


@pytest.fixture(scope="session")
def locales(world: Path) -> dict[str, dict[str, str]]:
    """Environments of people whose terminals are not set to `C.UTF-8`: `latin` and `utf8`."""
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
