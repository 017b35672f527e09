"""Run `softtoken-admin enable` and the rest on a private host: real sshd, sudo and su, real logins, real kills.

Two things cannot be tested here: systemd starting the unit at boot, and a clock that runs while the machine is
suspended. A restarted machine is simulated by a record that names another boot.
"""

from __future__ import annotations

import fcntl
import io
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pexpect
import pytest

from tests.support.account import Person, Phone
from tests.support.hosts import SSH, Host, Login, Su, Sudo
from tests.support.installation import TREE, Installation
from tests.support.private_mounts import PrivateMounts
from tests.support.process import processes, wait_until
from tests.system.scenario import SLOW, wrong_code

LONG, SHORT = "--for=5m", "--for=2s"
WHOEVER = "--force"
"""Most users of these hosts are not enrolled. Other tests check which users are locked out."""
PATIENCE_S = 120
CHANGES = "/var/lib/softtoken/changes"
ASKED = "asks for a code now"


class DebianSSH(SSH):
    """An sshd that uses /etc/ssh, with Debian's configuration, on a port of its own."""

    def _start_on(self, port: int) -> subprocess.Popen[bytes] | None:
        (self.mounts.directory / "ssh" / "sshd_config").write_text(
            "Include /etc/ssh/sshd_config.d/*.conf\nKbdInteractiveAuthentication no\nUsePAM yes\n"
            f"ListenAddress 127.0.0.1:{port}\nHostKey {self.host_key}\nPidFile /run/sshd.pid\nLogLevel VERBOSE\n"
        )
        words = ["setpriv", "--pdeathsig", "TERM", "/usr/sbin/sshd", "-D", "-e"]
        with self._log.open("wb") as log:
            server = subprocess.Popen(self.mounts.command(*words), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: "Server listening" in self._log.read_text() or server.poll() is not None, "sshd to listen")
        return server if server.poll() is None else None

    @property
    def times_told(self) -> int:
        """How often it has started to listen again. Between the old and the new configuration nobody can connect."""
        return self._log.read_text().count("Server listening") - 1


class Admin:
    """Root at a terminal of a host.

    Args:
        mounts: the host's private directories.
        installed: the installation of the program.
    """

    def __init__(self, mounts: PrivateMounts, installed: Installation) -> None:
        self.mounts = mounts
        self.installed = installed
        self._program = str(installed.root / "scripts" / "softtoken-admin")

    def run(self, *words: str, around: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run a command without a terminal."""
        return subprocess.run(
            self.mounts.command(*around, self._program, *words),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=PATIENCE_S,
        )  # fmt: skip

    def start(self, *words: str) -> pexpect.spawn[str]:
        """Run a command at a terminal."""
        command = self.mounts.command(self._program, *words)
        terminal = pexpect.spawn(command[0], command[1:], encoding="utf-8", timeout=PATIENCE_S, dimensions=(24, 250))
        terminal.delaybeforesend = None
        terminal.logfile_read = io.StringIO()
        return terminal

    def pam(self) -> dict[str, bytes]:
        """Return all files in /etc/pam.d and in sshd's directory of settings."""
        directories = (self.mounts.directory / "pam.d", self.mounts.directory / "ssh" / "sshd_config.d")
        return {str(path): path.read_bytes() for each in directories for path in each.iterdir()}

    def inside(self, *words: str) -> str:
        """Run any command inside."""
        return subprocess.run(self.mounts.command(*words), check=True, capture_output=True, text=True).stdout

    def watchdogs(self) -> list[int]:
        """Return the processes that would undo the change: those of our program without a parent."""
        return [each.pid for each in processes() if each.parent == 1 and self._program in each.command]

    def kill_watchdogs(self) -> None:
        for pid in self.watchdogs():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.watchdogs(), "the end of the watchdogs")

    def leave_unwatched(self, time: str) -> None:
        """Enable sudo, and kill the program and every process that would undo the change."""
        screen = self.start("enable", "sudo", "--yes", time)
        screen.expect(ASKED)
        self.kill_watchdogs()
        assert screen.pid is not None
        os.kill(screen.pid, signal.SIGKILL)


@pytest.fixture
def admin(mounts: PrivateMounts, installed: Installation) -> Iterator[Admin]:
    made = Admin(mounts, installed)
    yield made
    made.kill_watchdogs()


