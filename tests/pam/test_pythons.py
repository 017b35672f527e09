"""Log in with other versions of Python than the machine's own, if there are any: on PATH, or of pyenv."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.account import Person
from tests.support.installation import Installation
from tests.support.pam_scene import Pam
from tests.support.surroundings import assert_in_once, in_namespaces

INTERPRETER = '#define PAM_SOFTTOKEN_PYTHON "/usr/bin/python3"'


@pytest.fixture(scope="module")
def other_python(world: Path, installed: Installation) -> Iterator[tuple[Path, Path]]:
    """An empty directory, and a bridge that runs `bin/python3` in it."""
    directory = Path(tempfile.mkdtemp(prefix="python-", dir=world))
    directory.chmod(0o755)
    prefix = directory / "prefix"
    prefix.mkdir()
    target = directory / "build" / "pam_softtoken.so"
    target.parent.mkdir()
    yield (
        prefix,
        installed.broken_bridge(target, right=INTERPRETER, wrong=INTERPRETER.replace("/usr", str(prefix))),
    )
    shutil.rmtree(directory)


def prefix_of(version: str) -> Path:
    """Return the place of a version of Python."""
    found = [Path(path) for path in [shutil.which(f"python{version}")] if path]
    found += Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python{version}")
    prefixes = [path.resolve().parents[1] for path in found]
    whole = [prefix for prefix in prefixes if prefix != Path("/usr") and (prefix / "lib" / f"python{version}").is_dir()]
    return whole[0] if whole else pytest.skip(f"there is no Python {version}, or it is the system's own")


@pytest.mark.parametrize(
    "version",
    [
        pytest.param("3.12", marks=pytest.mark.lockout("the host's Python is 3.12")),
        pytest.param("3.13", marks=pytest.mark.lockout("the host's Python is 3.13")),
        "3.14",
    ],
)
def test_python__of_another_version_accepts_each_code_once(
    installed: Installation, pam: Pam, alice: Person, other_python: tuple[Path, Path], version: str
) -> None:
    prefix, bridge = other_python
    around = in_namespaces(setup=f"mount --bind {prefix_of(version)} {prefix}")
    shown = subprocess.run([*around, prefix / "bin/python3", "--version"], check=True, capture_output=True, text=True)
    assert shown.stdout.startswith(f"Python {version}.")
    service = pam.stack(f"auth required {bridge} backend={installed.backend}\n")
    phone = alice.enrol(installed, "--period=300", "--recovery-codes=1")
    for code in (phone.totp(), *phone.recovery_codes):
        assert_in_once(service, alice, code, around=around)
