"""Log in with a home that cannot be written: TOTP works, each code once, by a record in /run; nothing else works."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pam_softtoken.account import ram_record
from pam_softtoken.account.state_format import SLOT_BYTES
from tests.support.account import RECORDS, Person
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Outcome, Service
from tests.support.disk import disk_as_home
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES, Clock, Pam, oathtool
from tests.support.process import wait_until, when_left
from tests.support.surroundings import chroot_with, log_in_inside
from tests.support.system_log import SystemLog

PERIOD_S = 10
START = 170_000_000
"""The first time step of the clock."""
NEW_PROCESS_1 = ("--pid", "--fork", "--mount-proc")


class Disk:
    """A small disk with Alice's home on it."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def remount(self, mode: str) -> None:
        """Remount the disk read-only (`ro`) or writable (`rw`)."""
        when_left("mount", "-o", f"remount,{mode}", self._home)


@pytest.fixture
def disk(alice: Person) -> Iterator[Disk]:
    """A separate disk, mounted as Alice's home."""
    # Codes used before a restart are not known, so a machine that was just started waits for one window.
    wait_until(lambda: ram_record.age_s() > 3 * PERIOD_S, "the machine to be older than a code")
    with disk_as_home(alice):
        yield Disk(alice.home)


@pytest.fixture
def codes(disk: Disk, installed: Installation, alice: Person) -> list[str]:
    """The codes of Alice's token, from the first step on. The enrolment happened while the disk was writable."""
    return oathtool(alice.enrol(installed, f"--period={PERIOD_S}", NO_CODES), START, 12)


@pytest.fixture
def service(pam: Pam, clock: Clock) -> Service:
    """A service whose clock stands still."""
    _turn(clock, 0)
    return pam.with_backend(clock.backend)


def _turn(clock: Clock, step: int) -> None:
    clock.set((START + step) * PERIOD_S)


def _where_it_is_read_only(service: Service, user: Person, code: str) -> Outcome:
    return log_in_inside(service, user, code, setup=f"mount -o remount,bind,ro {user.home}")


def _after_a_restart(service: Service, user: Person, code: str) -> Outcome:
    """Log in with a new process 1 and an empty /run."""
    return log_in_inside(service, user, code, setup="mount -t tmpfs tmpfs /run", namespaces=NEW_PROCESS_1)


@pytest.mark.lockout("the home is read-only")
@pytest.mark.claim(
    "With a read-only home directory TOTP works, and each code once. This holds across a restart after "
    "which the home is still read-only, and when another service can write there."
)
def test_read_only_home__totp_works_and_each_code_once(
    service: Service, alice: Person, codes: list[str], disk: Disk, system_log: SystemLog
) -> None:
    disk.remount("ro")
    for code in codes[:2]:
        assert service.log_in(alice, code).result == PAM_SUCCESS
        assert service.log_in(alice, code).result == PAM_AUTH_ERR
    assert service.log_in(alice, codes[0]).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["accepted", "replayed"] * 2 + ["replayed"]
    assert any("read-only" in line for line in system_log.ours())


def test_read_only_home__used_codes_stay_used(service: Service, alice: Person, codes: list[str], disk: Disk) -> None:
    assert service.log_in(alice, codes[0]).result == PAM_SUCCESS
    disk.remount("ro")
    assert service.log_in(alice, codes[0]).result == PAM_AUTH_ERR


def test_read_only_home__uses_are_merged_as_soon_as_it_can_be_written(
    service: Service, alice: Person, codes: list[str], disk: Disk, clock: Clock
) -> None:
    disk.remount("ro")
    assert service.log_in(alice, codes[1]).result == PAM_SUCCESS
    disk.remount("rw")
    assert service.log_in(alice, codes[1]).result == PAM_AUTH_ERR
    _turn(clock, 2)
    assert service.log_in(alice, codes[2]).result == PAM_SUCCESS
    assert not list(RECORDS.glob(f"{alice.uid}-*"))
    _turn(clock, 0)
    for step in (0, 1):
        assert service.log_in(alice, codes[step]).result == PAM_AUTH_ERR