@pytest.fixture
def phone(alice: Person, installed: Installation) -> Phone:
    """The token of an enrolled user."""
    return alice.enrol(installed, SLOW)


@pytest.fixture
def sshd(mounts: PrivateMounts) -> Iterator[Callable[[bool], DebianSSH]]:
    servers: list[DebianSSH] = []

    def make(password: bool) -> DebianSSH:
        servers.append(DebianSSH(mounts, password=password))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


def changed(admin: Admin, before: dict[str, bytes]) -> Callable[[], bool]:
    return lambda: admin.pam() != before


@pytest.mark.parametrize("service", ["sudo", "su", "login"])
def test_enable__a_login_with_a_code_confirms(
    service: str, admin: Admin, alice: Person, phone: Phone, make_person: Callable[[], Person]
) -> None:
    before = admin.pam()
    hosts: dict[str, Callable[[], Host]] = {
        "sudo": lambda: Sudo(admin.mounts, password=True),
        "su": lambda: Su(admin.mounts, make_person(), password=True),
        "login": lambda: Login(admin.mounts, password=True),
    }
    host = hosts[service]()
    screen = admin.start("enable", service, "--yes", WHOEVER, LONG)
    screen.expect(ASKED)
    assert not host.log_in(alice, wrong_code(phone)).entered_as
    assert screen.isalive()
    visit = host.log_in(alice, phone.totp())
    assert visit.entered_as == host.becomes(alice), visit
    assert visit.prompts == ["password", "code"]
    screen.expect("Done.")
    screen.expect(pexpect.EOF)
    screen.close()
    assert screen.exitstatus == 0
    wait_until(lambda: not admin.watchdogs(), "the watchdog to have nothing to do")
    assert admin.run("disable", service).returncode == 0
    assert admin.pam() == before


def test_enable__says_once_that_it_is_confirmed_when_it_saw_to_it_itself(
    admin: Admin, alice: Person, phone: Phone
) -> None:
    screen = admin.start("enable", "sudo", "--yes", WHOEVER, LONG)
    screen.expect(ASKED)
    admin.kill_watchdogs()
    assert Sudo(admin.mounts, password=True).log_in(alice, phone.totp()).entered_as == "root"
    screen.expect(pexpect.EOF)
    assert isinstance(screen.logfile_read, io.StringIO)
    shown = screen.logfile_read.getvalue().splitlines()
    assert [line for line in shown if "confirmed by" in line or "Done." in line] == [
        'Done. "sudo" asks for a code from now on; softtoken-admin disable sudo ends it.'
    ]
    assert admin.run("disable", "sudo").returncode == 0


@pytest.mark.parametrize("way", ["password", "publickey"])
def test_enable__sshd_asks_for_a_code_on_top_of_either(
    way: str, sshd: Callable[[bool], DebianSSH], admin: Admin, alice: Person, phone: Phone
) -> None:
    host = sshd(way == "password")
    host.command(alice)  # installs the key, if there is one
    before = admin.pam()
    screen = admin.start("enable", "sshd", "--yes", WHOEVER, LONG, "--with", way)
    screen.expect(ASKED)
    screen.expect_exact(f"ssh -p {host.port} {alice.name}@")
    assert host.times_told == 1
    visit = host.log_in(alice, phone.totp())
    assert visit.entered_as == alice.name, visit
    assert visit.prompts == [*host.first_prompts, "code"]
    screen.expect("Done.")
    screen.expect(pexpect.EOF)
    done = admin.run("disable", "sshd")
    assert "sshd reloaded its configuration" in done.stderr
    assert admin.pam() == before


