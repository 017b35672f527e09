"""Enable a service that nobody confirms, with real kills: it goes back by itself, or with the next command.

A restarted machine is simulated by a record that names another boot. systemd starting the unit at boot cannot be tested
here.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest

from tests.support.account import Phone
from tests.support.enabling import ASKED, CHANGES, LONG, SHORT, Admin
from tests.support.installation import TREE
from tests.support.process import wait_until
from tests.support.sampling import sampled


@pytest.mark.lockout("nobody gets in with a code after enable")
@pytest.mark.claim(
    "A change that nobody confirms goes back by itself, whatever is killed. A login that another line "
    "refuses confirms nothing."
)
def test_enable__unconfirmed_change_goes_back(admin: Admin, phone: Phone) -> None:
    before = admin.pam()
    done = admin.run("enable", "sudo", SHORT)
    assert done.returncode == 1
    assert ASKED in done.stderr
    assert "everything is as it was before" in done.stderr
    assert admin.pam() == before
    assert admin.inside("ls", CHANGES) == ""


@pytest.mark.lockout("the terminal dies while a change waits to be confirmed")
def test_enable__terminal_dies_and_all_goes_back(admin: Admin, phone: Phone) -> None:
    before = admin.pam()
    screen = admin.start("enable", "sudo", "--yes", LONG)
    screen.expect(ASKED)
    screen.close(force=True)
    assert admin.pam() != before
    admin.let_time_pass("sudo")
    wait_until(lambda: admin.pam() == before, "all to go back")


@pytest.mark.lockout("enable is killed while a change waits to be confirmed")
def test_enable__change_of_a_killed_program_goes_back(admin: Admin, phone: Phone) -> None:
    before = admin.pam()
    screen = admin.start("enable", "sudo", "--yes", LONG)
    screen.expect(ASKED)
    assert screen.pid is not None
    os.kill(screen.pid, signal.SIGKILL)
    assert admin.pam() != before
    admin.let_time_pass("sudo")
    wait_until(lambda: admin.pam() == before, "all to go back")


@pytest.mark.lockout("enable and all that watches a change are killed")
@pytest.mark.claim(
    "A change that nobody confirms goes back by itself, whatever is killed. A login that another line "
    "refuses confirms nothing."
)
def test_enable__next_command_takes_it_back_after_a_kill_of_program_and_watchdog(admin: Admin, phone: Phone) -> None:
    before = admin.pam()
    admin.leave_unwatched()
    assert admin.pam() != before
    admin.let_time_pass("sudo")
    wait_until(lambda: "not confirmed in time" in admin.run("roll-back").stderr, "the time to be over")
    assert admin.pam() == before


@pytest.mark.lockout("the machine restarts while a change waits to be confirmed")
def test_roll_back__takes_back_changes_from_before_a_reboot(admin: Admin, phone: Phone, tmp_path: Path) -> None:
    before = admin.pam()
    admin.leave_unwatched()
    record = json.loads(admin.inside("cat", f"{CHANGES}/sudo/pending"))
    record["boot"] = "of another day"
    (tmp_path / "record").write_text(json.dumps(record))
    admin.inside("cp", str(tmp_path / "record"), f"{CHANGES}/sudo/pending")
    admin.inside("touch", f"{CHANGES}/sudo/login")  # whatever the result was then
    assert admin.run("roll-back").returncode == 0
    assert admin.pam() == before


def test_roll_back__with_an_unreadable_record_fails(admin: Admin, phone: Phone) -> None:
    before = admin.pam()
    admin.leave_unwatched()
    record = admin.inside("cat", f"{CHANGES}/sudo/pending")
    admin.inside("truncate", "--size=9", f"{CHANGES}/sudo/pending")
    done = admin.run("roll-back")
    assert done.returncode == 1
    assert "hint: the former files are in" in done.stderr
    admin.inside(
        "python3", "-c", "import sys; open(sys.argv[1], 'w').write(sys.argv[2])", f"{CHANGES}/sudo/pending", record
    )
    assert admin.run("disable", "sudo").returncode == 0
    assert admin.pam() == before


def test_enable__ctrl_c_says_when_the_change_goes_back(admin: Admin, phone: Phone) -> None:
    before = admin.pam()
    screen = admin.start("enable", "sudo", "--yes", LONG)
    screen.expect(ASKED)
    screen.sendintr()
    screen.expect("goes back by itself in")
    screen.expect("softtoken-admin confirm sudo")
    screen.expect(pexpect.EOF)
    assert admin.run("disable", "sudo").returncode == 0
    assert admin.pam() == before
    wait_until(lambda: not admin.watchdogs(), "the watchdog to have nothing to do")


@pytest.mark.lockout("two administrators enable the same service at once")
def test_enable__one_of_two_at_once_wins(admin: Admin, phone: Phone) -> None:
    before = admin.pam()
    screens = [admin.start("enable", "sudo", "--yes", LONG) for _ in range(2)]
    ends = [
        screen.expect([ASKED, "waits to be confirmed", "asks for a code already", "meanwhile"]) for screen in screens
    ]
    assert sorted(ends)[0] == 0
    assert ends.count(0) == 1
    assert (admin.mounts.directory / "pam.d" / "sudo").read_text().count("pam_softtoken.so") == 1
    assert admin.run("disable", "sudo").returncode == 0
    assert admin.pam() == before


@pytest.mark.parametrize("start", ["off", "on"])
def test_enable__and_disable_at_once_leave_one_result(start: str, admin: Admin, phone: Phone) -> None:
    before = admin.pam()
    path = str(admin.mounts.directory / "pam.d" / "sudo")
    if start == "on":
        admin.start("enable", "sudo", "--yes", LONG).expect(ASKED)
        assert admin.run("confirm").returncode == 0
    screens = [admin.start(*words) for words in (("enable", "sudo", "--yes", LONG), ("disable", "sudo")) * 2]
    for screen in screens:
        screen.expect([ASKED, "Done.", "error: "])
    present = admin.pam()
    is_on = present != before
    assert present[path].count(b"pam_softtoken.so") == is_on
    assert admin.inside("sh", "-c", f"ls {CHANGES}").split() == ["sudo"] * is_on
    assert admin.run("disable", "sudo").returncode == (0 if is_on else 1)
    assert admin.pam() == before
    assert admin.inside("ls", CHANGES) == ""


_HOLDS_LOCK = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from pam_softtoken.account import places
from pam_softtoken.admin.change import record as change
places.CHANGES, change.LOCK = sys.argv[2], sys.argv[2] + "/.lock"
with change.locked():
    os.kill(os.getpid(), signal.SIGTSTP)
"""


