"""systemd is the first process of a fresh Debian with our packages. It starts what serves programs without root, and
Debian's own programs ask there, or as root.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from pam_softtoken.account.state_format import decode
from pam_softtoken.account.token_file import parse
from tests.support.account import Phone
from tests.support.booted_debian import LOCKER, SERVICE, SOCKET, BootedDebian, BootedHost
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS
from tests.support.enroller import Dialogue
from tests.support.etcd_cluster import EtcdCluster
from tests.support.fresh_debian import ENVIRONMENT, SLOW_S, Resident
from tests.support.installation import Installation
from tests.support.leak import keep_answer
from tests.support.packages import CONF, Packages
from tests.support.process import wait_until
from tests.support.sealed_host import TYPE_IT, shown_key

PATH = "/run/softtoken/login.sock"
PROGRAMS = ("apache2", "dovecot-imapd", "freeradius", "freeradius-utils", "libapache2-mod-authnz-pam", "opendoas",
            "polkitd", "vlock")  # fmt: skip
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

ACCOUNT = "account required pam_permit.so\n"
CODE_ALONE = f"auth required pam_softtoken.so\n{ACCOUNT}"
ONE_FIELD = (
    "auth required pam_softtoken.so forward_pass\nauth required pam_unix.so use_first_pass\n"
    f"{ACCOUNT}session required pam_permit.so\n"
)
RADIUS = """
cd /etc/freeradius/3.0
ln -s ../mods-available/pam mods-enabled/pam
rm mods-enabled/eap sites-enabled/*
cat >sites-enabled/codes <<END
server codes {
	listen {
		type = auth
		ipaddr = 127.0.0.1
		port = 1812
	}
	authorize {
		update control {
			&Auth-Type := pam
		}
	}
	authenticate {
		pam
	}
}
END
"""
SITE = """
<VirtualHost 127.0.0.1:8080>
DocumentRoot /var/www/html
<Location />
AuthType Basic
AuthName codes
AuthBasicProvider socache PAM
AuthnCacheProvideFor PAM
AuthPAMService apache2
Require valid-user
</Location>
</VirtualHost>
"""
DOVECOT = """
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
mail_location = maildir:~/Maildir
"""
MAIL = """
import imaplib, sys
server = imaplib.IMAP4("127.0.0.1", 143)
try:
    server.login(*sys.argv[1:])
    print("in")
except imaplib.IMAP4.error:
    print("refused")
"""
BROWSER = """
import base64, http.client, sys
words = base64.b64encode(":".join(sys.argv[1:]).encode()).decode()
server = http.client.HTTPConnection("127.0.0.1", 8080)
server.request("GET", "/", headers={"Authorization": f"Basic {words}"})
print(server.getresponse().status)
"""
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
    """Her token, which only root can read."""
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


class Log:
    """What the journal says from here on."""

    def __init__(self, debian: BootedDebian) -> None:
        self._debian = debian
        shown = debian.run("journalctl", "--quiet", "--lines=0", "--show-cursor")
        self._cursor = shown.partition("cursor: ")[2].strip()

    def reasons(self, service: str) -> list[str]:
        """Return the reasons that were logged for a PAM service."""
        outcomes = self._debian.outcomes(f"--after-cursor={self._cursor}")
        return [fields["reason"] for fields in outcomes if fields["service"] == service]


@pytest.fixture
def log(served: BootedHost) -> Iterator[Log]:
    """The journal during a test. What the test has set for servers is taken back."""
    yield Log(served.debian)
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
    outcomes = scene.debian.outcomes("SYSLOG_IDENTIFIER=softtoken-login", f"_SYSTEMD_UNIT={SERVICE}", "_UID=0")
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
        for process in (flood, *held):
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
    served: BootedHost, alice: Resident, phone: Phone, outside: Path, log: Log
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
    served: BootedHost, alice: Resident, phone: Phone, log: Log
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


def test_freeradius__that_relay_for_names_takes_each_code_once(
    served: BootedHost, alice: Resident, phone: Phone, log: Log
) -> None:
    served.set_service("radiusd", CODE_ALONE)
    served.debian.run("sh", "-euc", RADIUS)
    served.debian.run("systemctl", "restart", "freeradius")
    code = phone.hotp()

    def asks(code: str) -> str:
        keep_answer(code)
        words = ("radclient", "127.0.0.1:1812", "auth", "testing123")
        typed = f"User-Name={alice.name},User-Password={code}\n"
        return served.debian.try_to_run(*words, typed=typed).stdout

    assert "Access-Reject" in asks(code)
    served.set_conf("relay_for = freerad\n")
    assert "Access-Accept" in asks(code)
    assert "Access-Reject" in asks(code)
    assert log.reasons("relay/radiusd") == ["relay", "accepted", "replayed"]


def test_apache__that_relay_for_names_takes_each_code_once_and_remembers_it_itself(
    served: BootedHost, alice: Resident, phone: Phone, log: Log
) -> None:
    """A browser sends the code again with each page."""
    served.set_conf("relay_for = www-data\n")
    served.set_service("apache2", CODE_ALONE)
    served.debian.write("/etc/apache2/sites-available/000-default.conf", SITE)
    served.debian.write("/etc/apache2/ports.conf", "Listen 127.0.0.1:8080\nServerName localhost\n")
    served.debian.run("a2enmod", "-q", "authnz_pam", "authn_socache", "socache_shmcb")
    served.debian.run("systemctl", "restart", "apache2")
    code = phone.hotp()

    def asks(code: str) -> str:
        keep_answer(code)
        return served.debian.run("python3", "-I", "-c", BROWSER, alice.name, code).strip()

    assert [asks(code), asks(code), asks("000000")] == ["200", "200", "401"]
    assert log.reasons("relay/apache2") == ["accepted"]
    served.debian.run("systemctl", "restart", "apache2")
    assert asks(code) == "401"
    assert log.reasons("relay/apache2") == ["accepted", "replayed"]


@pytest.mark.parametrize("worker", ["root", "dovecot"])
def test_dovecot__takes_each_code_once(
    served: BootedHost, alice: Resident, phone: Phone, log: Log, worker: str
) -> None:
    """As root, its worker takes password and code from one field. As another user, it could not check the password."""
    is_root = worker == "root"
    served.set_conf("" if is_root else f"relay_for = {worker}\n")
    served.set_service("dovecot", ONE_FIELD if is_root else CODE_ALONE)
    served.debian.write("/etc/dovecot/local.conf", f"{DOVECOT}service auth-worker {{\n  user = {worker}\n}}\n")
    served.debian.run("systemctl", "restart", "dovecot")
    code = phone.hotp()
    answer = f"{alice.password if is_root else ''}{code}"
    keep_answer(answer)
    said = [served.debian.run("python3", "-I", "-c", MAIL, alice.name, answer).strip() for _ in range(2)]
    assert said == ["in", "refused"]
    assert log.reasons("dovecot" if is_root else "relay/dovecot") == ["accepted", "replayed"]
    served.debian.run("systemctl", "stop", "dovecot")


@pytest.mark.parametrize("program", SET_UID)
def test_set_uid_program__needs_no_service(
    served: BootedHost, alice: Resident, phone: Phone, log: Log, program: str
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
        wait_until(lambda reason=reason: log.reasons(service)[-1:] == [reason], "the code was judged")
        screen.close(force=True)
    assert log.reasons(service) == ["accepted", "replayed"]


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