@pytest.mark.claim(
    "A change that nobody confirms goes back by itself, whatever is killed. A login that another line "
    "refuses confirms nothing."
)
def test_enable__login_that_another_line_refuses_confirms_nothing(
    admin: Admin, alice: Person, phone: Phone, make_person: Callable[[], Person]
) -> None:
    path = admin.mounts.directory / "pam.d" / "su"
    path.write_text("account required pam_succeed_if.so quiet user != " + alice.name + "\n" + path.read_text())
    bob = make_person()
    codes = bob.enrol(admin.installed, SLOW)
    host = Su(admin.mounts, make_person(), password=True)
    screen = admin.start("enable", "su", "--yes", WHOEVER, LONG)
    screen.expect(ASKED)
    visit = host.log_in(alice, phone.totp())
    assert visit.prompts == ["password", "code"]
    assert not visit.entered_as
    assert "reason=accepted" in "".join(admin.mounts.log.lines)
    assert waiting_notes(admin, "su") == ["accepted", "pending"]
    assert host.log_in(bob, codes.totp()).entered_as == bob.name
    screen.expect("Done.")


def waiting_notes(admin: Admin, service: str) -> list[str]:
    """Return the files beside a pending change, without what distinguishes one accepted code from another."""
    return sorted(name.partition(":")[0] for name in admin.inside("ls", f"{CHANGES}/{service}").split())


def test_enable__login_without_a_code_confirms_nothing_after_a_refused_one(
    admin: Admin, alice: Person, phone: Phone, make_person: Callable[[], Person]
) -> None:
    """Root needs no code for su. Root's login does not show that any user with a code can log in."""
    path = admin.mounts.directory / "pam.d" / "su"
    path.write_text("account required pam_succeed_if.so quiet ruser = root\n" + path.read_text())
    host = Su(admin.mounts, make_person(), password=True)
    screen = admin.start("enable", "su", "--yes", WHOEVER, LONG)
    screen.expect(ASKED)
    assert not host.log_in(alice, phone.totp()).entered_as
    assert "reason=accepted" in "".join(admin.mounts.log.lines)
    assert admin.inside("su", alice.name, "-c", "id -un").strip() == alice.name
    assert waiting_notes(admin, "su") == ["accepted", "pending"]
    assert screen.isalive()
    assert admin.run("confirm", "su").returncode == 0
    screen.expect("Done.")


@pytest.mark.parametrize("service", ["sshd", "sudo", "su", "login"])
def test_enable__login_that_confirms_tells_its_session_nothing(
    service: str, admin: Admin, alice: Person, phone: Phone, make_person: Callable[[], Person],
    sshd: Callable[[bool], DebianSSH],
) -> None:  # fmt: skip
    hosts: dict[str, Callable[[], Host]] = {
        "sshd": lambda: sshd(True),
        "sudo": lambda: Sudo(admin.mounts, password=True),
        "su": lambda: Su(admin.mounts, make_person(), password=True),
        "login": lambda: Login(admin.mounts, password=True),
    }
    host = hosts[service]()
    screen = admin.start("enable", service, "--yes", WHOEVER, LONG)
    screen.expect(ASKED)
    with host.session(alice, phone.totp()) as visit:
        assert visit.entered_as == host.becomes(alice), visit
        screen.expect("Done.")
        seen = [Path(f"/proc/{each.pid}/environ").read_bytes() for each in host.processes_of(visit)]
        assert any(b"HOME=" in each for each in seen)
        assert not any(b"PAM_SOFTTOKEN" in each for each in seen)


def test_enable__public_key_confirms_nothing_after_a_refused_code(
    admin: Admin, alice: Person, phone: Phone, sshd: Callable[[bool], DebianSSH]
) -> None:
    host = sshd(True)
    path = admin.mounts.directory / "pam.d" / "sshd"
    path.write_text("account required pam_succeed_if.so quiet user != " + alice.name + "\n" + path.read_text())
    screen = admin.start("enable", "sshd", "--yes", LONG)
    screen.expect(ASKED)
    assert not host.log_in(alice, phone.totp()).entered_as
    assert "reason=accepted" in "".join(admin.mounts.log.lines)
    path.write_text(path.read_text().partition("\n")[2])
    host.knows_key, host.first_prompts = True, []
    visit = host.log_in(alice)
    assert (visit.entered_as, visit.prompts) == (alice.name, [])
    assert waiting_notes(admin, "sshd") == ["accepted", "pending"]
    assert screen.isalive()


