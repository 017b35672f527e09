"""Undo a change despite obstacles: a full disk, a read-only disk, an editor, links, kills.

The change is made by the product's own planner, and is already overdue. No process watches it, unless the test says so.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pam_softtoken.admin.program import COMMANDS
from tests.support.account import Person, Phone
from tests.support.disk import fill
from tests.support.doctor import steps
from tests.support.enabling import ASKED, CHANGES, LONG, WHOEVER, Admin, DebianSSH
from tests.support.hosts import Su, Sudo
from tests.support.installation import Installation
from tests.support.private_mounts import PrivateMounts
from tests.support.process import wait_until

KEPT = ".sudo.softtoken-old"
HOP = "auth [success={} default=ignore] pam_succeed_if.so quiet user = nobody-like-this\n"
_ENABLE = """
import sys
sys.path.insert(0, sys.argv[1])
from pam_softtoken.admin.change import record as change, plan
made = plan.Plan("sudo", "password", nullok=False)
planned = change.new("sudo", made.files, for_s=0)
with change.locked():
    change.begin(planned)
    for each in planned.files:
        change.apply(each)
    if sys.argv[2:]:
        change.confirm(planned)
"""
_IN_A_HURRY = """
import sys
sys.path.insert(0, sys.argv[1])
from pam_softtoken.admin import program
from pam_softtoken.admin.change import watchdog
watchdog._LIMIT_S = 0.5
sys.exit(program.main(sys.argv[2:]))
"""
_CHANGES = """
import sys
sys.path.insert(0, sys.argv[1])
from pam_softtoken.admin.doctor import host_check
print(*host_check.check_changes().findings)
"""
_SERVICES = """
import sys
sys.path.insert(0, sys.argv[1])
from pam_softtoken.admin.services import stack_check
print(*stack_check.read_services().stacks)
"""
_SMALL_DISK = """
cp -a /etc/pam.d /tmp/softtoken-pam.$$
mount -t tmpfs -o size=512k,mode=755 tmpfs /etc/pam.d
cp -a /tmp/softtoken-pam.$$/. /etc/pam.d
rm -rf /tmp/softtoken-pam.$$
"""


class Changed(Admin):
    """Root on a host whose sudo asks for a code for longer than intended."""

    @property
    def directory(self) -> Path:
        """The directory of the services, as seen inside."""
        return self.mounts.path("/etc/pam.d")

    def files(self) -> dict[str, bytes]:
        """Return all files of that directory."""
        return {path.name: path.read_bytes() for path in self.directory.iterdir()}

    def python(self, script: str, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a script that uses the installed program."""
        command = self.mounts.command(sys.executable, "-c", script, str(self.installed.root), *words)
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120
        )

    def enable(self, *confirmed: str) -> None:
        """Enable sudo with no time to confirm it."""
        done = self.python(_ENABLE, *confirmed)
        assert done.returncode == 0, done.stderr
        assert b"pam_softtoken.so" in self.files()["sudo"]

    @property
    def records(self) -> list[str]:
        """The records of sudo's change."""
        return self.inside("sh", "-c", f"ls {CHANGES}/sudo 2>/dev/null || true").split()

    def log(self) -> str:
        return "\n".join(self.mounts.log.lines)


@pytest.fixture
def host(mounts: PrivateMounts) -> Sudo:
    """A sudo that asks for the password."""
    return Sudo(mounts, password=True)


@pytest.fixture
def admin(host: Sudo, mounts: PrivateMounts, installed: Installation) -> Iterator[Changed]:
    made = Changed(mounts, installed)
    yield made
    made.kill_watchdogs()


def gets_in_by_password(host: Sudo, person: Person) -> bool:
    visit = host.log_in(person)
    return (visit.entered_as, visit.prompts) == ("root", ["password"])


