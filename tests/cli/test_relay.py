"""What `softtoken-admin` says about the socket for programs that do not run as root."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.account import Person
from tests.support.doctor import COMMON, PatientHost
from tests.support.installation import Installation

STORE = "/var/lib/softtoken/%U"
LOCKER = "swaylock"
LISTENING = """
import os, socket, subprocess, sys
os.mkdir("/run/softtoken", 0o711)
listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
listener.bind("/run/softtoken/login.sock")
os.chown("/run/softtoken/login.sock", int(sys.argv[1]), -1)
sys.exit(subprocess.run(sys.argv[2:]).returncode)
"""


class Desktop(PatientHost):
    """A host with a screen locker that asks for a code, and a socket.

    Attributes:
        owner: of the socket; None if there is none.
    """

    owner: int | None = 0

    def run(self, *words: str | Path):  # type: ignore[no-untyped-def]
        around = [] if self.owner is None else ["/usr/bin/python3", "-I", "-c", LISTENING, str(self.owner)]
        return super().run(*around, *words)


@pytest.fixture
def desktop(world: Path, installed: Installation) -> Iterator[Desktop]:
    """Such a host. Its locker uses the options of the host."""
    directory = Path(tempfile.mkdtemp(prefix="desktop-", dir=world))
    directory.chmod(0o755)
    made = Desktop(directory / "host", installed)
    made.set_conf(f"store = {STORE}\n")
    (made.directory / "pam.d" / LOCKER).write_text(f"{COMMON}auth required {installed.bridge}\n")
    yield made
    shutil.rmtree(directory)


def _about_relays(desktop: Desktop) -> list[tuple[str, str]]:
    return [
        (finding["severity"], finding["place"]) for finding in desktop.examine().findings
        if finding["family"] in {"screen lockers", "programs without root"}
    ]  # fmt: skip


def test_doctor__says_that_a_locker_without_the_socket_unlocks_for_nobody(desktop: Desktop) -> None:
    assert _about_relays(desktop) == []
    desktop.owner = None
    assert _about_relays(desktop) == [("error", f"/etc/pam.d/{LOCKER}:2")]


def test_doctor__names_options_of_a_locker_that_the_service_refuses(desktop: Desktop) -> None:
    (desktop.directory / "pam.d" / LOCKER).write_text(f"{COMMON}auth required {desktop.installed.bridge} window=5\n")
    finding = desktop.examine().only(f"/etc/pam.d/{LOCKER}:2", "softtoken-login.socket refuses everybody there: window")
    desktop.mend(finding)
    assert _about_relays(desktop) == []


def test_doctor__says_that_somebody_elses_socket_serves_nobody(desktop: Desktop, alice: Person) -> None:
    desktop.owner = alice.uid
    assert ("error", "/run/softtoken/login.sock") in _about_relays(desktop)


def test_doctor__names_users_in_relay_for_that_do_not_exist(desktop: Desktop) -> None:
    desktop.set_conf(f"store = {STORE}\nrelay_for = nobody nobody-of-that-name\n")
    finding = desktop.examine().only("/etc/security/softtoken.conf", "nobody-of-that-name")
    assert finding["severity"] == "warning"


def test_enable__lets_a_locker_be_that_the_service_serves(desktop: Desktop, alice: Person) -> None:
    (desktop.directory / "pam.d" / LOCKER).write_text("auth include login\n")
    desktop.set_service("login", COMMON)
    desktop.enrol(alice)
    program = desktop.installed.root / "scripts" / "softtoken-admin"
    done = desktop.run(program, "enable", "login", "--dry-run")
    assert "screen lockers" not in done.stdout + done.stderr
    desktop.owner = None
    done = desktop.run(program, "enable", "login", "--dry-run")
    assert "screen lockers run as their user" in done.stderr
    assert "systemctl enable --now softtoken-login.socket" in done.stderr


def test_enable__says_what_a_service_of_another_user_needs(desktop: Desktop, alice: Person) -> None:
    server = "server-of-somebody"
    desktop.set_service(server, COMMON)
    desktop.enrol(alice)
    program = desktop.installed.root / "scripts" / "softtoken-admin"
    unit = Path(f"/etc/systemd/system/{server}.service")
    unit.parent.mkdir(parents=True, exist_ok=True)
    unit.write_text("[Service]\nUser=nobody\n")
    try:
        done = desktop.run(program, "enable", server, "--dry-run")
        assert "cannot read tokens of others, so that it would refuse every code; nothing was changed" in done.stderr
        assert "write relay_for = nobody into /etc/security/softtoken.conf" in done.stderr
        desktop.set_conf(f"store = {STORE}\nrelay_for = nobody\n")
        done = desktop.run(program, "enable", server, "--dry-run")
        assert "cannot read tokens of others" not in done.stderr
        desktop.owner = None
        done = desktop.run(program, "enable", server, "--dry-run")
        assert "systemctl enable --now softtoken-login.socket" in done.stderr
    finally:
        unit.unlink()
