"""A realm of many hosts on three real nodes of etcd: one code works once on all hosts. Each failure has its verdict.

Each service here is a host: it has its own certificate.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pam_softtoken.account.state import State
from pam_softtoken.admin.fleet import authority
from pam_softtoken.fleet import key_files
from pam_softtoken.fleet.engine import EngineDown
from pam_softtoken.fleet.realm import STATE, TOKENS, Realm
from tests.support import sampling, tools
from tests.support.account import REALM, Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Outcome, Service
from tests.support.etcd_cluster import EtcdCluster, cluster_of
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES, NOBODY, PROMPT, Pam, oathtool, severities, wrong_code
from tests.support.pam_waiting import Waiting
from tests.support.relay import RelayHost
from tests.support.system_log import SystemLog

pytestmark = tools.needs("etcd", "etcdctl")
ROUNDS = sampling.amount(5, full=100)
KILLS = sampling.amount(2, full=30)
CROWD = sampling.amount(16, full=64)
PATIENT = "timeout=60"
ALERT, ERR = 1, 3


@pytest.fixture(scope="module")
def cluster() -> Iterator[EtcdCluster]:
    """Three nodes. A test that stops some starts them again."""
    with cluster_of(3) as made:
        yield made


@pytest.fixture
def whole(cluster: EtcdCluster) -> Iterator[EtcdCluster]:
    """The cluster, for a test that breaks it."""
    yield cluster
    for node in cluster.nodes:
        if node.is_running:
            node.send(signal.SIGCONT)
    cluster.start()
    cluster.wait_until_healthy()


@pytest.fixture(scope="module")
def keys(cluster: EtcdCluster) -> list[Path]:
    """The keys of three hosts."""
    return [cluster.host(name) for name in ("web1", "web2", "web3")]


@pytest.fixture
def hosts(pam: Pam, cluster: EtcdCluster, keys: list[Path]) -> list[Service]:
    """Three hosts of the realm."""
    return [pam.service(f"fleet={cluster.address}", f"fleet_keys={each}") for each in keys]


@pytest.fixture
def host(hosts: list[Service]) -> Service:
    return hosts[0]


@pytest.fixture
def reads_first(pam: Pam, cluster: EtcdCluster, keys: list[Path]) -> Service:
    """A host that asks the cluster before it shows the prompt, because it may ask nobody."""
    return pam.service("nullok", f"fleet={cluster.address}", f"fleet_keys={keys[0]}")


@pytest.fixture
def phone(installed: Installation, alice: Person, cluster: EtcdCluster) -> Phone:
    """Alice's token in the realm, and nowhere else."""
    found = alice.enrol(installed, "--period=300", "--recovery-codes=2")
    cluster.take_over(alice)
    return found


def _reason(outcome: Outcome, log: SystemLog, result: int) -> str:
    assert outcome.result == result
    assert outcome.messages[:1] == PROMPT
    return log.reasons()[-1]


def test_code__of_one_enrolment_is_accepted_on_any_host_and_then_refused_on_all(
    hosts: list[Service], alice: Person, phone: Phone, system_log: SystemLog
) -> None:
    first, second, third = hosts
    code = phone.totp()
    assert _reason(first.log_in(alice, code), system_log, PAM_SUCCESS) == "accepted"
    for host in hosts:
        assert _reason(host.log_in(alice, code), system_log, PAM_AUTH_ERR) == "replayed"
    assert _reason(second.log_in(alice, phone.totp(1)), system_log, PAM_SUCCESS) == "accepted"
    assert _reason(third.log_in(alice, phone.recovery_codes[0]), system_log, PAM_SUCCESS) == "recovery"
    assert _reason(first.log_in(alice, phone.recovery_codes[0]), system_log, PAM_AUTH_ERR) == "replayed"


def test_program_without_root__is_judged_by_the_realm(
    relay_host: RelayHost, cluster: EtcdCluster, keys: list[Path], host: Service, alice: Person, phone: Phone
) -> None:
    relay_host.set_conf(f"fleet = {cluster.address}\nfleet_keys = {keys[1]}\n")
    code = phone.totp()
    assert host.log_in(alice, code).result == PAM_SUCCESS
    assert relay_host.ask(alice, alice, code).result == PAM_AUTH_ERR
    assert relay_host.ask(alice, alice, phone.totp(1)).result == PAM_SUCCESS
    assert relay_host.log.reasons() == ["replayed", "accepted"]


