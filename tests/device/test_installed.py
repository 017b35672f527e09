"""Install the wheel with pip: the program in its own Python, on a machine without PAM."""

from __future__ import annotations

import email
import email.message
import os
import re
import subprocess
import tomllib
import zipfile
from pathlib import Path

import pytest

from tests.support.device import PASSPHRASE, RFC_HOTP, Device, hotp
from tests.support.distribution import Distribution, install
from tests.support.installation import TREE

PROJECT = tomllib.loads((TREE / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Distribution:
    """The sdist of this tree, and the wheel that is made from it."""
    return Distribution(tmp_path_factory.mktemp("distribution"))


@pytest.fixture(scope="module")
def python(distribution: Distribution, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with the wheel."""
    return install(distribution.wheel, tmp_path_factory.mktemp("installed") / "venv")


@pytest.fixture(scope="module")
def about(distribution: Distribution) -> email.message.Message:
    """What the package's page on PyPI shows."""
    with zipfile.ZipFile(distribution.wheel) as wheel:
        (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_string(wheel.read(name).decode())


def test_installed__shows_a_code(python: Path, device: Device) -> None:
    device.hold(hotp("alice"))
    source, end = os.pipe()
    os.write(end, f"{PASSPHRASE}\n".encode())
    os.close(end)
    done = subprocess.run(
        [python.with_name("softtoken"), "code", "--passphrase-fd", str(source)],
        env=device.environment, cwd="/", capture_output=True, text=True, check=False, pass_fds=(source,),
    )  # fmt: skip
    os.close(source)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{RFC_HOTP[0]}\n", "")


def test_installed__comes_from_the_environment_and_not_from_the_tree(python: Path) -> None:
    script = "import pam_softtoken.device.program as program; print(program.__file__)"
    done = subprocess.run([python, "-I", "-c", script], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.startswith(str(python.parents[1]))


def test_installed__has_the_manual_page_and_no_program_for_a_server(python: Path) -> None:
    page = python.parents[1] / "share/man/man1/softtoken.1"
    assert page.read_text().startswith(".Dd ")
    assert "@" not in re.sub(r"\w+@\w+", "", page.read_text())
    assert [path.name for path in python.parent.glob("softtoken*")] == ["softtoken"]


def test_extras__list_the_libraries_that_the_device_loads() -> None:
    """The hints of the program name these extras. Without an extra, there is no library."""
    extras = PROJECT["optional-dependencies"]
    assert {need.split(">")[0] for need in extras["device"]} == {"cryptography", "prompt_toolkit", "segno"}
    assert {need.split(">")[0] for need in extras["keyring"]} == {"keyring"}
    assert {need.split(">")[0] for need in extras["ente"]} == {"pynacl"}
    assert PROJECT["dependencies"] == []


def test_wheel__has_the_package_for_a_laptop_and_nothing_of_pam(distribution: Distribution) -> None:
    with zipfile.ZipFile(distribution.wheel) as wheel:
        names = set(wheel.namelist())
    modules = {str(path.relative_to(TREE)) for path in (TREE / "pam_softtoken").rglob("*.py")}
    others = {re.sub(r"^pam_softtoken-[\d.]+\.", "", name) for name in names - modules}
    documents = {"data/data/share/man/man1/softtoken.1", "dist-info/licenses/LICENSE"}
    records = {f"dist-info/{name}" for name in ("METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt")}
    assert modules <= names
    assert others == documents | records


def test_build__has_no_warning_of_a_way_that_will_go(distribution: Distribution) -> None:
    assert "running sdist" in distribution.said
    assert "adding 'pam_softtoken/device/start.py'" in distribution.said
    assert re.findall(r"(?im)^.*(?:deprecat|futurewarning).*$", distribution.said) == []


def test_page__has_the_licence_and_the_readme_without_links_that_lead_nowhere(about: email.message.Message) -> None:
    assert (about["License-Expression"], about["License-File"]) == ("MIT", "LICENSE")
    assert about["Description-Content-Type"] == "text/markdown"
    assert not [line for line in about.get_all("Classifier", []) if line.startswith("License")]
    text = about.get_payload()
    assert isinstance(text, str)
    assert re.findall(r"\]\((?!https://)[^)]*\)", text) == []
    assert "picture" not in text.partition("\n## ")[0]
    assert "pip install '.[device]'" in text


def test_sdist__has_the_files_of_the_repository_and_no_others(distribution: Distribution) -> None:
    if not (TREE / ".git").exists():
        pytest.skip("this tree is not a clone, so nothing lists its files")
    command: list[str | Path] = ["git", "-c", "safe.directory=*", "-C", TREE, "ls-files"]

    def listed(*options: str) -> set[str]:
        names = subprocess.run([*command, *options], check=True, capture_output=True, text=True).stdout.splitlines()
        return {name for name in names if (TREE / name).exists()}

    committed, new = listed(), listed("--others", "--exclude-standard")
    files = distribution.files()
    made = {name for name in files if name.startswith("pam_softtoken.egg-info/")} | {"PKG-INFO", "setup.cfg"}
    assert len(made) > 2
    assert committed <= files
    assert files - made <= committed | new


def test_sdist__keeps_what_may_be_executed(distribution: Distribution) -> None:
    for name in distribution.files() & {str(path.relative_to(TREE)) for path in TREE.glob("scripts/*")}:
        assert os.access(distribution.tree / name, os.X_OK) == os.access(TREE / name, os.X_OK), name
