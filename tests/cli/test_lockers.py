"""Run screen lockers as their user, with data that only root can read: explained, and repaired.

The locker is a plain program that calls libpam as the user, as swaylock, i3lock and xscreensaver do.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.account import Person
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Outcome
from tests.support.doctor import COMMON, PatientHost
from tests.support.installation import Installation
from tests.support.system_log import SystemLog

STORE = "/var/lib/softtoken/%U"
LOCKER = "swaylock"


class Desktop(PatientHost):
    """A host with a screen locker that asks for a code."""

    def unlock(self, person: Person, *answers: str) -> Outcome:
        """Unlock through the locker as its user."""
        identity = f"setpriv --reuid={person.uid} --regid={person.gid} --clear-groups"
        typed = "".join(f"={answer}\\n" for answer in answers)
        client = f"{self.installed.client} {LOCKER} {person.name}"
        return Outcome(self.run("sh", "-c", f"printf '{typed}' | {identity} {client}").stdout)

    def admin(self, *words: str) -> tuple[int, str]:
        """Run the administrator's program, and return its status and its output."""
        done = self.run(self.installed.root / "scripts" / "softtoken-admin", *words)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def desktop(world: Path, installed: Installation) -> Iterator[Desktop]:
    """Such a host, where no service asks for a code yet."""
    directory = Path(tempfile.mkdtemp(prefix="desktop-", dir=world))
    directory.chmod(0o755)
    made = Desktop(directory / "host", installed)
    (made.directory / "pam.d" / LOCKER).write_text("auth include login\n")
    made.set_service("login", COMMON)
    yield made
    shutil.rmtree(directory)


@pytest.mark.lockout(
    "a screen locker runs without root, and the store is root's",
    shows="only root can read this store",
    cure="softtoken-admin move --all --to home",
)
def test_locker__with_a_root_held_store_is_explained_and_cured(
    desktop: Desktop, alice: Person, system_log: SystemLog
) -> None:
    desktop.set_conf(f"store = {STORE}\n")
    desktop.set_service("login", COMMON + desktop.line())
    phone = desktop.enrol(alice)
    code = phone.hotp()
    assert desktop.unlock(alice, alice.password, code).result == PAM_AUTH_ERR
    (outcome,) = system_log.outcomes()
    assert outcome["reason"] == "unusable_file"
    assert "only root can read this store" in outcome["detail"]
    assert "softtoken-admin move --all --to home" in outcome["detail"]
    finding = desktop.examine().only("/etc/pam.d/login:2", "it unlocks for nobody")
    assert (finding["severity"], finding["what"].split()[0]) == ("error", LOCKER)

    assert f"{LOCKER}: unlocks for nobody, as it runs as its user and cannot read {STORE}" in desktop.admin("status")[1]

    # Either this locker asks only for the password, and login stays as it was ...
    desktop.mend(finding)
    assert desktop.unlock(alice, alice.password).result == PAM_SUCCESS
    assert desktop.unlock(alice, "not the password").result == PAM_AUTH_ERR
    assert desktop.line() in (desktop.directory / "pam.d" / "login").read_text()

    # ... or the tokens move to the homes.
    (desktop.directory / "pam.d" / LOCKER).write_text("auth include login\n")
    status, said = desktop.admin("move", "--all", "--to", "home")
    assert status == 0, said
    desktop.set_conf("")
    assert desktop.unlock(alice, alice.password, code).result == PAM_SUCCESS
    assert desktop.unlock(alice, alice.password, code).result == PAM_AUTH_ERR


def test_enable__refuses_to_lock_a_screen_locker_for_good(desktop: Desktop, alice: Person) -> None:
    desktop.set_conf(f"store = {STORE}\n")
    desktop.enrol(alice)
    for service in ("login", LOCKER):
        status, said = desktop.admin("enable", service, "--dry-run")
        assert status == 1, said
        assert f"screen lockers run as their user and cannot read {STORE}, so that {LOCKER} would unlock" in said
    status, said = desktop.admin("enable", "sshd", "--dry-run")
    assert "screen lockers" not in said
    status, said = desktop.admin("enable", "login", "--dry-run", "--force")
    assert "screen lockers" not in said


@pytest.mark.lockout(
    "/var/lib/softtoken is closed, and a screen locker runs without root",
    shows="cannot see what root has noted of its user",
    cure="chmod 711 /var/lib/softtoken",
)
def test_locker__without_access_to_roots_directory_is_explained_and_cured(
    desktop: Desktop, alice: Person, system_log: SystemLog
) -> None:
    desktop.set_service("login", COMMON + desktop.line("nullok"))
    (desktop.directory / "state").chmod(0o700)
    assert desktop.unlock(alice, alice.password, "123456").result == PAM_AUTH_ERR
    (outcome,) = system_log.outcomes()
    assert outcome["reason"] == "unusable_file"
    assert "cannot see what root has noted of its user" in outcome["detail"]
    assert "chmod 711 /var/lib/softtoken" in outcome["detail"]
    desktop.mend(desktop.examine().only("/var/lib/softtoken", "cannot enter this directory"))
    assert desktop.unlock(alice, alice.password).result == PAM_SUCCESS
    (desktop.directory / "state" / "enrolled").mkdir(mode=0o700)
    assert desktop.unlock(alice, alice.password, "123456").result == PAM_AUTH_ERR
    desktop.mend(desktop.examine().only("/var/lib/softtoken/enrolled", "cannot enter this directory"))
    assert desktop.unlock(alice, alice.password).result == PAM_SUCCESS
