"""`softtoken-enroll` on the hosts of a realm: it writes into the realm, and what it writes counts on all hosts."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pam_softtoken.account import enrolled_mark
from pam_softtoken.account.safe_open import Account
from pam_softtoken.account.state import State
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.config import Config
from pam_softtoken.fleet import local_record
from pam_softtoken.fleet.editor import FleetEditor
from pam_softtoken.fleet.engine import Swapped
from pam_softtoken.fleet.realm import ENROL, STATE, TOKENS
from pam_softtoken.fleet.store import engine_of
from pam_softtoken.otp.recovery_code import RecoverySet
from pam_softtoken.otp.token import Secret, TOTPToken
from pam_softtoken.program_errors import EnrolmentFailed
from tests.support import tools
from tests.support.account import REALM, Person, Phone
from tests.support.admin import succeeded
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.enroller import CODE_PROMPT, ENTER_PROMPT, OTHERS_CODE_PROMPT, TOKEN_PROMPT, recovery_codes_in
from tests.support.etcd_cluster import EtcdCluster
from tests.support.fleet_host import FleetHost
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES, Pam

if TYPE_CHECKING:
    from pam_softtoken.fleet.engine import Engine

pytestmark = [tools.needs("etcd", "etcdctl"), pytest.mark.usefixtures("empty_realm")]


@pytest.fixture
def desk(outside: Path, cluster: EtcdCluster, member_keys: dict[str, Path], installed: Installation) -> FleetHost:
    """A host that may write tokens, without a store of its own."""
    return FleetHost(outside, cluster, member_keys["desk"], installed)


@pytest.fixture
def web(outside: Path, cluster: EtcdCluster, member_keys: dict[str, Path], installed: Installation) -> FleetHost:
    """A host that may not, with a store of its own."""
    return FleetHost(outside, cluster, member_keys["web"], installed, alone=True)


def test_enrolment__on_one_host_counts_on_another(desk: FleetHost, login: Service, alice: Person) -> None:
    with desk.enroller.start("--user", alice.name, "--period=300", "--recovery-codes=2") as dialogue:
        phone = dialogue.confirm(prompt=OTHERS_CODE_PROMPT.format(alice.name))
    assert "in the realm office" in dialogue.transcript
    assert not alice.store.exists()
    assert Path(local_record.path_of(REALM, alice.name)).exists()
    # The code that confirmed the enrolment is used up.
    assert login.log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    assert login.log_in(alice, phone.totp(1)).result == PAM_SUCCESS
    assert login.log_in(alice, phone.recovery_codes[0]).result == PAM_SUCCESS
    assert login.log_in(alice, phone.recovery_codes[0]).result == PAM_AUTH_ERR


def test_enrolment__of_two_at_once_lets_one_win_and_tells_the_other(
    desk: FleetHost, login: Service, alice: Person
) -> None:
    words = ("--user", alice.name, "--period=300", NO_CODES)
    prompt = OTHERS_CODE_PROMPT.format(alice.name)
    with desk.enroller.start(*words) as first, desk.enroller.start(*words) as second:
        first.expect(prompt)
        second.expect(prompt)
        winner, loser = first.phone(), second.phone()
        first.type(winner.totp())
        assert first.finish() == 0, first.transcript
        second.type(loser.totp())
        mistake = second.refused()
    assert "somebody else has changed the tokens" in mistake.error
    assert "what was shown here is not stored" in mistake.hint
    assert login.log_in(alice, loser.totp(1)).result == PAM_AUTH_ERR
    assert login.log_in(alice, winner.totp(1)).result == PAM_SUCCESS


def test_enrolment__keeps_what_a_login_has_used_meanwhile(desk: FleetHost, login: Service, alice: Person) -> None:
    phone = desk.enrol(alice, "--recovery-codes=2")
    with desk.enroller.start("--user", alice.name, "--name=spare", "--period=300") as dialogue:
        dialogue.expect(OTHERS_CODE_PROMPT.format(alice.name))
        spare, code = dialogue.phone(), phone.totp()
        assert login.log_in(alice, code).result == PAM_SUCCESS
        assert login.log_in(alice, phone.recovery_codes[0]).result == PAM_SUCCESS
        dialogue.type(spare.totp())
        assert dialogue.finish() == 0, dialogue.transcript
    for used in (code, phone.recovery_codes[0], spare.totp()):
        assert login.log_in(alice, used).result == PAM_AUTH_ERR
    assert login.log_in(alice, spare.totp(1)).result == PAM_SUCCESS
    assert login.log_in(alice, phone.totp(1)).result == PAM_SUCCESS


def _editor(cluster: EtcdCluster, keys: Path, person: Person) -> FleetEditor:
    account = Account(person.name, person.uid, person.gid, home=str(person.home))
    return FleetEditor(account, Config(fleet=cluster.address, fleet_keys=str(keys)))


def test_exchange__is_decided_again_if_a_login_comes_before_it_is_written(
    desk: FleetHost, cluster: EtcdCluster, member_keys: dict[str, Path], login: Service, alice: Person
) -> None:
    phone = desk.enrol(alice, NO_CODES)
    code, editor = phone.totp(), _editor(cluster, member_keys["desk"], alice)
    decided = []

    def change(present: TokenFile | None, state: State) -> tuple[TokenFile | None, State]:
        decided.append(state)
        return present, state

    def last_word() -> None:
        assert login.log_in(alice, code).result == PAM_SUCCESS

    editor.open_enrolled()
    editor.exchange(change, last_word)
    editor.close()
    assert len(decided) == 2
    Path(local_record.path_of(REALM, alice.name)).unlink()  # the other host of this machine
    assert login.log_in(alice, code).result == PAM_AUTH_ERR


def test_exchange__ends_if_another_enrolment_comes_before_it_is_written(
    desk: FleetHost, cluster: EtcdCluster, member_keys: dict[str, Path], login: Service, alice: Person
) -> None:
    editor = _editor(cluster, member_keys["desk"], alice)
    phones: list[Phone] = []

    def change(present: TokenFile | None, state: State) -> tuple[TokenFile | None, State]:
        if present is not None:
            raise EnrolmentFailed("somebody else was faster", hint="start again")
        token = TOTPToken("mine", Secret(os.urandom(20)), algorithm="SHA1", digits=6, period_s=30, created=0)
        return TokenFile((token,), RecoverySet.unknown(0)), state

    editor.open_for_enrolment()
    with pytest.raises(EnrolmentFailed, match="faster"):
        editor.exchange(change, lambda: phones.append(desk.enrol(alice, NO_CODES)))
    editor.close()
    assert login.log_in(alice, phones[0].totp()).result == PAM_SUCCESS


class _AnswerLost:
    """An engine whose first answer to a change is lost. A login comes before the request is repeated."""

    def __init__(self, engine: Engine, meanwhile: Callable[[], object]) -> None:
        self._engine, self._meanwhile = engine, meanwhile
        self.read, self.may_write, self.close = engine.read, engine.may_write, engine.close
        self.repeated = 0

    def swap(
        self, expected: dict[str, int], put: dict[str, bytes | None], read: list[str], *, deadline_s: float
    ) -> Swapped:
        if not self.repeated:
            self.repeated += 1
            assert self._engine.swap(expected, put, read, deadline_s=deadline_s).done
            self._meanwhile()
        return self._engine.swap(expected, put, read, deadline_s=deadline_s)


def test_exchange__whose_answer_was_lost_before_a_login_is_known_to_be_stored(
    desk: FleetHost, cluster: EtcdCluster, member_keys: dict[str, Path], login: Service, alice: Person
) -> None:
    """Otherwise the person is told that what was shown is not stored, and it counts."""
    phone, editor = desk.enrol(alice, NO_CODES), _editor(cluster, member_keys["desk"], alice)
    token = TOTPToken("new", Secret(os.urandom(20)), algorithm="SHA1", digits=6, period_s=30, created=0)

    def change(present: TokenFile | None, state: State) -> tuple[TokenFile | None, State]:
        assert present is not None
        if len(present.tokens) > 1:
            raise EnrolmentFailed("somebody else was faster", hint="start again")
        return TokenFile((*present.tokens, token), present.recovery), state

    engine, realm = engine_of(Config(fleet=cluster.address, fleet_keys=str(member_keys["desk"])))
    lost = _AnswerLost(engine, lambda: login.log_in(alice, phone.totp()))
    editor.use(lost, realm)
    editor.open_enrolled()
    editor.exchange(change, lambda: None)
    editor.close()
    assert lost.repeated
    assert login.log_in(alice, phone.totp()).result == PAM_AUTH_ERR


def test_tools__change_what_the_realm_has(desk: FleetHost, web: FleetHost, login: Service, alice: Person) -> None:
    phone, user = desk.enrol(alice, "--recovery-codes=1"), ("--user", alice.name)
    for host in (desk, web):
        shown = json.loads(succeeded(host.enroller.run(*user, "--list", "--json")))
        assert [token["name"] for token in shown["tokens"]] == ["phone"]
        assert shown["recovery_codes"] == {"total": 1, "left": 1}
    done = desk.enroller.run(*user, "--new-recovery-codes", "--no-confirm", "--json", "--recovery-codes=1")
    (fresh,) = json.loads(succeeded(done))["recovery_codes"]
    assert login.log_in(alice, phone.recovery_codes[0]).result == PAM_AUTH_ERR
    assert login.log_in(alice, fresh).result == PAM_SUCCESS
    other = desk.enrol(alice, "--force", NO_CODES)
    assert login.log_in(alice, phone.totp(1)).result == PAM_AUTH_ERR
    assert login.log_in(alice, other.totp(1)).result == PAM_SUCCESS
    uri = b"otpauth://hotp/x:y?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&counter=0\n"
    succeeded(desk.enroller.run(*user, "--import=-", "--no-confirm", typed=uri))
    assert login.log_in(alice, "755224").result == PAM_SUCCESS  # RFC 4226, appendix D
    assert login.log_in(alice, "755224").result == PAM_AUTH_ERR
    succeeded(desk.enroller.run(*user, "--remove=phone", "--no-confirm"))
    (left,) = json.loads(succeeded(desk.enroller.run(*user, "--list", "--json")))["tokens"]
    succeeded(desk.enroller.run(*user, f"--remove={left['name']}", "--force", "--no-confirm"))
    assert login.log_in(alice, "287082").result == PAM_AUTH_ERR
    assert "is not enrolled in the realm office" in desk.enroller.run(*user, "--list").refused().error


def test_pin__counts_on_all_hosts(desk: FleetHost, login: Service, alice: Person) -> None:
    phone = desk.enrol(alice, NO_CODES)
    with desk.enroller.start("--user", alice.name, "--pin") as dialogue:
        for prompt in ("New PIN", "The same again:"):
            dialogue.expect(prompt)
            dialogue.type("4711")
        assert dialogue.finish() == 0, dialogue.transcript
    assert login.log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    assert login.log_in(alice, "4711" + phone.totp(1)).result == PAM_SUCCESS


def test_if_absent__looks_into_the_realm(desk: FleetHost, alice: Person) -> None:
    desk.enrol(alice, NO_CODES)
    done = desk.enroller.run("--user", alice.name, "--if-absent", "--no-confirm")
    assert done.status == 0
    assert "is enrolled already" in done.stderr
    succeeded(desk.enroller.run("--user", alice.name, "--remove=phone", "--force", "--no-confirm"))
    enrolled_mark.forget(alice.uid)
    done = desk.enroller.run("--user", alice.name, "--if-absent", "--no-confirm")
    assert done.status == 4
    assert "was enrolled before" in done.stderr


def test_host__without_the_right_to_write_says_so_before_it_shows_a_key(
    desk: FleetHost, web: FleetHost, cluster: EtcdCluster, alice: Person
) -> None:
    user = ("--user", alice.name)
    mistake = web.enroller.run(*user, "--no-confirm").refused()
    assert "this host may not write the tokens of the realm office" in mistake.error
    assert mistake.hint == "do that on desk"
    desk.enrol(alice, NO_CODES)
    for words in (["--force"], ["--new-recovery-codes"], ["--remove=phone", "--force"], ["--name=spare"]):
        assert "may not write" in web.enroller.run(*user, *words, "--no-confirm").refused().error
    cluster.put(cluster.realm.key(ENROL), b"forged")
    assert "fleet join --enrol" in web.enroller.run(*user, "--force", "--no-confirm").refused().hint
    cluster.host("desk2", enrols=True)


def test_user__enrols_through_sudo_and_later_needs_a_code(desk: FleetHost, login: Service, alice: Person) -> None:
    with desk.talk_to_user(alice, "--period=300", "--recovery-codes=2") as dialogue:
        phone = dialogue.confirm(prompt=CODE_PROMPT)
    assert login.log_in(alice, phone.totp(1)).result == PAM_SUCCESS
    with desk.talk_to_user(alice, "--name=spare", "--period=300") as dialogue:
        dialogue.expect(TOKEN_PROMPT)
        dialogue.type(phone.totp(1))
        dialogue.expect("The code was refused")
        dialogue.expect(TOKEN_PROMPT)
        dialogue.type(phone.recovery_codes[0])
        dialogue.expect(CODE_PROMPT)
        spare = dialogue.phone()
        dialogue.type(spare.totp())
        assert dialogue.finish() == 0, dialogue.transcript
    assert login.log_in(alice, phone.recovery_codes[0]).result == PAM_AUTH_ERR
    assert login.log_in(alice, spare.totp()).result == PAM_AUTH_ERR
    assert login.log_in(alice, spare.totp(1)).result == PAM_SUCCESS
    with desk.talk_to_user(alice, "--new-recovery-codes", "--recovery-codes=1") as dialogue:
        dialogue.expect(TOKEN_PROMPT)
        dialogue.type(phone.recovery_codes[1])
        dialogue.expect(ENTER_PROMPT)
        (code,) = set(recovery_codes_in(dialogue.transcript)) - {*phone.recovery_codes}
        dialogue.type("")
        assert dialogue.finish() == 0, dialogue.transcript
    assert login.log_in(alice, code).result == PAM_SUCCESS


def test_user__whom_the_realm_has_known_gets_no_first_token_with_a_password_alone(
    desk: FleetHost, cluster: EtcdCluster, alice: Person
) -> None:
    """The mark is on other hosts: on this one, no code of the user was ever accepted."""
    desk.enrol(alice, NO_CODES)
    cluster.put(cluster.realm.key(TOKENS, alice.name), None)
    alice.forget_on_the_host()
    done = desk.by_user(alice, "--no-confirm")
    assert "has been enrolled before, so only root" in done.stderr
    assert cluster.read(cluster.realm.key(TOKENS, alice.name)).value is None


def test_user__cannot_use_a_code_of_the_host_alone_to_change_the_realm(
    cluster: EtcdCluster, desk: FleetHost, alice: Person
) -> None:
    desk.options.append(f"fleet_alone={desk.directory}/alone/%U")
    desk.set_conf("")
    desk.enrol(alice, NO_CODES)
    alone = desk.enrol(alice, "--here", NO_CODES)
    (node,) = cluster.nodes
    with desk.talk_to_user(alice, "--new-recovery-codes") as dialogue:
        dialogue.expect(TOKEN_PROMPT)
        dialogue.type(alone.totp())
        dialogue.expect("The code was refused")
    node.send(signal.SIGSTOP)
    try:
        assert "does not answer" in desk.by_user(alice, "--new-recovery-codes").stderr
    finally:
        node.send(signal.SIGCONT)
        cluster.wait_until_healthy()


def test_force__replaces_tokens_and_a_state_with_broken_seals(
    desk: FleetHost, cluster: EtcdCluster, login: Service, alice: Person
) -> None:
    desk.enrol(alice, NO_CODES)
    for kind in (TOKENS, STATE):
        cluster.put(cluster.realm.key(kind, alice.name), b"forged")
    for words in ([], ["--name=spare"]):
        mistake = desk.enroller.run("--user", alice.name, "--no-confirm", *words).refused()
        assert "seal is not right" in mistake.error
        assert "--force" in mistake.hint
    phone = desk.enrol(alice, "--force", NO_CODES)
    assert login.log_in(alice, phone.totp()).result == PAM_SUCCESS


def test_cluster__that_does_not_answer_is_named(desk: FleetHost, cluster: EtcdCluster, alice: Person) -> None:
    (node,) = cluster.nodes
    node.send(signal.SIGSTOP)
    try:
        mistake = desk.enroller.run("--user", alice.name, "--no-confirm").refused()
    finally:
        node.send(signal.SIGCONT)
        cluster.wait_until_healthy()
    assert "the cluster does not answer" in mistake.error
    assert "nothing was changed" in mistake.error


def test_here__enrols_for_this_host_alone(
    web: FleetHost, desk: FleetHost, pam: Pam, cluster: EtcdCluster, login: Service, alice: Person
) -> None:
    phone = web.enrol(alice, "--here", NO_CODES)
    assert cluster.read(cluster.realm.key(TOKENS, alice.name)).value is None
    assert (web.directory / "alone" / str(alice.uid) / "tokens").exists()
    shown = json.loads(succeeded(web.enroller.run("--here", "--user", alice.name, "--list", "--json")))
    assert [token["name"] for token in shown["tokens"]] == ["phone"]
    assert login.log_in(alice, phone.totp()).result == PAM_AUTH_ERR  # the realm answers, and does not know it
    (node,) = cluster.nodes
    node.send(signal.SIGSTOP)
    try:
        quick = web.service(pam, "timeout=3")
        assert quick.log_in(alice, phone.totp()).result == PAM_SUCCESS
        assert quick.log_in(alice, phone.totp()).result == PAM_AUTH_ERR
        assert desk.service(pam, "timeout=3").log_in(alice, phone.totp(1)).result == PAM_AUTH_ERR
    finally:
        node.send(signal.SIGCONT)
        cluster.wait_until_healthy()


def test_here__needs_a_realm_and_a_place(desk: FleetHost, web: FleetHost, alice: Person) -> None:
    words = ("--here", "--user", alice.name, "--no-confirm")
    mistake = desk.enroller.run(*words).refused()
    assert "fleet_alone is not set" in mistake.error
    assert "fleet_alone = " in mistake.hint
    (desk.security / "softtoken.conf").write_text("")
    assert "this host is in no realm" in desk.enroller.run(*words).refused().error
    web.enroller.run(*words, "--store=/var/lib/softtoken/%U").refused(2)
    assert "only root makes a first token" in web.by_user(alice, "--here", "--no-confirm").stderr
