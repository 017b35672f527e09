"""The bridge at root's socket: what it trusts there, and what happens when the service is missing, killed or slow."""

from __future__ import annotations

import inspect
import re
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pam_softtoken import option_table
from pam_softtoken.account import places
from pam_softtoken.bridge import relay
from pam_softtoken.bridge.wire import encode_result
from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Outcome
from tests.support.installation import Installation
from tests.support.pam_scene import wait_until, wrong_code
from tests.support.raw_caller import slow_to_close
from tests.support.relay import RelayHost, broken_copy, identity_of, keep_answered, stopped

SAYS_YES = """
import os, socket
listener = socket.socket(fileno=os.dup(0))
listener.listen()
print("listening", flush=True)
connection, _ = listener.accept()
connection.recv(65536)
connection.send(b"\\1R\\0")
connection.recv(65536)
"""
"""A service that accepts everybody, at a socket that it is given. The kernel records who calls listen(2)."""

SENDS_WHAT_CLOSES_SLOWLY = f"""
import array, socket, struct, sys
{inspect.getsource(slow_to_close)}
kept = []
for _ in range(int(sys.argv[2])):
    sender, reader = slow_to_close()
    rights = array.array("i", [sender.fileno()])
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    connection.connect(sys.argv[1])
    connection.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    sender.close()  # waits for nothing: the listener is stopped, and another copy is in the frame
    connection.close()
    kept.append(reader)
print("sent", flush=True)
sys.stdin.read()
"""
"""Sends sockets in its frames. What ends the last copy of one waits an hour for data that nobody reads."""

FIRST_OF_MANY = 3_000_000_000
AS_MANY = """
import os, socket, sys
held = []
for uid in range(4):
    os.setresuid(-1, int(sys.argv[1]) + uid, -1)
    for _ in range(8):
        held.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        held[-1].connect(sys.argv[2])
    os.setresuid(-1, 0, -1)
print("connected", flush=True)
sys.stdin.read()
"""
"""Connects as many users. The kernel sees no difference to a user namespace that has these uids."""

AS_NOBODY = (
    "import os, socket as k; os.setuid(65534);"
    f"s = k.socket(k.AF_UNIX, k.SOCK_SEQPACKET); s.connect('{places.RELAY_SOCKET}')"
)


def _at_home(host: RelayHost, alice: Person) -> Phone:
    """Enrol alice with tokens in the home directory, which the locker can read itself."""
    host.set_line("store=%h/.softtoken", f"backend={host.installed.backend}")
    return alice.enrol(host.installed, "--store=%h/.softtoken", "--recovery-codes=0", "--type=hotp")


def absent(host: RelayHost, alice: Person) -> None:
    """Without the socket everything is as before."""
    phone = _at_home(host, alice)
    host.stop_listening()
    assert host.ask(alice, alice, phone.hotp()).result == PAM_SUCCESS
    assert not host.served


def regular_file(host: RelayHost, alice: Person) -> None:
    """What is no socket is not as good as nothing."""
    phone = _at_home(host, alice)
    host.stop_listening()
    host.path.touch()
    host.path.chmod(0o666)
    outcome = host.ask(alice, alice, phone.hotp())
    assert (outcome.result, outcome.messages) == (PAM_AUTH_ERR, [])
    assert "cannot ask /run/softtoken/login.sock: Connection refused" in host.log.ours()[-1]


