"""Enable a service on a private host, and confirm the change by real logins, or not."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from tests.support.account import Person, Phone
from tests.support.enabling import ASKED, CHANGES, LONG, WHOEVER, Admin, DebianSSH
from tests.support.hosts import Host, Login, Su, Sudo
from tests.support.process import wait_until
from tests.system.scenario import SLOW, wrong_code


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


def test_enable__reports_its_own_confirmation_once(admin: Admin, alice: Person, phone: Phone) -> None:
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
def test_enable__sshd_asks_for_a_code_after_key_or_password(
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
    visit = host.log_in(alice, phone.totp())
    assert (visit.entered_as, visit.prompts) == ("", ["password", "code"]), visit
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
    visit = host.log_in(alice, phone.totp())
    assert (visit.entered_as, visit.prompts) == ("", ["password", "code"]), visit
    assert "reason=accepted" in "".join(admin.mounts.log.lines)
    path.write_text(path.read_text().partition("\n")[2])
    host.knows_key, host.first_prompts = True, []
    visit = host.log_in(alice)
    assert (visit.entered_as, visit.prompts) == (alice.name, [])
    assert waiting_notes(admin, "sshd") == ["accepted", "pending"]
    assert screen.isalive()


def test_enable__needs_no_trial_right_after_an_accepted_code(
    admin: Admin, alice: Person, phone: Phone, make_person: Callable[[], Person], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", alice.name)
    earlier = Su(admin.mounts, make_person(), password=False)
    earlier.use_stack(admin.installed.line())
    code = phone.totp()
    assert earlier.log_in(alice, code).entered_as == alice.name
    screen = admin.start("enable", "sudo", WHOEVER, LONG)
    assert screen.expect([f"{alice.name} gave a right code [0-9]+ s ago", "Password for "]) == 0
    screen.expect(ASKED)
    host = Sudo(admin.mounts, password=True)
    # It still works exactly once.
    assert not host.log_in(alice, code).entered_as
    assert host.log_in(alice, phone.totp(1)).entered_as == "root"
    screen.expect("Done.")


def test_enable__only_a_login_of_the_caller_confirms(
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