def test_wrong_codes__are_counted_once_for_all_hosts(
    hosts: list[Service], alice: Person, phone: Phone, system_log: SystemLog
) -> None:
    rhost = ["--item=rhost=192.0.2.7"]
    wrong = wrong_code(phone)
    for number, wait_s in enumerate((0, 0, 0, 0, 0, 1, 2, 4, 8)):  # then the wait is 16 s
        time.sleep(wait_s)
        assert _reason(hosts[number % 3].log_in(alice, wrong, options=rhost), system_log, PAM_AUTH_ERR) == "mismatch"
    assert _reason(hosts[2].log_in(alice, phone.totp(), options=rhost), system_log, PAM_AUTH_ERR) == "throttled"


@contextmanager
def _crowd(hosts: list[Service], person: Person, size: int, rounds: int) -> Iterator[list[Waiting]]:
    with ExitStack() as exits:
        yield [exits.enter_context(Waiting(hosts[n % len(hosts)], person, attempts=rounds)) for n in range(size)]


def _race(clients: list[Waiting], code: str, in_the_race: Callable[[], None] = lambda: None) -> list[int]:
    """Type the same code at all prompts at once, and return the results."""
    for client in clients:
        client.write_down(code)
    for client in clients:
        client.wait_for_prompt()
    for client in clients:
        client.release()
    in_the_race()
    return [client.outcome().result for client in clients]