@pytest.mark.claim("PAM does without the password only while sshd asks for a key.")
def test_publickey__sshd_that_cannot_be_told_is_refused(
    admin: Admin, phone: Phone, sshd: Callable[[bool], DebianSSH]
) -> None:
    sshd(False)
    config = admin.mounts.directory / "ssh" / "sshd_config"
    config.write_text(config.read_text().replace("PidFile /run/sshd.pid", "PidFile none"))
    before = admin.pam()
    done = admin.run("enable", "sshd", "--with=publickey", WHOEVER, SHORT)
    assert done.returncode == 1
    assert "cannot be told to read its configuration anew" in done.stderr
    assert admin.pam() == before
    assert ASKED in admin.run("enable", "sshd", SHORT).stderr


@pytest.mark.parametrize("text", ["@include sshd\n", "auth substack sshd\n", ""])
def test_publickey__service_that_goes_by_the_same_file_is_not_left_without_a_password(
    text: str, admin: Admin, phone: Phone, sshd: Callable[[bool], DebianSSH]
) -> None:
    sshd(False)
    other = admin.mounts.directory / "pam.d" / "remote-desktop"
    if text:
        other.write_text(text)
    else:
        other.symlink_to("sshd")
    before = admin.pam()
    done = admin.run("enable", "sshd", "--with=publickey", "--enrol-later", WHOEVER, SHORT)
    assert done.returncode == 1
    assert '"remote-desktop" goes by /etc/pam.d/sshd, too' in done.stderr
    assert admin.pam() == before


def test_publickey__another_sshd_with_a_configuration_of_its_own_is_refused(
    admin: Admin, phone: Phone, sshd: Callable[[bool], DebianSSH]
) -> None:
    host = sshd(False)
    other = admin.mounts.directory / "other"
    other.write_text(f"ListenAddress 127.0.0.2:{host.port}\nHostKey {host.host_key}\nPidFile none\nUsePAM yes\n")
    command = admin.mounts.command("setpriv", "--pdeathsig", "TERM", "/usr/sbin/sshd", "-D", "-f", str(other))
    before = admin.pam()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: b"[listener]" in Path(f"/proc/{server.pid}/cmdline").read_bytes(), "sshd to listen")
            done = admin.run("enable", "sshd", "--with=publickey", WHOEVER, SHORT)
        finally:
            server.terminate()
    assert done.returncode == 1
    assert f"another sshd runs (process {server.pid})" in done.stderr
    assert admin.pam() == before


def test_sshd__is_told_of_what_goes_back_at_once(
    admin: Admin, alice: Person, phone: Phone, sshd: Callable[[bool], DebianSSH]
) -> None:
    host = sshd(True)
    before = admin.pam()
    server = admin.inside("cat", "/run/sshd.pid").strip()
    # It needs some time to read its configuration again.
    slow = ["strace", "-p", server, "-o", "/dev/null", "-e", "inject=execve:delay_enter=1000000"]
    # The record, sshd's file, and then the PAM service.
    failing = ("strace", "-o", "/dev/null", "-e", "inject=rename:error=ENOSPC:when=3")
    with subprocess.Popen(slow, stderr=subprocess.DEVNULL) as tracer:
        wait_until(
            lambda: f"TracerPid:\t{tracer.pid}" in Path(f"/proc/{server}/status").read_text(), "strace to attach"
        )
        try:
            done = admin.run("enable", "sshd", SHORT, around=failing)
        finally:
            tracer.terminate()
    assert done.returncode == 1
    assert "/etc/pam.d/sshd: cannot be written: No space left on device" in done.stderr
    assert done.stderr.count("sshd reloaded its configuration.") == 2
    assert host.times_told == 2
    assert admin.pam() == before


@pytest.mark.lockout("nobody gets in with a code after enable")
@pytest.mark.claim(
    "A change that nobody confirms goes back by itself, whatever is killed. A login that another line "
    "refuses confirms nothing."
)
def test_enable__nobody_confirms_and_all_goes_back(admin: Admin, phone: Phone) -> None:
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
    screen = admin.start("enable", "sudo", "--yes", "--for=4s")
    screen.expect(ASKED)
    screen.close(force=True)
    assert admin.pam() != before
    wait_until(lambda: admin.pam() == before, "all to go back")