@pytest.mark.lockout("the disk with /etc is full when a change goes back")
@pytest.mark.parametrize("confirmed", [(), ("confirmed",)], ids=["overdue", "disabled"])
@pytest.mark.claim(
    "A change goes back whatever is in its way: a full or read-only disk, an editor, a link, a jump over "
    "the module's line, a broken `sshd_config`."
)
def test_going_back__needs_no_room(confirmed: tuple[str, ...], admin: Changed, host: Sudo, alice: Person) -> None:
    admin.inside("sh", "-euc", _SMALL_DISK)
    before = admin.files()
    inode = (admin.directory / "sudo").stat().st_ino
    admin.enable(*confirmed)
    fill(admin.directory)
    done = admin.run(*(("disable", "sudo") if confirmed else ("roll-back",)))
    assert done.returncode == 0, done.stderr
    (admin.directory / "filler").unlink()
    assert admin.files() == before
    assert (admin.directory / "sudo").stat().st_ino == inode
    assert admin.records == []
    assert gets_in_by_password(host, alice)


@pytest.mark.lockout("an editor has changed the service, and the disk is full when the change goes back")
def test_going_back__on_a_full_disk_is_tried_until_there_is_room(admin: Changed, host: Sudo, alice: Person) -> None:
    admin.inside("sh", "-euc", _SMALL_DISK)
    before = admin.files()
    admin.enable()
    for name in ("sudo", "sudo-i"):
        with (admin.directory / name).open("ab") as file:
            file.write(b"# mine\n")
    changed = admin.files()
    fill(admin.directory)
    done = admin.run("roll-back")
    assert done.returncode == 1
    assert '"sudo" is not as it was before yet: /etc/pam.d/sudo-i: cannot be written: No space left' in done.stderr
    assert "make room" in done.stderr
    assert "action=roll-back-failed user=all service=sudo " in admin.log()
    assert ' detail="/etc/pam.d/sudo-i: cannot be written: No space left' in admin.log()
    assert "action=roll-back user" not in admin.log()
    assert admin.records == ["returning"]
    admin.kill_watchdogs()
    (admin.directory / "filler").unlink()
    assert admin.files() == changed
    # A command for scripts does it, too, with its usual result.
    done = admin.run("status", "--json")
    json.loads(done.stdout)
    assert "only our lines are taken out" in done.stderr
    assert admin.files() == {**before, **{name: before[name] + b"# mine\n" for name in ("sudo", "sudo-i")}}
    assert admin.records == []
    assert "action=roll-back user=all service=sudo" in admin.log()
    assert gets_in_by_password(host, alice)


EVERY_COMMAND = {
    "enable": "enable su --dry-run",
    "confirm": "confirm",
    "disable": "disable su",
    "roll-back": "roll-back",
    "status": "status --json",
    "code-for": "code-for USER --for 1h",
    "unlock": "unlock USER",
    "revoke": "revoke USER --force --yes",
    "reset-state": "reset-state USER",
    "log": "log --json",
    "doctor": "doctor --json",
    "move": "move --all --to system --dry-run",
    "rebind": "rebind USER --old-name nobody-like-this",
    "forget": "forget --all",
    "seal": "seal --status",
    "fleet": "fleet status",
    "mend": "mend USER",
}


def test_command__each_one_takes_back_overdue_changes(admin: Changed, alice: Person, phone: Phone) -> None:
    assert set(EVERY_COMMAND) == {each.name for each in COMMANDS}
    before = admin.files()
    for words in EVERY_COMMAND.values():
        admin.enable()
        done = admin.run(*words.replace("USER", alice.name).split())
        assert admin.files() == before, words
        assert '"sudo": not confirmed in time; the change goes back.' in done.stderr, words
        assert "goes back" not in done.stdout
        assert "Traceback" not in done.stderr, done.stderr
        assert admin.records == []


def test_command__without_root_does_not_mention_overdue_changes(admin: Changed, alice: Person) -> None:
    admin.enable()
    identity = ("setpriv", f"--reuid={alice.uid}", f"--regid={alice.gid}", "--clear-groups")
    done = admin.run("status", around=identity)
    assert "overdue" not in done.stderr
    assert 'sudo"' not in done.stderr
    assert admin.records == ["pending"]


