"""Programs send descriptors to root's service, which the kernel closes there. That can take for ever."""

from __future__ import annotations

import json
import os
import platform
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from pam_softtoken.account import places
from tests.support.account import Person
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS
from tests.support.installation import Installation
from tests.support.pam_scene import wrong_code
from tests.support.relay import RelayHost, broken_copy, identity_of, keep_answered, stopped

LISTENER, CLOSING, RELAY = "bridge/relay_listener.py", "bridge/closing.py", "bridge/relay.py"
SUPPORT = Path(__file__).parent.parent / "support"
OLD_KERNEL = (LISTENER, "closing.take_no_descriptors(listener)", "pass")
COUNT = "SLOTS, SLOTS_OF_PEERS = 8, 64"
SENDS_ONE = """
import array, socket, sys
connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
connection.connect(sys.argv[1])
try:
    connection.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))])
    print("sent")
except PermissionError:
    print("refused")
"""


def _changed(copy: Installation, file: str, right: str, wrong: str) -> None:
    source = copy.package / file
    assert source.read_text().count(right) == 1
    source.write_text(source.read_text().replace(right, wrong))


@contextmanager
def _program(host: RelayHost, person: Person, script: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program of a user's until the test is over. It has printed a line."""
    command = host.mounts.command(*identity_of(person), "/usr/bin/python3", "-I", "-c", script, *arguments)
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        line = process.stdout.readline().decode()
        if line.startswith("cannot"):
            pytest.skip(line)
        assert line
        yield process
    finally:
        process.communicate(timeout=60)  # the end of its standard input ends it


@contextmanager
def _hanging_files(host: RelayHost, alice: Person, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    """A user holds all places, in these programs, and then sends files that are never closed."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("needs /dev/fuse")
    held = [host.hold(alice) for _ in range(8)]
    script = (SUPPORT / "hanging_file.py").read_text()
    assert host.listener is not None
    try:
        with ExitStack() as until_the_end:
            with stopped(host.listener):
                program = until_the_end.enter_context(_program(host, alice, script, places.RELAY_SOCKET, str(count)))
            assert program.stdout is not None
            assert program.stdout.readline() == b"asked\n"
            yield held
    finally:
        _end(held)


def _end(processes: list[subprocess.Popen[str]]) -> None:
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def make_old_host(
    make_relay_host: Callable[..., RelayHost], installed: Installation, outside: Path, alice: Person
) -> Callable[..., RelayHost]:
    """Return a function that makes a host as with a kernel before Linux 6.16. It changes more of our copy."""

    def make(*changes: tuple[str, str, str]) -> RelayHost:
        copy = broken_copy(installed, outside / "copy", *OLD_KERNEL)
        for change in changes:
            _changed(copy, *change)
        host = make_relay_host(copy)
        host.listen_as_systemd()
        host.enrol(alice)
        return host

    return make


@pytest.mark.parametrize("is_old", [False, True], ids=["ours", "old kernel"])
def test_listener__takes_no_descriptors_where_the_kernel_can_refuse_them(
    make_relay_host: Callable[..., RelayHost], installed: Installation, alice: Person, outside: Path, is_old: bool
) -> None:
    if tuple(map(int, platform.release().split(".")[:2])) < (6, 16):
        pytest.skip("needs Linux 6.16")
    host = make_relay_host(broken_copy(installed, outside / "copy", *OLD_KERNEL) if is_old else None)
    host.listen_as_systemd()
    host.enrol(alice)
    assert len(host.ask(alice, alice, "123456").messages) == 1  # the listener has started
    done = host.run(*identity_of(alice), "/usr/bin/python3", "-I", "-c", SENDS_ONE, places.RELAY_SOCKET)
    assert done.stdout == ("sent\n" if is_old else "refused\n")


@pytest.mark.parametrize(
    "fault",
    [
        None,
        (CLOSING, "has_waited) or self.is_full", "has_waited)"),
        (LISTENER, "self._closer.close(connection)", "connection.close()"),
    ],
    ids=["ours", "no process for many", "closes itself"],
)
def test_listener__serves_others_while_files_are_never_closed(
    make_old_host: Callable[..., RelayHost],
    make_person: Callable[[], Person],
    alice: Person,
    fault: tuple[str, str, str] | None,
) -> None:
    """Of the processes that end there may be one here before another is worth it, and four connections are many."""
    host = make_old_host(
        (CLOSING, "FEW = 8", "FEW = 1"), (CLOSING, "MANY = 3000", "MANY = 4"), *([fault] if fault else [])
    )
    bob = make_person()
    phone = host.enrol(bob, "--type=hotp")
    with _hanging_files(host, alice, 14):
        served = host.ask(bob, bob, phone.hotp(), around=("timeout", "30")).result == PAM_SUCCESS
    assert served == (fault is None)


@pytest.mark.parametrize("fault", [None, (LISTENER, "        self._closer.close_all()\n", "")], ids=["ours", "broken"])
def test_listener__replaces_itself_while_files_are_never_closed(
    make_old_host: Callable[..., RelayHost],
    make_person: Callable[[], Person],
    alice: Person,
    fault: tuple[str, str, str] | None,
) -> None:
    """The upgrade serves one program more of each user."""
    host = make_old_host((CLOSING, "FEW = 8", "FEW = 1"), *([fault] if fault else []))
    bob = make_person()
    host.enrol(bob)
    with _hanging_files(host, alice, 3):
        held = [host.hold(bob) for _ in range(8)]
        _changed(host.installed, LISTENER, COUNT, "SLOTS, SLOTS_OF_PEERS = 9, 64")
        program = host.installed.root / "scripts" / "softtoken-relay"
        newer = program.with_suffix(".new")
        shutil.copy2(program, newer)
        newer.rename(program)
        messages = host.ask(bob, bob, "123456").messages
        _end(held)
    assert (len(messages) == 1) == (fault is None)


@pytest.mark.parametrize("fault", [None, (LISTENER, " and not _has_children()", "")], ids=["ours", "broken"])
def test_listener__does_not_end_while_a_process_is_left(
    make_old_host: Callable[..., RelayHost], alice: Person, fault: tuple[str, str, str] | None
) -> None:
    """systemd would wait for that process, and start nothing meanwhile. After a refusal, the time is a second here."""
    idle = "return REAP_S if _has_children() else IDLE_S"
    shorter = (LISTENER, idle, f"return 1 if self._limits else {idle.partition(' ')[2]}")
    host = make_old_host(shorter, *([fault] if fault else []))
    assert host.listener is not None
    with _hanging_files(host, alice, 1) as held:
        _end(held)
        if fault is None:
            with pytest.raises(subprocess.TimeoutExpired):
                host.listener.wait(5)
        else:
            assert host.listener.wait(60) == 0
    if fault is None:
        assert host.listener.wait(60) == 0


@pytest.mark.parametrize("is_broken", [False, True], ids=["ours", "broken"])
def test_service__judges_no_answer_that_comes_with_descriptors(
    make_relay_host: Callable[..., RelayHost], installed: Installation, alice: Person, outside: Path, is_broken: bool
) -> None:
    """The kernel would close them before the answer is read, and a caller could wait with it for an hour."""
    fault = (RELAY, 'return b"" if flags & _socket.MSG_CTRUNC else os', "return os")
    host = make_relay_host(broken_copy(installed, outside / "copy", *fault) if is_broken else None)
    guess = keep_answered(wrong_code(host.enrol(alice)))
    claims = json.dumps({"user": alice.name, "name": alice.name, "with_descriptors": True})
    with _program(host, alice, (SUPPORT / "raw_caller.py").read_text(), claims, guess) as caller:
        assert caller.stdin is not None
        assert caller.stdout is not None
        with stopped(host.served[-1]):
            caller.stdin.write(b"\n")
            caller.stdin.flush()
            assert caller.stdout.readline() == b"answered\n"
        if is_broken:
            with pytest.raises(subprocess.TimeoutExpired):
                host.served[-1].wait(10)
        else:
            host.served[-1].wait(60)
            assert host.log.reasons() == ["conversation"]


@pytest.mark.parametrize("is_broken", [False, True], ids=["ours", "broken"])
def test_caller__cannot_keep_the_lock_with_a_right_code(
    make_relay_host: Callable[..., RelayHost], installed: Installation, alice: Person, outside: Path, is_broken: bool
) -> None:
    """Its program does not say that it has stored the password."""
    fault = (
        "login/login.py",
        "            attempt.close()  # an application without",
        "            # an application without",
    )
    host = make_relay_host(broken_copy(installed, outside / "copy", *fault) if is_broken else None)
    phone = host.enrol(alice, "--type=hotp")
    claims = {"user": alice.name, "name": alice.name, "arguments": ["forward_pass"], "silent_after": 2}
    code = keep_answered(phone.hotp())
    with _program(host, alice, (SUPPORT / "raw_caller.py").read_text(), json.dumps(claims), code):
        accepted = host.root_asks(alice, phone.hotp()).result == PAM_SUCCESS
    assert accepted == (not is_broken)


def test_listener__with_the_limit_of_an_older_unit_goes_on_after_an_upgrade(
    make_old_host: Callable[..., RelayHost], make_person: Callable[[], Person], alice: Person
) -> None:
    """A process that replaces itself keeps the limit that the unit had at its start: 64 descriptors. So does one whose
    administrator has set that. Files that are never closed take no more than half of them.
    """
    host = make_old_host((CLOSING, "FEW = 8", "FEW = 1"))
    bob = make_person()
    phone = host.enrol(bob, "--type=hotp")
    assert host.listener is not None
    assert host.ask(bob, bob, phone.hotp()).result == PAM_SUCCESS  # it has started
    resource.prlimit(host.listener.pid, resource.RLIMIT_NOFILE, (64, 64))
    program = host.installed.root / "scripts" / "softtoken-relay"
    newer = program.with_suffix(".new")
    shutil.copy2(program, newer)
    newer.rename(program)
    assert host.ask(bob, bob, phone.hotp(), around=("timeout", "30")).result == PAM_SUCCESS
    with _hanging_files(host, alice, 50):
        assert host.ask(bob, bob, phone.hotp(), around=("timeout", "30")).result == PAM_SUCCESS


def test_caller__for_whom_no_process_can_be_started_is_refused_while_files_are_never_closed(
    make_old_host: Callable[..., RelayHost], make_person: Callable[[], Person], alice: Person
) -> None:
    """Here none can be started for the ninth caller. The bridge would wait for its `timeout`, which is longer here than
    that of its program.
    """
    fails = "if len(self._users) == 8:\n                raise OSError\n            pid = os.posix_spawn("
    host = make_old_host((CLOSING, "FEW = 8", "FEW = 1"), (LISTENER, "pid = os.posix_spawn(", fails))
    bob = make_person()
    host.set_line("timeout=120")
    with _hanging_files(host, alice, 2):
        assert host.ask(bob, bob, "123456", around=("timeout", "30")).result == PAM_AUTH_ERR