@pytest.mark.lockout("enable is killed while a change waits to be confirmed")
def test_enable__program_is_killed_and_all_goes_back(admin: Admin, phone: Phone) -> None:
    before = admin.pam()
    screen = admin.start("enable", "sudo", "--yes", "--for=4s")
    screen.expect(ASKED)
    assert screen.pid is not None
    os.kill(screen.pid, signal.SIGKILL)
    assert admin.pam() != before
    wait_until(lambda: admin.pam() == before, "all to go back")


@pytest.mark.lockout("enable and all that watches a change are killed")
@pytest.mark.claim(
    "A change that nobody confirms goes back by itself, whatever is killed. A login that another line "
    "refuses confirms nothing."
)
def test_enable__program_and_watchdog_are_killed_and_the_next_command_takes_it_back(admin: Admin, phone: Phone) -> None:
    before = admin.pam()
    admin.leave_unwatched(SHORT)
    assert admin.pam() != before
    wait_until(lambda: "not confirmed in time" in admin.run("roll-back").stderr, "the time to be over")
    assert admin.pam() == before


@pytest.mark.lockout("the machine restarts while a change waits to be confirmed")
def test_roll_back__takes_back_what_an_earlier_boot_left(admin: Admin, phone: Phone, tmp_path: Path) -> None:
    before = admin.pam()
    admin.leave_unwatched(LONG)
    record = json.loads(admin.inside("cat", f"{CHANGES}/sudo/pending"))
    record["boot"] = "of another day"
    (tmp_path / "record").write_text(json.dumps(record))
    admin.inside("cp", str(tmp_path / "record"), f"{CHANGES}/sudo/pending")
    admin.inside("touch", f"{CHANGES}/sudo/login")  # whatever the result was then
    assert admin.run("roll-back").returncode == 0
    assert admin.pam() == before


def test_roll_back__that_cannot_read_what_to_take_back_fails(admin: Admin, phone: Phone) -> None:
    before = admin.pam()
    admin.leave_unwatched(LONG)
    record = admin.inside("cat", f"{CHANGES}/sudo/pending")
    admin.inside("truncate", "--size=9", f"{CHANGES}/sudo/pending")
    done = admin.run("roll-back")
    assert done.returncode == 1
    assert "hint: what stood there before is in" in done.stderr
    admin.inside(
        "python3", "-c", "import sys; open(sys.argv[1], 'w').write(sys.argv[2])", f"{CHANGES}/sudo/pending", record
    )
    assert admin.run("disable", "sudo").returncode == 0
    assert admin.pam() == before


def test_confirm__keeps_it_and_disable_gives_back_every_byte(admin: Admin, phone: Phone) -> None:
    before = admin.pam()
    screen = admin.start("enable", "sudo", "--yes", LONG)
    screen.expect(ASKED)
    assert admin.run("confirm").returncode == 0
    screen.expect("Done.")
    screen.expect(pexpect.EOF)
    again = admin.run("enable", "sudo")
    assert again.returncode == 1
    assert "asks for a code already: /etc/pam.d/sudo:" in again.stderr
    assert admin.run("disable", "sudo").returncode == 0
    assert admin.pam() == before
    assert "asks for no code" in admin.run("disable", "sudo").stderr


def test_enable__ctrl_c_says_what_becomes_of_it(admin: Admin, phone: Phone) -> None:
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


def test_enable__person_tries_the_new_stack_before_it_is_in_use(admin: Admin, alice: Person, phone: Phone) -> None:
    before = admin.pam()
    screen = admin.start("enable", "su", "--user", alice.name, SHORT)
    screen.expect("root itself is not asked")
    screen.expect(f"Password for {alice.name}:")
    screen.sendline(alice.password)
    screen.expect(f"Verification code for {alice.name}:")
    assert admin.pam() == before
    screen.sendline(phone.totp())
    screen.expect("that gets in")
    screen.expect(ASKED)
    # The code in the trial has confirmed nothing.
    screen.expect("was not confirmed")
    screen.expect(pexpect.EOF)
    assert admin.pam() == before


def test_enable__ctrl_c_during_the_trial_changes_nothing(admin: Admin, phone: Phone) -> None:
    before = admin.pam()
    screen = admin.start("enable", "sudo", LONG)
    screen.expect("Password for ")
    screen.sendintr()
    screen.expect("nothing was changed")
    screen.expect(pexpect.EOF)
    assert admin.pam() == before