def test_read_only_home__newest_record_on_the_disk_is_never_overwritten(
    service: Service, alice: Person, codes: list[str], disk: Disk, clock: Clock
) -> None:
    for step, mode in enumerate(("rw", "ro", "rw", "ro", "ro", "rw", "ro", "ro", "ro", "rw")):
        _turn(clock, step)
        disk.remount(mode)
        before = _slots(alice)
        assert service.log_in(alice, codes[step]).result == PAM_SUCCESS
        after = _slots(alice)
        newest = max((0, 1), key=lambda place: before[place][8:16])
        assert after[newest] == before[newest]
        assert (after == before) == (mode == "ro")
        assert {service.log_in(alice, code).result for code in codes[max(0, step - 1) : step + 1]} == {PAM_AUTH_ERR}


def _slots(alice: Person) -> tuple[bytes, bytes]:
    data = (alice.store / "state").read_bytes()
    return data[:SLOT_BYTES], data[SLOT_BYTES:]


@pytest.mark.lockout(
    "the home is read-only, and the token counts",
    shows="reason=not_stored",
    cure="mount -o remount,rw",
)
@pytest.mark.claim("With a read-only home directory HOTP and recovery codes are refused, and not spent.")
def test_read_only_home__hotp_and_recovery_codes_are_refused_and_stay_unused(
    installed: Installation, service: Service, alice: Person, disk: Disk, system_log: SystemLog
) -> None:
    phone = alice.enrol(installed, "--type=hotp")
    code, recovery_code = phone.hotp(), phone.recovery_codes[0]
    disk.remount("ro")
    for answer in (code, recovery_code):
        assert service.log_in(alice, answer).result == PAM_AUTH_ERR
        assert system_log.outcomes()[-1]["reason"] == "not_stored"
        assert "read-only" in system_log.outcomes()[-1]["detail"]
    disk.remount("rw")
    for answer in (code, recovery_code):
        assert service.log_in(alice, answer).result == PAM_SUCCESS


@pytest.mark.lockout(
    "neither the home directory nor /run can be written", shows="reason=not_stored", cure="mount -o remount,rw /run"
)
def test_read_only_home__with_a_read_only_run_is_denied_until_run_is_writable(
    service: Service, alice: Person, codes: list[str], disk: Disk, outside: Path, system_log: SystemLog
) -> None:
    disk.remount("ro")
    run = outside / "run"
    run.mkdir()
    read_only = f"mount --bind {run} /run\nmount -o remount,bind,ro /run"
    assert log_in_inside(service, alice, codes[1], setup=read_only).result == PAM_AUTH_ERR
    cured = f"{read_only}\n{_cure(system_log)}"
    assert log_in_inside(service, alice, codes[1], setup=cured).result == PAM_SUCCESS
    assert log_in_inside(service, alice, codes[1], setup=cured).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["not_stored", "accepted", "replayed"]


@pytest.mark.lockout(
    "the home directory is read-only and /run is missing", shows="reason=not_stored", cure="mkdir -m 755 /run"
)
def test_read_only_home__where_run_is_missing_is_denied_until_it_is_there(
    service: Service, alice: Person, codes: list[str], disk: Disk, world: Path, system_log: SystemLog
) -> None:
    disk.remount("ro")
    without_run = chroot_with(world, Path("/proc"), Path("/dev"))
    assert log_in_inside(service, alice, codes[1], setup=without_run).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["not_stored"]
    cured = f'{without_run}\n"$1" "$2" {_cure(system_log)}'
    assert log_in_inside(service, alice, codes[1], setup=cured).result == PAM_SUCCESS


@pytest.mark.lockout(
    "the home directory is read-only and /proc is missing",
    shows="reason=unusable_file",
    cure="mount -t proc proc /proc",
)
def test_read_only_home__where_proc_is_missing_is_denied_until_it_is_there(
    service: Service, alice: Person, codes: list[str], disk: Disk, system_log: SystemLog
) -> None:
    disk.remount("ro")
    without_proc = "mount -t tmpfs tmpfs /proc"
    assert log_in_inside(service, alice, codes[1], setup=without_proc).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["unusable_file"]
    cured = f"{without_proc}\n{_cure(system_log)}"
    assert log_in_inside(service, alice, codes[1], setup=cured).result == PAM_SUCCESS