def somebody_elses(host: RelayHost, alice: Person) -> None:
    """A socket where another user listens is not believed."""
    host.stop_listening()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(host.path))
        host.path.chmod(0o666)
        command = host.mounts.command(*identity_of(alice), "/usr/bin/python3", "-I", "-c", SAYS_YES)
        process = subprocess.Popen(command, stdin=listener.fileno(), stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"listening\n"
        assert host.ask(alice, alice).result == PAM_AUTH_ERR
        assert "it is not root's" in host.log.ours()[-1]
    finally:
        process.kill()
        process.communicate()


def not_for_root(host: RelayHost, alice: Person) -> None:
    """Programs of root's do not use it."""
    phone = host.enrol(alice, "--type=hotp")
    assert host.root_asks(alice, phone.hotp()).result == PAM_SUCCESS
    assert not host.served


RULES: dict[Callable[[RelayHost, Person], None], tuple[str, str, str]] = {
    absent: ("pam_softtoken.c", "if (error != ENOENT)\n\t\t\treturn", "if (error != ENOEXEC)\n\t\t\treturn"),
    regular_file: ("pam_softtoken.c", "if (error != ENOENT)\n\t\t\treturn", "if (error == 0)\n\t\t\treturn"),
    somebody_elses: ("service.c", "peer.uid == 0 ?", "peer.uid != 1 ?"),
    not_for_root: ("pam_softtoken.c", "if (geteuid() != 0) {", "if (geteuid() != 1) {"),
}
"""Each rule, and a fault of the bridge that breaks it."""


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_bridge__keeps_the_rule(
    relay_host: RelayHost, alice: Person, rule: Callable[[RelayHost, Person], None]
) -> None:
    rule(relay_host, alice)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_broken_bridge__is_noticed(
    make_relay_host: Callable[..., RelayHost],
    installed: Installation,
    alice: Person,
    outside: Path,
    rule: Callable[[RelayHost, Person], None],
) -> None:
    """The control of each rule."""
    file, right, wrong = RULES[rule]
    bridge = installed.broken_bridge(outside / "pam_softtoken.so", file=file, right=right, wrong=wrong)
    with pytest.raises(AssertionError):
        rule(make_relay_host(bridge=bridge), alice)


@pytest.mark.parametrize("is_broken", [False, True], ids=["ours", "broken"])
def test_bridge__gets_in_when_a_full_queue_has_room_again(
    make_relay_host: Callable[..., RelayHost], installed: Installation, alice: Person, outside: Path, is_broken: bool
) -> None:
    """It does not wait behind others in the kernel's queue, where one user can keep it for ever, but tries again."""
    fault = {"file": "service.c", "right": "errno != EAGAIN && errno != EINTR", "wrong": "errno != EINTR"}
    bridge = installed.broken_bridge(outside / "pam_softtoken.so", **fault) if is_broken else None
    host = make_relay_host(bridge=bridge)
    phone = host.enrol(alice, "--type=hotp")
    host.set_line("timeout=60")
    host.stop_listening()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        held = _fill(listener, host)
        process = subprocess.Popen(host.command(alice, alice), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if is_broken:
            assert Outcome(process.communicate(timeout=60)[0]).result == PAM_AUTH_ERR
            assert "Resource temporarily unavailable" in host.log.ours()[-1]
            return
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(3)
        host.start_listener(listener)
        said, _ = process.communicate(f"={keep_answered(phone.hotp())}\n", timeout=120)
        assert Outcome(said.splitlines()[-1]).result == PAM_SUCCESS
        del held


def test_bridge__refuses_when_a_full_queue_stays_full(relay_host: RelayHost, alice: Person) -> None:
    host = relay_host
    host.set_line("timeout=1")
    host.stop_listening()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        held = _fill(listener, host)
        assert host.ask(alice, alice).result == PAM_AUTH_ERR
        del held
    assert "Resource temporarily unavailable" in host.log.ours()[-1]


def _fill(listener: socket.socket, host: RelayHost) -> list[socket.socket]:
    """Listen at the host's socket, and return as many connections as wait there at most."""
    listener.bind(str(host.path))
    host.path.chmod(0o666)
    listener.listen(0)
    held: list[socket.socket] = []
    while True:
        held.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        held[-1].setblocking(False)
        try:
            held[-1].connect(str(host.path))
        except BlockingIOError:
            return held


# ---- the service ends early, or late


def test_service__that_ends_at_once_denies(relay_host: RelayHost, alice: Person) -> None:
    host = relay_host
    host.program = ("/bin/true",)
    outcome = host.ask(alice, alice)
    assert (outcome.result, outcome.messages) == (PAM_AUTH_ERR, [])
    assert "no verdict from softtoken-login.socket" in host.log.ours()[-1]


def test_service__that_is_killed_at_the_prompt_denies(relay_host: RelayHost, alice: Person) -> None:
    host = relay_host
    code = host.enrol(alice, "--type=hotp").hotp()
    process = host.hold(alice)
    host.served[-1].kill()
    host.served[-1].wait()
    said, _ = process.communicate(f"={code}\n", timeout=60)
    assert Outcome(said.splitlines()[-1]).result == PAM_AUTH_ERR
    assert host.ask(alice, alice, code).result == PAM_SUCCESS


def test_service__that_is_killed_before_it_says_yes_has_used_the_code(
    make_relay_host: Callable[..., RelayHost], installed: Installation, alice: Person, outside: Path
) -> None:
    says = "    os.write(SOCKET, wire.encode_result(code"
    copy = broken_copy(installed, outside / "copy", "bridge/backend.py", says, f"    os.kill(os.getpid(), 9)\n{says}")
    host = make_relay_host(copy)
    code = host.enrol(alice, "--type=hotp").hotp()
    assert host.ask(alice, alice, code).result == PAM_AUTH_ERR
    assert host.root_asks(alice, code).result == PAM_AUTH_ERR
    assert host.log.reasons()[0] == "accepted"
    assert host.log.reasons()[-1] in {"replayed", "backend"}


@pytest.mark.parametrize("is_broken", [False, True], ids=["ours", "broken"])
def test_service__waits_two_minutes_for_a_person(
    make_relay_host: Callable[..., RelayHost], installed: Installation, alice: Person, outside: Path, is_broken: bool
) -> None:
    """Two minutes last one second here. In the broken copy they do not end."""
    host = make_relay_host(
        broken_copy(installed, outside / "copy", "bridge/relay.py", "PERSON_S = 120", "PERSON_S = 1")
    )
    if is_broken:
        source = host.installed.package / "bridge" / "relay.py"
        source.write_text(source.read_text().replace("max(0.0, self._left_s) * 1000", "None"))
    host.enrol(alice)
    process = host.hold(alice)
    try:
        if is_broken:
            with pytest.raises(subprocess.TimeoutExpired):
                host.served[-1].wait(10)
            return
        host.served[-1].wait(60)
        assert host.log.reasons() == ["conversation"]
    finally:
        process.kill()
        process.communicate()


def test_service__does_not_wait_for_a_program_that_says_nothing(
    make_relay_host: Callable[..., RelayHost], installed: Installation, outside: Path
) -> None:
    """Its ten seconds last one second here."""
    host = make_relay_host(broken_copy(installed, outside / "copy", "bridge/relay.py", "OURS_S = 10", "OURS_S = 1"))
    host.run("/usr/bin/python3", "-I", "-c", f"{AS_NOBODY}; s.recv(9)")
    assert host.served[-1].wait(60) != 0


@pytest.mark.parametrize("is_broken", [False, True], ids=["ours", "broken"])
def test_caller__cannot_hurry_the_service_past_its_log(
    make_relay_host: Callable[..., RelayHost], installed: Installation, alice: Person, outside: Path, is_broken: bool
) -> None:
    """Here a refusal takes two seconds. In the broken copy the caller's `timeout` ends the service's process."""
    copy = broken_copy(installed, outside / "copy", "login/refusal_time.py", "STEP_S = 0.1", "STEP_S = 2.0")
    if is_broken:
        source = copy.package / "bridge" / "relay.py"
        source.write_text(source.read_text().replace("allow(LONGEST_S)", "allow(1)"))
    host = make_relay_host(copy)
    guess = wrong_code(host.enrol(alice))
    host.lie(alice, alice, guess, arguments=["timeout=1"])
    assert host.served[-1].wait(60) == (-signal.SIGALRM if is_broken else 0)
    assert host.log.reasons() == ([] if is_broken else ["mismatch"])


@pytest.mark.parametrize("is_broken", [False, True], ids=["ours", "broken"])
def test_caller__cannot_use_up_the_time_that_its_guess_takes(
    make_relay_host: Callable[..., RelayHost], installed: Installation, alice: Person, outside: Path, is_broken: bool
) -> None:
    """A guess as the password of an earlier module comes late, and its refusal takes longer than what is left then.

    In the broken copy that password comes after 2 of 4 seconds, and the refusal takes 3.
    """
    copy = broken_copy(installed, outside / "copy", "login/refusal_time.py", "STEP_S = 0.1", "STEP_S = 3.0")
    if is_broken:
        source = copy.package / "bridge" / "relay.py"
        text = source.read_text().replace("PERSON_S = 120", "PERSON_S = 4")
        source.write_text(re.sub(r"^LONGEST_S = .*$", "LONGEST_S = PERSON_S", text, flags=re.MULTILINE))
    host = make_relay_host(copy)
    guess = keep_answered(wrong_code(host.enrol(alice)))
    host.lie(alice, alice, arguments=["use_first_pass"], password=guess, password_after_s=2)
    assert host.served[-1].wait(60) == (-signal.SIGALRM if is_broken else 0)
    assert host.log.reasons() == ([] if is_broken else ["mismatch"])


def test_service__has_time_for_a_verdict_after_all_the_time_of_a_person() -> None:
    """A verdict may take as long as the largest `timeout`."""
    timeout = next(each for each in option_table.OPTIONS if each.name == "timeout")
    left_s = relay.LONGEST_S - relay.PERSON_S
    assert timeout.check(str(left_s)) == left_s
    with pytest.raises(ValueError, match=f"1 to {left_s}"):
        timeout.check(str(left_s + 1))


@pytest.mark.parametrize("frame", [b"\1", b"\2S", b"\1S", b"\1S\0\0", b"\1A=123456", b"x" * 8192], ids=repr)
def test_service__refuses_a_first_frame_that_is_none(relay_host: RelayHost, frame: bytes) -> None:
    sends = f"{AS_NOBODY}; s.send({frame!r}); print(s.recv(9), end='')"
    assert relay_host.run("/usr/bin/python3", "-I", "-c", sends).stdout == repr(b"\1R\7")
    assert relay_host.log.outcomes()[0]["result"] == "denied"


def test_caller__with_no_new_privileges_and_low_limits_is_served(relay_host: RelayHost, alice: Person) -> None:
    phone = relay_host.enrol(alice, "--type=hotp")
    around = ("prlimit", "--fsize=0", "--nofile=16", "--nproc=1", "setpriv", "--no-new-privs")
    assert relay_host.ask(alice, alice, phone.hotp(), around=around).result == PAM_SUCCESS


def test_one_code__in_six_programs_at_once_is_accepted_once(relay_host: RelayHost, alice: Person) -> None:
    code = relay_host.enrol(alice, "--type=hotp").hotp()
    results: list[int] = []
    programs = [
        threading.Thread(target=lambda: results.append(relay_host.ask(alice, alice, code).result)) for _ in range(6)
    ]
    for program in programs:
        program.start()
    for program in programs:
        program.join()
    assert sorted(results) == [PAM_SUCCESS, *[PAM_AUTH_ERR] * 5]


# ---- the process that systemd starts


@pytest.fixture
def listening(relay_host: RelayHost) -> RelayHost:
    """The host, with the real listener at its socket."""
    relay_host.listen_as_systemd()
    return relay_host


def test_listener__serves_each_program_in_a_process_of_its_own(listening: RelayHost, alice: Person) -> None:
    phone = listening.enrol(alice, "--type=hotp")
    code = phone.hotp()
    assert listening.ask(alice, alice, code).result == PAM_SUCCESS
    assert listening.ask(alice, alice, code).result == PAM_AUTH_ERR
    assert listening.log.reasons() == ["accepted", "replayed"]


def eight_at_once(host: RelayHost, alice: Person, bob: Person) -> None:
    """One user holds as many connections as there are, and others are served."""
    phone = host.enrol(bob, "--type=hotp")
    host.enrol(alice)
    held = [host.hold(alice) for _ in range(8)]
    try:
        for _ in range(12):
            assert host.ask(alice, alice).messages == []
        assert "8 programs of this user" in host.log.ours()[0]
        assert host.ask(bob, bob, phone.hotp()).result == PAM_SUCCESS
    finally:
        _end(held)
    wait_until(lambda: len(host.ask(alice, alice, "123456").messages) == 1, "alice is served again")


def more_of_a_peer(host: RelayHost, alice: Person, bob: Person) -> None:
    """A server that `relay_for` names has more connections than others."""
    host.set_conf(f"relay_for = {alice.name}\n")
    host.enrol(alice)
    _end([host.hold(alice) for _ in range(10)])


def many_uids_of_one_user(host: RelayHost, alice: Person, bob: Person) -> None:
    """A user is many uids, in a user namespace, and holds connections as each of them. Others are served."""
    phone = host.enrol(bob, "--type=hotp")
    host.run("sh", "-euc", f"mount -t tmpfs tmpfs /mnt; echo {alice.name}:{FIRST_OF_MANY}:65536 >/mnt/subuid;"
             "mount --bind /mnt/subuid /etc/subuid")  # fmt: skip
    command = host.mounts.command("/usr/bin/python3", "-I", "-c", AS_MANY, str(FIRST_OF_MANY), places.RELAY_SOCKET)
    namespace = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert namespace.stdout is not None
        assert namespace.stdout.readline() == b"connected\n"
        assert host.ask(bob, bob, phone.hotp()).result == PAM_SUCCESS
    finally:
        namespace.communicate()


def what_closes_slowly(host: RelayHost, alice: Person, bob: Person) -> None:
    """A user holds all connections, and sends descriptors that wait when they are closed. Others are served."""
    phone = host.enrol(bob, "--type=hotp")
    host.enrol(alice)
    held = [host.hold(alice) for _ in range(8)]
    script = ("/usr/bin/python3", "-I", "-c", SENDS_WHAT_CLOSES_SLOWLY, places.RELAY_SOCKET, "20")
    command = host.mounts.command(*identity_of(alice), *script)
    assert host.listener is not None
    with stopped(host.listener):
        sends = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert sends.stdout is not None
        line = sends.stdout.readline()
    try:
        assert line == b"sent\n"
        assert host.ask(bob, bob, phone.hotp(), around=("timeout", "20")).result == PAM_SUCCESS
    finally:
        sends.kill()
        sends.communicate()
        _end(held)
    wait_until(lambda: len(host.ask(alice, alice, "123456").messages) == 1, "alice is served again")


def _end(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.kill()
        process.communicate()


NAMED = "if not _has_name(caller):"
LISTENER, COUNT = "bridge/relay_listener.py", "SLOTS, SLOTS_OF_PEERS = 8, 64"
LIMITS: dict[Callable[[RelayHost, Person, Person], None], tuple[tuple[str, str], ...]] = {
    eight_at_once: (
        (COUNT, "SLOTS, SLOTS_OF_PEERS = 9, 64"),
        ("served >= SLOTS and served >= self._limit_of(caller)", "False"),
        ("[user for user, _ in self._users.values()].count(caller)", "len(self)"),
    ),
    more_of_a_peer: (("SLOTS_OF_PEERS if relay.may_ask_for_others(caller) else SLOTS", "SLOTS"),),
    what_closes_slowly: (("self._closer.close(connection)", "connection.close()"),),
    many_uids_of_one_user: (("            return name\n", "            pass\n"),),
}
"""Each limit, and copies of the listener that break it: what stands there once, and what stands there then."""


@pytest.mark.parametrize(
    ("limit", "fault"),
    [pytest.param(limit, fault, id=f"{limit.__name__}-{number}")
     for limit, faults in LIMITS.items() for number, fault in enumerate((None, *faults))],
)  # fmt: skip
def test_listener__has_limits(
    make_relay_host: Callable[..., RelayHost],
    installed: Installation,
    make_person: Callable[[], Person],
    outside: Path,
    limit: Callable[[RelayHost, Person, Person], None],
    fault: tuple[str, str] | None,
) -> None:
    """There are 20 connections in all for `many_uids_of_one_user`, and 12 for those."""
    copy = broken_copy(installed, outside / "copy", LISTENER, "MOST = 512", "MOST = 20")
    source = copy.package / LISTENER
    source.write_text(source.read_text().replace("closing.take_no_descriptors(listener)", "pass"))  # an older kernel
    if limit is many_uids_of_one_user:
        source.write_text(source.read_text().replace(COUNT, "SLOTS, SLOTS_OF_PEERS = 8, 12"))
        relay = copy.package / "bridge" / "relay.py"
        relay.write_text(relay.read_text().replace(NAMED, "if False:"))  # as if these uids were users
    if fault is not None:
        assert source.read_text().count(fault[0]) == 1
        source.write_text(source.read_text().replace(*fault))
    host = make_relay_host(copy)
    host.listen_as_systemd()
    if fault is None:
        limit(host, make_person(), make_person())
        return
    with pytest.raises(AssertionError):
        limit(host, make_person(), make_person())


@pytest.mark.parametrize(
    "fault",
    [None, ("self._inode() in (None, self._made)", "True"), ("[*self._command, *users]", "self._command")],
    ids=["ours", "stays as it is", "forgets those whom it serves"],
)
def test_listener__replaces_itself_after_an_upgrade_and_goes_on_counting(
    make_relay_host: Callable[..., RelayHost],
    installed: Installation,
    alice: Person,
    outside: Path,
    fault: tuple[str, str] | None,
) -> None:
    """The upgrade serves one program more of each user."""
    copy = broken_copy(installed, outside / "copy", LISTENER, *(fault or ("MOST = 512", "MOST = 100")))
    host = make_relay_host(copy)
    host.enrol(alice)
    host.listen_as_systemd()
    held = [host.hold(alice) for _ in range(8)]
    try:
        assert host.ask(alice, alice).messages == []
        source, program = copy.package / LISTENER, copy.root / "scripts" / "softtoken-relay"
        source.write_text(source.read_text().replace(COUNT, "SLOTS, SLOTS_OF_PEERS = 9, 64"))
        newer = program.with_suffix(".new")
        shutil.copy2(program, newer)
        newer.rename(program)
        served = [len(host.ask(alice, alice, "123456").messages)]
        if served == [1]:
            held.append(host.hold(alice))
            served.append(len(host.ask(alice, alice).messages))
        assert (served == [1, 0]) == (fault is None)
    finally:
        _end(held)


@pytest.mark.parametrize("is_broken", [False, True], ids=["ours", "broken"])
def test_service__holds_no_place_for_a_uid_that_is_nobodys(
    make_relay_host: Callable[..., RelayHost], installed: Installation, outside: Path, is_broken: bool
) -> None:
    """It is refused before it has said anything. Ten seconds last one second here."""
    copy = broken_copy(installed, outside / "copy", "bridge/relay.py", "OURS_S = 10", "OURS_S = 1")
    if is_broken:
        source = copy.package / "bridge" / "relay.py"
        source.write_text(source.read_text().replace(NAMED, "if False:"))
    host = make_relay_host(copy)
    script = AS_NOBODY.replace("65534", str(FIRST_OF_MANY)) + "; print(s.recv(9))"
    frame = host.run("/usr/bin/python3", "-I", "-c", script).stdout
    assert (frame == f"{encode_result(PAM_AUTH_ERR, 0, '')!r}\n") == (not is_broken)
    assert host.log.reasons() == ([] if is_broken else ["relay"])


@pytest.mark.parametrize("is_broken", [False, True], ids=["ours", "broken"])
def test_listener__serves_others_while_a_directory_hangs_that_knows_a_server(
    make_relay_host: Callable[..., RelayHost],
    installed: Installation,
    make_person: Callable[[], Person],
    outside: Path,
    is_broken: bool,
) -> None:
    """It is asked whether a user who holds all places may hold more."""
    copy = broken_copy(
        installed, outside / "copy", "bridge/relay.py", "names = config.load(", "time.sleep(10_000); config.load("
    )
    if is_broken:
        source = copy.package / LISTENER
        source.write_text(source.read_text().replace("join(A_MOMENT_S)", "join()"))
    host = make_relay_host(copy)
    host.listen_as_systemd()
    alice, bob = make_person(), make_person()
    phone = host.enrol(bob, "--type=hotp")
    host.enrol(alice)
    held = [host.hold(alice) for _ in range(8)]
    try:
        assert host.ask(alice, alice).messages == []
        assert (host.ask(bob, bob, phone.hotp()).result == PAM_SUCCESS) == (not is_broken)
    finally:
        _end(held)


def test_listener__logs_the_end_of_a_process_that_could_not(
    make_relay_host: Callable[..., RelayHost], installed: Installation, outside: Path
) -> None:
    """A program says nothing. Ten seconds last one second here."""
    host = make_relay_host(broken_copy(installed, outside / "copy", "bridge/relay.py", "OURS_S = 10", "OURS_S = 1"))
    host.listen_as_systemd()
    host.run("/usr/bin/python3", "-I", "-c", f"{AS_NOBODY}; s.recv(9)")
    wait_until(lambda: host.log.reasons() == ["relay"], "the listener has noticed the end")
    assert f"signal {signal.SIGALRM.value} has ended" in host.log.ours()[0]


def test_listener__ends_when_nobody_has_come_for_a_while(
    make_relay_host: Callable[..., RelayHost], installed: Installation, alice: Person, outside: Path
) -> None:
    """A minute lasts one second here."""
    copy = broken_copy(installed, outside / "copy", "bridge/relay_listener.py", "IDLE_S = 60", "IDLE_S = 1")
    host = make_relay_host(copy)
    host.enrol(alice)
    host.listen_as_systemd()
    assert host.listener is not None
    process = host.hold(alice)
    with pytest.raises(subprocess.TimeoutExpired):
        host.listener.wait(3)
    process.kill()
    process.communicate()
    assert host.listener.wait(60) == 0
