"""Log in while parts of the host are missing or hang: the owner gets in, or the log says what to do."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.account import Person, Phone
from tests.support.admin import Admin, succeeded
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.installation import Installation
from tests.support.journal import DAEMON, OwnJournal
from tests.support.pam_scene import Pam
from tests.support.pam_waiting import Waiting
from tests.support.private_mounts import PrivateMounts
from tests.support.surroundings import LIMIT_S, LITTER, chroot_with, full_queue, log_at, log_in_inside, words_inside

NO_DEV = "mount -t tmpfs -o mode=755 tmpfs /dev"
READ_ONLY_TMP = """
mount -t tmpfs tmpfs /mnt
mkdir /mnt/world
mount --bind {world} /mnt/world
mount -t tmpfs tmpfs /tmp
mkdir -p {world}
mount --move /mnt/world {world}
mount -o remount,ro /tmp
"""


@pytest.fixture(autouse=True)
def _namespace() -> None:
    if not PrivateMounts.possible():
        pytest.skip("this container does not allow a mount namespace")


@pytest.fixture
def stack(pam: Pam) -> Service:
    """A service with only our module. libpam itself logs nothing there: its syslog(3) would wait for ever."""
    service = pam.service("debug")
    (service.directory / "other").write_text("auth required pam_deny.so\n")
    return service


def assert_right_code_lets_in_once(service: Service, user: Person, phone: Phone, setup: str) -> None:
    """Check that the surroundings change no verdict."""
    code = phone.totp()
    for answer, result in ((code, PAM_SUCCESS), (code, PAM_AUTH_ERR)):
        assert log_in_inside(service, user, answer, setup=setup, limit_s=LIMIT_S).result == result


@pytest.mark.parametrize(
    "setup",
    [
        pytest.param(NO_DEV, marks=pytest.mark.lockout("/dev is empty")),
        pytest.param(f"{NO_DEV}\ntouch /dev/null", marks=pytest.mark.lockout("/dev/null is a file")),
        pytest.param(f"{NO_DEV}\nmkfifo /dev/null", marks=pytest.mark.lockout("/dev/null is a FIFO")),
        pytest.param(f"{NO_DEV}\nmkdir /dev/null", marks=pytest.mark.lockout("/dev/null is a directory")),
        pytest.param("mount -t tmpfs tmpfs /proc", marks=pytest.mark.lockout("/proc is missing")),
        pytest.param("mount -t tmpfs -o ro tmpfs /run", marks=pytest.mark.lockout("/run cannot be written")),
        pytest.param("mount -t tmpfs -o ro tmpfs /var", marks=pytest.mark.lockout("/var/lib is missing")),
        pytest.param(READ_ONLY_TMP, marks=pytest.mark.lockout("/tmp cannot be written")),
        pytest.param(
            chroot_with(Path("{world}")), marks=pytest.mark.lockout("a chroot without /dev, /proc, /run and /var")
        ),
    ],
)
def test_surroundings__that_are_missing_keep_nobody_out(
    stack: Service, alice: Person, phone: Phone, world: Path, setup: str
) -> None:
    assert_right_code_lets_in_once(stack, alice, phone, setup.replace("{world}", str(world)))


@pytest.mark.lockout("/proc hides other processes (hidepid=2)")
def test_surroundings__hidden_processes_do_not_keep_out_users_of_an_application_without_root(
    stack: Service, alice: Person, phone: Phone
) -> None:
    as_alice = ("setpriv", f"--reuid={alice.uid}", f"--regid={alice.gid}", "--clear-groups")
    setup = "mount -t proc -o hidepid=2 proc /proc"
    outcome = log_in_inside(stack, alice, phone.totp(), setup=setup, before=as_alice)
    assert outcome.result == PAM_SUCCESS


# --- the system log ---


@contextlib.contextmanager
def full_backlog(path: Path) -> Iterator[socket.socket]:
    """A log daemon that no longer accepts connections."""
    with contextlib.ExitStack() as stack:
        daemon = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        daemon.bind(str(path))
        path.chmod(0o666)
        daemon.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                flood = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
                flood.setblocking(False)
                flood.connect(str(path))
        yield daemon


@contextlib.contextmanager
def fifo(path: Path) -> Iterator[None]:
    """A FIFO in the place of the log."""
    os.mkfifo(path, 0o666)
    yield


@pytest.mark.parametrize(
    "hanging",
    [
        pytest.param(full_queue, marks=pytest.mark.lockout("the daemon at /dev/log hangs")),
        pytest.param(full_backlog, marks=pytest.mark.lockout("the daemon at /dev/log takes no connections")),
        pytest.param(fifo, marks=pytest.mark.lockout("/dev/log is a FIFO")),
    ],
)
def test_log__that_hangs_holds_no_login(
    stack: Service,
    alice: Person,
    phone: Phone,
    outside: Path,
    hanging: Callable[[Path], contextlib.AbstractContextManager[object]],
) -> None:
    with hanging(outside / "log"):
        assert_right_code_lets_in_once(stack, alice, phone, log_at(outside / "log"))


@pytest.mark.lockout("the journal hangs")
def test_journal__that_hangs_holds_no_login(stack: Service, alice: Person, phone: Phone, outside: Path) -> None:
    """Both of its queues are full: the one for lines with fields, and the one of /dev/log."""
    if not DAEMON.exists():
        pytest.skip("needs the systemd package, for its journal")
    code = phone.totp()
    with OwnJournal(outside / "journal") as journal:
        journal.daemon.send_signal(signal.SIGSTOP)
        journal.fill_queues()
        for result in (PAM_SUCCESS, PAM_AUTH_ERR):
            began_s = time.monotonic()
            assert journal.log_in(stack, alice.name, code) == result
            assert time.monotonic() - began_s < LIMIT_S


def test_log__that_listens_for_streams_gets_each_line(
    stack: Service, alice: Person, phone: Phone, outside: Path
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as daemon:
        daemon.bind(str(outside / "log"))
        daemon.listen(8)
        daemon.settimeout(60)
        outcome = log_in_inside(stack, alice, phone.totp(), setup=log_at(outside / "log"))
        assert outcome.result == PAM_SUCCESS
        lines = b""
        while b"result=" not in lines:
            connection = daemon.accept()[0]
            with connection:
                lines += connection.recv(65536)
    *_, accepted, rest = lines.split(b"\0")
    assert accepted.endswith(f"user={alice.name} token=phone result=accepted reason=accepted".encode())
    assert accepted.startswith(b"<86>client[")
    assert rest == b""


def test_log__says_how_many_lines_it_did_not_take(stack: Service, alice: Person, phone: Phone, outside: Path) -> None:
    """The log hangs before the prompt, and works again after it."""
    with full_queue(outside / "log") as daemon:
        daemon.settimeout(60)
        with Waiting(stack, alice, around=words_inside(log_at(outside / "log"))) as waiting:
            waiting.wait_for_prompt()
            while select.select([daemon], [], [], 0)[0]:
                assert daemon.recv(65536) == LITTER
            assert waiting.answer(phone.totp()).result == PAM_SUCCESS
        said = [daemon.recv(65536).decode() for _ in range(2)]
    assert said[0].endswith('pam_softtoken(softtoken-test:auth): detail="log lines lost before this one: 1"')
    assert said[0].startswith("<84>")
    assert said[1].endswith("result=accepted reason=accepted")


@pytest.mark.lockout("what reads the application's stderr hangs")
def test_stderr__that_hangs_or_is_closed_holds_no_login(stack: Service, alice: Person, phone: Phone) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, LITTER)
    os.set_blocking(writing, True)
    outcome = log_in_inside(stack, alice, phone.totp(), setup="", limit_s=LIMIT_S, stderr=writing)
    assert outcome.result == PAM_SUCCESS
    os.close(reading)
    os.close(writing)
    assert log_in_inside(stack, alice, phone.totp(1), setup="exec 2>&-", limit_s=LIMIT_S).result == PAM_SUCCESS


# --- the programs of root ---


@pytest.mark.lockout("the log hangs and /dev/null is missing while root issues a code")
def test_code_for__works_where_the_log_hangs_and_dev_is_empty(
    installed: Installation, pam: Pam, alice: Person, phone: Phone, outside: Path
) -> None:
    with full_queue(outside / "log"):
        program = Admin(installed).after(*words_inside(f"{NO_DEV}\nln -s {outside}/log /dev/log"))
        began_s = time.monotonic()
        code = succeeded(program.run("code-for", alice.name, "--for=30m")).split()[0]
        assert time.monotonic() - began_s < LIMIT_S
    assert pam.service().log_in(alice, code).result == PAM_SUCCESS


def test_programs__need_no_dev(installed: Installation, alice: Person, phone: Phone) -> None:
    """This covers their checks in separate processes, and their output without a reader."""
    program = Admin(installed).after(*words_inside(NO_DEV))
    assert alice.name in succeeded(program.run("status", alice.name))
    assert "interpreter does not start" not in program.run("doctor").stdout
    unread = f"{NO_DEV}\nmkfifo /dev/pipe\nexec 3<>/dev/pipe >/dev/pipe 3<&-"
    done = Admin(installed).after(*words_inside(unread)).run("status", alice.name)
    assert "Traceback" not in done.stderr
    assert "cannot write the result" in done.stderr


NO_CALL = ("strace", "-f", "-o", "/dev/null", "-e", "trace=getrandom", "-e", "inject=getrandom:error=ENOSYS")
NO_DEVICE = "mount --bind /dev/null /dev/urandom"


@pytest.mark.parametrize(
    ("setup", "before", "result"),
    [
        pytest.param("", NO_CALL, PAM_SUCCESS, marks=pytest.mark.lockout("a system call filter forbids getrandom")),
        pytest.param(NO_DEVICE, (), PAM_SUCCESS, marks=pytest.mark.lockout("/dev/urandom gives nothing")),
        (NO_DEVICE, NO_CALL, PAM_AUTH_ERR),
    ],
)
def test_random_bytes__come_from_the_call_or_the_device(
    stack: Service, alice: Person, phone: Phone, setup: str, before: tuple[str, ...], result: int
) -> None:
    assert log_in_inside(stack, alice, phone.totp(), setup=setup, before=before).result == result
