"""Install with `pip install .[device]`: the program in its own Python, on a machine without PAM."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

from tests.support.device import PASSPHRASE, RFC_HOTP, Device, hotp
from tests.support.installation import TREE


@pytest.fixture(scope="module")
def installed_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install this tree into a new environment. The libraries are those of the tests, so that no network is needed."""
    directory = tmp_path_factory.mktemp("installed")
    tree = directory / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(TREE / name, tree)
    shutil.copytree(TREE / "pam_softtoken", tree / "pam_softtoken", ignore=shutil.ignore_patterns("__pycache__"))
    environment = directory / "venv"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    libraries = environment / "lib" / version / "site-packages" / "libraries.pth"
    libraries.write_text(sysconfig.get_paths()["purelib"] + "\n")
    command: list[str | Path] = [
        environment / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-index",
        "--no-deps",
    ]
    command += ["--no-build-isolation", f"{tree}[device]"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    return environment / "bin" / "softtoken"


def test_installed__shows_a_code(installed_program: Path, device: Device) -> None:
    device.hold(hotp("alice"))
    source, end = os.pipe()
    os.write(end, f"{PASSPHRASE}\n".encode())
    os.close(end)
    done = subprocess.run(
        [installed_program, "code", "--passphrase-fd", str(source)],
        env=device.environment, cwd="/", capture_output=True, text=True, check=False, pass_fds=(source,),
    )  # fmt: skip
    os.close(source)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{RFC_HOTP[0]}\n", "")


def test_installed__comes_from_the_environment_and_not_from_the_tree(installed_program: Path) -> None:
    script = "import pam_softtoken.device.program as program; print(program.__file__)"
    command: list[str | Path] = [installed_program.with_name("python"), "-I", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.startswith(str(installed_program.parents[1]))


def test_extras__list_the_libraries_that_the_device_loads() -> None:
    """The hints of the program name these extras."""
    extras = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {need.split(">")[0] for need in extras["device"]} == {"cryptography", "prompt_toolkit"}
    assert {need.split(">")[0] for need in extras["keyring"]} == {"keyring"}
    assert {need.split(">")[0] for need in extras["ente"]} == {"pynacl"}
