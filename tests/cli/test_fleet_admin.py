"""`softtoken-admin` on the hosts of a realm: what helps a user helps on all hosts, and nothing silently changes files
that do not count.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pam_softtoken.account import revocation, revoking
from pam_softtoken.fleet import local_record
from pam_softtoken.fleet.realm import FLOOR, STATE, TOKENS
from tests.support import tools
from tests.support.account import REALM, Person
from tests.support.admin import Admin, refused, succeeded
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.etcd_cluster import EtcdCluster, cluster_in
from tests.support.fleet_host import FleetHost
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES, Pam, wrong_code

pytestmark = tools.needs("etcd", "etcdctl")


@pytest.fixture(scope="module")
def cluster() -> Iterator[EtcdCluster]:
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes users and PAM services")
    parent = Path(tempfile.mkdtemp(prefix="softtoken-fleet-"))
    with cluster_in(parent, nodes=1) as made:
        yield made
    parent.rmdir()


@pytest.fixture(autouse=True)
def empty_realm(cluster: EtcdCluster, alice: Person) -> None:
    """All tests have one user, whom the realm does not know before a test."""
    for kind in (TOKENS, STATE):
        cluster.put(cluster.realm.key(kind, alice.name), None)
    cluster.put(cluster.realm.key(FLOOR), None)


@pytest.fixture(scope="module")
def keys(cluster: EtcdCluster) -> dict[str, Path]:
    return {name: cluster.host(name, enrols=name == "desk") for name in ("desk", "web")}


@pytest.fixture
def desk(outside: Path, cluster: EtcdCluster, keys: dict[str, Path], installed: Installation) -> FleetHost:
    """A host that may write tokens."""
    return FleetHost(outside, cluster, keys["desk"], installed, alone=True)


@pytest.fixture
def web(outside: Path, cluster: EtcdCluster, keys: dict[str, Path], installed: Installation) -> FleetHost:
    """A host that may not."""
    return FleetHost(outside, cluster, keys["web"], installed)


@pytest.fixture
def login(web: FleetHost, pam: Pam) -> Service:
    """A login to that host."""
    return web.service(pam)


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


def test_backup__brings_users_back_and_ends_what_was_used_since(
    desk: FleetHost, cluster: EtcdCluster, login: Service, alice: Person, outside: Path
) -> None:
    phone = desk.enrol(alice, "--recovery-codes=1")
    file, admin = outside / "backup", ("--keys", str(_administrators_keys(cluster)))
    succeeded(desk.admin.run("fleet", "export", str(file)))
    assert file.stat().st_mode & 0o777 == 0o600
    assert str(phone.record["key"]) not in file.read_text()
    assert "File exists" in refused(desk.admin.run("fleet", "export", str(file)))[0]
    code = phone.totp()
    assert login.log_in(alice, code).result == PAM_SUCCESS
    for kind in (TOKENS, STATE):
        cluster.put(cluster.realm.key(kind, alice.name), None)
    Path(local_record.path_of(REALM, alice.name)).unlink()
    done = desk.admin.run("fleet", "restore", str(file), *admin)
    assert "1 of 1 users are restored" in done.stderr
    assert "fleet floor now" in done.stderr
    assert login.log_in(alice, code).result == PAM_AUTH_ERR
    cluster.put(cluster.realm.key(FLOOR), None)  # the next code is far in the future
    assert login.log_in(alice, phone.totp(1)).result == PAM_SUCCESS
    assert login.log_in(alice, phone.recovery_codes[0]).result == PAM_SUCCESS


def test_backup__brings_no_revoked_token_back_unless_forced(
    desk: FleetHost, cluster: EtcdCluster, login: Service, alice: Person, outside: Path
) -> None:
    phone = desk.enrol(alice, "--recovery-codes=1")
    file, admin = outside / "backup", ("--keys", str(_administrators_keys(cluster)))
    succeeded(desk.admin.run("fleet", "export", str(file)))
    assert login.log_in(alice, phone.recovery_codes[0]).result == PAM_SUCCESS
    succeeded(desk.admin.run("fleet", "revoke", alice.name))
    said = desk.admin.run("fleet", "restore", str(file), *admin).stderr
    assert f"they are as they were: {alice.name}" in said
    assert cluster.read(cluster.realm.key(TOKENS, alice.name)).value is None
    assert "1 of 1 users are restored" in desk.admin.run("fleet", "restore", str(file), "--force", *admin).stderr
    cluster.put(cluster.realm.key(FLOOR), None)
    Path(local_record.path_of(REALM, alice.name)).unlink()
    assert login.log_in(alice, phone.recovery_codes[0]).result == PAM_AUTH_ERR  # the realm knows that it was used
    assert login.log_in(alice, phone.totp()).result == PAM_SUCCESS


def test_backup__gives_no_issued_code_a_second_use(
    desk: FleetHost, cluster: EtcdCluster, login: Service, alice: Person, outside: Path
) -> None:
    """With the realm's own record of the use, and where that is lost and only the floor is left."""
    desk.enrol(alice, NO_CODES)
    code = succeeded(desk.admin.run("code-for", alice.name, "--for=1h")).strip()
    file, admin = outside / "backup", ("--keys", str(_administrators_keys(cluster)))
    succeeded(desk.admin.run("fleet", "export", str(file)))
    assert login.log_in(alice, code).result == PAM_SUCCESS
    succeeded(desk.admin.run("fleet", "revoke", alice.name))
    succeeded(desk.admin.run("fleet", "restore", str(file), "--force", *admin))
    floor = cluster.read(cluster.realm.key(FLOOR)).value
    cluster.put(cluster.realm.key(FLOOR), None)
    assert login.log_in(alice, code).result == PAM_AUTH_ERR
    for kind in (TOKENS, STATE):
        cluster.put(cluster.realm.key(kind, alice.name), None)
    succeeded(desk.admin.run("fleet", "restore", str(file), *admin))
    assert cluster.read(cluster.realm.key(FLOOR)).value not in (None, floor)
    assert login.log_in(alice, code).result == PAM_AUTH_ERR


