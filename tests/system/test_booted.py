"""systemd is the first process of a fresh Debian with our packages. It starts what serves programs without root, and
Debian's own programs ask there, or as root.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pexpect
import pytest

from pam_softtoken.account.state_format import decode
from pam_softtoken.account.token_file import parse
from tests.support.account import Phone
from tests.support.booted_debian import LOCKER, SERVICE, SOCKET, BootedDebian, BootedHost, Journal
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS
from tests.support.enroller import Dialogue
from tests.support.etcd_cluster import EtcdCluster
from tests.support.fresh_debian import ENVIRONMENT, SLOW_S, Resident
from tests.support.installation import Installation
from tests.support.leak import keep_answer
from tests.support.packages import CONF, Packages
from tests.support.process import wait_until
from tests.support.sealed_host import TYPE_IT, shown_key
from tests.system.servers import CODE_ALONE, SERVERS

PATH = "/run/softtoken/login.sock"
PROGRAMS = ("opendoas", "polkitd", "vlock")
LIMIT = 8
FLOOD = """
import socket, sys, threading
def wait():
    while True:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as each:
            each.connect(sys.argv[1])
threading.stack_size(65536)
for _ in range(500):
    threading.Thread(target=wait, daemon=True).start()
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
"""Connects without end, and holds what it gets until it has tried forty times. Others wait in the queue meanwhile."""

SET_UID = {
    "doas": ("doas", "doas", "id", "-u"),
    "vlock": ("vlock", "vlock", "-c"),
    "polkit": ("polkit-1", "sh", "-c", "(echo cookie; cat) | /usr/lib/polkit-1/polkit-agent-helper-1 {user}"),
}
"""Programs with a set-uid part that asks PAM: the PAM service, and a command."""


@pytest.fixture(scope="module")
def scene(world: Path, installed: Installation, packages: Packages) -> Iterator[BootedHost]:
    """The installed packages, as apt leaves them."""
    if why_not := BootedDebian.why_not():
        pytest.skip(why_not)
    directory = world / "booted-debian"
    directory.mkdir(mode=0o755)
    made = BootedDebian(directory, *PROGRAMS)
    yield BootedHost(made, installed, packages)
    made.close()


@pytest.fixture(scope="module")
def alice(scene: BootedHost) -> Resident:
    """A user of it."""
    return Resident(scene.debian)


@pytest.fixture(scope="module")
def phone(alice: Resident) -> Phone:
    """A token, which only root can read."""
    return alice.link("--type=hotp", "--recovery-codes=0")


@pytest.fixture(scope="module")
def mallory(scene: BootedHost) -> Resident:
    """Another user."""
    return Resident(scene.debian)


@pytest.fixture
def served(scene: BootedHost) -> BootedHost:
    """The same with the socket turned on."""
    scene.debian.run("systemctl", "enable", "--now", SOCKET)
    return scene


@pytest.fixture
def log(served: BootedHost) -> Iterator[Journal]:
    """The journal during a test. What the test has set for servers is taken back."""
    yield Journal(served.debian)
    served.set_conf("")


def test_socket__is_off_until_root_turns_it_on(scene: BootedHost, alice: Resident, phone: Phone) -> None:
    code = phone.hotp()
    assert scene.debian.try_to_run("systemctl", "is-enabled", SOCKET).stdout == "disabled\n"
    assert not scene.debian.path(PATH).exists()
    assert scene.ask(alice, alice, code).result == PAM_AUTH_ERR
    scene.debian.run("systemctl", "enable", "--now", SOCKET)
    assert scene.is_active(SERVICE) == "inactive"
    assert [scene.ask(alice, alice, code).result for _ in range(2)] == [PAM_SUCCESS, PAM_AUTH_ERR]
    assert scene.is_active(SERVICE) == "active"
    # The journal adds the unit only if the process is still there when it looks.
    outcomes = scene.debian.outcomes("SYSLOG_IDENTIFIER=softtoken-login", "_UID=0")
    assert [(fields["user"], fields["reason"]) for fields in outcomes] == [
        (alice.name, "accepted"), (alice.name, "replayed"),
    ]  # fmt: skip


