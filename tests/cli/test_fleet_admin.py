"""`softtoken-admin` on the hosts of a realm: what helps a user helps on all hosts, and nothing silently changes files
that do not count.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pam_softtoken.account import revocation, revoking
from pam_softtoken.account.state import State
from pam_softtoken.admin.fleet import overview, relief
from pam_softtoken.admin.fleet.cluster import Cluster, KeepsChanging, Put
from pam_softtoken.config import Config
from pam_softtoken.fleet import local_record
from pam_softtoken.fleet.engine import Entry, Swapped
from pam_softtoken.fleet.etcd import Etcd
from pam_softtoken.fleet.realm import FLOOR, STATE, TOKENS
from pam_softtoken.fleet.store import engine_of
from pam_softtoken.program_errors import AdministrationFailed
from pam_softtoken.ui.terminal import Terminal
from tests.support import tools
from tests.support.account import REALM, Person
from tests.support.admin import Admin, refused, succeeded
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.etcd_cluster import EtcdCluster, HastyOthers, free_port
from tests.support.fleet_host import FleetHost
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES, Pam, wrong_code

pytestmark = [tools.needs("etcd", "etcdctl"), pytest.mark.usefixtures("empty_realm")]


def test_code_for__works_once_on_any_host(desk: FleetHost, web: FleetHost, pam: Pam, alice: Person) -> None:
    phone = desk.enrol(alice, NO_CODES)
    code = succeeded(web.admin.run("code-for", alice.name, "--for=1h")).strip()
    first, second = desk.service(pam), web.service(pam)
    assert first.log_in(alice, code).result == PAM_SUCCESS
    assert second.log_in(alice, code).result == PAM_AUTH_ERR
    assert second.log_in(alice, phone.totp(1)).result == PAM_SUCCESS


def test_unlock__ends_a_wait_on_another_host(
    desk: FleetHost, web: FleetHost, cluster: EtcdCluster, login: Service, alice: Person
) -> None:
    phone = desk.enrol(alice, NO_CODES)
    for _ in range(5):
        login.log_in(alice, wrong_code(phone))
    assert "5 wrong answers are forgotten" in desk.admin.run("unlock", alice.name).stderr
    state = cluster.state_of(alice.name)
    assert state is not None
    assert not state.wrong


def test_reset_state__mends_a_broken_seal_for_all_hosts(
    desk: FleetHost, web: FleetHost, cluster: EtcdCluster, login: Service, alice: Person
) -> None:
    phone = desk.enrol(alice, NO_CODES)
    code = phone.totp()
    assert login.log_in(alice, code).result == PAM_SUCCESS
    cluster.put(cluster.realm.key(STATE, alice.name), b"forged")
    assert login.log_in(alice, phone.totp(1)).result == PAM_AUTH_ERR
    said = web.admin.run("reset-state", alice.name, "--yes").stderr
    assert f"The state of {alice.name} is damaged." in said
    assert "Each host of the realm also refuses what it has accepted itself." in said
    state = cluster.state_of(alice.name)
    assert state is not None
    assert login.log_in(alice, code).result == PAM_AUTH_ERR


def test_reset_state__drops_what_this_host_has_recorded_by_a_clock_that_was_ahead(
    desk: FleetHost, cluster: EtcdCluster, alice: Person
) -> None:
    desk.enrol(alice, NO_CODES)
    record, known = local_record.path_of(REALM, alice.name), cluster.state_of(alice.name)
    assert known is not None
    (name,) = known.last
    local_record.add(record, known.with_last(name, 1 << 40), frozenset((name,)))
    assert desk.admin.run("reset-state", alice.name, "--yes").status == 0
    kept, written = local_record.read(record), cluster.state_of(alice.name)
    assert kept is not None
    assert written is not None
    assert max(kept.last[name], written.last[name]) < 1 << 40


def test_reset_state__replaces_a_damaged_record_of_this_host(desk: FleetHost, pam: Pam, alice: Person) -> None:
    phone = desk.enrol(alice, NO_CODES)
    record = Path(local_record.path_of(REALM, alice.name))
    record.write_bytes(b"x" * 512)
    service = desk.service(pam)
    assert service.log_in(alice, phone.totp(1)).result == PAM_AUTH_ERR
    succeeded(desk.admin.run("reset-state", alice.name, "--yes"))
    assert local_record.read(str(record)) is not None


def test_host__on_which_all_was_revoked_before_it_joined_lets_in_who_enrols_in_the_realm(
    desk: FleetHost, web: FleetHost, pam: Pam, alice: Person
) -> None:
    revoking.revoke(alice.uid, fingerprints=(), everything=True, now=0)
    enrolled = desk.enrol(alice, NO_CODES)
    (alice.revocations / revocation.LIVING).unlink(missing_ok=True)  # the hosts of this test are one machine
    assert web.service(pam).log_in(alice, enrolled.totp()).result == PAM_SUCCESS


def test_revoke__ends_all_tokens_on_all_hosts_and_those_of_this_host_alone(
    desk: FleetHost, cluster: EtcdCluster, login: Service, pam: Pam, alice: Person
) -> None:
    phone, alone = desk.enrol(alice, "--recovery-codes=1"), desk.enrol(alice, "--here", "--recovery-codes=1")
    said = desk.admin.run("revoke", alice.name, "--yes").stderr
    assert "No host accepts their codes" in said
    assert "The tokens of this host alone are revoked" in said
    assert login.log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    (node,) = cluster.nodes
    node.send(signal.SIGSTOP)
    try:
        quick = desk.service(pam, "timeout=3")
        for code in (alone.totp(), alone.recovery_codes[0]):
            assert quick.log_in(alice, code).result == PAM_AUTH_ERR
    finally:
        node.send(signal.SIGCONT)
        cluster.wait_until_healthy()
    # The record of that must not hold back what root enrols in the realm afterwards, on another host.
    other = desk.enrol(alice, NO_CODES)
    (alice.revocations / revocation.LIVING).unlink(missing_ok=True)
    assert desk.service(pam).log_in(alice, other.totp()).result == PAM_SUCCESS
    assert login.log_in(alice, other.totp(1)).result == PAM_SUCCESS


def test_revoke__says_that_tokens_of_this_host_alone_may_count_if_they_cannot_be_read(
    desk: FleetHost, alice: Person
) -> None:
    desk.enrol(alice, NO_CODES)
    desk.enrol(alice, "--here", NO_CODES)
    tokens = desk.directory / "alone" / str(alice.uid) / "tokens"
    tokens.chmod(0o666)
    for words in ((), ("--force",)):
        done = desk.admin.run("revoke", alice.name, "--yes", *words)
        assert done.status == 1
        assert "tokens of this host alone may still count" in done.stderr
        assert str(tokens) in done.stderr


def test_revoke__ends_a_token_of_this_host_alone_that_was_added_during_the_question(
    desk: FleetHost, cluster: EtcdCluster, pam: Pam, alice: Person
) -> None:
    desk.enrol(alice, NO_CODES)
    desk.enrol(alice, "--here", NO_CODES)
    with desk.admin.start("revoke", alice.name) as dialogue:
        dialogue.expect("Revoke?")
        added = desk.enrol(alice, "--here", "--name=added", NO_CODES)
        dialogue.type("y")
        assert dialogue.finish() == 0, dialogue.transcript
    (node,) = cluster.nodes
    node.send(signal.SIGSTOP)
    try:
        assert desk.service(pam, "timeout=3").log_in(alice, added.totp()).result == PAM_AUTH_ERR
    finally:
        node.send(signal.SIGCONT)
        cluster.wait_until_healthy()


def test_revoke__of_a_name_that_the_realm_has_never_known_is_no_success(desk: FleetHost, alice: Person) -> None:
    error, _ = refused(desk.admin.run("fleet", "revoke", "alcie"))
    assert "the realm does not know alcie" in error


def test_revoke__of_one_token_leaves_the_others(desk: FleetHost, web: FleetHost, login: Service, alice: Person) -> None:
    phone, spare = desk.enrol(alice, NO_CODES), desk.enrol(alice, "--name=spare", NO_CODES)
    error, _ = refused(desk.admin.run("revoke", alice.name, "tablet", "--yes"))
    assert 'has no token "tablet"' in error
    done = web.admin.run("revoke", alice.name, "phone", "--yes")
    assert done.status == 1
    assert "may not write the tokens of the realm" in done.stderr
    assert login.log_in(alice, phone.totp()).result == PAM_SUCCESS
    assert f'{alice.name} has "spare"' in desk.admin.run("revoke", alice.name, "phone", "--yes").stderr
    assert login.log_in(alice, phone.totp(1)).result == PAM_AUTH_ERR
    assert login.log_in(alice, spare.totp()).result == PAM_SUCCESS


def test_revoke__goes_into_the_realm_of_this_host_where_another_one_is_administered(
    desk: FleetHost, cluster: EtcdCluster, installed: Installation, alice: Person, outside: Path
) -> None:
    desk.enrol(alice, NO_CODES)
    custody = outside / "softtoken" / "fleet-admin"
    shutil.copytree(cluster.root_keys, custody)
    (custody / "address").write_text(cluster.address.replace("/office", "/home") + "\n")
    for path in (custody.parent, custody, *custody.iterdir()):
        path.chmod(0o700 if path.is_dir() else 0o600)
    script = "mkdir -p /etc/softtoken; mount --bind $1 /etc/security; mount --bind $2 /etc/softtoken; shift 2; exec $@"
    inside = ("unshare", "--mount", "--propagation=private", "sh", "-euc", script, "sh", desk.security, custody.parent)
    said = Admin(installed).after(*inside).run("revoke", alice.name, "--yes").stderr
    assert "The realm office has no tokens" in said
    assert cluster.read(cluster.realm.key(TOKENS, alice.name)).value is None
    assert cluster.read(cluster.realm.key(STATE, alice.name).replace("/office/", "/home/")).value is None


def test_revoke__on_a_host_without_the_right_says_that_the_tokens_count(
    web: FleetHost, desk: FleetHost, alice: Person
) -> None:
    desk.enrol(alice, NO_CODES)
    done = web.admin.run("revoke", alice.name, "--yes")
    assert done.status == 1
    assert f"{alice.name} is not revoked" in done.stderr
    assert "joined with --enrol" in done.stderr


def test_import__refuses_tokens_of_this_host_alone(desk: FleetHost, alice: Person) -> None:
    desk.enrol(alice, "--here", NO_CODES)
    store = f"--store={desk.directory}/alone/%U"
    assert "a code would work twice" in refused(desk.admin.run("fleet", "import", alice.name, store))[0]


def test_log__says_that_other_hosts_have_their_own(web: FleetHost, alice: Person, outside: Path) -> None:
    (outside / "log").write_text("")
    done = web.admin.run("log", f"--user={alice.name}", f"--file={outside}/log")
    assert "This host is in the realm office. Each host has its own log." in done.stderr


@pytest.mark.parametrize(
    "words", [["mend", "USER"], ["move", "USER", "--to=system"], ["rebind", "USER", "--old-name=x"], ["seal", "--on"]]
)
def test_command__for_files_is_refused_and_names_another(web: FleetHost, alice: Person, words: list[str]) -> None:
    error, hint = refused(web.admin.run(*(alice.name if word == "USER" else word for word in words)))
    assert "the tokens that count here are those of the realm office" in error
    assert "realm" in hint or "fleet" in hint


def test_revoke__ends_an_issued_code_also_if_the_same_recovery_codes_come_back(
    desk: FleetHost, login: Service, alice: Person, outside: Path
) -> None:
    made = json.loads(succeeded(desk.enroller.run("--print-recovery-codes", "--recovery-codes=1")))
    hashes = outside / "hashes"
    hashes.write_text(json.dumps(made["recovery_hashes"]))
    desk.enrol(alice, f"--recovery-hashes={hashes}")
    code = succeeded(desk.admin.run("code-for", alice.name, "--for=1h")).strip()
    succeeded(desk.admin.run("revoke", alice.name, "--yes"))
    desk.enrol(alice, f"--recovery-hashes={hashes}")
    assert login.log_in(alice, code).result == PAM_AUTH_ERR
    assert login.log_in(alice, made["recovery_codes"][0]).result == PAM_SUCCESS


class _Repeats(Etcd):
    """A connection that loses the answer to each write, and sends it again."""

    __slots__ = ()

    def swap(
        self, expected: dict[str, int], put: dict[str, bytes | None], read: list[str], *, deadline_s: float
    ) -> Swapped:
        super().swap(expected, put, read, deadline_s=deadline_s)
        return super().swap(expected, put, read, deadline_s=deadline_s)


@pytest.mark.parametrize("changed", [0, 1], ids=["what is written", "what is only read"])
def test_change__is_decided_again_if_others_were_faster(cluster: EtcdCluster, changed: int) -> None:
    cluster.empty()
    keys = [cluster.realm.key(kind, "alice") for kind in (STATE, TOKENS)]
    seen: list[bytes | None] = []

    def decide(present: list[Entry]) -> Put:
        seen.append(present[changed].value)
        if len(seen) == 1:
            cluster.put(keys[changed], b"theirs")
        return {keys[0]: b"ours"}

    cluster.cluster.change(keys, decide)
    assert seen == [None, b"theirs"]
    assert cluster.read(keys[0]).value == b"ours"


@pytest.mark.parametrize("value", [b"ours", None], ids=["written", "deleted"])
def test_change__whose_answer_was_lost_is_decided_once(cluster: EtcdCluster, value: bytes | None) -> None:
    key, decided = cluster.realm.key(STATE, "alice"), []
    cluster.put(key, b"theirs")
    engine = cluster.engine(cluster.root_keys)
    engine.__class__ = _Repeats

    def decide(present: list[Entry]) -> Put:
        decided.append(present[0].value)
        return {key: value}

    Cluster(engine, cluster.realm).change([key], decide)
    assert decided == [b"theirs"]
    assert cluster.read(key).value == value


def test_change__ends_if_others_keep_changing_the_same(cluster: EtcdCluster) -> None:
    key = cluster.realm.key(STATE, "alice")

    def decide(present: list[Entry]) -> Put:
        cluster.put(key, b"theirs" + (present[0].value or b"")[-20:])
        return {key: b"ours"}

    with pytest.raises(KeepsChanging):
        cluster.cluster.change([key], decide)
    assert (cluster.read(key).value or b"").startswith(b"theirs")


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        (STATE, relief.unlock),
        (TOKENS, relief.revoke),
        (FLOOR, lambda screen, own, _: overview.raise_floor(screen, own)),
    ],
    ids=["unlock", "revoke", "floor"],
)
def test_command__says_what_to_do_if_others_keep_changing_the_same(
    cluster: EtcdCluster, kind: str, command: Callable[[Terminal, Cluster, str], None]
) -> None:
    """The nodes do answer, and this machine has the right. Each command has another hint if they do not."""
    user = "" if kind == FLOOR else "alice"
    own, key = cluster.realm, cluster.realm.key(kind, user)

    def value() -> bytes:
        if kind == STATE:
            return own.sealed_state(user, State.new(), os.urandom(16), frozenset())
        return own.seal(kind, user, b"0")

    cluster.put(key, value())
    others = HastyOthers(cluster, key, value)
    with pytest.raises(AdministrationFailed) as caught:
        command(Terminal("softtoken-admin", results=sys.stdout), others.cluster(), "alice")
    assert "others keep changing the same" in caught.value.message
    assert caught.value.hint == KeepsChanging.HINT


def test_floor__that_another_administrator_raises_at_the_same_time_is_no_wrong_clock(cluster: EtcdCluster) -> None:
    own, key, began = cluster.realm, cluster.realm.key(FLOOR), int(time.time())
    cluster.put(key, own.sealed_floor(began))

    def theirs() -> bytes:
        while int(time.time()) <= began:  # theirs is a second later than ours would be
            pass
        return own.sealed_floor(int(time.time()))

    others = HastyOthers(cluster, key, theirs, times=1)
    overview.raise_floor(Terminal("softtoken-admin", results=sys.stdout), others.cluster())
    assert own.open_floor(cluster.read(key).value or b"") > began
    cluster.put(key, None)


def test_much_that_a_host_has_written__is_listed_while_a_node_is_down(
    cluster: EtcdCluster, member_keys: dict[str, Path]
) -> None:
    """One of three places has no node, and two have the same one."""
    cluster.empty()
    start, port = cluster.realm.prefix(STATE).encode(), cluster.nodes[0].port
    for number in range(80):
        cluster.make_as(member_keys["web"], start + b"%d" % number, b"x" * 59_000)
    address = f"etcd://127.0.0.1:{port},localhost:{port},127.0.0.1:{free_port()}/{REALM}"
    engine, _ = engine_of(Config(fleet=address, fleet_keys=str(cluster.root_keys)))
    assert isinstance(engine, Etcd)
    try:
        assert len(Cluster(engine, cluster.realm).listed(STATE)) == 80
    finally:
        engine.close()
        cluster.empty()
