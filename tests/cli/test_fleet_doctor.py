"""`softtoken-admin doctor`, `status` and `enable` on a host of a realm: they look into the realm."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pam_softtoken.account import host_key, seal, token_file
from pam_softtoken.account.host_key import HostKeys
from pam_softtoken.admin.fleet import authority
from pam_softtoken.fleet import key_files
from pam_softtoken.fleet.realm import STATE, TOKENS, Realm
from tests.support import tools
from tests.support.account import REALM, Person
from tests.support.doctor import PatientHost, found_in
from tests.support.etcd_cluster import HOST, EtcdCluster, free_port
from tests.support.installation import Installation

_ONLY_REALM = """
import sys
sys.path.insert(0, {root!r})
from pam_softtoken.admin import program
from pam_softtoken.admin.doctor import command
command.FAMILIES = tuple(family for family in command.FAMILIES if family.name == "realm")
sys.exit(program.main(["doctor", "--json"]))
"""
"""The other checks take longer, and have tests of their own."""
pytestmark = tools.needs("etcd", "etcdctl")


@pytest.fixture(scope="module")
def keys_of_desk(cluster: EtcdCluster) -> Path:
    return cluster.host("desk", enrols=True)


@pytest.fixture
def keys(keys_of_desk: Path, outside: Path) -> Path:
    """The keys of the host, which the test can damage."""
    shutil.copytree(keys_of_desk, outside / "keys")
    (outside / "keys").chmod(0o700)
    return outside / "keys"


class Member(PatientHost):
    """A sound host of the realm with one enrolled user, until a test breaks something."""

    def __init__(self, directory: Path, installed: Installation, cluster: EtcdCluster, keys: Path) -> None:
        super().__init__(directory, installed)
        self.alone = directory / "alone"
        self.alone.mkdir(mode=0o700)
        self._settings = {"fleet": cluster.address, "fleet_keys": str(keys), "fleet_alone": f"{self.alone}/%U"}
        self.set()

    def set(self, **settings: str) -> None:
        """Change settings; an empty one goes."""
        self._settings |= settings
        self.set_conf("".join(f"{name} = {value}\n" for name, value in self._settings.items() if value))

    def enroll(self, person: Person, *words: str) -> None:
        done = self.run(self.installed.enroll, "--user", person.name, "--no-confirm", "--recovery-codes=0", *words)
        assert done.returncode == 0, done.stderr

    def of_realm(self) -> list[dict[str, Any]]:
        """Return the doctor's findings about the realm."""
        script = _ONLY_REALM.format(root=str(self.installed.root))
        return found_in(self.run("/usr/bin/python3", "-I", "-c", script)).findings

    def only_finding(self, severity: str) -> dict[str, Any]:
        """Return the one finding about the realm."""
        (found,) = self.of_realm()
        assert found["severity"] == severity, found
        return found

    def status(self, *words: str) -> tuple[dict[str, Any], str]:
        """Return what `status` shows for programs, and for people."""
        program = self.installed.root / "scripts" / "softtoken-admin"
        shown = [self.run(program, "status", *words, *more) for more in (["--json"], [])]
        assert [done.returncode for done in shown] == [0, 0], shown
        return json.loads(shown[0].stdout), shown[1].stdout


@pytest.fixture
def member(outside: Path, installed: Installation, cluster: EtcdCluster, keys: Path, alice: Person) -> Member:
    for kind in (TOKENS, STATE):
        cluster.put(cluster.realm.key(kind, alice.name), None)
    made = Member(outside / "host", installed, cluster, keys)
    made.enroll(alice)
    made.enroll(alice, "--here")
    return made


def test_doctor__finds_nothing_on_a_sound_host_of_a_realm(member: Member) -> None:
    found = member.examine()
    assert found.worse_than_notes() == []
    assert "the realm office: keys, nodes and seals" in found.looked_at


def _certificate_of(days: int) -> Callable[[EtcdCluster, Path], None]:
    def damage(cluster: EtcdCluster, keys: Path) -> None:
        pair = authority.certify_member(cluster.authority, "softtoken-office-desk", days=days)
        (keys / key_files.CERTIFICATE).write_bytes(pair.certificate)
        (keys / key_files.KEY).write_bytes(pair.key)

    return damage


def _other_seal_key(cluster: EtcdCluster, keys: Path) -> None:
    (keys / key_files.SEAL_KEY).write_bytes(host_key.serialise(HostKeys(os.urandom(seal.KEY_BYTES))))


def _foreign(cluster: EtcdCluster, keys: Path) -> None:
    other = authority.new_authority("office")
    (keys / key_files.AUTHORITY).write_bytes(other.certificate)


FAULTS: tuple[tuple[str, str, Callable[[EtcdCluster, Path], object]], ...] = (
    ("error", "certificate has expired", _certificate_of(0)),
    ("warning", "the certificate ends in 30 d", _certificate_of(30)),
    ("error", "another seal.key", _other_seal_key),
    ("error", "has not joined the realm", lambda cluster, keys: shutil.rmtree(keys)),
    ("error", "o such file", lambda cluster, keys: (keys / key_files.SEAL_KEY).unlink()),
    ("error", "is no key file", lambda cluster, keys: (keys / key_files.SEAL_KEY).write_text("x\n")),
    ("error", "open to others", lambda cluster, keys: (keys / key_files.KEY).chmod(0o644)),
    ("error", "unable to get local issuer certificate", _foreign),
    ("error", "no certificate", lambda cluster, keys: (keys / key_files.CERTIFICATE).write_text("x\n")),
)


