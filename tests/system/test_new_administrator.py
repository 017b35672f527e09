"""Follow a new administrator and a new user on a fresh Debian, from `apt install` to `apt remove`, with mistakes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from tests.support.account import Phone
from tests.support.enroller import CODE_PROMPT, ENTER_PROMPT, record_of, recovery_codes_in, uri_in
from tests.support.fresh_debian import ENVIRONMENT, SLOW_S, FreshDebian, InsideHost, InsideSSH, Resident, pam_files
from tests.support.packages import NAMES, Packages

SSHD_CONF = "/etc/ssh/sshd_config.d/tests.conf"
CONF = "/etc/security/softtoken.conf"
BACKEND = "/usr/lib/pam_softtoken/bin/softtoken-backend"
ASKED = "asks for a code now"


@pytest.fixture
def alice(debian: FreshDebian) -> Iterator[Resident]:
    """A user of the fresh Debian who may use sudo."""
    made = Resident(debian)
    debian.run("adduser", made.name, "sudo")
    yield made
    made.remove()


@pytest.fixture
def ssh(debian: FreshDebian) -> Iterator[InsideSSH]:
    """The fresh Debian's sshd with Debian's configuration, which `enable` must change."""
    kept = debian.path(SSHD_CONF).read_bytes()
    host = InsideSSH(debian)
    debian.path(SSHD_CONF).unlink()
    yield host
    debian.path(SSHD_CONF).write_bytes(kept)
    debian.run("sh", "-c", "kill -HUP $(cat /run/sshd.pid)")


class InsideSudo(InsideHost):
    """`sudo` on a terminal, run by the user."""

    service = "sudo"

    def command(self, person: object) -> list[str]:
        assert isinstance(person, Resident)
        return as_user(person, "sudo", "-k", "--", "sh", "-c", 'echo "session of $(id -un)"; read -r line')


def as_user(person: Resident, *words: str) -> list[str]:
    """Return the command line that runs a command as a user, in the user's home directory."""
    return person.tree.command(*person.identity, "env", f"--chdir={person.home}", f"HOME={person.home}", *words)


def start(command: list[str]) -> pexpect.spawn[str]:
    """Start a command at a terminal."""
    environment = {**ENVIRONMENT, "TERM": "dumb"}
    terminal = pexpect.spawn(
        command[0], command[1:], encoding="utf-8", timeout=SLOW_S, dimensions=(60, 200), env=environment, cwd="/"
    )
    terminal.delaybeforesend = None
    terminal.logfile_read = io.StringIO()
    return terminal


def end_of(terminal: pexpect.spawn[str]) -> tuple[int | None, str]:
    """Wait for a command's end, and return its status and its output."""
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert isinstance(terminal.logfile_read, io.StringIO)
    return terminal.exitstatus, terminal.logfile_read.getvalue()


def enrol(person: Resident, *, through_sudo: bool = False) -> Phone:
    """Enrol as the user, with a token that counts, and return the token."""
    screen = start(as_user(person, "softtoken-enroll", "--type=hotp"))
    if through_sudo:
        screen.expect_exact("[sudo] password")
        screen.sendline(person.password)
    screen.expect_exact(CODE_PROMPT)
    assert isinstance(screen.logfile_read, io.StringIO)
    phone = Phone(record_of(uri_in(screen.logfile_read.getvalue())))
    screen.sendline(phone.hotp())
    screen.expect_exact(ENTER_PROMPT)
    assert len(recovery_codes_in(screen.logfile_read.getvalue())) == 10
    screen.sendline("")
    status, shown = end_of(screen)
    assert status == 0, shown
    return phone


def start_to_enable(
    debian: FreshDebian, service: str, person: Resident, phone: Phone, *options: str
) -> pexpect.spawn[str]:
    """Run `enable` at a terminal, with the user there to try it, until it is in use and waits."""
    screen = start(debian.command("softtoken-admin", "enable", service, "--user", person.name, *options))
    screen.expect_exact(f"Password for {person.name}:")
    screen.sendline(person.password)
    screen.expect_exact(f"Verification code for {person.name}:")
    screen.sendline(phone.hotp())
    screen.expect_exact(ASKED)
    return screen


def worse_than_notes(debian: FreshDebian) -> list[dict[str, str]]:
    """Return the doctor's errors and warnings about the services and their users."""
    found = json.loads(debian.try_to_run("softtoken-admin", "doctor", "--json").stdout)["findings"]
    ours = [each for each in found if each["family"] in ("sshd", "PAM services", "options", "users", "files")]
    return [each for each in ours if each["severity"] != "note"]