def test_emergency__waits_neither_for_a_lock_nor_for_sshd(admin: Changed, alice: Person, phone: Phone) -> None:
    admin.enable()
    with admin.mounts.path(f"{CHANGES}/.lock").open("rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = admin.run("unlock", alice.name)
        assert done.returncode == 0, done.stderr
        assert "another softtoken-admin is changing a service" in done.stderr
        assert admin.records == ["pending"]
    # An sshd hangs, and sshd's file is part of the change.
    hangs = admin.mounts.directory / "hangs"
    hangs.write_text("#!/bin/sh\nexec sleep 1000\n")
    hangs.chmod(0o755)
    admin.inside("mount", "--bind", str(hangs), "/usr/sbin/sshd")
    record = json.loads(admin.inside("cat", f"{CHANGES}/sudo/pending"))
    content = {"data": None, "mode": 0o644, "uid": 0, "gid": 0}
    own = {"path": "/etc/ssh/sshd_config.d/00-softtoken.conf", "before": content, "after": content}
    record["files"].insert(0, own)
    admin.mounts.path(f"{CHANGES}/sudo/pending").write_text(json.dumps(record))
    done = admin.python(_IN_A_HURRY, "revoke", alice.name, "--force", "--yes")
    assert done.returncode == 0, done.stderr
    assert "softtoken-admin roll-back goes on with it" in done.stderr
    assert admin.records in (["pending"], ["returning"])
    admin.inside("umount", "/usr/sbin/sshd")
    assert admin.run("roll-back").returncode == 0
    assert admin.records == []


@pytest.mark.lockout("the service's file has become a link when a change goes back")
@pytest.mark.claim(
    "A change goes back whatever is in its way: a full or read-only disk, an editor, a link, a jump over "
    "the module's line, a broken `sshd_config`."
)
def test_link__in_place_of_the_file_is_followed(admin: Changed, host: Sudo, alice: Person) -> None:
    before = admin.files()
    admin.enable()
    admin.inside("sh", "-euc", "cd /etc/pam.d; mv sudo sudo.real; chmod 640 sudo.real; ln -s sudo.real sudo")
    done = admin.run("roll-back")
    assert done.returncode == 0, done.stderr
    assert "/etc/pam.d/sudo has become a link to /etc/pam.d/sudo.real" in done.stderr
    assert str((admin.directory / "sudo").readlink()) == "sudo.real"
    assert admin.files() == {**before, "sudo.real": before["sudo"]}
    assert (admin.directory / "sudo.real").stat().st_mode & 0o777 == 0o640
    assert admin.records == []
    assert gets_in_by_password(host, alice)


@pytest.mark.lockout(
    "the service's file has become a link into a user's directory",
    shows="take the line with pam_softtoken out of",
    cure="in ~alice/sudo, delete the line with pam_softtoken",
)
def test_link__that_others_can_change_is_named_and_not_followed(admin: Changed, host: Sudo, alice: Person) -> None:
    admin.enable()
    target = alice.home / "sudo"
    admin.inside(
        "sh", "-euc", f"mv /etc/pam.d/sudo {target}; chown {alice.uid} {target}; ln -s {target} /etc/pam.d/sudo"
    )
    text = target.read_bytes()
    for command in (["roll-back"], ["unlock", alice.name]):
        done = admin.run(*command)
        assert f"/etc/pam.d/sudo has become a link to {target}, which cannot be trusted" in done.stderr
        assert f"take the line with pam_softtoken out of {target} by hand" in done.stderr
    assert target.read_bytes() == text
    assert f"/etc/pam.d/sudo has become a link to {target}" in admin.log()
    assert admin.records == ["returning"]
    (number,) = [n for n, line in enumerate(text.splitlines(), 1) if b"pam_softtoken" in line]
    for step in steps(f"in {target}, delete line {number}"):
        admin.inside(*step)
    assert gets_in_by_password(host, alice)
    admin.inside("sh", "-euc", f"rm /etc/pam.d/sudo; cp {target} /etc/pam.d/sudo; chown root /etc/pam.d/sudo")
    assert admin.run("roll-back").returncode == 0
    assert admin.records == []


def test_going_back__keeps_mode_owner_and_attributes_set_meanwhile(admin: Changed, alice: Person) -> None:
    before = admin.files()
    admin.enable()
    os.chmod(admin.directory / "sudo", 0o640)
    os.chown(admin.directory / "sudo", 0, alice.gid)
    os.setxattr(admin.directory / "sudo", "trusted.softtoken", b"mine")
    assert admin.run("roll-back").returncode == 0
    assert admin.files() == before
    status = (admin.directory / "sudo").stat()
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o640, 0, alice.gid)
    assert os.getxattr(admin.directory / "sudo", "trusted.softtoken") == b"mine"


