"""`scripts/install` for real, in a mount namespace where nothing but a copy of /usr changes."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.installation import TREE

_MOUNT = """
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work"
mount -t overlay -o "lowerdir=/usr,upperdir=$1/upper,workdir=$1/work" overlay /usr || { echo impossible; exit; }
echo mounted
exec cat
"""
PAGES = ("man1/softtoken-enroll.1", "man5/softtoken.conf.5", "man8/pam_softtoken.8")
SHELLS = {
    "bash": (
        # The loader's status says that bash shall look again.
        ". /usr/share/bash-completion/bash_completion; _completion_loader {0}; complete -p {0}",
        "complete -F _softtoken_enroll softtoken-enroll",
    ),
    "zsh": ("autoload -Uz compinit; compinit -u -D; echo $_comps[{0}]", "_softtoken-enroll"),
    "fish": ("complete -C '{0} --typ'", "--type"),
}
"""For each shell a question about a program, and the answer when it has found the completions."""


class Machine:
    """This machine with a /usr that can be changed until the end.

    Args:
        directory: an empty one, where the changes are kept.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        holder = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", _MOUNT, "sh", str(directory)]
        self._holder = subprocess.Popen(holder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert self._holder.stdout is not None
        self.is_there = self._holder.stdout.readline() == b"mounted\n"

    def run(self, *words: str | Path) -> str:
        """Run a command inside and give what it wrote."""
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent", "LC_ALL": "C.UTF-8"}
        command = ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "--", *map(str, words)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd="/")
        assert done.returncode == 0, done.stderr
        return done.stdout

    def files(self) -> set[str]:
        """Give everything that has come into /usr since the beginning."""
        found = self.run("find", self._directory / "upper", "!", "-type", "d", "-printf", "/usr/%P\\n")
        return set(found.splitlines())

    def close(self) -> None:
        """Let go of it."""
        self._holder.communicate(timeout=60)


@pytest.fixture
def machine(world: Path) -> Iterator[Machine]:
    """A machine of our own."""
    made = Machine(Path(tempfile.mkdtemp(dir=world)))
    if not made.is_there:
        made.close()
        pytest.skip("needs CAP_SYS_ADMIN and overlayfs, for a /usr of its own")
    yield made
    made.close()


@pytest.fixture
def tree(world: Path) -> Path:
    """What a clone of the repository has, where a build changes nothing that others use."""
    copy = Path(tempfile.mkdtemp(dir=world))
    for part in ("pam_softtoken", "scripts"):
        shutil.copytree(TREE / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


def test_installation__brings_program_pages_and_completions_and_takes_them_away(machine: Machine, tree: Path) -> None:
    machine.run(tree / "scripts/install")
    assert "examples:" in machine.run("softtoken-enroll", "--help")
    assert {f"/usr/share/man/{page}" for page in PAGES} < machine.files()
    for shell, (question, answer) in SHELLS.items():
        if shutil.which(shell):
            assert machine.run(shell, "-c", question.format("softtoken-enroll")).partition("\t")[0].strip() == answer
    machine.run(tree / "scripts/install", "--remove")
    assert machine.files() == set()
