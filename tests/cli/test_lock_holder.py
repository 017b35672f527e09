"""Wait for a lock in vain as root: the message says which process holds it, and what to do next."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pam_softtoken.account import lock_holder, proc
from tests.support import revoking
from tests.support.account import Person, Phone
from tests.support.admin import Admin, refused, succeeded
from tests.support.client import PAM_SUCCESS, Service
from tests.support.enroller import Enroller
from tests.support.installation import Installation
from tests.support.process import is_running, wait_until

HAND_ON = """
import fcntl, os, sys
lock = os.open(sys.argv[1] + "/state", os.O_RDONLY)
fcntl.flock(lock, fcntl.LOCK_EX)
if os.fork():
    os._exit(0)
os.write(1, b"ready\\n")
sys.stdin.read()
"""
ODD_NAME = """
import fcntl, os, sys
with open("/proc/self/comm", "w") as name:
    name.write("evil\\x1b[2J) x")
lock = os.open(sys.argv[1] + "/state", os.O_RDONLY)
fcntl.flock(lock, fcntl.LOCK_EX)
os.write(1, b"ready\\n")
sys.stdin.read()
"""


@pytest.fixture
def admin(installed: Installation) -> Admin:
    """The installed `softtoken-admin`."""
    return Admin(installed)


@pytest.fixture
def phone(installed: Installation, alice: Person) -> Iterator[Phone]:
    """Alice's token. Root keeps no part of it."""
    alice.forget_on_the_host()
    yield alice.enrol(installed, "--period=300", "--recovery-codes=0")
    alice.forget_on_the_host()


@pytest.mark.parametrize("words", ["unlock", "code-for --for=1h", "reset-state --yes"])
def test_lock__held_by_a_process_of_the_user_is_reported_so(
    admin: Admin, alice: Person, phone: Phone, service: Service, words: str
) -> None:
    command, *options = words.split()
    with revoking.against(alice, revoking.HOLD_EVERY_LOCK) as holder:
        done = admin.run(command, alice.name, *options)
        assert holder.poll() is None
    assert done.status == 1
    assert "another process has held the lock for 5 s; nothing was changed\n" in done.stderr
    assert f"hint: process {holder.pid} (python3; {alice.name}, uid {alice.uid}) holds the lock. " in done.stderr
    assert done.stderr.endswith(f"kill -KILL {holder.pid}, then start again\n")
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS, "nothing was changed"


def test_lock__is_named_by_move_and_by_an_enrolment_as_root(
    admin: Admin, enroller: Enroller, alice: Person, phone: Phone
) -> None:
    with revoking.against(alice, revoking.HOLD_EVERY_LOCK) as holder:
        moved = admin.run("move", alice.name, "--to", "system")
        enrolled = enroller.run("--user", alice.name, "--force", "--no-confirm", "--json")
    for done in (moved, enrolled):
        assert done.status == 1
        assert f"kill -KILL {holder.pid}, then start again" in done.stderr


def test_lock__is_named_only_to_root(enroller: Enroller, alice: Person, phone: Phone) -> None:
    with revoking.against(alice, revoking.HOLD_EVERY_LOCK) as holder:
        done = enroller.run("--remove", "phone", "--force", person=alice)
    assert done.status == 1
    assert str(holder.pid) not in done.stderr


def test_lock__inherited_one_names_the_process_that_holds_it_now(admin: Admin, alice: Person, phone: Phone) -> None:
    with revoking.against(alice, HAND_ON) as taker:
        wait_until(lambda: not is_running(taker.pid), "the end of who took the lock")
        _, hint = refused(admin.run("unlock", alice.name))
    (pid,) = re.findall(r"process (\d+) \(python3; ", hint)
    assert int(pid) != taker.pid


def test_lock__name_of_a_program_cannot_write_to_the_terminal(admin: Admin, alice: Person, phone: Phone) -> None:
    with revoking.against(alice, ODD_NAME):
        said = [admin.run(*words).stderr for words in (["unlock", alice.name], ["move", alice.name, "--to", "system"])]
    for text in said:
        assert "\x1b" not in text
        assert "evil" in text


NO_PROC = 'mount -t tmpfs none /proc; exec "$@"'


def test_lock__without_proc_has_an_unknown_holder(installed: Installation, alice: Person, phone: Phone) -> None:
    program = installed.root / "scripts" / "softtoken-admin"
    blind = Enroller("unshare", "--mount", "--propagation", "private", "sh", "-c", NO_PROC, "sh", program)
    with revoking.against(alice, revoking.HOLD_EVERY_LOCK):
        done = blind.run("unlock", alice.name)
    assert done.status == 1
    assert "it is not known who holds the lock, because /proc does not say; start again" in done.stderr


def test_find__same_inode_on_another_file_system_is_another_file(outside: Path) -> None:
    """File systems in memory number their inodes alike."""
    files = []
    with contextlib.ExitStack() as exits:
        for name in ("one", "two"):
            place = outside / name
            place.mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "none", place], check=True)
            exits.callback(lambda place=place: subprocess.run(["umount", place], check=True))  # type: ignore[misc]
            (place / "state").touch()
            files.append(exits.enter_context((place / "state").open()))
        assert len({os.fstat(file.fileno()).st_ino for file in files}) == 1, "this is no such case"
        locks = [proc.lock_name(file.fileno()) for file in files]
        fcntl.flock(files[0], fcntl.LOCK_EX)
        found = [lock_holder.find(lock) for lock in locks]
    assert [[each.pid for each in holders or []] for holders in found] == [[os.getpid()], []]


def test_find__a_process_that_vanishes_is_left_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.touch()
    with subprocess.Popen(
        ["flock", str(path), "sh", "-c", "echo ready; read answer"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        with path.open() as file:
            lock = proc.lock_name(file.fileno())
        found = lock_holder.find(lock)
        assert found is not None
        assert {each.program for each in found} == {"flock", "sh"}
        assert {each.uid for each in found} == {os.getuid()}

        def vanished(pid: int) -> int:
            raise ProcessLookupError(pid)

        monkeypatch.setattr(proc, "real_uid", vanished)
        assert lock_holder.find(lock) == []
        holder.communicate()
    monkeypatch.undo()
    assert lock_holder.find(lock) == []


def test_move__to_the_system_offers_new_keys_by_a_command_that_works(admin: Admin, alice: Person, phone: Phone) -> None:
    """A key that malware may have read in the home directory stays the same key."""
    done = admin.run("move", alice.name, "--to", "system")
    succeeded(done)
    assert "may have read the key" in done.stderr
    offered = re.findall(
        r"^  (softtoken-admin revoke (\S+) && softtoken-enroll --user (\S+))$", done.stderr, re.MULTILINE
    )
    assert [words[1:] for words in offered] == [(alice.name, alice.name)]
    back = admin.run("move", alice.name, "--to", "home")
    succeeded(back)
    assert "may have read" not in back.stderr, "it is not about a move to the home directory"