def test_new_administrator__enables_breaks_and_repairs_a_service(
    debian: FreshDebian, packages: Packages, alice: Resident, ssh: InsideSSH
) -> None:
    debian.install(*packages.all)
    before = pam_files(debian)
    phone = enrol(alice)

    # Nobody confirms.
    status, shown = end_of(start_to_enable(debian, "sshd", alice, phone, "--for=1s"))
    assert status == 1, shown
    assert "everything is as it was before" in shown
    assert pam_files(debian) == before
    assert ssh.log_in(alice).entered_as == alice.name

    # A login from a second terminal confirms it; its code is not accepted again.
    screen = start_to_enable(debian, "sshd", alice, phone)
    code = phone.hotp()
    visit = ssh.log_in(alice, code)
    assert (visit.entered_as, visit.prompts) == (alice.name, ["password", "code"]), visit
    status, shown = end_of(screen)
    assert (status, "Done." in shown) == (0, True), shown
    assert ssh.log_in(alice, code).entered_as == ""

    sudo = InsideSudo(debian)
    screen = start_to_enable(debian, "sudo", alice, phone)
    visit = sudo.log_in(alice, phone.hotp())
    assert (visit.entered_as, visit.prompts) == ("root", ["password", "code"]), visit
    assert end_of(screen)[0] == 0

    # The doctor has no objection to the new setup.
    assert worse_than_notes(debian) == []

    # A wrong option and a missing backend lock users out until they are repaired.
    stack = debian.path("/etc/pam.d/sshd").read_text()
    debian.write("/etc/pam.d/sshd", stack.replace("pam_softtoken.so", "pam_softtoken.so windw=2"))
    assert ssh.log_in(alice, phone.hotp()).entered_as == ""
    done = debian.try_to_run("softtoken-admin", "doctor")
    assert (done.returncode, "windw" in done.stdout) == (1, True), done.stdout
    debian.write("/etc/pam.d/sshd", stack)
    debian.run("mv", BACKEND, "/root/aside")
    assert ssh.log_in(alice, phone.hotp()).entered_as == ""
    done = debian.try_to_run("softtoken-admin", "doctor")
    assert (done.returncode, BACKEND in done.stdout) == (1, True), done.stdout
    debian.run("mv", "/root/aside", BACKEND)
    assert ssh.log_in(alice, phone.hotp()).entered_as == alice.name

    # The phone is lost: the administrator issues a code, which works once.
    (issued,) = debian.run("softtoken-admin", "code-for", alice.name, "--for", "1h").split()
    assert ssh.log_in(alice, issued).entered_as == alice.name
    assert ssh.log_in(alice, issued).entered_as == ""
    listed = json.loads(debian.run("softtoken-admin", "status", "--json"))["users"]
    (found,) = (each for each in listed if each["user"] == alice.name)
    assert ([each["name"] for each in found["tokens"]], found["recovery_codes"]["left"]) == (["phone"], 10), found
    written = debian.run("date", "+%Y-%m-%dT%H:%M:%S+00:00").strip()
    debian.write("/root/log", "".join(f"{written} server sshd[1]: {line}\n" for line in debian.log.ours()))
    assert "replayed" in debian.run("softtoken-admin", "log", "--file", "/root/log", "--user", alice.name)

    worked, said = debian.apt("remove", *NAMES)
    assert not worked
    assert "error: still in use by: /etc/pam.d/sshd /etc/pam.d/sudo /etc/pam.d/sudo-i\n" in said
    for service in ("sshd", "sudo"):
        debian.run("softtoken-admin", "disable", service)
    assert pam_files(debian) == before
    assert ssh.log_in(alice).entered_as == alice.name
    worked, said = debian.apt("remove", *NAMES)
    assert worked, said


def test_new_user__enrols_through_sudo_where_root_keeps_the_tokens(
    debian: FreshDebian, packages: Packages, alice: Resident, ssh: InsideSSH
) -> None:
    debian.unpack_and_configure(*packages.all)
    debian.run("deluser", alice.name, "sudo")
    debian.write(CONF, "store = /var/lib/softtoken/%U\n")
    phone = enrol(alice, through_sudo=True)
    assert not Path(alice.store).exists()
    kept = debian.path(f"/var/lib/softtoken/{alice.uid}/tokens").stat()
    assert (kept.st_uid, kept.st_mode & 0o077) == (0, 0)
    screen = start_to_enable(debian, "sshd", alice, phone)
    assert ssh.log_in(alice, phone.hotp()).entered_as == alice.name
    assert end_of(screen)[0] == 0
    debian.run("softtoken-admin", "disable", "sshd")
