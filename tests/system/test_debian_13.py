"""Run the demonstration, the packages and a sample of the tests on Debian 13, on a machine with another release.

`scripts/test --debian 13` runs whole parts there. A machine with Debian 13 runs everything anyway.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import sampling
from tests.support.fresh_debian import INCLUDED, FreshDebian, InsideSSH, Resident
from tests.support.installation import TREE
from tests.support.other_debian import CHECKOUT, copy_checkout, environment
from tests.support.packages import NAMES, PLUGIN, Packages
from tests.system.test_signing_package import LINE, RUN, check_that_only_a_signature_counts, enrol, turn_on

RELEASE, PYTHON, SUDO = "trixie", "Python 3.13.", "Sudo version 1.9.16"
TOOLS = (
    "python3-pytest", "python3-hypothesis", "python3-pam", "python3-pyotp", "e2fsprogs", "procps", "strace", "openssl",
)  # fmt: skip
"""What a part of the tests needs, beside what the demonstration and the packages install."""
FILES = (
    "pam/test_return_codes",
    "pam/test_bad_answer",
    "pam/test_names",
    "pam/test_items",
    "cli/test_list",
    "cli/test_usage",
    "system/test_signed_sudo",
)
"""Tests of these files were seen to pass there with Debian's own pytest."""
NOT_AT_ONCE = "tests/cli/test_list.py::test_list__works_in_a_read_only_home"
"""It logs in with a read-only home. Where a machine or container has just started, codes from before do not count."""
SAMPLE = 2


@pytest.fixture(scope="module")
def debian_13(world: Path) -> Iterator[FreshDebian]:
    """A fresh Debian 13, with a copy of this checkout."""
    if why_not := FreshDebian.why_not():
        pytest.skip(why_not)
    if f"VERSION_CODENAME={RELEASE}\n" in Path("/etc/os-release").read_text():
        pytest.skip("this machine has Debian 13 itself")
    directory = world / "fresh-debian-13"
    directory.mkdir(mode=0o755)
    disk = world / "tmp-of-debian-13"
    disk.mkdir()
    disk.chmod(0o1777)
    made = FreshDebian(directory, release=RELEASE, included=INCLUDED, dependencies=(), disk=disk)
    assert made.run("/usr/bin/python3", "--version").startswith(PYTHON)
    made.run("apt-get", "update", "-q", online=True)
    copy_checkout(made)
    yield made
    made.close()


def run_in_checkout(debian: FreshDebian, *words: str) -> str:
    """Run a command in the copy of this checkout. Return all its output.

    Raises:
        AssertionError: it failed.
    """
    command = debian.command("sh", "-c", f'cd {CHECKOUT} && exec "$@"', "sh", *words, online=True)
    done = subprocess.run(
        command, check=False, env=environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def check_signed_sudo(debian: FreshDebian, person: Resident) -> None:
    """Check that a new signer there can run what is signed, and nothing else."""
    assert debian.run("sudo", "--version").startswith(SUDO)
    debian.run("adduser", person.name, "sudo")
    device = enrol(person)
    turn_on(debian, person, device)
    check_that_only_a_signature_counts(person, device)


@pytest.mark.lockout("the host was upgraded to Debian 13, with Python 3.13")
def test_debian_13__installed_packages_accept_each_code_once(debian_13: FreshDebian, packages: Packages) -> None:
    debian_13.install(*(packages[name] for name in (*NAMES, PLUGIN)))
    alice = Resident(debian_13)
    debian_13.run("pam-auth-update", "--enable", "softtoken")
    phone = alice.link("--period=300", "--recovery-codes=1")
    ssh = InsideSSH(debian_13)
    for code in (phone.totp(), phone.totp(1), *phone.recovery_codes):
        visits = [ssh.log_in(alice, code) for _ in range(2)]
        assert [visit.entered_as for visit in visits] == [alice.name, ""], visits
        assert visits[0].prompts == ["password", "code"], visits
    debian_13.run("pam-auth-update", "--disable", "softtoken")
    assert ssh.log_in(alice).entered_as == alice.name
    check_signed_sudo(debian_13, alice)
    worked, said = debian_13.apt("purge", *NAMES, PLUGIN)
    assert worked, said
    assert LINE not in debian_13.path("/etc/sudo.conf").read_text()
    assert "it_ran" in debian_13.run("sudo", *RUN)
    assert debian_13.run("find", "/etc", "/usr", "/run", "-name", "*softtoken*") == ""
    assert ssh.log_in(alice).entered_as == alice.name


def test_debian_13__demonstration_passes(debian_13: FreshDebian) -> None:
    shown = run_in_checkout(debian_13, "scripts/demo")
    assert [shown.count(f"  ok: {how}") for how in ("let in", "refused", "it ran")] == [3, 5, 2]
    assert "Verification code: " in shown


def test_debian_13__sample_of_the_tests_passes(debian_13: FreshDebian) -> None:
    debian_13.install(*TOOLS, "python3-pamela", "python3-rich", "python3-segno", "gcc", "libc6-dev", "libpam0g-dev")
    files = [f"tests/{name}.py" for name in sampling.source("Debian 13").sample(FILES, SAMPLE)]
    run_in_checkout(debian_13, "scripts/build")
    shown = run_in_checkout(
        debian_13, "python3", "-m", "pytest", "-q", "-p", "no:cacheprovider", *files, f"--deselect={NOT_AT_ONCE}"
    )
    assert " passed" in shown


def test_debian_13__both_sudos_take_the_rule(debian_13: FreshDebian) -> None:
    """sudo-rs, which knows fewer settings, and the usual sudo."""
    debian_13.install("sudo-rs")
    debian_13.write("/root/rule", (TREE / "debian/softtoken.sudoers").read_text(), mode=0o440)
    for program in ("visudo", "visudo-rs"):
        assert "parsed OK" in debian_13.run(program, "-c", "-f", "/root/rule"), program
