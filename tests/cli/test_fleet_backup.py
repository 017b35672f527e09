"""`softtoken-admin fleet export` and `restore`: what comes back, and that nothing that was used becomes unused."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pam_softtoken.account.state import State
from pam_softtoken.admin.fleet import backup
from pam_softtoken.admin.fleet.cluster import KeepsChanging
from pam_softtoken.fleet import local_record
from pam_softtoken.fleet.realm import FLOOR, STATE, TOKENS
from pam_softtoken.program_errors import AdministrationFailed
from pam_softtoken.ui.terminal import Terminal
from tests.support import tools
from tests.support.account import REALM, Person
from tests.support.admin import refused, succeeded
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.etcd_cluster import EtcdCluster, HastyOthers
from tests.support.fleet_host import FleetHost
from tests.support.pam_scene import NO_CODES

pytestmark = [tools.needs("etcd", "etcdctl"), pytest.mark.usefixtures("empty_realm")]


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


def test_restore__brings_back_the_others_if_a_host_keeps_changing_one(cluster: EtcdCluster, outside: Path) -> None:
    screen, own, file = Terminal("softtoken-admin", results=sys.stdout), cluster.realm, outside / "backup"
    cluster.empty()

    def state_of(user: str) -> bytes:
        return own.sealed_state(user, State.new(), os.urandom(16), frozenset())

    for user in ("aaron", "zoe"):
        cluster.put(own.key(STATE, user), state_of(user))
    backup.export(screen, cluster.cluster, str(file))
    cluster.empty()
    others = HastyOthers(cluster, own.key(STATE, "aaron"), lambda: state_of("aaron"))
    with pytest.raises(AdministrationFailed) as caught:
        backup.restore(screen, others.cluster(), str(file), replaces=True)
    assert caught.value.message == "not restored, because others keep changing them: aaron"
    assert caught.value.hint == KeepsChanging.HINT
    assert cluster.state_of("zoe") is not None