def test_doctor__names_what_is_wrong_with_the_keys(
    member: Member, cluster: EtcdCluster, keys: Path, keys_of_desk: Path
) -> None:
    for severity, words, damage in FAULTS:
        damage(cluster, keys)
        finding = member.only_finding(severity)
        assert words in finding["what"]
        if words == "open to others":
            assert member.run("sh", "-c", finding["mend"]).returncode == 0
            assert member.of_realm() == []
        else:
            assert "fleet join" in finding["mend"] or finding["place"].startswith(HOST), finding
        shutil.rmtree(keys, ignore_errors=True)
        shutil.copytree(keys_of_desk, keys)


def test_doctor__names_a_node_that_is_down(member: Member, cluster: EtcdCluster) -> None:
    nodes, _, realm = cluster.address.rpartition("/")
    dead = f"{HOST}:{free_port()}"
    member.set(fleet=f"{nodes},{dead}/{realm}")
    finding = member.only_finding("warning")
    assert finding["place"] == dead
    assert "if one more fails, every user is refused" in finding["what"]
    assert "connection refused" in finding["what"]


def test_doctor__and_status_say_that_no_node_answers(member: Member, cluster: EtcdCluster, alice: Person) -> None:
    (node,) = cluster.nodes
    node.send(signal.SIGSTOP)
    try:
        finding = member.only_finding("error")
        document, text = member.status(alice.name)
    finally:
        node.send(signal.SIGCONT)
        cluster.wait_until_healthy()
    assert "only tokens of this host alone count" in finding["what"]
    assert document["users"][0]["status"] == "unusable"
    assert "It does not answer" in text


def test_doctor__names_users_whose_seals_are_broken(member: Member, cluster: EtcdCluster, alice: Person) -> None:
    cluster.enrol("somebody-else", _content(cluster, alice), None)
    cluster.put(cluster.realm.key(TOKENS, alice.name), b"forged")
    try:
        finding = member.only_finding("error")
    finally:
        cluster.put(cluster.realm.key(TOKENS, "somebody-else"), None)
    assert f"the seals are broken of {alice.name}" in finding["what"]


def test_doctor__names_users_whose_seal_key_this_host_lacks(
    member: Member, cluster: EtcdCluster, keys: Path, alice: Person
) -> None:
    content = _content(cluster, alice)
    key = cluster.realm.key(TOKENS, "somebody-else")
    new = Realm(REALM, os.urandom(seal.KEY_BYTES))
    cluster.put(key, new.seal(TOKENS, "somebody-else", token_file.serialise(content)))
    try:
        finding = member.only_finding("error")
    finally:
        cluster.put(key, None)
    assert "this host lacks a seal key of somebody-else" in finding["what"]
    assert finding["place"] == f"{keys}/{key_files.SEAL_KEY}"
    assert "fleet join" in finding["mend"]


def _content(cluster: EtcdCluster, person: Person) -> token_file.TokenFile:
    value = cluster.read(cluster.realm.key(TOKENS, person.name)).value
    assert value is not None
    return token_file.parse(cluster.realm.open(TOKENS, person.name, value), path="tokens")


def test_doctor__says_who_gets_in_while_the_nodes_are_away(member: Member) -> None:
    shutil.rmtree(member.alone)
    member.alone.mkdir(mode=0o700)
    assert "no user has tokens in" in member.only_finding("warning")["what"]
    member.set(fleet_alone="")
    assert "fleet_alone names no store" in member.only_finding("note")["what"]


def test_status__shows_what_the_realm_has(member: Member, alice: Person, cluster: EtcdCluster) -> None:
    document, text = member.status(alice.name)
    (facts,) = document["users"]
    assert document["realm"] == cluster.address
    assert (facts["status"], facts["store"], facts["state"]) == ("enrolled", "the realm office", "ok")
    assert [token["name"] for token in facts["tokens"]] == ["phone"]
    assert "The tokens are those of the realm office" in text
    cluster.put(cluster.realm.key(TOKENS, alice.name), None)
    (facts,) = member.status(alice.name)[0]["users"]
    assert (facts["status"], facts["was_enrolled"]) == ("not-enrolled", True)
    cluster.put(cluster.realm.key(TOKENS, alice.name), b"forged")
    (facts,) = member.status(alice.name)[0]["users"]
    assert facts["status"] == "unusable"
    assert facts["cure"] == f"softtoken-enroll --user {alice.name} --force"


def test_status__does_not_count_files_of_this_host(
    member: Member, alice: Person, cluster: EtcdCluster, installed: Installation
) -> None:
    for kind in (TOKENS, STATE):
        cluster.put(cluster.realm.key(kind, alice.name), None)
    member.enroll(alice, "--store=%h/.softtoken")
    (facts,) = member.status(alice.name)[0]["users"]
    assert facts["status"] == "not-enrolled"
    assert f"softtoken-admin fleet import {alice.name}" in member.status(alice.name)[1]


def _row(member: Member, person: Person) -> str:
    """Return what `enable` says about a user before it changes anything."""
    program = member.installed.root / "scripts" / "softtoken-admin"
    said = member.run(program, "enable", "su", "--dry-run", "--force").stderr
    return next((line for line in said.splitlines() if line.startswith(f"  {person.name} ")), "")


def test_enable__knows_from_the_realm_who_would_get_in(member: Member, alice: Person, cluster: EtcdCluster) -> None:
    assert _row(member, alice).split(maxsplit=2)[1:] == ["password", "password and code"]
    key = cluster.realm.key(TOKENS, alice.name)
    tokens = cluster.read(key).value
    cluster.put(key, None)
    assert "code" not in _row(member, alice)
    assert _row(member, alice)
    cluster.put(key, tokens)
    (node,) = cluster.nodes
    node.send(signal.SIGSTOP)
    try:
        assert _row(member, alice).split(maxsplit=2)[1:] == ["password", "perhaps password and code"]
    finally:
        node.send(signal.SIGCONT)
        cluster.wait_until_healthy()