@pytest.mark.parametrize("how", ["of an earlier change", "changed by somebody"])
def test_kept_copy__of_another_change_is_never_restored(how: str, admin: Changed) -> None:
    before = admin.files()
    if how == "of an earlier change":
        admin.enable("confirmed")
        assert (admin.directory / KEPT).exists()
        # Undone by hand, and a line is added.
        (admin.directory / "sudo").write_bytes(before["sudo"] + b"# mine\n")
        (admin.directory / "sudo-i").write_bytes(before["sudo-i"])
        before["sudo"] += b"# mine\n"
        admin.enable()
    else:
        admin.enable()
        (admin.directory / KEPT).write_bytes(b"auth sufficient pam_permit.so\n")
    assert admin.run("roll-back").returncode == 0
    assert admin.files() == before


def test_kept_copy__is_read_neither_by_sshd_nor_as_a_service(admin: Changed, sshd: Callable[[bool], DebianSSH]) -> None:
    sshd(True)
    config = admin.mounts.directory / "ssh" / "sshd_config"
    config.write_text(config.read_text().replace("sshd_config.d/*.conf", "sshd_config.d/*"))
    kept = admin.mounts.directory / "ssh" / "sshd_config.d" / ".00-softtoken.conf.softtoken-old"
    kept.write_text("Nonsense yes\n")
    admin.inside("/usr/sbin/sshd", "-t")
    kept.rename(kept.with_name("softtoken-old"))  # otherwise this test would prove nothing
    with pytest.raises(subprocess.CalledProcessError):
        admin.inside("/usr/sbin/sshd", "-t")
    admin.enable()
    assert (admin.directory / KEPT).exists()
    services = admin.python(_SERVICES).stdout.split()
    assert "sudo" in services
    assert [name for name in services if name.startswith(".")] == []


@pytest.mark.parametrize("hops", [1, 2])
def test_disable__shortens_a_jump_over_our_line(hops: int, admin: Changed) -> None:
    before = admin.files()["sudo"].decode()
    admin.enable("confirmed")
    lines = admin.files()["sudo"].decode().splitlines(keepends=True)
    (ours,) = [number for number, line in enumerate(lines) if "pam_softtoken.so" in line]
    lines.insert(ours, HOP.format(hops))
    lines.insert(ours + 2, "auth optional pam_echo.so\n")
    (admin.directory / "sudo").write_text("".join(lines))
    assert admin.run("disable", "sudo").returncode == 0
    left = [line for line in admin.files()["sudo"].decode().splitlines(keepends=True) if line not in before]
    assert left == [HOP.format("ignore" if hops == 1 else 1), "auth optional pam_echo.so\n"]


@pytest.mark.lockout(
    "a line that other services include jumps over ours when a change goes back",
    shows="remove that jump from /etc/pam.d/hopping:1 by hand",
    cure="in /etc/pam.d/hopping, delete line 1",
)
def test_jump__from_an_included_file_is_refused_by_line(admin: Changed, host: Sudo, alice: Person) -> None:
    before = admin.files()
    admin.enable()
    text = admin.files()["sudo"].decode()
    line = next(line for line in text.splitlines() if "pam_softtoken.so" in line)
    (admin.directory / "hopping").write_text(HOP.format(1))
    (admin.directory / "sudo").write_text(text.replace(line, "@include hopping\n" + line))
    done = admin.run("roll-back")
    assert done.returncode == 1
    assert "/etc/pam.d/sudo: /etc/pam.d/hopping:1 jumps over the line with pam_softtoken" in done.stderr
    assert "remove that jump from /etc/pam.d/hopping:1 by hand" in done.stderr
    assert "pam_softtoken.so" in admin.files()["sudo"].decode()
    for step in steps("in /etc/pam.d/hopping, delete line 1"):
        admin.inside(*step)
    assert admin.run("roll-back").returncode == 0
    assert admin.files() == {**before, "hopping": b"", "sudo": text.replace(line + "\n", "@include hopping\n").encode()}
    assert gets_in_by_password(host, alice)