def test_lock__stopped_program_does_not_hold_it(tmp_path: Path) -> None:
    words = [sys.executable, "-c", _HOLDS_LOCK, str(TREE), str(tmp_path)]
    # A separate process group, as a shell makes it: a group without a shell could not be stopped.
    with subprocess.Popen(words, process_group=0) as program:
        try:
            _, status = os.waitpid(program.pid, os.WUNTRACED)
            assert os.WIFSTOPPED(status)
            with (tmp_path / ".lock").open("wb") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        finally:
            os.kill(program.pid, signal.SIGKILL)


CALLS = {"rename": range(1, 4), "fsync": range(1, 9), "unlink": range(1, 6), "write": range(1, 4)}
OPERATIONS = [(call, number) for call, numbers in CALLS.items() for number in numbers]
RENAMES = OPERATIONS[:3]


@pytest.mark.parametrize("doing", ["enable", "disable"])
@pytest.mark.claim(
    "A change that nobody confirms goes back by itself, whatever is killed. A login that another line "
    "refuses confirms nothing."
)
def test_kill__at_each_file_operation_leaves_the_old_or_the_new(doing: str, admin: Admin, phone: Phone) -> None:
    """An ordinary run kills at each rename, which changes what counts, and at some other operations."""
    before = admin.pam()
    path = str(admin.mounts.directory / "pam.d" / "sudo")
    for call, number in sampled(OPERATIONS, 0.25, always=RENAMES):
        place = f"killed at {call} {number}"
        if doing == "disable":
            screen = admin.start("enable", "sudo", "--yes", LONG)
            screen.expect(ASKED)
            assert admin.run("confirm").returncode == 0
            screen.expect(pexpect.EOF)
        after = admin.pam()
        around = ("strace", "-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={number}")
        admin.run(doing, "sudo", *(["--for=1s"] if doing == "enable" else []), around=around)
        admin.kill_watchdogs()
        text = admin.pam()[path]
        is_new = doing == "enable" and text.count(b"pam_softtoken.so") == 1
        assert text in (before[path], after[path]) or is_new, place
        if doing == "disable":
            admin.run("disable", "sudo")
        wait_until(lambda: not _waits(admin), f"the next command to repair what was {place}")
        assert admin.pam() == before, place


def _waits(admin: Admin) -> bool:
    admin.run("roll-back")
    return "sudo/pending" in admin.inside("sh", "-c", f"cd {CHANGES} && ls */pending 2>/dev/null || true")
