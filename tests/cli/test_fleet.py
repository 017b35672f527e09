"""`softtoken-admin fleet`: a realm is set up with the commands alone, and its hosts accept each code once."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pam_softtoken.admin.fleet import custody
from pam_softtoken.admin.fleet.cluster import Cluster
from pam_softtoken.fleet.engine import EngineDown
from tests.support import tools
from tests.support.account import Person, Phone
from tests.support.admin import Admin, refused, succeeded
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS
from tests.support.enroller import Enroller
from tests.support.etcd_cluster import HOST, Node
from tests.support.installation import Installation
from tests.support.pam_scene import Pam, wrong_code

pytestmark = tools.needs("etcd", "etcdctl", "openssl")


class Office:
    """A realm of one node, set up by the program.

    Args:
        directory: a new one of root's.
        admin: the program.
    """

    def __init__(self, directory: Path, admin: Admin) -> None:
        self.keys = directory / "admin"
        self._admin = admin
        self.node = Node(directory, 0)
        self.address = f"etcd://{HOST}:{self.node.port}/office"

    def run(self, *words: str) -> str:
        done = self._admin.run("fleet", *words, f"--keys={self.keys}")
        succeeded(done)
        return done.stdout + done.stderr

    def refused(self, *words: str, status: int = 1) -> tuple[str, str]:
        return refused(self._admin.run("fleet", *words, f"--keys={self.keys}"), status)

    def start(self) -> None:
        files = self.keys / custody.NODES / HOST
        self.node.start_as_set_up(files / custody.NODE_SETTINGS, files)


@pytest.fixture
def alice(make_person: Callable[[], Person]) -> Person:
    """A user whom the realm has never known."""
    return make_person()


@pytest.fixture(scope="module")
def office(installed: Installation) -> Iterator[Office]:
    directory = Path(tempfile.mkdtemp(prefix="softtoken-fleet-"))
    made = Office(directory, Admin(installed))
    said = made.run("init", made.address)
    assert "The nodes do not answer yet" in said
    assert f"scp -rp {made.keys}/nodes/{HOST} root@{HOST}:/etc/softtoken-etcd" in said
    made.start()
    for _ in range(20):
        if "The realm office is ready" in made.run("init", made.address):
            break
    else:
        raise AssertionError((made.node.directory / "log").read_text()[-2000:])
    yield made
    made.node.kill()
    shutil.rmtree(directory)


def test_init__can_be_run_again_and_changes_no_key(office: Office) -> None:
    before = {path: path.read_bytes() for path in office.keys.rglob("*") if path.is_file()}
    assert "is ready" in office.run("init", office.address)
    assert {path: path.read_bytes() for path in office.keys.rglob("*") if path.is_file()} == before
    assert all(path.stat().st_mode & 0o77 == 0 for path in (office.keys, *office.keys.rglob("*")))


def test_init__refuses_another_realm_in_the_same_directory(office: Office) -> None:
    error, _ = office.refused("init", office.address.replace("office", "home"))
    assert "has another realm" in error


def test_settings_of_a_node__are_all_known_to_etcd(office: Office) -> None:
    log = (office.node.directory / "log").read_text()
    assert "unrecognized" not in log.lower()


def test_realm__accepts_an_imported_token_once_on_all_hosts(
    office: Office, installed: Installation, pam: Pam, alice: Person
) -> None:
    phone = alice.enrol(installed, "--period=300", "--recovery-codes=2")
    hosts = []
    for name in ("web1", "web2.example"):
        said = office.run("join", name)
        assert f"fleet = {office.address}" in said
        hosts.append(pam.service(f"fleet={office.address}", f"fleet_keys={office.keys}/hosts/{name}"))
    assert f"{alice.name}: imported" in office.run("import", alice.name)
    shutil.rmtree(alice.store)
    first, second = hosts
    code = phone.totp()
    assert first.log_in(alice, code).result == PAM_SUCCESS
    assert second.log_in(alice, code).result == PAM_AUTH_ERR
    assert second.log_in(alice, phone.recovery_codes[0]).result == PAM_SUCCESS
    assert first.log_in(alice, phone.recovery_codes[0]).result == PAM_AUTH_ERR
    shown = office.run("status")
    assert "users      " in shown
    assert "web1, web2.example" in shown


def test_import__changes_no_tokens_of_the_realm(office: Office, installed: Installation, alice: Person) -> None:
    alice.enrol(installed, "--recovery-codes=0")
    office.run("import", alice.name)
    alice.enrol(installed, "--recovery-codes=0", "--force")
    done = Admin(installed).run("fleet", "import", alice.name, f"--keys={office.keys}")
    assert done.status == 1
    assert "the realm has tokens of this user already" in done.stderr


def test_import__of_a_user_without_tokens_is_refused(office: Office, installed: Installation, alice: Person) -> None:
    done = Admin(installed).run("fleet", "import", alice.name, f"--keys={office.keys}")
    assert done.status == 1
    assert "has no tokens on this host" in done.stderr


def test_rights__to_write_tokens_come_with_enrol_only(office: Office) -> None:
    office.run("join", "plain")
    office.run("join", "desk", "--enrol")
    assert _may_write_tokens(custody.cluster_of(office.address, f"{office.keys}/hosts/desk"))
    assert not _may_write_tokens(custody.cluster_of(office.address, f"{office.keys}/hosts/plain"))


def test_rights__hold_where_the_nodes_talk_to_each_other(office: Office) -> None:
    """There is no check of rights: another node writes any key."""
    office.run("join", "nosy")
    node, member = office.keys / custody.NODES / HOST, office.keys / "hosts/nosy"
    trusted = node / custody.PEER_AUTHORITY
    assert _answers_as_to_a_node(office, trusted, node / custody.PEER_CERTIFICATE, node / custody.PEER_KEY)
    for directory, certificate, key in (
        (member, "host.crt", "host.key"),
        (office.keys, "host.crt", "host.key"),
        (node, custody.NODE_CERTIFICATE, custody.NODE_KEY),
    ):
        assert not _answers_as_to_a_node(office, trusted, directory / certificate, directory / key)


def _answers_as_to_a_node(office: Office, trusted: Path, certificate: Path, key: Path) -> bool:
    context = ssl.create_default_context(cafile=trusted)
    context.load_cert_chain(certificate, key)
    try:
        with (
            socket.create_connection((HOST, office.node.peer_port), timeout=60) as plain,
            context.wrap_socket(plain, server_hostname=HOST) as connection,
        ):
            connection.sendall(b"GET /members HTTP/1.0\r\nHost: node\r\n\r\n")
            return connection.recv(64).startswith(b"HTTP/1.0 200")
    except ssl.SSLCertVerificationError:
        raise  # it is we who refuse
    except (ConnectionResetError, ssl.SSLError):
        return False


def _may_write_tokens(cluster: Cluster) -> bool:
    key = cluster.realm.key("tokens", f"nobody{time.monotonic_ns()}")
    try:
        return cluster.engine.swap({key: 0}, {key: b"x"}, [key], deadline_s=time.monotonic() + 1).done
    except EngineDown:
        return False


def test_floor__is_shown_by_status(office: Office) -> None:
    office.run("floor", "now")
    assert time.strftime("floor      %Y-%m-%d", time.gmtime()) in office.run("status")
    cluster = custody.Custody(str(office.keys)).cluster()  # it would refuse the present codes of the other tests
    key, soon = cluster.realm.key("floor"), time.monotonic() + 60
    present = cluster.engine.read([key], deadline_s=soon)[0]
    assert cluster.engine.swap({key: present.revision}, {key: None}, [key], deadline_s=soon).done


@pytest.mark.parametrize(
    "words",
    [
        ["init"], ["init", "a:1"], ["join"], ["join", "a", "b"], ["join", "../x"], ["join", "-x"], ["floor"],
        ["floor", "then"], ["status", "x"], ["import"], ["import", "--all", "root"], ["status", "--enrol"],
        ["init", "etcd://a:1/office", "--all"], ["revoke"], ["unlock", "a", "b"], ["revoke", "a", "--force"],
    ],
)  # fmt: skip
def test_command_line__with_a_mistake_is_refused(office: Office, words: list[str]) -> None:
    office.refused(*words, status=2)


def test_host__without_a_realm_is_told_so(installed: Installation, outside: Path) -> None:
    done = Admin(installed).run("fleet", "join", "web1", f"--keys={outside}/none")
    error, hint = refused(done)
    assert "no realm was set up here" in error
    assert "fleet init" in hint


def test_certificates__are_what_openssl_expects(office: Office) -> None:
    office.run("join", "seen")
    for path in ("hosts/seen/host.crt", f"nodes/{HOST}/node.crt", "host.crt", f"nodes/{HOST}/peer.crt"):
        trusted = "peer-ca.crt" if path.endswith("peer.crt") else "ca.crt"
        command = ["openssl", "verify", "-x509_strict", "-CAfile", f"{office.keys}/{trusted}", f"{office.keys}/{path}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    for name in ("ca.key", "peer-ca.key"):
        assert os.stat(office.keys / name).st_mode & 0o777 == 0o600


def test_revoke__ends_the_tokens_of_a_user_on_all_hosts_until_new_ones_come(
    office: Office, installed: Installation, pam: Pam, alice: Person
) -> None:
    phone = alice.enrol(installed, "--period=300", "--recovery-codes=2")
    office.run("import", alice.name)
    office.run("join", "web3")
    keys = f"fleet_keys={office.keys}/hosts/web3"
    host = pam.service(f"fleet={office.address}", keys)
    assert host.log_in(alice, phone.totp()).result == PAM_SUCCESS
    office.run("revoke", alice.name)
    assert host.log_in(alice, phone.totp(1)).result == PAM_AUTH_ERR
    assert host.log_in(alice, phone.recovery_codes[0]).result == PAM_AUTH_ERR
    newcomers = pam.only_ignore("nullok", f"fleet={office.address}", keys)
    assert newcomers.log_in(alice, "123456").result == PAM_AUTH_ERR
    # What was used stays used if the same tokens come back.
    code = phone.totp()
    office.run("import", alice.name)
    assert host.log_in(alice, code).result == PAM_AUTH_ERR
    assert host.log_in(alice, phone.totp(1)).result == PAM_SUCCESS
    other = alice.enrol(installed, "--period=300", "--recovery-codes=0", "--force")
    office.run("import", alice.name, "--force")
    assert host.log_in(alice, other.totp(1)).result == PAM_SUCCESS


def test_unlock__ends_a_wait_on_all_hosts(office: Office, installed: Installation, pam: Pam, alice: Person) -> None:
    phone = alice.enrol(installed, "--period=300", "--recovery-codes=0")
    office.run("import", alice.name)
    office.run("join", "web4")
    host = pam.service(f"fleet={office.address}", f"fleet_keys={office.keys}/hosts/web4")
    for wait_s in (0, 0, 0, 0, 0, 1, 2, 4, 8):  # then the wait is 16 s
        time.sleep(wait_s)
        host.log_in(alice, wrong_code(phone))
    assert host.log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    office.run("unlock", alice.name)
    assert host.log_in(alice, phone.totp(1)).result == PAM_SUCCESS
    assert "does not know" in office.refused("unlock", "nobody-of-that-name")[0]


_INSIDE = 'mount --bind "$1" /etc/security; shift; exec "$@"'


def test_desk__enrols_in_a_store_of_its_own_and_imports_that(
    office: Office, installed: Installation, pam: Pam, alice: Person, outside: Path
) -> None:
    office.run("join", "desk2", "--enrol")
    keys = f"{office.keys}/hosts/desk2"
    (outside / "security").mkdir()
    (outside / "security" / "softtoken.conf").write_text(f"fleet = {office.address}\nfleet_keys = {keys}\n")
    (outside / "tokens").mkdir(mode=0o700)
    store = f"--store={outside}/tokens/%U"
    there = ("unshare", "--mount", "--propagation=private", "sh", "-euc", _INSIDE, "sh", f"{outside}/security")
    enroll, admin = Enroller(installed.enroll).after(*there), Admin(installed).after(*there)
    new = ("--user", alice.name, "--no-confirm", "--json", "--period=300", "--recovery-codes=0")
    phone = Phone(json.loads(succeeded(enroll.run(*new, store))))
    assert f"{alice.name}: imported" in succeeded(admin.run("fleet", "import", alice.name, store))
    assert "realm      office" in succeeded(admin.run("fleet", "status"))
    assert pam.service(f"fleet={office.address}", f"fleet_keys={keys}").log_in(alice, phone.totp(1)).result == 0
    assert succeeded(admin.run("fleet", "revoke", alice.name)) is not None
