"""systemd is the first process of a fresh Debian with our packages. It starts what serves programs without root."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.account import Phone
from tests.support.booted_debian import BootedDebian
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Outcome
from tests.support.fresh_debian import ENVIRONMENT, Resident
from tests.support.installation import Installation
from tests.support.leak import keep_answer
from tests.support.packages import CONF, Packages
from tests.support.process import wait_until

SOCKET, SERVICE = "softtoken-login.socket", "softtoken-login.service"
PATH = "/run/softtoken/login.sock"
CLIENT = "/usr/local/bin/client"
LOCKER = "locker"
LIMIT = 8
FLOOD = """
import socket, sys
print("begins", flush=True)
while True:
    held = []
    for _ in range(40):
        each = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        each.setblocking(False)
        try:
            each.connect(sys.argv[1])
        except OSError:
            continue
        held.append(each)
"""
"""Connects without end, and holds what it gets until it has tried forty times."""


class Scene:
    """A Debian that systemd has started, with a program that runs as its user.

    Args:
        debian: without our packages.
        installed: has the program.
        packages: ours, of the older version.
    """

    def __init__(self, debian: BootedDebian, installed: Installation, packages: Packages) -> None:
        self.debian = debian
        shutil.copy(installed.client, debian.path(CLIENT))
        debian.unpack_and_configure(packages["softtoken-common"], packages["libpam-softtoken"])
        debian.write(f"/etc/pam.d/{LOCKER}", "auth required pam_softtoken.so\n")
        debian.write(CONF, "store = /var/lib/softtoken/%U\n")

    def command(self, caller: Resident, user: Resident, *options: str) -> list[str]:
        return self.as_user(caller, CLIENT, *options, LOCKER, user.name)

    def as_user(self, caller: Resident, *words: str) -> list[str]:
        # nsenter waits for the program; without it, the program would stay.
        identity = ("setpriv", f"--reuid={caller.uid}", f"--regid={caller.gid}", "--clear-groups", "--pdeathsig=KILL")
        return self.debian.command(*identity, *words)

    def ask(self, caller: Resident, user: Resident, code: str = "") -> Outcome:
        """Run the program as a user, and return the outcome."""
        keep_answer(code)
        command = self.command(caller, user)
        done = subprocess.run(command, input=f"={code}\n", check=True, capture_output=True, text=True, timeout=300)
        return Outcome(done.stdout.splitlines()[-1])

    def hold(self, person: Resident) -> subprocess.Popen[str]:
        """Start the program, and return it when it has been asked for a code."""
        command = self.command(person, person, "--tell")
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
        assert process.stdout is not None
        assert "Verification code" in process.stdout.readline()
        return process

    def answer(self, process: subprocess.Popen[str], code: str) -> int:
        """Answer that program, and return the result."""
        keep_answer(code)
        said, _ = process.communicate(f"={code}\n", timeout=300)
        return Outcome(said.splitlines()[-1]).result

    def is_active(self, unit: str) -> str:
        return self.debian.try_to_run("systemctl", "is-active", unit).stdout.strip()


@pytest.fixture(scope="module")
def scene(world: Path, installed: Installation, packages: Packages) -> Iterator[Scene]:
    """The installed packages, as apt leaves them."""
    if why_not := BootedDebian.why_not():
        pytest.skip(why_not)
    directory = world / "booted-debian"
    directory.mkdir(mode=0o755)
    made = BootedDebian(directory)
    yield Scene(made, installed, packages)
    made.close()


@pytest.fixture(scope="module")
def alice(scene: Scene) -> Resident:
    """A user of it."""
    return Resident(scene.debian)


@pytest.fixture(scope="module")
def phone(alice: Resident) -> Phone:
    """Her token, which only root can read."""
    return alice.link("--type=hotp", "--recovery-codes=0")


@pytest.fixture(scope="module")
def mallory(scene: Scene) -> Resident:
    """Another user."""
    return Resident(scene.debian)


@pytest.fixture
def served(scene: Scene) -> Scene:
    """The same with the socket turned on."""
    scene.debian.run("systemctl", "enable", "--now", SOCKET)
    return scene


def test_socket__is_off_until_root_turns_it_on(scene: Scene, alice: Resident, phone: Phone) -> None:
    code = phone.hotp()
    assert scene.debian.try_to_run("systemctl", "is-enabled", SOCKET).stdout == "disabled\n"
    assert not scene.debian.path(PATH).exists()
    assert scene.ask(alice, alice, code).result == PAM_AUTH_ERR
    scene.debian.run("systemctl", "enable", "--now", SOCKET)
    assert scene.is_active(SERVICE) == "inactive"
    assert [scene.ask(alice, alice, code).result for _ in range(2)] == [PAM_SUCCESS, PAM_AUTH_ERR]
    assert scene.is_active(SERVICE) == "active"
    outcomes = scene.debian.outcomes("SYSLOG_IDENTIFIER=softtoken-login", f"_SYSTEMD_UNIT={SERVICE}", "_UID=0")
    assert [(fields["user"], fields["reason"]) for fields in outcomes] == [
        (alice.name, "accepted"), (alice.name, "replayed"),
    ]  # fmt: skip


def test_socket__serves_others_while_one_user_holds_all_places_and_floods(
    served: Scene, alice: Resident, phone: Phone, mallory: Resident
) -> None:
    held = [served.hold(mallory) for _ in range(LIMIT)]
    flood = subprocess.Popen(
        served.as_user(mallory, "/usr/bin/python3", "-I", "-c", FLOOD, PATH), stdout=subprocess.PIPE, env=ENVIRONMENT
    )
    try:
        assert flood.stdout is not None
        assert flood.stdout.readline() == b"begins\n"
        assert [served.ask(alice, alice, phone.hotp()).result for _ in range(5)] == 5 * [PAM_SUCCESS]
        assert flood.poll() is None
        assert served.is_active(SOCKET) == "active"
    finally:
        for process in (flood, *held):
            process.kill()
            process.communicate()
    wait_until(lambda: served.ask(mallory, mallory).messages != [], "mallory is served again")


def test_service__that_is_killed_is_started_for_the_next_program(served: Scene, alice: Resident, phone: Phone) -> None:
    for _ in range(8):  # more often than systemd lets other units start
        process = served.hold(alice)
        served.debian.run("systemctl", "kill", "--signal=KILL", SERVICE)
        assert served.answer(process, phone.hotp()) == PAM_AUTH_ERR
        assert served.ask(alice, alice, phone.hotp()).result == PAM_SUCCESS


def test_socket__that_is_restarted_serves_again(served: Scene, alice: Resident, phone: Phone) -> None:
    process = served.hold(alice)
    served.debian.run("systemctl", "restart", SOCKET)
    assert served.is_active(SOCKET) == "active"
    assert served.ask(alice, alice, phone.hotp()).result == PAM_SUCCESS
    served.debian.run("systemctl", "stop", SOCKET, SERVICE)
    assert not served.debian.path(PATH).exists()
    assert served.answer(process, phone.hotp()) == PAM_AUTH_ERR


def test_doctor__names_a_store_that_the_unit_may_not_write_and_opens_it(served: Scene, mallory: Resident) -> None:
    """The unit would take the store for one on a read-only disk, where HOTP is refused."""
    debian, store = served.debian, "/srv/tokens"
    debian.run("mkdir", "--mode=700", store)
    debian.write(CONF, f"store = {store}/%U\n")
    phone = mallory.link("--type=hotp", "--recovery-codes=0")
    assert served.ask(mallory, mallory, phone.hotp()).result == PAM_AUTH_ERR

    def findings() -> list[dict[str, str]]:
        found = json.loads(debian.try_to_run("softtoken-admin", "doctor", "--json").stdout)["findings"]
        return [finding for finding in found if finding["place"] == store]

    (finding,) = findings()
    assert "ReadWritePaths" in finding["what"]
    debian.run("sh", "-c", finding["mend"])
    assert findings() == []
    assert served.ask(mallory, mallory, phone.hotp()).result == PAM_SUCCESS
    debian.write(CONF, "store = /var/lib/softtoken/%U\n")


def test_upgrade__keeps_the_socket_and_an_open_conversation(
    served: Scene, alice: Resident, phone: Phone, newer_packages: Packages
) -> None:
    process = served.hold(alice)
    other = served.hold(alice)
    served.debian.unpack_and_configure(newer_packages["softtoken-common"], newer_packages["libpam-softtoken"])
    assert served.is_active(SOCKET) == "active"
    assert served.ask(alice, alice, phone.hotp()).result == PAM_SUCCESS
    assert served.answer(process, phone.hotp()) == PAM_SUCCESS
    code = phone.hotp()
    assert served.answer(other, code) == PAM_SUCCESS
    assert served.ask(alice, alice, code).result == PAM_AUTH_ERR
