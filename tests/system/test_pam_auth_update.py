"""Turn the pam-auth-update profile on with the real program while nobody has a token, and off again."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.support.account import Person
from tests.support.hosts import Su
from tests.support.installation import TREE, Installation
from tests.support.private_mounts import PrivateMounts
from tests.support.system_log import SystemLog
from tests.system.scenario import SLOW

PROFILES = Path("/usr/share/pam-configs")
_INSIDE = """
for path in /var/lib/pam /var/cache/debconf /usr/share/pam-configs; do
	cp -a "$path" "$1/${path##*/}"
	mount --bind "$1/${path##*/}" "$path"
done
"""
_DEBCONF = ("DEBIAN_FRONTEND=teletype", "LC_ALL=C.UTF-8")
_PATIENCE_S = 120


class Profiles:
    """pam-auth-update with private directories, and with our profile.

    Args:
        mounts: the namespace it runs in.
        installed: the installation whose module the profile names.
    """

    def __init__(self, mounts: PrivateMounts, installed: Installation) -> None:
        self._mounts = mounts
        self.common_auth = mounts.directory / "pam.d" / "common-auth"
        self.run("sh", "-euc", _INSIDE, "sh", str(mounts.directory))
        profile = (TREE / "debian/pam-configs/softtoken").read_text()
        line = installed.line().partition("required ")[2]
        (mounts.directory / "pam-configs" / "softtoken").write_text(profile.replace("pam_softtoken.so\n", line))

    def run(self, *words: str, status: int = 0) -> str:
        """Run a command there as root, and return its output."""
        done = subprocess.run(
            self._mounts.command("env", *_DEBCONF, *words),
            capture_output=True, text=True, check=False, timeout=_PATIENCE_S,
        )  # fmt: skip
        assert done.returncode == status, done
        return done.stdout + done.stderr

    def tick(self, name: str) -> None:
        """Turn a profile on as an administrator does, in a numbered list."""
        words = self._mounts.command("env", *_DEBCONF, "pam-auth-update")
        screen = pexpect.spawn(words[0], words[1:], encoding="utf-8", timeout=_PATIENCE_S, dimensions=(60, 200))
        screen.expect_exact("PAM profiles to enable:")
        numbers = {text: number for number, text in re.findall(r"(\d+)\. (\S.*?) *\r\n", screen.before or "")}
        screen.sendline(f"{numbers[name]} {numbers['Unix authentication']}")
        screen.expect(pexpect.EOF)
        screen.close()
        assert screen.exitstatus == 0, screen.before

    def doctor(self, admin: str) -> list[dict[str, Any]]:
        """Return the doctor's findings on a host on which nobody is enrolled."""
        words = self._mounts.command(admin, "doctor", "--json")
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_PATIENCE_S)
        found: list[dict[str, Any]] = json.loads(done.stdout)["findings"]
        return [each for each in found if "nobody is enrolled" in each["what"]]


@pytest.fixture
def profiles(mounts: PrivateMounts, installed: Installation) -> Profiles:
    """The real program, in a private /etc."""
    if not PROFILES.is_dir():
        pytest.skip("needs pam-auth-update")
    return Profiles(mounts, installed)


@pytest.mark.lockout(
    "pam-auth-update turned codes on while nobody was enrolled",
    shows="nobody is enrolled",
    cure="pam-auth-update --disable softtoken",
)
@pytest.mark.lockout(
    "codes were turned on before a user had enrolled",
    shows="reason=not_enrolled",
    cure="softtoken-enroll --user alice",
)
def test_profile__enabled_without_enrolled_users_is_reported_and_disabled(
    profiles: Profiles,
    mounts: PrivateMounts,
    installed: Installation,
    make_person: Callable[[], Person],
    system_log: SystemLog,
) -> None:
    alice, bob = make_person(), make_person()
    host = Su(mounts, bob, password=True)
    admin = str(installed.root / "scripts" / "softtoken-admin")
    assert host.log_in(alice).entered_as == alice.name

    profiles.tick("One-time codes (softtoken): everybody who has not enrolled is refused")
    assert "pam_softtoken.so" in profiles.common_auth.read_text()
    visit = host.log_in(alice, "123456")
    assert (visit.entered_as, visit.prompts) == ("", ["password", "code"]), visit
    assert system_log.reasons() == ["not_enrolled"]
    (finding,) = profiles.doctor(admin)
    assert finding["severity"] == "error"
    assert finding["place"].startswith("/etc/pam.d/common-auth:")
    assert all(name in finding["what"] for name in (alice.name, bob.name, "root")), finding
    assert "Nobody is enrolled, and " in profiles.run(admin, "status")
    hint = profiles.run(admin, "disable", "su", status=1)
    assert finding["mend"] in hint

    code = alice.enrol(installed, SLOW).totp()
    assert profiles.doctor(admin) == []
    assert host.log_in(alice, code).entered_as == alice.name
    assert "Nobody is enrolled" not in profiles.run(admin, "status")

    assert finding["mend"] == "pam-auth-update --disable softtoken"
    profiles.run("sh", "-euc", finding["mend"])
    assert "softtoken" not in profiles.common_auth.read_text()
    for person in (alice, bob):
        assert host.log_in(person).entered_as == person.name
