"""Install the unchanged packages on Debian 13 with its Python 3.13, on a machine with another release.

On a machine with Debian 13, `test_package.py` does all of this, and more. Making that system takes a minute, so one
ordinary run in four does it. The full run always does.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fresh_debian import FreshDebian, InsideSu, Resident
from tests.support.installation import TREE
from tests.support.packages import Packages
from tests.support.sampling import is_sampled

RELEASE, PYTHON = "trixie", "Python 3.13."
NEEDED = "python3,python3-pamela,python3-rich,python3-segno"


@pytest.fixture(scope="module")
def debian_13(world: Path) -> Iterator[FreshDebian]:
    """A fresh Debian 13."""
    if why_not := FreshDebian.why_not():
        pytest.skip(why_not)
    if not is_sampled(RELEASE, 0.25):
        pytest.skip("one ordinary run in four has Debian 13, and the full run")
    if f"VERSION_CODENAME={RELEASE}\n" in Path("/etc/os-release").read_text():
        pytest.skip("this machine has Debian 13 itself")
    directory = world / "fresh-debian-13"
    directory.mkdir(mode=0o755)
    made = FreshDebian(directory, release=RELEASE, included=NEEDED, dependencies=())
    yield made
    made.close()


@pytest.mark.lockout("the host was upgraded to Debian 13, with Python 3.13")
def test_debian_13__accepts_each_code_once(debian_13: FreshDebian, packages: Packages) -> None:
    assert debian_13.run("/usr/bin/python3", "--version").startswith(PYTHON)
    server = [packages[name] for name in ("libpam-softtoken", "softtoken-common")]
    for path in server:
        shutil.copy(path, debian_13.path("/root"))
    debian_13.run("dpkg", "--install", *(f"/root/{path.name}" for path in server))
    alice, caller = Resident(debian_13), Resident(debian_13)
    su = InsideSu(debian_13, caller)
    debian_13.run("pam-auth-update", "--enable", "softtoken")
    phone = alice.link("--period=300", "--recovery-codes=1")
    for code in (phone.totp(), phone.totp(1), *phone.recovery_codes):
        visits = [su.log_in(alice, code) for _ in range(2)]
        assert [visit.entered_as for visit in visits] == [alice.name, ""], visits


def test_debian_13__both_sudos_take_the_rule(debian_13: FreshDebian) -> None:
    """sudo-rs, which knows fewer settings, and the usual sudo."""
    debian_13.install("sudo", "sudo-rs")
    debian_13.write("/root/rule", (TREE / "debian/softtoken.sudoers").read_text(), mode=0o440)
    for program in ("visudo", "visudo-rs"):
        assert "parsed OK" in debian_13.run(program, "-c", "-f", "/root/rule"), program