def _cure(system_log: SystemLog) -> str:
    """Return the command in the last refusal."""
    detail = system_log.outcomes()[-1]["detail"].strip('"')
    command: str = detail.replace("; as root: ", "; try: ").rpartition("; try: ")[2]
    assert command
    return command


def test_read_only_home__of_one_host_only_still_lets_a_code_in_once(
    service: Service, alice: Person, codes: list[str]
) -> None:
    """A service with a private, read-only view of the homes runs beside one that writes them."""
    first, second = codes[:2]
    assert _where_it_is_read_only(service, alice, first).result == PAM_SUCCESS
    assert service.log_in(alice, first).result == PAM_AUTH_ERR
    assert service.log_in(alice, second).result == PAM_SUCCESS
    assert _where_it_is_read_only(service, alice, second).result == PAM_AUTH_ERR


@pytest.mark.claim(
    "With a read-only home directory TOTP works, and each code once. This holds across a restart after "
    "which the home is still read-only, and when another service can write there."
)
def test_read_only_home__one_code_at_many_prompts_of_both_views_lets_one_in(
    service: Service, alice: Person, codes: list[str], clock: Clock
) -> None:
    for step in range(5):
        _turn(clock, step)
        code = codes[step]
        with ThreadPoolExecutor(8) as threads:
            writing = [threads.submit(service.log_in, alice, code) for _ in range(4)]
            reading = [threads.submit(_where_it_is_read_only, service, alice, code) for _ in range(4)]
        results = [each.result().result for each in (*writing, *reading)]
        assert results.count(PAM_SUCCESS) == 1


@pytest.mark.claim(
    "With a read-only home directory TOTP works, and each code once. This holds across a restart after "
    "which the home is still read-only, and when another service can write there."
)
def test_read_only_home__a_restart_brings_no_used_code_back(
    service: Service, alice: Person, codes: list[str], disk: Disk, clock: Clock, system_log: SystemLog
) -> None:
    disk.remount("ro")
    assert service.log_in(alice, codes[1]).result == PAM_SUCCESS
    for step in (0, 1):
        assert _after_a_restart(service, alice, codes[step]).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["accepted", "replayed", "replayed"]
    _turn(clock, 1)
    assert _after_a_restart(service, alice, codes[2]).result == PAM_AUTH_ERR
    _turn(clock, 3)
    assert service.log_in(alice, codes[3]).result == PAM_SUCCESS


def test_read_only_home__clock_drift_does_not_move_the_window(
    service: Service, alice: Person, codes: list[str], disk: Disk, clock: Clock
) -> None:
    """Otherwise a code could be used that counts as never used after the restart."""
    disk.remount("ro")
    for step in range(4):
        _turn(clock, step)
        assert service.log_in(alice, codes[step + 1]).result == PAM_SUCCESS
    assert service.log_in(alice, codes[5]).result == PAM_AUTH_ERR