@pytest.mark.lockout("/etc is read-only when a change goes back, and can be written again later")
@pytest.mark.claim(
    "A change goes back whatever is in its way: a full or read-only disk, an editor, a link, a jump over "
    "the module's line, a broken `sshd_config`."
)
def test_watchdog__tries_until_etc_can_be_written(admin: Changed, host: Sudo, alice: Person, phone: Phone) -> None:
    before = admin.files()
    screen = admin.start("enable", "sudo", "--yes", WHOEVER, LONG)
    screen.expect(ASKED)
    admin.inside("mount", "-o", "remount,bind,ro", "/etc/pam.d")
    admin.let_time_pass("sudo")
    screen.expect("was not confirmed, and is not taken back yet: /etc/pam.d/sudo-i: cannot be written: Read-only")
    screen.expect("the system tries again by itself")
    screen.expect("\n")
    screen.close()
    assert screen.exitstatus == 1
    wait_until(lambda: "action=roll-back-failed" in admin.log(), "the failure to be logged")
    assert admin.run("roll-back").returncode == 1
    assert admin.records == ["returning"]
    admin.inside("mount", "-o", "remount,bind,rw", "/etc/pam.d")
    wait_until(lambda: admin.records == [], "the watchdog to take it back")
    assert admin.files() == before
    assert "action=roll-back user=all service=sudo" in admin.log()
    assert gets_in_by_password(host, alice)


@pytest.mark.parametrize("command", ["roll-back", "disable sudo"])
def test_going_back__continues_after_a_failure_without_another_command(command: str, admin: Changed) -> None:
    """No process watches the change any more: it was made before a restart, or confirmed."""
    before = admin.files()
    admin.enable(*(["confirmed"] if command.startswith("disable") else []))
    admin.inside("mount", "-o", "remount,bind,ro", "/etc/pam.d")
    assert not admin.watchdogs()
    for _ in range(2):
        done = admin.run(*command.split())
        assert done.returncode == 1
        assert "the system tries again by itself" in done.stderr
    assert len(admin.watchdogs()) == 1
    assert "a change could not be taken back yet" in admin.python(_CHANGES).stdout
    admin.inside("mount", "-o", "remount,bind,rw", "/etc/pam.d")
    wait_until(lambda: admin.records == [], "the new watchdog to take it back")
    assert admin.files() == before
    wait_until(lambda: not admin.watchdogs(), "the watchdog to have nothing to do")


@pytest.mark.lockout("/var/lib is read-only when a change goes back")
@pytest.mark.claim(
    "A change goes back whatever is in its way: a full or read-only disk, an editor, a link, a jump over "
    "the module's line, a broken `sshd_config`."
)
def test_going_back__does_not_wait_for_var_lib(admin: Changed, host: Sudo, alice: Person) -> None:
    before = admin.files()
    admin.enable()
    admin.inside("mount", "-o", "remount,ro", CHANGES)
    done = admin.run("roll-back")
    assert done.returncode == 1
    assert f"{CHANGES}/sudo: cannot be written: Read-only file system" in done.stderr
    assert gets_in_by_password(host, alice)
    assert admin.files() == before
    assert admin.records == ["pending"]
    admin.inside("mount", "-o", "remount,rw", CHANGES)
    assert admin.run("roll-back").returncode == 0
    assert admin.records == []
    assert admin.files() == before


KILLS = [("rename", 1), ("rename", 2), ("fsync", 1), ("fsync", 3), ("unlink", 1), ("unlinkat", 1), ("rmdir", 1)]


@pytest.mark.parametrize("change", ["as it was left", "edited"])
def test_kill__at_any_step_of_going_back_is_finished_by_the_next_command(
    change: str, admin: Changed, alice: Person
) -> None:
    before = admin.files()
    killed = 0
    for call, number in KILLS:
        admin.enable()
        mine = b"# mine\n" if change == "edited" else b""
        (admin.directory / "sudo").write_bytes(admin.files()["sudo"] + mine)
        now = admin.files()["sudo"]
        inject = f"inject={call}:signal=KILL:when={number}"
        done = admin.run("roll-back", around=("strace", "-f", "-o", "/dev/null", "-e", inject))
        killed += done.returncode != 0
        assert admin.files()["sudo"] in (now, before["sudo"] + mine), (call, number)
        admin.run("unlock", alice.name)
        assert admin.files() == {**before, "sudo": before["sudo"] + mine}, (call, number)
        assert admin.records == [], (call, number)
        (admin.directory / "sudo").write_bytes(before["sudo"])
    assert killed >= len(KILLS) - 2
    assert admin.run("roll-back").returncode == 0
    assert admin.inside("ls", CHANGES) == ""


