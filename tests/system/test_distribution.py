"""Use what PyPI has: build and test from the source archive alone, and run the tests of the device with the wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.support.distribution import Distribution, install
from tests.support.installation import TREE
from tests.support.sampling import FULL, is_sampled, sampled

OTHER = "3.13"
LIBRARIES = ("hypothesis", "keyring", "pexpect", "pillow", "pynacl", "pyotp", "pytest", "zxing-cpp")
"""What tests/device needs besides the wheel with its extra."""
PARTS = tuple(
    sorted(path.name for path in (TREE / "tests/device").glob("test_*.py") if path.name != "test_installed.py")
)
SLOW_S = 1200


@pytest.fixture(scope="module")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Distribution:
    """The archive and the wheel of this tree."""
    return Distribution(tmp_path_factory.mktemp("distribution"))


def test_sdist__builds_the_module_and_the_documents_and_passes_tests(distribution: Distribution) -> None:
    """The full run has all unit tests, and the Debian packages."""
    tree = distribution.tree
    environment = {"PATH": os.environ["PATH"], "HOME": str(tree.parent), "LC_ALL": "C.UTF-8"}

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, check=False, timeout=SLOW_S
        )
        assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
        return done.stdout

    built = run("scripts/build")
    assert built == f"built {tree}/build/pam_softtoken.so and {tree}/build/softtoken_approval.so\n"
    assert list((tree / "pam_softtoken").glob("login.*.bundle"))
    run("scripts/document", "build/share")
    pages = {path.name.removesuffix(".in") for path in (TREE / "pam_softtoken/man").glob("*.in")}
    assert {path.name for path in (tree / "build/share/man").glob("*/*")} == pages
    parts = ("tests/unit", "pam_softtoken") if FULL else ("tests/unit/test_readme.py", "tests/unit/test_manual.py")
    assert " passed" in run(sys.executable, "-m", "pytest", "-q", "-n0", "-p", "no:cacheprovider", *parts)
    if FULL:
        run("scripts/install", "--build", "build/debs")
        assert len(list((tree / "build/debs").glob("*.deb"))) == 3


def test_wheel__passes_the_tests_of_the_device(distribution: Distribution, tmp_path: Path) -> None:
    """An ordinary run takes a part of the files."""
    python = install(distribution.wheel, tmp_path / "venv")
    run_tests(python, tmp_path, sampled(PARTS, 0.1, always=("test_start.py",)))


@pytest.mark.skipif(sys.version_info[:2] == (3, 13), reason="this Python is 3.13 itself")
def test_wheel__passes_the_tests_of_the_device_on_python_3_13(distribution: Distribution, tmp_path: Path) -> None:
    """pip fetches the libraries from PyPI."""
    if not is_sampled(OTHER, 0.125):
        pytest.skip(f"one ordinary run in eight has Python {OTHER}, and the full run")
    python = install(distribution.wheel, tmp_path / "venv", python=other_python(), extras=LIBRARIES)
    run_tests(python, tmp_path, sampled(PARTS, 0.1))


def other_python() -> str:
    """Return the other Python's interpreter: on PATH, or of pyenv."""
    found = [shutil.which(f"python{OTHER}") or ""]
    found += map(str, Path("~/.pyenv/versions").expanduser().glob(f"{OTHER}.*/bin/python{OTHER}"))
    script = "import ensurepip, sys; print('%d.%d' % sys.version_info[:2])"
    for each in filter(None, found):
        done = subprocess.run([each, "-I", "-c", script], capture_output=True, text=True, check=False)
        if done.stdout.strip() == OTHER:
            return each
    return pytest.skip(f"needs Python {OTHER}")


def run_tests(python: Path, place: Path, names: Sequence[str]) -> None:
    """Run files of tests/device with the package of an environment, from a tree that has no package."""
    tree = place / "tree"
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(TREE / "tests/device", tree / "tests/device", ignore=ignored)
    shutil.copytree(TREE / "tests/support", tree / "tests/support", ignore=ignored)
    for name in ("pyproject.toml", "tests/__init__.py", "tests/conftest.py"):
        shutil.copy(TREE / name, tree / name)
    (tree / "scripts").mkdir()
    shutil.copy(python.with_name("softtoken"), tree / "scripts/softtoken")
    command: list[str | Path] = [python, "-m", "pytest", "-q", "-rs", "-p", "no:cacheprovider"]
    command += [f"tests/device/{name}" for name in names]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False, timeout=SLOW_S)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "SKIPPED" not in done.stdout, done.stdout
    command = [python, "-c", "import pam_softtoken; print(pam_softtoken.__file__)"]
    assert subprocess.check_output(command, cwd=tree, text=True).startswith(str(python.parents[1]))