def test_enable__code_that_was_accepted_just_now_makes_the_trial_needless(
    admin: Admin, alice: Person, phone: Phone, make_person: Callable[[], Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", alice.name)
    earlier = Su(admin.mounts, make_person(), password=False)
    earlier.use_stack(admin.installed.line())
    code = phone.totp()
    assert earlier.log_in(alice, code).entered_as == alice.name
    screen = admin.start("enable", "sudo", WHOEVER, LONG)
    assert screen.expect([f"{alice.name} has given a right code [0-9]+ s ago", "Password for "]) == 0
    screen.expect(ASKED)
    host = Sudo(admin.mounts, password=True)
    # It still works exactly once.
    assert not host.log_in(alice, code).entered_as
    assert host.log_in(alice, phone.totp(1)).entered_as == "root"
    screen.expect("Done.")


def test_enable__trial_is_asked_for_where_no_code_was_accepted_yet(
    admin: Admin, alice: Person, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", alice.name)
    screen = admin.start("enable", "sudo", WHOEVER, LONG)
    assert screen.expect(["has given a right code", "Password for "]) == 1
    screen.sendintr()
    screen.expect("nothing was changed")


def test_enable__only_the_login_of_the_user_who_runs_it_confirms(
    admin: Admin, alice: Person, phone: Phone, make_person: Callable[[], Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", alice.name)
    bob = make_person()
    of_bob = bob.enrol(admin.installed, SLOW)
    screen = admin.start("enable", "sudo", "--yes", WHOEVER, LONG)
    screen.expect(f"Only a login of {alice.name} confirms it")
    host = Sudo(admin.mounts, password=True)
    assert host.log_in(bob, of_bob.totp()).entered_as == "root"
    assert admin.inside("ls", f"{CHANGES}/sudo").split() == [f"awaited:{alice.name}", "pending"]
    assert host.log_in(alice, phone.totp()).entered_as == "root"
    screen.expect("Done.")


@pytest.mark.parametrize("answer", ["no", "y", "yes"])
def test_enable__takes_a_whole_yes_for_locking_somebody_out(
    answer: str, admin: Admin, alice: Person, phone: Phone, make_person: Callable[[], Person]
) -> None:
    bob = make_person()
    before = admin.pam()
    screen = admin.start("enable", "sudo", LONG)
    screen.expect(f"Lock out {bob.name}. Type yes to go on")
    screen.sendline(answer)
    if answer == "yes":
        screen.expect("Password for ")
        screen.sendintr()
    else:
        screen.expect("not confirmed; nothing was changed")
    screen.expect(pexpect.EOF)
    assert admin.pam() == before


@pytest.mark.parametrize("service", ["su", "login"])
def test_enable__names_at_su_and_login_too_who_is_refused_then(
    service: str, admin: Admin, alice: Person, phone: Phone, make_person: Callable[[], Person]
) -> None:
    bob, caller = make_person(), make_person()
    host = Su(admin.mounts, caller, password=True) if service == "su" else Login(admin.mounts, password=True)
    assert host.log_in(bob).entered_as == bob.name
    refused = admin.run("enable", service, SHORT)
    meant = refused.stderr.strip().rpartition("--lock-out ")[2]
    assert set(meant.split(",")) == {bob.name, caller.name}
    screen = admin.start("enable", service, "--yes", "--lock-out", meant, LONG)
    screen.expect(ASKED)
    visit = host.log_in(bob, "000000")
    assert (visit.entered_as, visit.prompts) == ("", ["password", "code"])
    assert host.log_in(alice, phone.totp()).entered_as == alice.name
    screen.expect("Done.")


BROKEN = {
    "module missing": ("auth required pam_absent.so\n@include common-auth\n", "pam_absent.so is not there"),
    "sufficient in front": ("auth sufficient pam_unix.so\n@include common-auth\n", "/etc/pam.d/sudo:1 would let"),
    "password is the last word": ("auth sufficient pam_unix.so\n", "/etc/pam.d/sudo:1 would let"),
    "hop": (
        "auth [success=5 default=ignore] pam_exec.so\n@include common-auth\nauth required pam_permit.so\n",
        "would",
    ),
    "include missing": ("@include absent\n@include common-auth\n", "/etc/pam.d/sudo:1: there is no"),
    "no password": ("auth required pam_permit.so\n", "asks for no password"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_enable__broken_stack_is_refused_before_it_is_applied(name: str, admin: Admin, phone: Phone) -> None:
    stack, why = BROKEN[name]
    admin.mounts.set_service("sudo", stack)
    before = admin.pam()
    done = admin.run("enable", "sudo", SHORT)
    assert done.returncode == 1
    assert why in done.stderr
    assert ASKED not in done.stderr
    assert admin.pam() == before


def test_enable__backend_that_does_not_work_is_noticed(
    admin: Admin, phone: Phone, remove_backend: Callable[[], object]
) -> None:
    before = admin.pam()
    with remove_backend():  # type: ignore[attr-defined]
        done = admin.run("enable", "sudo", SHORT)
    assert "our own line does not work" in done.stderr
    assert admin.pam() == before


def test_enable__earlier_setting_of_sshd_that_wins_is_named(admin: Admin, phone: Phone) -> None:
    (admin.mounts.directory / "ssh" / "sshd_config").write_text(
        "KbdInteractiveAuthentication no\nInclude /etc/ssh/sshd_config.d/*.conf\n"
    )
    done = admin.run("enable", "sshd", SHORT)
    assert "/etc/ssh/sshd_config:1 comes first" in done.stderr
    (admin.mounts.directory / "ssh" / "sshd_config").write_text("PasswordAuthentication yes\n")
    assert "does not include /etc/ssh/sshd_config.d" in admin.run("enable", "sshd", SHORT).stderr


def test_enable__nobody_enrolled_is_refused_unless_they_enrol_later(
    admin: Admin, alice: Person, tmp_path: Path
) -> None:
    # Nobody else on this machine has that shell, so other enrolled users do not matter.
    (tmp_path / "shells").write_text("/bin/rbash\n")
    admin.inside("mount", "--bind", str(tmp_path / "shells"), "/etc/shells")
    subprocess.run(["usermod", "--shell", "/bin/rbash", alice.name], check=True)
    before = admin.pam()
    refused = admin.run("enable", "sudo", SHORT)
    assert refused.returncode == 1
    assert "These get in today and would not then:" in refused.stderr
    assert f"  {alice.name}: not enrolled" in refused.stderr
    assert 'nobody who can become root would get in at "sudo" any more' in refused.stderr
    later = admin.run("enable", "sudo", "--enrol-later", "--dry-run")
    assert later.returncode == 0, later.stderr
    assert any(line.startswith("+auth") and line.endswith("nullok") for line in later.stdout.splitlines())
    assert "A program of the user's can read the key in the home directory and answer sudo." in later.stderr
    assert admin.pam() == before


def test_disable__leaves_what_somebody_else_has_changed(admin: Admin, phone: Phone) -> None:
    screen = admin.start("enable", "sudo", "--yes", LONG)
    screen.expect(ASKED)
    path = admin.mounts.directory / "pam.d" / "sudo"
    ours = path.read_text()
    path.write_text(ours + "# mine\n")
    done = admin.run("disable", "sudo")
    assert "changed by somebody else" in done.stderr
    assert path.read_text().endswith("# mine\n")
    assert "pam_softtoken" not in path.read_text()


@pytest.mark.lockout("two administrators enable the same service at once")
def test_enable__two_at_once_and_one_wins(admin: Admin, phone: Phone) -> None:
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
def test_enable__and_disable_at_once_leave_one_of_the_two(start: str, admin: Admin, phone: Phone) -> None:
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


def test_lock__is_not_held_by_who_is_stopped_at_the_terminal(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("number", range(1, 7))
@pytest.mark.parametrize("doing", ["enable", "disable"])
@pytest.mark.claim("PAM does without the password only while sshd asks for a key.")
def test_publickey__pam_gives_up_the_password_only_while_sshd_asks_for_a_key(
    doing: str, number: int, admin: Admin, phone: Phone, sshd: Callable[[bool], DebianSSH]
) -> None:
    sshd(False)
    enable = ("enable", "sshd", "--with=publickey", "--yes", WHOEVER, LONG)
    if doing == "disable":
        admin.start(*enable).expect(ASKED)
        assert admin.run("confirm").returncode == 0
    words = (*enable[:-1], "--for=1s") if doing == "enable" else ("disable", "sshd")
    admin.run(*words, around=("strace", "-o", "/dev/null", "-e", f"inject=rename,unlink:signal=KILL:when={number}"))
    admin.kill_watchdogs()
    stack = (admin.mounts.directory / "pam.d" / "sshd").read_text()
    drop_in = admin.mounts.directory / "ssh" / "sshd_config.d" / "00-softtoken.conf"
    if "#softtoken-admin: " in stack:
        assert "AuthenticationMethods publickey" in drop_in.read_text()


class EarlyConnection:
    """A connection to an sshd that a client takes over later.

    Args:
        port: the port of the sshd.
    """

    def __init__(self, port: int) -> None:
        self._server = socket.create_connection(("127.0.0.1", port))
        self._server.recv(1, socket.MSG_PEEK)  # the process for this connection has its configuration
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._relay, daemon=True).start()

    def _relay(self) -> None:
        client = self._listener.accept()[0]
        others = {client: self._server, self._server: client}
        with suppress(OSError):
            while True:
                for each in select.select(others, [], [])[0]:
                    data = each.recv(65536)
                    if not data:
                        client.close()
                        return
                    others[each].sendall(data)

    def close(self) -> None:
        for each in (self._listener, self._server):
            each.close()


def test_publickey__connection_from_before_gets_in_without_a_key_no_more(
    admin: Admin, phone: Phone, sshd: Callable[[bool], DebianSSH], make_person: Callable[[], Person]
) -> None:
    host = sshd(True)
    early = EarlyConnection(host.port)
    screen = admin.start("enable", "sshd", "--with=publickey", "--yes", WHOEVER, LONG, "--enrol-later")
    screen.expect(ASKED)
    words = [word.replace("keyboard-interactive", "password") for word in host.command(make_person())]
    words[words.index(str(host.port))] = str(early.port)
    words[1:1] = ["-o", f"HostKeyAlias=[127.0.0.1]:{host.port}"]
    client = pexpect.spawn(words[0], words[1:], encoding="utf-8", timeout=PATIENCE_S)
    client.logfile_read = io.StringIO()
    if client.expect(["password: ", pexpect.EOF]) == 0:
        client.sendline("anything")
        client.expect(["denied", pexpect.EOF, r"[$#] "])
    client.close(force=True)
    early.close()
    assert "$ " not in client.logfile_read.getvalue(), client.logfile_read.getvalue()


CALLS = {"rename": range(1, 4), "fsync": range(1, 9), "unlink": range(1, 6), "write": range(1, 4)}


@pytest.mark.parametrize(("call", "number"), [(call, number) for call, numbers in CALLS.items() for number in numbers])
@pytest.mark.parametrize("doing", ["enable", "disable"])
@pytest.mark.claim(
    "A change that nobody confirms goes back by itself, whatever is killed. A login that another line "
    "refuses confirms nothing."
)
def test_kill__at_each_file_operation_leaves_the_old_or_the_new(
    doing: str, call: str, number: int, admin: Admin, phone: Phone
) -> None:
    before = admin.pam()
    if doing == "disable":
        screen = admin.start("enable", "sudo", "--yes", LONG)
        screen.expect(ASKED)
        assert admin.run("confirm").returncode == 0
        screen.expect(pexpect.EOF)
    after = admin.pam()
    path = str(admin.mounts.directory / "pam.d" / "sudo")
    around = ("strace", "-o", "/dev/null", "-e", f"inject={call}:signal=KILL:when={number}")
    admin.run(doing, "sudo", *(["--for=1s"] if doing == "enable" else []), around=around)
    admin.kill_watchdogs()
    text = admin.pam()[path]
    assert text in (before[path], after[path]) or (doing == "enable" and text.count(b"pam_softtoken.so") == 1)
    if doing == "disable":
        admin.run("disable", "sudo")
    wait_until(lambda: not _waits(admin), "the next command to repair it")
    assert admin.pam() == before


def _waits(admin: Admin) -> bool:
    admin.run("roll-back")
    return "sudo/pending" in admin.inside("sh", "-c", f"cd {CHANGES} && ls */pending 2>/dev/null || true")
