"""Test the content of the Debian packages, and that a build is clean."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.installation import TREE
from tests.support.packages import CONF, HOME, NAMES, PROGRAMS, PYTHON, Packages


def program_path(packages: Packages, name: str) -> str:
    """Return the path where a program is installed."""
    (path,) = (each for each in packages.files(PROGRAMS[name]) if re.fullmatch(rf"/usr/s?bin/{name}", each))
    return path


def test_build__leaves_nothing_that_git_sees(packages: Packages) -> None:
    command = ["git", "-C", str(packages.directory / "pam-softtoken"), "status", "--porcelain"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert [line for line in lines if line[1] != " "] == []


def test_packages__lintian_has_neither_error_nor_warning(packages: Packages) -> None:
    lintian = shutil.which("lintian") or pytest.skip("needs lintian")
    (changes,) = packages.directory.glob("*.changes")
    command = [lintian, "--allow-root", "--fail-on", "none", "--tag-display-limit", "0", str(changes)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    tags = {line for line in done.stdout.splitlines() if line[:1] in ("E", "W")}
    assert tags == set()


def test_packages__logins_run_one_version_or_the_other_while_dpkg_puts_files_in_place(
    packages: Packages, newer_packages: Packages
) -> None:
    assert packages.version < newer_packages.version
    programs = ("softtoken-approver", "softtoken-backend", "softtoken-relay")
    entry = {f"{HOME}/pam_module.py", *(f"{HOME}/bin/{name}" for name in programs)}
    modules: list[set[str]] = []
    for each in (packages, newer_packages):
        ours = [path for path in each.files("softtoken-common") if path.startswith(f"{HOME}/")]
        versioned = f"{HOME}/{each.version}/"
        # dpkg renames files in this order, so the backend is the last to change.
        assert [path.startswith(versioned) for path in ours] == [True] * (len(ours) - 4) + [False] * 4
        assert set(ours[-4:]) == entry
        below = {path.removeprefix(versioned) for path in ours[:-4]}
        bundles = {path for path in below if re.fullmatch(r"pam_softtoken/(login|approver)\.[a-z0-9-]+\.bundle", path)}
        assert len(bundles) == 2
        assert below - bundles == {str(path.relative_to(TREE)) for path in (TREE / "pam_softtoken").rglob("*.py")}
        modules.append(set(ours[:-4]))
        runs = {each.text("softtoken-common", path) for path in entry}
        runs |= {each.text(package, program_path(each, name)) for name, package in PROGRAMS.items()}
        for text in runs:
            assert re.findall(r"^sys\.path\.insert\(.*", text, re.MULTILINE) == [
                f'sys.path.insert(0, "{HOME}/{each.version}")'
            ]
    assert not modules[0] & modules[1]


def test_packages__have_every_generated_document(packages: Packages, tmp_path: Path) -> None:
    subprocess.run([TREE / "scripts/document", tmp_path], check=True)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            name = f"/usr/share/{path.relative_to(tmp_path)}"
            package = "softtoken" if re.fullmatch(r"_?softtoken(\.1|\.fish)?", path.name) else "libpam-softtoken"
            assert {name, f"{name}.gz"} & set(packages.files(package)), name
    subprocess.run([*PYTHON, TREE / "scripts/lib/conf.py", tmp_path / "conf"], check=True)
    assert packages.text("libpam-softtoken", CONF) == (tmp_path / "conf").read_text()


def test_packages__only_root_owns_and_can_write_the_files(packages: Packages) -> None:
    for name in NAMES:
        for mode, owner, *_, path in packages.listing(name):
            assert owner == "root/root", path
            if mode[0] == "d" or re.search(r"/s?bin/|/runtime\.d/", path):
                assert mode[1:] == "rwxr-xr-x", path
            else:
                assert mode == ("-r--r-----" if "/sudoers.d/" in path else "-rw-r--r--"), path