def test_backup__adds_the_uses_it_knows_to_a_realm_that_was_set_back_further(
    desk: FleetHost, cluster: EtcdCluster, login: Service, alice: Person, outside: Path
) -> None:
    phone = desk.enrol(alice, "--recovery-codes=2")
    file, admin = outside / "backup", ("--keys", str(_administrators_keys(cluster)))
    before = cluster.read(cluster.realm.key(STATE, alice.name)).value
    assert login.log_in(alice, phone.recovery_codes[0]).result == PAM_SUCCESS
    succeeded(desk.admin.run("fleet", "export", str(file)))
    cluster.put(cluster.realm.key(STATE, alice.name), before)
    Path(local_record.path_of(REALM, alice.name)).unlink()
    assert "1 of 1 users are restored" in desk.admin.run("fleet", "restore", str(file), *admin).stderr
    assert login.log_in(alice, phone.recovery_codes[0]).result == PAM_AUTH_ERR
    assert login.log_in(alice, phone.recovery_codes[1]).result == PAM_SUCCESS


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


def test_backup__restores_the_others_if_a_host_has_written_what_nobody_can_open(
    desk: FleetHost, cluster: EtcdCluster, login: Service, alice: Person, outside: Path
) -> None:
    """Each host may write states. One that is broken into must not spoil all backups from then on."""
    phone = desk.enrol(alice, NO_CODES)
    file, admin = outside / "backup", ("--keys", str(_administrators_keys(cluster)))
    strange = [cluster.realm.prefix(STATE) + name for name in ("mallory", "%zz")]
    for key in strange:
        cluster.put(key, b"x" * 500)
    succeeded(desk.admin.run("fleet", "export", str(file)))
    for key in (*strange, cluster.realm.key(STATE, alice.name), cluster.realm.key(TOKENS, alice.name)):
        cluster.put(key, None)
    done = desk.admin.run("fleet", "restore", str(file), *admin)
    assert done.status == 1
    assert "1 of 3 users are restored" in done.stderr
    assert "mallory" in done.stderr
    cluster.put(cluster.realm.key(FLOOR), None)
    assert login.log_in(alice, phone.totp()).result == PAM_SUCCESS


def test_backup__that_is_not_whole_or_not_ours_changes_nothing(
    desk: FleetHost, cluster: EtcdCluster, alice: Person, outside: Path
) -> None:
    desk.enrol(alice, NO_CODES)
    file, broken = outside / "backup", outside / "broken"
    succeeded(desk.admin.run("fleet", "export", str(file)))
    for kind in (TOKENS, STATE):
        cluster.put(cluster.realm.key(kind, alice.name), None)
    lines = file.read_text().splitlines(keepends=True)
    *before, state, tokens, end = lines
    (one, sealed_state), (other, sealed_tokens) = state.split(" "), tokens.split(" ")
    swapped = "".join([*before, f"{one} {sealed_tokens}", f"{other} {sealed_state}", end])
    for text in ("", "".join(lines[:-1]), "".join(lines)[:-1], "".join([*before, tokens, end]), swapped,
                 "".join(lines).replace("office", "home", 1)):  # fmt: skip
        broken.write_text(text)
        done = desk.admin.run("fleet", "restore", str(broken), "--keys", str(_administrators_keys(cluster)))
        assert str(broken) in refused(done)[0]
    assert cluster.read(cluster.realm.key(TOKENS, alice.name)).value is None
    assert cluster.read(cluster.realm.key(FLOOR)).value is None


def test_backup__of_a_later_time_than_this_clock_shows_is_refused(
    desk: FleetHost, cluster: EtcdCluster, alice: Person, outside: Path
) -> None:
    """The floor would be too low: codes that were used after the backup would count again."""
    desk.enrol(alice, NO_CODES)
    file, admin = outside / "backup", ("--keys", str(_administrators_keys(cluster)))
    succeeded(desk.admin.run("fleet", "export", str(file)))
    first, _, rest = file.read_text().partition("\n")
    file.write_text(f"{first[:-20]}2099-01-01T00:00:00Z\n{rest}")
    assert "date shows this clock" in refused(desk.admin.run("fleet", "restore", str(file), *admin))[1]
    assert cluster.read(cluster.realm.key(FLOOR)).value is None


def _administrators_keys(cluster: EtcdCluster) -> Path:
    """Return a directory as `fleet init` makes it, as far as commands need it."""
    (cluster.root_keys / "address").write_text(cluster.address + "\n")
    (cluster.root_keys / "address").chmod(0o600)
    return cluster.root_keys
