"""What `scripts/test` says before it does anything, and whose files the scripts leave."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.installation import TREE

SCRIPT = str(TREE / "scripts" / "test")


@pytest.fixture
def as_user(tmp_path: Path) -> dict[str, str]:
    """An environment in which the script takes its caller for an ordinary user, and finds nothing that it could run."""
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    for name in ("sh", "dirname"):
        (tmp_path / name).symlink_to(shutil.which(name) or name)
    return {"PATH": str(tmp_path)}


@pytest.mark.parametrize("words", [(), ("pam",), ("unit", "cli"), ("full",), ("--seed", "7", "fuzz")], ids=" ".join)
def test_script__asks_for_root_where_a_part_needs_it(as_user: dict[str, str], words: tuple[str, ...]) -> None:
    done = subprocess.run([SCRIPT, *words], check=False, capture_output=True, text=True, env=as_user)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        f"{SCRIPT}: error: only lint and unit run without root",
        f"{SCRIPT}: hint: {' '.join(['sudo', SCRIPT, *words]).strip()}",
    ]


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("all",), 'no such part: "all"'),
        (("--seed",), "--seed needs a number"),
        (("--seed", "unit"), "--seed needs a number"),
    ],
    ids=repr,
)
def test_script__reports_wrong_arguments(as_user: dict[str, str], words: tuple[str, ...], problem: str) -> None:
    done = subprocess.run([SCRIPT, *words], check=False, capture_output=True, text=True, env=as_user)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[0] == f"{SCRIPT}: error: {problem}"
    assert done.stderr.splitlines()[1].startswith(f"{SCRIPT}: hint: ")


def test_scripts__leave_build_to_the_owner_of_the_tree(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, who makes files for another user")
    os.chown(tmp_path, 1234, 1234)
    made = f". {TREE}/scripts/lib/build_directory.sh; make_build_directory {tmp_path}"
    for _ in ("new", "there already"):
        subprocess.run(["sh", "-euc", made], check=True)
        owner = (tmp_path / "build").stat()
        assert (owner.st_uid, owner.st_gid) == (1234, 1234)
        os.chown(tmp_path / "build", 0, 0)


def test_script__full_run_ends_with_debian_13_whatever_came_before(tmp_path: Path) -> None:
    if 'VERSION_ID="13"\n' in Path("/etc/os-release").read_text():
        pytest.skip("this machine has Debian 13 itself")
    for directory in ("scripts", "bin"):
        (tmp_path / directory).mkdir()
    script = shutil.copy(SCRIPT, tmp_path / "scripts" / "copy")
    called = '#!/bin/sh\necho "TEST_FULL=$TEST_FULL $*"\n[ -z "$TEST_FULL" ] || exit 3\n'
    for name, text in (("scripts/test", called), ("bin/id", "#!/bin/sh\necho 0\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
    done = subprocess.run(
        [script, "full", "--", "-k", "x"], check=False, capture_output=True, text=True, env=environment
    )
    assert done.stdout.splitlines() == [
        "TEST_FULL=yes full lint unit fault pam fuzz cli device system -- -k x",
        "TEST_FULL= --debian 13 -- -k x",
    ]
    assert (done.returncode, done.stderr) == (3, "")