def _codes(phone: Phone, count: int) -> list[str]:
    """Return codes of consecutive time steps up to the present one, which a window of 20 accepts in this order."""
    return oathtool(phone, int(time.time()) // 300 - 18, count)


@pytest.mark.claim("In a realm, one code lets one login in, however many hosts try it at the same moment.")
def test_one_code__at_many_hosts_at_once_lets_one_in(
    pam: Pam, cluster: EtcdCluster, keys: list[Path], installed: Installation, alice: Person
) -> None:
    hosts = [pam.service(PATIENT, "window=20", f"fleet={cluster.address}", f"fleet_keys={each}") for each in keys]
    left = ROUNDS
    while left:
        rounds = min(left, 30)
        phone = alice.enrol(installed, "--period=300", NO_CODES)
        cluster.take_over(alice)
        with _crowd(hosts, alice, CROWD, rounds) as clients:
            for code in _codes(phone, rounds):
                assert sorted(_race(clients, code)) == [PAM_SUCCESS] + (CROWD - 1) * [PAM_AUTH_ERR]
        left -= rounds


def test_one_code__lets_many_in_without_the_comparison(
    pam: Pam, cluster: EtcdCluster, keys: list[Path], alice: Person, phone: Phone, outside: Path
) -> None:
    """The control: a copy that writes without comparing fails the race above. Two have read before one writes."""
    copy, writers = outside / "softtoken-backend", outside / "writers"
    copy.write_text(
        "import os, sys, time\n"
        f"sys.path.insert(0, {str(pam.installed.root)!r})\n"
        "from pam_softtoken.fleet import etcd, etcd_messages\n"
        "whole = etcd_messages.transaction\n"
        "def careless(expected, put, read):\n"
        "    if not expected:\n"
        "        return whole(expected, put, read)\n"
        f"    with open({str(writers)!r}, 'a') as file:\n"
        "        file.write('.')\n"
        f"    while os.path.getsize({str(writers)!r}) < 2:\n"
        "        time.sleep(0.01)\n"
        "    return whole({b'/softtoken/v1/office/no/key': 0}, put, read)\n"
        "etcd_messages.transaction = careless\n"
        "from pam_softtoken.bridge.backend import main\n"
        "main(__file__)\n"
    )
    options = (PATIENT, f"fleet={cluster.address}")
    hosts = [pam.with_backend(copy, *options, f"fleet_keys={each}") for each in keys]
    with _crowd(hosts, alice, 8, 1) as clients:
        assert _race(clients, phone.totp()).count(PAM_SUCCESS) > 1


_LOSING = """
from pam_softtoken.fleet import etcd
whole = etcd._Link.call
calls = []
def lose(link, method, message, *, deadline_s):
    answer = whole(link, method, message, deadline_s=deadline_s)
    calls.append(method)
    if len(calls) == 2:
        raise OSError("lost")
    return answer
etcd._Link.call = lose
"""
"""The first call reads, and the second one writes. Its answer is lost on the way."""


def _host_with(pam: Pam, outside: Path, change: str, *options: str) -> Service:
    """Return a host with a changed copy of the backend."""
    copy = outside / "softtoken-backend"
    preamble = f"import sys\nsys.path.insert(0, {str(pam.installed.root)!r})\n"
    copy.write_text(f"{preamble}{change}\nfrom pam_softtoken.bridge.backend import main\nmain(__file__)\n")
    return pam.with_backend(copy, *options)


def test_lost_answer__to_a_write_that_succeeded_is_a_success(
    pam: Pam, cluster: EtcdCluster, keys: list[Path], alice: Person, phone: Phone, outside: Path, hosts: list[Service],
    system_log: SystemLog,
) -> None:  # fmt: skip
    host = _host_with(pam, outside, _LOSING, f"fleet={cluster.address}", f"fleet_keys={keys[0]}")
    code = phone.totp()
    assert _reason(host.log_in(alice, code), system_log, PAM_SUCCESS) == "accepted"
    assert _reason(hosts[1].log_in(alice, code), system_log, PAM_AUTH_ERR) == "replayed"


def test_lost_answer__is_no_success_of_another_login(
    pam: Pam, cluster: EtcdCluster, keys: list[Path], alice: Person, phone: Phone, outside: Path
) -> None:
    """The control: a copy that takes any conflict for its own success lets a second login in."""
    same_nonce = "import types\nfrom pam_softtoken.fleet import store\nstore.os = types.SimpleNamespace(urandom=bytes)"
    options = ("nullok", f"fleet={cluster.address}", f"fleet_keys={keys[0]}")
    results: list[tuple[int, int]] = []
    for change in ("", same_nonce):
        host = _host_with(pam, outside, change, *options)
        code = phone.totp(len(results))
        with Waiting(host, alice) as first, Waiting(host, alice) as second:
            for client in (first, second):  # both have read the state then
                client.write_down(code)
                client.wait_for_prompt()
            first.release()
            one = first.outcome().result
            second.release()
            results.append((one, second.outcome().result))
    assert results == [(PAM_SUCCESS, PAM_AUTH_ERR), (PAM_SUCCESS, PAM_SUCCESS)]


@pytest.mark.claim("A realm loses no use of a code when the leading node of etcd dies in the middle of logins.")
def test_one_code__lets_one_in_when_the_leader_dies_in_the_race(
    pam: Pam, whole: EtcdCluster, keys: list[Path], installed: Installation, alice: Person
) -> None:
    hosts = [pam.service(PATIENT, "window=20", f"fleet={whole.address}", f"fleet_keys={each}") for each in keys]
    alice_phone = alice.enrol(installed, "--period=300", NO_CODES)
    whole.take_over(alice)
    results = []
    for number, code in enumerate(_codes(alice_phone, KILLS)):
        leader = whole.leader()

        def kill() -> None:
            time.sleep(0.004 * (number % 6))  # noqa: B023 - in the midst of it, at another moment each time
            leader.kill()  # noqa: B023

        with _crowd(hosts, alice, 12, 1) as clients:
            results.append(_race(clients, code, kill))
        whole.start()
        whole.wait_until_healthy()
    assert [each.count(PAM_SUCCESS) for each in results] == KILLS * [1]


def test_one_node__may_be_down(host: Service, alice: Person, phone: Phone, whole: EtcdCluster) -> None:
    for number, node in enumerate(whole.nodes[:2]):
        node.kill()
        assert host.log_in(alice, phone.totp(number)).result == PAM_SUCCESS
        whole.start()
        whole.wait_until_healthy()


def test_one_node__may_hang(host: Service, alice: Person, phone: Phone, whole: EtcdCluster) -> None:
    whole.nodes[0].send(signal.SIGSTOP)
    for code in (phone.totp(), phone.totp(1), phone.recovery_codes[0]):
        assert host.log_in(alice, code).result == PAM_SUCCESS
    whole.nodes[0].send(signal.SIGCONT)


def _without_quorum(cluster: EtcdCluster) -> None:
    for node in cluster.nodes[1:]:
        node.kill()


def test_no_quorum__asks_as_usual_and_denies(
    host: Service, alice: Person, phone: Phone, whole: EtcdCluster, system_log: SystemLog
) -> None:
    _without_quorum(whole)
    code = phone.totp()
    assert _reason(host.log_in(alice, code), system_log, PAM_AUTH_ERR) == "fleet_down"
    assert severities(system_log) == [ERR]
    whole.start()
    whole.wait_until_healthy()
    assert host.log_in(alice, code).result == PAM_SUCCESS


def test_no_quorum__keeps_a_name_that_no_user_has_waiting_as_well(host: Service, whole: EtcdCluster) -> None:
    """With `timeout=10` the cluster has 4 s to answer."""
    _without_quorum(whole)
    outcome = host.log_in(NOBODY, "123456")
    assert (outcome.result, outcome.messages[:1]) == (PAM_AUTH_ERR, PROMPT)
    assert outcome.verdict_us > 3_900_000


def test_no_quorum__is_no_proof_for_nullok(
    pam: Pam, alice: Person, whole: EtcdCluster, keys: list[Path], system_log: SystemLog
) -> None:
    options = ("nullok", f"fleet={whole.address}", f"fleet_keys={keys[0]}")
    _without_quorum(whole)
    for more in ((), ("fleet_alone=/var/lib/softtoken/alone/%U",)):
        outcome = pam.only_ignore(*options, *more).log_in(alice, "123456")
        assert _reason(outcome, system_log, PAM_AUTH_ERR) in ("fleet_down", "unusable_file")


def test_no_quorum__leaves_the_tokens_of_this_host_alone(
    pam: Pam, installed: Installation, alice: Person, phone: Phone, whole: EtcdCluster, keys: list[Path], outside: Path,
    system_log: SystemLog,
) -> None:  # fmt: skip
    (outside / "alone").mkdir(mode=0o700)
    alone = f"{outside}/alone/%U"
    own = alice.enrol(installed, "--period=300", "--recovery-codes=1", f"--store={alone}")
    options = (f"fleet={whole.address}", f"fleet_keys={keys[0]}", f"fleet_alone={alone}")
    host, patient = pam.service(*options), pam.service(PATIENT, *options)
    code = own.totp(1)
    # While the cluster answers, its tokens count, and no others.
    assert _reason(patient.log_in(alice, code), system_log, PAM_AUTH_ERR) == "mismatch"
    _without_quorum(whole)
    assert _reason(host.log_in(alice, phone.totp()), system_log, PAM_AUTH_ERR) == "mismatch"
    assert _reason(host.log_in(alice, code), system_log, PAM_SUCCESS) == "accepted"
    assert _reason(host.log_in(alice, code), system_log, PAM_AUTH_ERR) == "replayed"
    assert _reason(host.log_in(alice, own.recovery_codes[0]), system_log, PAM_SUCCESS) == "recovery"
    assert any("only tokens of this host alone count" in line for line in system_log.ours())


def test_cluster__lost_before_the_verdict_denies_in_time(
    reads_first: Service, alice: Person, phone: Phone, whole: EtcdCluster, system_log: SystemLog
) -> None:
    with Waiting(reads_first, alice) as client:
        client.write_down(phone.totp())
        client.wait_for_prompt()
        for node in whole.nodes:
            node.kill()
        started = time.monotonic()
        client.release()
        outcome = client.outcome()
    assert _reason(outcome, system_log, PAM_AUTH_ERR) == "not_stored"
    assert time.monotonic() - started < 10


def test_seal__that_is_broken_denies_with_an_alert(
    host: Service, alice: Person, phone: Phone, cluster: EtcdCluster, system_log: SystemLog
) -> None:
    realm = cluster.realm
    for kind in (TOKENS, STATE):
        key = realm.key(kind, alice.name)
        good = cluster.read(key).value
        assert good is not None
        foreign = Realm(REALM, bytes(32)).seal(kind, alice.name, realm.open(kind, alice.name, good))
        for bad in (good[:-1] + bytes((good[-1] ^ 1,)), good[:-1], b"", foreign):
            system_log.clear()
            cluster.put(key, bad)
            assert _reason(host.log_in(alice, phone.totp()), system_log, PAM_AUTH_ERR) == "damaged_state"
            assert severities(system_log) == [ALERT]
        cluster.put(key, good)
    assert host.log_in(alice, phone.totp()).result == PAM_SUCCESS


def test_seal__of_another_user_opens_nothing(
    host: Service, alice: Person, phone: Phone, cluster: EtcdCluster, make_person: Callable[[], Person],
    system_log: SystemLog,
) -> None:  # fmt: skip
    bob = make_person()
    for kind in (TOKENS, STATE):
        cluster.put(cluster.realm.key(kind, bob.name), cluster.read(cluster.realm.key(kind, alice.name)).value)
    assert _reason(host.log_in(bob, phone.totp()), system_log, PAM_AUTH_ERR) == "damaged_state"


def test_nullok__lets_in_only_those_whom_the_realm_has_never_known(
    pam: Pam, alice: Person, phone: Phone, cluster: EtcdCluster, keys: list[Path], make_person: Callable[[], Person],
    system_log: SystemLog,
) -> None:  # fmt: skip
    service = pam.only_ignore("nullok", f"fleet={cluster.address}", f"fleet_keys={keys[0]}")
    assert service.log_in(make_person()).result == PAM_SUCCESS
    assert service.log_in(alice, wrong_code(phone)).result == PAM_AUTH_ERR
    cluster.put(cluster.realm.key(TOKENS, alice.name), None)
    assert _reason(service.log_in(alice, phone.totp()), system_log, PAM_AUTH_ERR) == "not_enrolled"


def test_revocation__ends_a_login_that_waits_at_its_prompt(
    reads_first: Service, alice: Person, phone: Phone, cluster: EtcdCluster, system_log: SystemLog
) -> None:
    with Waiting(reads_first, alice) as client:
        client.write_down(phone.totp())
        client.wait_for_prompt()
        cluster.put(cluster.realm.key(TOKENS, alice.name), None)
        client.release()
        assert _reason(client.outcome(), system_log, PAM_AUTH_ERR) == "not_enrolled"


def test_host__of_another_authority_or_with_an_old_certificate_gets_no_answer(
    pam: Pam, alice: Person, phone: Phone, cluster: EtcdCluster, system_log: SystemLog
) -> None:
    cluster.cluster.add_host("old", enrols=False)
    strange = cluster.member("strange", user="softtoken-office-web1", certifier=authority.new_authority(REALM))
    old = cluster.member("old", user="softtoken-office-old", days=0)
    unknown = cluster.member("unknown")
    for directory in (strange, old, unknown):
        service = pam.service("timeout=4", f"fleet={cluster.address}", f"fleet_keys={directory}")
        assert _reason(service.log_in(alice, phone.totp()), system_log, PAM_AUTH_ERR) == "fleet_down"


def test_cluster__of_another_authority_is_not_believed(
    pam: Pam, alice: Person, phone: Phone, cluster: EtcdCluster, keys: list[Path], outside: Path, system_log: SystemLog
) -> None:
    shutil.copytree(keys[0], outside / "keys")
    (outside / "keys" / key_files.AUTHORITY).write_bytes(authority.new_authority(REALM).certificate)
    service = pam.service("timeout=4", f"fleet={cluster.address}", f"fleet_keys={outside}/keys")
    assert _reason(service.log_in(alice, phone.totp()), system_log, PAM_AUTH_ERR) == "fleet_down"


@pytest.mark.parametrize("name", [key_files.AUTHORITY, key_files.CERTIFICATE, key_files.KEY, key_files.SEAL_KEY])
def test_key_file__that_is_missing_or_open_to_others_denies(
    pam: Pam, alice: Person, phone: Phone, cluster: EtcdCluster, keys: list[Path], outside: Path, system_log: SystemLog,
    name: str,
) -> None:  # fmt: skip
    shutil.copytree(keys[0], outside / "keys")
    service = pam.service(f"fleet={cluster.address}", f"fleet_keys={outside}/keys")
    (outside / "keys" / name).chmod(0o640)
    assert _reason(service.log_in(alice, phone.totp()), system_log, PAM_AUTH_ERR) == "insecure_file"
    (outside / "keys" / name).unlink()
    assert _reason(service.log_in(alice, phone.totp()), system_log, PAM_AUTH_ERR) == "unusable_file"


def test_cluster__that_was_set_back_accepts_no_code_of_this_host_again(
    hosts: list[Service], alice: Person, phone: Phone, cluster: EtcdCluster, system_log: SystemLog
) -> None:
    key = cluster.realm.key(STATE, alice.name)
    before = cluster.read(key).value
    code, recovery_code = phone.totp(), phone.recovery_codes[0]
    assert hosts[0].log_in(alice, code).result == PAM_SUCCESS
    assert hosts[0].log_in(alice, recovery_code).result == PAM_SUCCESS
    cluster.put(key, before)
    for answer in (code, recovery_code):
        assert _reason(hosts[0].log_in(alice, answer), system_log, PAM_AUTH_ERR) == "replayed"


def test_floor__ends_the_codes_that_counted_before(
    host: Service, alice: Person, phone: Phone, cluster: EtcdCluster, system_log: SystemLog
) -> None:
    """Before the floor, the code of the step after that counted as well: the app's clock may be ahead."""
    step = int(time.time()) // 300
    try:
        for floor, code, result, reason in (
            (step, step, PAM_AUTH_ERR, "replayed"),
            (step, step + 1, PAM_AUTH_ERR, "replayed"),
            (step - 1, step, PAM_AUTH_ERR, "replayed"),
            (step - 1, step + 1, PAM_SUCCESS, "accepted"),
        ):
            cluster.set_floor(floor * 300 + 299)
            assert _reason(host.log_in(alice, oathtool(phone, code)[0]), system_log, result) == reason
    finally:
        cluster.put(cluster.realm.key("floor"), None)


def test_floor__of_long_ago_makes_no_code_of_a_token_without_a_record_count(
    host: Service, alice: Person, phone: Phone, cluster: EtcdCluster, system_log: SystemLog
) -> None:
    step = int(time.time()) // 300
    cluster.put(
        cluster.realm.key(STATE, alice.name), cluster.realm.sealed_state(alice.name, State(), bytes(16), frozenset())
    )
    cluster.set_floor((step - 100) * 300)
    try:
        assert _reason(host.log_in(alice, oathtool(phone, step)[0]), system_log, PAM_AUTH_ERR) == "replayed"
    finally:
        cluster.put(cluster.realm.key("floor"), None)


def test_rights__let_no_host_write_tokens_or_see_another_realm(cluster: EtcdCluster, keys: list[Path]) -> None:
    engine = cluster.engine(keys[0])
    soon = time.monotonic() + 60
    assert engine.swap({"/softtoken/v1/office/state/x": 0}, {"/softtoken/v1/office/state/x": b"1"}, [], deadline_s=soon)
    for key in ("/softtoken/v1/office/tokens/x", "/softtoken/v1/office/floor", "/softtoken/v1/other/state/x", "/x"):
        with pytest.raises(EngineDown):
            engine.swap({key: 0}, {key: b"1"}, [key], deadline_s=time.monotonic() + 0.5)
    for key in ("/softtoken/v1/other/state/x", "/softtoken/v1/officer", "/x"):
        with pytest.raises(EngineDown):
            engine.read([key], deadline_s=time.monotonic() + 0.5)
    engine.close()


def test_secrets__are_in_no_file_of_the_cluster(cluster: EtcdCluster, alice: Person, phone: Phone) -> None:
    files = [path for node in cluster.nodes for path in node.directory.rglob("*") if path.is_file()]
    assert any(alice.name.encode() in path.read_bytes() for path in files)
    key = str(phone.record["key"]).encode()
    assert not [path for path in files if key in path.read_bytes()]


def test_login__in_a_realm_loads_nothing_slow(
    cluster: EtcdCluster, keys: list[Path], installed: Installation, alice: Person, phone: Phone
) -> None:
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1])\n"
        "import pam_softtoken.bridge.backend\n"
        "from pam_softtoken.account.safe_open import Account\n"
        "from pam_softtoken.config import Config\n"
        "from pam_softtoken.login.verifier import Attempt\n"
        "config = Config(fleet=sys.argv[2], fleet_keys=sys.argv[3])\n"
        "Attempt(Account(sys.argv[4], 1, 1, home='/'), config, now=int(time.time()))\n"
        "print(*sys.modules)\n"
    )
    words = [str(installed.root), cluster.address, str(keys[0]), alice.name]
    command = ["/usr/bin/python3", "-I", "-S", "-c", script, *words]
    loaded = set(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
    assert "_ssl" in loaded
    assert not loaded & {"ssl", "socket", "re", "json", "enum", "typing", "threading", "struct", "hashlib"}
