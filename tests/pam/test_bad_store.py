"""Log in with an unusable store, state or lock: every fault is a denial, with its cause in the log."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pam_softtoken.account.state_format import SLOT_BYTES
from tests.support.account import Person, Phone
from tests.support.client import (
    PAM_AUTH_ERR,
    PAM_SUCCESS,
    Outcome,
    Service,
)
from tests.support.installation import Installation
from tests.support.pam_scene import (
    ALERT,
    ERR,
    NO_CODES,
    PROMPT,
    Pam,
    severities,
    wait_until,
)
from tests.support.pam_waiting import Waiting
from tests.support.process import Process, processes, shortest_s
from tests.support.system_log import SystemLog


def test_state__both_records_damaged_denies(
    service: Service, alice: Person, phone: Phone, system_log: SystemLog
) -> None:
    state = alice.store / "state"
    damaged = bytearray(state.read_bytes())
    damaged[100] ^= 1
    damaged[SLOT_BYTES + 100] ^= 1
    state.write_bytes(damaged)
    outcome = service.log_in(alice, phone.totp())
    assert outcome.result == PAM_AUTH_ERR
    assert outcome.messages == PROMPT
    (fields,) = system_log.outcomes()
    assert fields["reason"] == "damaged_state"
    assert str(state) in fields["detail"]
    assert severities(system_log) == [ALERT]
    assert state.read_bytes() == bytes(damaged)


@pytest.mark.parametrize("size", [1, SLOT_BYTES - 1, SLOT_BYTES + 1, 2 * SLOT_BYTES - 1])
def test_state__cut_off_so_that_no_record_is_whole_denies(
    service: Service, alice: Person, phone: Phone, system_log: SystemLog, size: int
) -> None:
    state = alice.store / "state"
    data = state.read_bytes()
    # A truncated file has lost the second record. The first is damaged so that none is left.
    state.write_bytes((b"X" + data[1:])[:size])
    assert service.log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["damaged_state"]


def test_state__larger_than_ours_denies(service: Service, alice: Person, phone: Phone, system_log: SystemLog) -> None:
    with (alice.store / "state").open("ab") as state:
        state.write(b"\0")
    assert service.log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["damaged_state"]


@pytest.mark.lockout("one of the two records of the state is damaged")
@pytest.mark.parametrize("broken", ["older", "newer"])
def test_state__one_record_damaged_still_works(
    service: Service, alice: Person, phone: Phone, system_log: SystemLog, broken: str
) -> None:
    state = alice.store / "state"
    code = phone.totp()
    before = state.read_bytes()
    assert service.log_in(alice, code).result == PAM_SUCCESS
    after = bytearray(state.read_bytes())
    written = 0 if before[:SLOT_BYTES] != after[:SLOT_BYTES] else SLOT_BYTES
    after[(written if broken == "newer" else SLOT_BYTES - written) + 50] ^= 0x80
    state.write_bytes(after)
    # When the newer record is gone, its code is forgotten. A code after it works in either case.
    if broken == "older":
        assert service.log_in(alice, code).result == PAM_AUTH_ERR
        assert system_log.reasons()[-1] == "replayed"
    assert service.log_in(alice, phone.totp(1)).result == PAM_SUCCESS
    assert service.log_in(alice, phone.totp(1)).result == PAM_AUTH_ERR
    assert service.log_in(alice, code).result == PAM_AUTH_ERR
    assert system_log.reasons()[-2:] == ["replayed", "replayed"]


def _home_missing(alice: Person) -> None:
    alice.home.rename(alice.home.with_name(alice.home.name + ".away"))


def _home_writable_by_others(alice: Person) -> None:
    alice.home.chmod(0o757)


def _home_writable_by_its_group(alice: Person) -> None:
    alice.home.chmod(0o775)


def _home_like_tmp(alice: Person) -> None:
    alice.home.chmod(0o1777)


def _home_of_somebody_else(alice: Person) -> None:
    os.chown(alice.home, 1, 1)


def _home_closed(alice: Person) -> None:
    os.chown(alice.home, 0, 0)
    alice.home.chmod(0o700)


def _home_of_root(alice: Person) -> None:
    os.chown(alice.home, 0, 0)
    alice.home.chmod(0o775)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (_home_missing, "no_home"),
        (_home_writable_by_others, "insecure_file"),
        (_home_writable_by_its_group, "insecure_file"),
        (_home_like_tmp, "insecure_file"),
        (_home_of_somebody_else, "insecure_file"),
        (_home_of_root, "insecure_file"),
        (_home_closed, "unusable_file"),
    ],
)
def test_store__home_that_cannot_be_trusted_denies_with_nullok_too(
    pam: Pam,
    alice: Person,
    phone: Phone,
    system_log: SystemLog,
    spoil: Callable[[Person], None],
    reason: str,
) -> None:
    spoil(alice)
    try:
        for service in (pam.service(), pam.only_ignore("nullok")):
            outcome = service.log_in(alice, phone.totp())
            assert outcome.result == PAM_AUTH_ERR
            assert outcome.messages == PROMPT
    finally:
        if spoil is _home_missing:
            alice.home.with_name(alice.home.name + ".away").rename(alice.home)
    assert system_log.reasons() == 2 * [reason]


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{}",
        b"{",
        b'{"version" 1}',
        b"\xff\xfe",
        b"[" * 20000,
        b'{"version": 2, "tokens": [], "recovery": {}}',
        b'{"version": 1, "\\ud800": []}',
    ],
)
def test_store__token_file_that_enrolment_did_not_write_denies(
    service: Service, alice: Person, phone: Phone, system_log: SystemLog, text: bytes
) -> None:
    (alice.store / "tokens").write_bytes(text)
    outcome = service.log_in(alice, phone.totp())
    assert outcome.result == PAM_AUTH_ERR
    assert outcome.messages == PROMPT
    assert system_log.reasons() == ["bad_token_file"]
    assert severities(system_log) == [ALERT]


# ---- could not be stored; lock time-out


def test_not_stored__host_that_may_write_no_file_is_refused_and_the_code_is_not_used_up(
    service: Service, alice: Person, phone: Phone, system_log: SystemLog
) -> None:
    # A host without root may lose its right to write files; see section 6 of the design.
    code = phone.totp()
    done = subprocess.run(
        ["prlimit", "--fsize=0:0", *service.command(alice)],
        input=f"={code}\n",
        text=True,
        check=True,
        capture_output=True,
        user=alice.uid,
        group=alice.gid,
        extra_groups=[],
    )
    assert Outcome(done.stdout).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["not_stored"]
    assert severities(system_log) == [ERR]
    assert service.log_in(alice, code).result == PAM_SUCCESS


@pytest.fixture
def held_lock(alice: Person, phone: Phone) -> Iterator[None]:
    """Hold the lock in another process for the whole test."""
    with (alice.store / "state").open("rb") as state:
        fcntl.flock(state, fcntl.LOCK_EX)
        yield


@pytest.mark.usefixtures("held_lock")
def test_lock_timeout__held_lock_denies_within_the_time_granted(
    pam: Pam, alice: Person, phone: Phone, system_log: SystemLog
) -> None:
    service = pam.service("timeout=2")
    outcomes: list[Outcome] = []
    assert shortest_s(lambda: outcomes.append(service.log_in(alice, phone.totp())), within_s=2) < 2
    assert outcomes[-1].result == PAM_AUTH_ERR
    assert outcomes[-1].messages == PROMPT
    assert system_log.reasons()[-1] == "lock_timeout"
    assert set(severities(system_log)) == {ERR}


STOPS_UNDER_THE_LOCK = """
import os, signal, sys
sys.path.insert(0, {root!r})
from pam_softtoken.account import replace
from pam_softtoken.enroll import program
put = replace.Replacement.put
def stop(self):
    os.kill(os.getpid(), signal.SIGSTOP)
    put(self)
replace.Replacement.put = stop
sys.exit(program.main())
"""


@pytest.mark.lockout("a program that holds the lock is stopped", shows="reason=lock_timeout", cure="kill -KILL PID")
def test_lock_timeout__names_a_stopped_program_and_the_owner_gets_in_when_it_is_killed(
    installed: Installation, pam: Pam, alice: Person, phone: Phone, system_log: SystemLog
) -> None:
    script = STOPS_UNDER_THE_LOCK.format(root=str(installed.root))
    words = ["--user", alice.name, "--force", "--no-confirm", "--json", NO_CODES]
    service = pam.service("timeout=2")
    with subprocess.Popen(["/usr/bin/python3", "-I", "-B", "-c", script, *words], stdout=subprocess.DEVNULL) as stopped:
        try:
            wait_until(lambda: Process(Path("/proc", str(stopped.pid))).state == "T", "the program stopped")
            assert service.log_in(alice, phone.totp()).result == PAM_AUTH_ERR
            assert system_log.reasons() == ["lock_timeout"]
            (pid,) = re.findall(r"; process (\d+) \(python3; root, uid 0\) holds the lock", system_log.ours()[-1])
            subprocess.run(["kill", "-KILL", pid], check=True)
            assert stopped.wait(60) == -signal.SIGKILL
        finally:
            stopped.kill()
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS


@pytest.mark.usefixtures("held_lock")
def test_lock_timeout__does_not_keep_a_prompt_back(service: Service, alice: Person) -> None:
    with Waiting(service, alice) as client:
        client.wait_for_prompt()
        assert client.answer("12345").result == PAM_AUTH_ERR


def test_lock__is_not_held_during_the_notice_about_recovery_codes(
    installed: Installation, service: Service, alice: Person
) -> None:
    """This happens at a terminal that was stopped with Ctrl-S."""
    phone = alice.enrol(installed, "--period=300", "--recovery-codes=2")
    with Waiting(service, alice, options=["--slow-reader"]) as reader:
        reader.write_down(phone.recovery_codes[0])
        reader.wait_for_prompt()
        reader.release()
        reader.wait_for_prompt()
        assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS
        reader.release()
        assert reader.outcome().result == PAM_SUCCESS


def test_lock_timeout__login_waits_for_a_lock_released_in_time(
    service: Service, alice: Person, phone: Phone, system_log: SystemLog
) -> None:
    with (alice.store / "state").open("rb") as state, Waiting(service, alice) as client:
        fcntl.flock(state, fcntl.LOCK_EX)
        client.wait_for_prompt()
        client.write_down(phone.totp())
        client.release()
        wait_until(lambda: _waits_for_the_lock_of(alice.store / "state"), "the backend tried the lock")
        fcntl.flock(state, fcntl.LOCK_UN)
        assert client.outcome().result == PAM_SUCCESS
    assert system_log.reasons() == ["accepted"]


def _waits_for_the_lock_of(state: Path) -> bool:
    """Return whether a backend with the state file open is asleep."""
    return any(_has_open(each.pid, state) and _sleeps(each.pid) for each in processes() if each.pid != os.getpid())


def _has_open(process: int, path: Path) -> bool:
    with contextlib.suppress(OSError):
        return any(link.readlink() == path for link in Path(f"/proc/{process}/fd").iterdir())
    return False


def _sleeps(process: int) -> bool:
    # After an answer, the backend sleeps only between its attempts to take the lock.
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/syscall").read_text().partition(" ")[0] in {str(number) for number in _SLEEPING}
    return False


_SLEEPING = (230, 35) if os.uname().machine == "x86_64" else (115, 101)
"""clock_nanosleep and nanosleep."""