@pytest.mark.lockout("somebody has broken sshd_config when key and code goes back")
@pytest.mark.claim("PAM does without the password only while sshd asks for a key.")
def test_publickey__pam_does_not_go_back_before_sshd_can(
    admin: Changed, alice: Person, phone: Phone, sshd: Callable[[bool], DebianSSH]
) -> None:
    server = sshd(False)
    server.command(alice)  # installs the key
    before = admin.pam()
    screen = admin.start("enable", "sshd", "--with=publickey", "--yes", WHOEVER, LONG)
    screen.expect(ASKED)
    config = admin.mounts.directory / "ssh" / "sshd_config"
    text = config.read_text()
    config.write_text(text + "Nonsense yes\n")
    admin.let_time_pass("sshd")
    screen.expect("is not taken back yet: sshd refuses its configuration: .*Nonsense")
    screen.expect("sshd -t shows it")
    screen.close()
    stack = (admin.mounts.directory / "pam.d" / "sshd").read_text()
    assert "#softtoken-admin: " in stack
    assert (admin.mounts.directory / "ssh" / "sshd_config.d" / "00-softtoken.conf").exists()
    assert admin.inside("ls", f"{CHANGES}/sshd").split() == ["returning"]
    # Key and code still get in, as before the mistake, and confirm nothing.
    visit = server.log_in(alice, phone.totp())
    assert (visit.entered_as, visit.prompts) == (alice.name, ["code"]), visit
    assert server.times_told == 1
    config.write_text(text)
    wait_until(lambda: admin.inside("ls", CHANGES) == "", "the watchdog to take it back")
    assert admin.pam() == before
    assert server.times_told == 2
    server.first_prompts = []
    visit = server.log_in(alice)
    assert (visit.entered_as, visit.prompts) == (alice.name, []), visit


@pytest.mark.lockout("sshd cannot be told that a change has gone back")
@pytest.mark.claim(
    "A change goes back whatever is in its way: a full or read-only disk, an editor, a link, a jump over "
    "the module's line, a broken `sshd_config`."
)
def test_record__stays_until_sshd_has_reloaded(
    admin: Changed, alice: Person, phone: Phone, sshd: Callable[[bool], DebianSSH]
) -> None:
    server = sshd(True)
    before = admin.pam()
    screen = admin.start("enable", "sshd", "--yes", WHOEVER, LONG)
    screen.expect(ASKED)
    config = admin.mounts.directory / "ssh" / "sshd_config"
    text = config.read_text()
    config.write_text(text + "Nonsense yes\n")
    admin.let_time_pass("sshd")
    screen.expect("is not taken back yet: sshd refuses its configuration")
    screen.close()
    # The password alone gets in, through an sshd that keeps its configuration.
    assert admin.inside("ls", f"{CHANGES}/sshd").split() == ["returning"]
    visit = server.log_in(alice)
    assert (visit.entered_as, visit.prompts) == (alice.name, ["password"]), visit
    config.write_text(text)
    wait_until(lambda: admin.inside("ls", CHANGES) == "", "the watchdog to take it back")
    assert admin.pam() == before
    assert server.times_told == 2


def test_two_services__that_are_enabled_at_once_both_go_back(
    admin: Changed, phone: Phone, mounts: PrivateMounts, make_person: Callable[[], Person]
) -> None:
    Su(mounts, make_person(), password=True)
    before = admin.files()
    screens = [admin.start("enable", service, "--yes", WHOEVER, "--for=1s") for service in ("sudo", "su")]
    for screen in screens:
        screen.expect("everything is as it was before")
    assert admin.files() == before
    assert admin.inside("ls", CHANGES) == ""