def test_read_only_home__age_of_a_container_that_sees_its_own_uptime_is_not_before_its_start(
    installed: Installation, tmp_path: Path
) -> None:
    """As with lxcfs: /proc/uptime counts from the container's start, /proc/1/stat from the host's."""
    uptime = tmp_path / "uptime"
    uptime.write_text("1.00 1.00\n")
    program = (
        f"import sys; sys.path[:0] = [{str(installed.root)!r}]; "
        "from pam_softtoken.account.ram_record import *; print(age_s())"
    )
    script = f"mount --bind {uptime} /proc/uptime && exec python3 -c {shlex.quote(program)}"
    command = ["unshare", "--mount", "--propagation=private", "--pid", "--fork", "--mount-proc", "sh", "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 0 <= int(done.stdout) < 60


def test_read_only_home__an_attempt_while_the_clock_was_ahead_after_a_restart_locks_nobody_out(
    service: Service, alice: Person, codes: list[str], disk: Disk, clock: Clock, system_log: SystemLog
) -> None:
    """As when the hardware clock is in local time, until the network corrects it."""
    disk.remount("ro")
    _turn(clock, 720)
    assert log_in_inside(service, alice, "00000000", setup="", namespaces=NEW_PROCESS_1).result == PAM_AUTH_ERR
    _turn(clock, 3)
    assert service.log_in(alice, codes[3]).result == PAM_SUCCESS
    assert system_log.reasons() == ["mismatch", "accepted"]


def test_read_only_home__guesses_are_slowed_down_there_as_well(
    service: Service, alice: Person, codes: list[str], disk: Disk, system_log: SystemLog
) -> None:
    disk.remount("ro")
    service.log_in_often(alice, *["00000000"] * 12, attempts=12)
    assert system_log.reasons() == ["mismatch"] * 5 + ["throttled"] * 7


def test_read_only_home__a_host_without_root_denies_where_it_cannot_look(
    installed: Installation, service: Service, alice: Person, codes: list[str], disk: Disk, system_log: SystemLog
) -> None:
    disk.remount("ro")
    assert service.log_in(alice, codes[0], run_as=alice).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["not_stored"]
    assert service.log_in(alice, codes[0]).result == PAM_SUCCESS
    disk.remount("rw")
    assert service.log_in(alice, codes[1], run_as=alice).result == PAM_AUTH_ERR
    assert system_log.reasons()[2:] == ["unusable_file"]
    assert service.log_in(alice, codes[1]).result == PAM_SUCCESS


@pytest.mark.lockout("a login was killed while it made /run/softtoken")
def test_read_only_home__a_login_killed_while_it_made_the_place_for_records_shuts_nobody_out(
    service: Service, alice: Person, codes: list[str], disk: Disk, clock: Clock
) -> None:
    """The next login repairs the mode: an application without root must see that its user has no record."""
    disk.remount("ro")
    record = ram_record.path_of(alice.uid, str(alice.store))
    setup = f"mount -t tmpfs tmpfs /run && mkdir -m 0700 {RECORDS}"
    setup += f" && echo ={codes[0]} | {shlex.join(service.command(alice))} >/dev/null && rm {record}"
    setup += f" && mount -o remount,rw {alice.home}"
    as_alice = ("setpriv", f"--reuid={alice.uid}", f"--regid={alice.gid}", "--clear-groups")
    done = log_in_inside(service, alice, codes[1], setup=setup, before=as_alice)
    assert done.result == PAM_SUCCESS


def test_read_only_home__a_broken_or_foreign_record_denies(
    service: Service, alice: Person, codes: list[str], disk: Disk, system_log: SystemLog
) -> None:
    disk.remount("ro")
    assert service.log_in(alice, codes[0]).result == PAM_SUCCESS
    (record,) = RECORDS.glob(f"{alice.uid}-*")
    whole = record.read_bytes()
    for broken in (b"", b"x", whole[:-1], whole[:100] + b"x" + whole[101:]):
        record.write_bytes(broken)
        assert service.log_in(alice, codes[1]).result == PAM_AUTH_ERR
        assert system_log.reasons()[-1] == "damaged_state"
    record.write_bytes(whole)
    record.chmod(0o666)
    assert service.log_in(alice, codes[1]).result == PAM_AUTH_ERR
    assert system_log.reasons()[-1] == "insecure_file"
    record.chmod(0o600)
    assert service.log_in(alice, codes[1]).result == PAM_SUCCESS


def test_read_only_home__without_a_state_denies(
    service: Service, alice: Person, codes: list[str], disk: Disk, system_log: SystemLog
) -> None:
    (alice.store / "state").unlink()
    disk.remount("ro")
    assert service.log_in(alice, codes[1]).result == PAM_AUTH_ERR
    assert "read-only" in system_log.outcomes()[-1]["detail"]
