"""What is published on PyPI, built from this tree: the source archive (sdist), and the wheel from that archive."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from tests.support.installation import TREE

_BUILD = "import sys; from setuptools import build_meta; getattr(build_meta, sys.argv[1])(sys.argv[2])"
_NOT_COPIED = shutil.ignore_patterns(".git", "venv", "fresh-debian", ".*_cache", ".hypothesis", "caches")
MADE_BY_WORK = (
    "build/pam_softtoken.so",
    "debian/made/softtoken.conf",
    "debian/libpam-softtoken/usr/bin/softtoken-enroll",
    "debian/files",
    "debian/softtoken.substvars",
    "debian/examples/ansible/secrets/alice.json",
    "dist/old.tar.gz",
    "pam_softtoken/__pycache__/config.cpython-311.pyc",
    "pam_softtoken/login.cpython-311.bundle",
    "tests/unit/__pycache__/test_otp.cpython-311.pyc",
)
"""Files that work in a tree leaves. None of them belongs into the archive."""


class Distribution:
    """The archive and the wheel.

    Args:
        directory: an empty one.

    Attributes:
        sdist: the archive.
        tree: the unpacked archive.
        wheel: the wheel.
        said: what the build printed, with all warnings.
    """

    def __init__(self, directory: Path) -> None:
        source = directory / "source"
        shutil.copytree(TREE, source, ignore=_NOT_COPIED, symlinks=True)
        for name in MADE_BY_WORK:
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).touch()
        self.said = _build("build_sdist", source, directory)
        (self.sdist,) = directory.glob("*.tar.gz")
        (directory / "unpacked").mkdir()
        subprocess.run(["tar", "-xf", self.sdist, "-C", directory / "unpacked"], check=True)
        (self.tree,) = (directory / "unpacked").iterdir()
        # The wheel comes from a copy, because a build leaves files.
        shutil.copytree(self.tree, directory / "again")
        self.said += _build("build_wheel", directory / "again", directory)
        (self.wheel,) = directory.glob("*.whl")

    def files(self) -> set[str]:
        """Return the files of the archive."""
        return {str(path.relative_to(self.tree)) for path in self.tree.rglob("*") if not path.is_dir()}


def install(wheel: Path, environment: Path, *, python: str = sys.executable, extras: Iterable[str] = ()) -> Path:
    """Install the wheel into a new virtual environment. The libraries are those of the tests, without a network.

    Args:
        python: another Python gets its libraries from PyPI.
        extras: for another Python, what to install besides the soft token.

    Returns:
        The environment's interpreter.
    """
    subprocess.run([python, "-m", "venv", environment], check=True)
    inside = environment / "bin" / "python"
    command: list[str | Path] = [inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if python == sys.executable:
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        libraries = environment / "lib" / version / "site-packages" / "libraries.pth"
        libraries.write_text(sysconfig.get_paths()["purelib"] + "\n")
        command.append("--no-index")
    done = subprocess.run([*command, f"{wheel}[device]", *extras], capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    return inside


def _build(step: str, source: Path, target: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "default", "-c", _BUILD, step, str(target)],
        cwd=source, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr
