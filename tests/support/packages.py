"""The Debian packages, built from this tree as a maintainer and as `scripts/install` build them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.support.installation import TREE

HOME = "/usr/lib/pam_softtoken"
PYTHON = ("/usr/bin/python3", "-I")
CONF = "/etc/security/softtoken.conf"
PROGRAMS = {"softtoken-enroll": "libpam-softtoken", "softtoken-admin": "libpam-softtoken", "softtoken": "softtoken"}
NAMES = ("libpam-softtoken", "softtoken", "softtoken-common")
PLUGIN = "sudo-softtoken"
"""The package that is only for hosts with sudo."""
_MADE = (".git", "venv", "fresh-debian", "*.egg-info", ".*_cache", ".hypothesis", "__pycache__")
LEFT_OUT = shutil.ignore_patterns(*_MADE)


class Packages:
    """The packages of one version.

    Args:
        directory: where they are.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.all = [self._one(name) for name in NAMES]
        self.version = self._field(self.all[0], "Version")

    def __getitem__(self, name: str) -> Path:
        return self._one(name)

    def listing(self, name: str) -> list[list[str]]:
        """Return mode, owner, size, day, time and path of each file, in the order in which dpkg installs them."""
        command = ["dpkg-deb", "--contents", str(self[name])]
        listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
        return [line.split(None, 5) for line in listed]

    def files(self, name: str) -> list[str]:
        """Return the path of each file that is no directory, in the same order."""
        return [line[5].removeprefix(".") for line in self.listing(name) if not line[0].startswith("d")]

    def text(self, name: str, path: str) -> str:
        """Read one file of a package."""
        tar = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(self[name])], check=True, capture_output=True).stdout
        command = ["tar", "-xOf", "-", f".{path}"]
        return subprocess.run(command, check=True, capture_output=True, input=tar).stdout.decode()

    def _one(self, name: str) -> Path:
        (path,) = self.directory.glob(f"{name}_*.deb")
        return path

    @staticmethod
    def _field(package: Path, name: str) -> str:
        command = ["dpkg-deb", "--field", str(package), name]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def copy_of_the_tree(target: Path) -> Path:
    """Return a copy that looks like a clone to any build."""
    shutil.copytree(TREE, target, ignore=LEFT_OUT, symlinks=True)
    for command in (["init", "-q"], ["add", "--all"]):
        subprocess.run(["git", "-C", str(target), *command], check=True, capture_output=True)
    return target


def build_as_maintainer(tree: Path) -> Packages:
    """Run plain `dpkg-buildpackage`. It puts the packages beside the tree."""
    _run(["dpkg-buildpackage", "-us", "-uc"], cwd=tree)
    return Packages(tree.parent)


def build_by_script(directory: Path) -> Packages:
    """Run `scripts/install --build`."""
    _run([str(TREE / "scripts/install"), "--build", str(directory)], cwd=TREE)
    return Packages(directory)


def _run(command: list[str], *, cwd: Path) -> None:
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "HOME": os.environ.get("HOME", "/")}
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd, env=environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