def test_socket__serves_others_while_one_user_holds_all_places_and_floods(
    served: BootedHost, alice: Resident, phone: Phone, mallory: Resident
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
        flood.kill()
        flood.communicate()
        for process in held:
            process.kill()
            process.communicate()
    wait_until(lambda: served.ask(mallory, mallory).messages != [], "mallory is served again")


def test_service__that_is_killed_is_started_for_the_next_program(
    served: BootedHost, alice: Resident, phone: Phone
) -> None:
    for _ in range(8):  # more often than systemd lets other units start
        process = served.hold(alice)
        served.debian.run("systemctl", "kill", "--signal=KILL", SERVICE)
        assert served.answer(process, phone.hotp()) == PAM_AUTH_ERR
        assert served.ask(alice, alice, phone.hotp()).result == PAM_SUCCESS


def test_socket__that_is_restarted_serves_again(served: BootedHost, alice: Resident, phone: Phone) -> None:
    process = served.hold(alice)
    served.debian.run("systemctl", "restart", SOCKET)
    assert served.is_active(SOCKET) == "active"
    assert served.ask(alice, alice, phone.hotp()).result == PAM_SUCCESS
    served.debian.run("systemctl", "stop", SOCKET, SERVICE)
    assert not served.debian.path(PATH).exists()
    assert served.answer(process, phone.hotp()) == PAM_AUTH_ERR


def test_doctor__names_a_store_that_the_unit_may_not_write_and_opens_it(served: BootedHost, mallory: Resident) -> None:
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
    served.set_conf("")


def test_realm__is_reached_under_the_limits_of_the_unit(
    served: BootedHost, alice: Resident, phone: Phone, outside: Path, log: Journal
) -> None:
    """The unit allows the network for this, and for name services."""
    debian = served.debian
    store = debian.path(f"/var/lib/softtoken/{alice.uid}")
    with debian.its_network():
        cluster = EtcdCluster(outside, nodes=1)
        try:
            state = decode((store / "state").read_bytes(), path="state")[1]
            named = (alice.name, alice.uid)
            content = parse((store / "tokens").read_bytes(), path="tokens", owner=named)
            cluster.enrol(alice.name, content, state)
            shutil.copytree(cluster.host("booted"), debian.path("/etc/softtoken/fleet"))
            served.set_conf(f"fleet = {cluster.address}\nfleet_keys = /etc/softtoken/fleet\n")
            code = phone.hotp()
            assert [served.ask(alice, alice, code).result for _ in range(2)] == [PAM_SUCCESS, PAM_AUTH_ERR]
            assert log.reasons(f"relay/{LOCKER}") == ["accepted", "replayed"]
            code = phone.hotp()
            cluster.close()
            assert served.ask(alice, alice, code).result == PAM_AUTH_ERR
            assert log.reasons(f"relay/{LOCKER}")[2:] == ["fleet_down"]
        finally:
            cluster.close()


def test_sealed_store__is_opened_with_the_key_that_systemd_has_loaded(
    served: BootedHost, alice: Resident, phone: Phone, log: Journal
) -> None:
    """Without a TPM, systemd's own key of the host takes its place."""
    debian = served.debian
    command = debian.command("softtoken-admin", "seal", "--on")
    with Dialogue(command, person=None, environment=ENVIRONMENT, columns=100) as dialogue:
        dialogue.type(shown_key(dialogue.expect(TYPE_IT)))
        assert dialogue.finish() == 0, dialogue.transcript
    key = "/etc/softtoken/host.key"
    encrypt = ("systemd-creds", "encrypt", "--with-key=host", "--name=softtoken-host-key", key, f"{key}.tpm")
    debian.run("systemd-creds", "setup")
    debian.run(*encrypt)
    debian.run("rm", key)
    assert served.ask(alice, alice, phone.hotp()).result == PAM_AUTH_ERR
    debian.run("systemctl", "start", "softtoken-key.service")
    assert served.ask(alice, alice, phone.hotp()).result == PAM_SUCCESS
    assert log.reasons(f"relay/{LOCKER}") == ["sealed", "accepted"]
    debian.run("cp", "/run/softtoken-key/host.key", key)
    debian.run("softtoken-admin", "seal", "--off")
    debian.run("systemctl", "stop", "softtoken-key.service")


# ---- Debian's own programs


@pytest.mark.sampled(0.25)
@pytest.mark.parametrize("server", SERVERS, ids=lambda server: server.__name__)
def test_server__takes_each_code_once(
    served: BootedHost,
    alice: Resident,
    phone: Phone,
    log: Journal,
    server: Callable[[BootedHost, Resident, Phone, Journal], None],
) -> None:
    served.debian.install(*SERVERS[server])
    server(served, alice, phone, log)


@pytest.mark.parametrize("program", SET_UID)
def test_set_uid_program__needs_no_service(
    served: BootedHost, alice: Resident, phone: Phone, log: Journal, program: str
) -> None:
    service, *words = SET_UID[program]
    served.set_service(service, f"@include common-auth\n{CODE_ALONE}session required pam_permit.so\n")
    served.debian.write("/etc/doas.conf", f"permit {alice.name} as root\n", 0o400)
    code = phone.hotp()
    keep_answer(code)
    command = served.as_user(alice, *(word.format(user=alice.name) for word in words))
    for reason in ("accepted", "replayed"):
        environment = {**ENVIRONMENT, "HOME": str(alice.home), "USER": alice.name, "TERM": "xterm"}
        screen = pexpect.spawn(command[0], command[1:], encoding="utf-8", timeout=SLOW_S, env=environment)
        if program == "vlock":
            screen.expect_exact("[ENTER]")
            screen.sendline("")
        screen.expect("assword: ")
        screen.sendline(alice.password)
        screen.expect_exact("code: ")
        screen.sendline(code)
        if program == "doas":
            screen.expect_exact("\r\n0\r\n" if reason == "accepted" else "Authentication failed")
        wait_until(partial(_was_judged, log, service, reason), "the code was judged")
        screen.close(force=True)
    assert log.reasons(service) == ["accepted", "replayed"]


def _was_judged(log: Journal, service: str, reason: str) -> bool:
    return log.reasons(service)[-1:] == [reason]


def test_upgrade__keeps_the_socket_and_an_open_conversation(
    served: BootedHost, alice: Resident, phone: Phone, newer_packages: Packages
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
