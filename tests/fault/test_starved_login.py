"""Log in without a processor while holding the lock: SCHED_IDLE, beside programs that want all of it.

The kernel's autogroups would give the login a share of its own. A separate control group for the processor, as systemd
makes for users, ends that. So does a host that has switched autogroups off.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pam_softtoken.account import proc
from tests.support.account import Person
from tests.support.admin import Admin, succeeded
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES, Pam
from tests.support.pam_waiting import Waiting
from tests.support.process import wait_until
from tests.support.system_log import SystemLog

GROUP = Path("/sys/fs/cgroup/cpu/softtoken-starved")
PROCESSOR = 0
HOGS = 4
WORK = 20_000_000
"""About one second of processor time, of which a starved process gets a few thousandths."""
JOIN = f'echo $$ > {GROUP}/cgroup.procs; exec "$@"'
STARVED_BACKEND = """
import os, sys
sys.path.insert(0, {root!r})
from pam_softtoken.account import safe_open as files
from pam_softtoken.bridge.backend import main
real = files.lock
def lock(*arguments, **options):
    real(*arguments, **options)
    os.close(os.open({gate!r}, os.O_RDONLY))  # until the others run
    os.sched_setaffinity(0, ({processor},))
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    for _ in range({work}):
        pass
files.lock = lock
main(__file__)
"""


@pytest.fixture
def group() -> Iterator[None]:
    """A control group whose processes the kernel does not divide into autogroups."""
    try:
        GROUP.mkdir(exist_ok=True)
    except OSError:
        pytest.skip("needs to make a control group for the processor: /sys/fs/cgroup/cpu cannot be written")
    yield
    wait_until(lambda: not (GROUP / "cgroup.procs").read_text(), "the end of all in the group")
    GROUP.rmdir()


@contextlib.contextmanager
def hogs() -> Iterator[None]:
    """Run programs of the highest priority on the one processor, in the same group."""
    command = [
        "sh",
        "-c",
        JOIN,
        "sh",
        "taskset",
        "-c",
        str(PROCESSOR),
        "nice",
        "-n",
        "-20",
        "sh",
        "-c",
        "while :; do :; done",
    ]
    running = [subprocess.Popen(command) for _ in range(HOGS)]
    try:
        for each in running:
            spinning = Path("/proc", str(each.pid), "cmdline")
            wait_until(lambda path=spinning: b"sh\0-c\0while" in path.read_bytes(), "a hog to run")  # type: ignore[misc]
        yield
    finally:
        for each in running:
            each.kill()
            each.wait()


def starved_backend(installed: Installation, outside: Path) -> tuple[Path, Path]:
    """Create a backend that is starved once it has the lock and a pipe is opened. Return both paths."""
    backend, gate = outside / "backend", outside / "gate"
    os.mkfifo(gate)
    text = STARVED_BACKEND.format(root=str(installed.root), processor=PROCESSOR, gate=str(gate), work=WORK)
    backend.write_text(text)
    return backend, gate


def holders(person: Person) -> list[int]:
    """Return the processes that hold the lock of a user's state."""
    with (person.store / "state").open() as state:
        lock = proc.lock_name(state.fileno())
    return [pid for pid in proc.all_pids() if proc.has_lock(pid, lock)]


@pytest.mark.usefixtures("group")
def test_starved__login_with_the_lock_delays_logins_for_seconds_and_no_revocation(
    installed: Installation, alice: Person, pam: Pam, outside: Path, system_log: SystemLog
) -> None:
    phone = alice.enrol(installed, "--period=300", NO_CODES)
    backend, gate = starved_backend(installed, outside)
    starved = pam.with_backend(backend, "window=5", "timeout=120")
    service = pam.service("window=5", "timeout=30")
    with Waiting(starved, alice, around=["sh", "-c", JOIN, "sh"]) as victim:
        victim.write_down(phone.totp(1))
        victim.wait_for_prompt()
        victim.release()
        wait_until(lambda: holders(alice), "the login to take the lock")
        with hogs():
            os.close(os.open(gate, os.O_WRONLY))
            assert service.log_in(alice, phone.totp(2)).result == PAM_AUTH_ERR
            assert system_log.reasons() == ["lock_timeout"], "it waited for as long as it may, and no longer"
            done = Admin(installed).run("revoke", alice.name, "--yes")
            assert holders(alice), "the login was not starved"
            succeeded(done)
            assert "holds the lock" in done.stderr
        assert victim.outcome().result == PAM_AUTH_ERR, "it had not been accepted when everything was revoked"
    assert service.log_in(alice, phone.totp(3)).result == PAM_AUTH_ERR


@pytest.mark.lockout("a login gets no processor for seconds")
@pytest.mark.usefixtures("group")
def test_starved__login_is_accepted_when_there_is_a_processor_again(
    installed: Installation, alice: Person, pam: Pam, outside: Path
) -> None:
    phone = alice.enrol(installed, "--period=300", NO_CODES)
    backend, gate = starved_backend(installed, outside)
    with Waiting(pam.with_backend(backend, "timeout=120"), alice, around=["sh", "-c", JOIN, "sh"]) as victim:
        victim.write_down(phone.totp())
        victim.wait_for_prompt()
        victim.release()
        wait_until(lambda: holders(alice), "the login to take the lock")
        with hogs():
            os.close(os.open(gate, os.O_WRONLY))
        assert victim.outcome().result == PAM_SUCCESS
    assert os.sched_getscheduler(0) == os.SCHED_OTHER
    wait_until(lambda: not holders(alice), "the end of the login")
