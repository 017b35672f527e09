"""Run the demonstration and the tests in a fresh tree of another Debian: `scripts/test --debian 13 PART...` calls this.

The tree has its own processes, mounts, users and packages. Only the network is this machine's, for apt-get and pip.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.fresh_debian import ENVIRONMENT, FreshDebian
from tests.support.installation import TREE

RELEASES = {"12": "bookworm", "13": "trixie"}
INCLUDED = "ca-certificates,git,python3"
CHECKOUT = "/srv/pam_softtoken"
_PIP_SETTINGS = ("/etc/pip.conf", "/etc/xdg/pip", "/etc/ssl/certs/ca-certificates.crt")
_PASSED_ON = ("TEST_SEED", "TEST_FULL", "TEST_CPU", "PYTEST_ADDOPTS")


def copy_checkout(tree: FreshDebian) -> None:
    """Copy this checkout without what was built, and how this machine's pip finds its packages.

    Raises:
        AssertionError: a part could not be copied.
    """
    tree.run("mkdir", "-p", CHECKOUT)
    left_out = ("--exclude=./build", "--exclude=__pycache__", "--exclude=*.egg-info", "--exclude=*.bundle")
    with subprocess.Popen(["tar", "-C", str(TREE), *left_out, "-cf", "-", "."], stdout=subprocess.PIPE) as packing:
        words = tree.command("tar", "-C", CHECKOUT, "--no-same-owner", "-xf", "-")
        unpacking = subprocess.run(words, stdin=packing.stdout, check=False, env=ENVIRONMENT)
    assert (packing.returncode, unpacking.returncode) == (0, 0), "the checkout could not be copied"
    for name in _PIP_SETTINGS:
        source, target = Path(name), tree.path(name)
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)


def environment() -> dict[str, str]:
    """Return the environment for a run in the tree."""
    kept = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name in _PASSED_ON}
    return {**ENVIRONMENT, **kept}


def run_in_checkout(tree: FreshDebian, *words: str, **more: str) -> int:
    """Run a command in the copied checkout, with this machine's network. Its output is this process's.

    Args:
        more: additional variables of the environment.

    Returns:
        The exit status.
    """
    command = tree.command("sh", "-c", f'cd {CHECKOUT} && exec "$@"', "sh", *words, online=True)
    return subprocess.run(command, stdin=subprocess.DEVNULL, check=False, env={**environment(), **more}).returncode


def main(arguments: list[str]) -> int:
    """Run the parts in another Debian. Return 0 if the demonstration and all tests passed."""
    number, *rest = arguments
    if number not in RELEASES:
        sys.exit(
            f"scripts/test: error: no such Debian: {number!r}\nscripts/test: hint: there are {', '.join(RELEASES)}"
        )
    if why_not := FreshDebian.why_not():
        sys.exit(f"scripts/test: error: {why_not}")
    with tempfile.TemporaryDirectory(prefix="softtoken-debian-") as scratch:
        directory = Path(scratch, "tree")
        disk = Path(scratch, "tmp")  # homes and stores are not on a tmpfs, where an absence may be an error
        for path, mode in ((directory, 0o755), (disk, 0o1777)):
            path.mkdir()
            path.chmod(mode)
        print(f"making a Debian {number} in memory", file=sys.stderr, flush=True)
        tree = FreshDebian(directory, release=RELEASES[number], included=INCLUDED, dependencies=(), disk=disk)
        try:
            tree.run("mount", "-t", "sysfs", "sysfs", "/sys")
            tree.run("mount", "-t", "cgroup2", "cgroup2", "/sys/fs/cgroup")  # journald needs it from 257 on
            copy_checkout(tree)
            print(f"Debian {number}: scripts/demo", file=sys.stderr, flush=True)
            shown = run_in_checkout(tree, "scripts/demo")
            print(f"Debian {number}: scripts/test {' '.join(rest)}", file=sys.stderr, flush=True)
            return run_in_checkout(tree, "scripts/test", *rest, TEST_UIDS=number) or shown
        finally:
            tree.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
