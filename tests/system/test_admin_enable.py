"""Run `softtoken-admin enable` on a private host: what it refuses, whom it names, and the trial before the change."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pexpect
import pytest

from tests.support.account import Person, Phone
from tests.support.enabling import ASKED, LONG, SHORT, WHOEVER, Admin
from tests.support.hosts import Login, Su


def test_confirm__keeps_the_change_and_disable_restores_every_byte(admin: Admin, phone: Phone) -> None:
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


def test_enable__person_tries_the_new_stack_before_it_is_in_use(admin: Admin, alice: Person, phone: Phone) -> None:
    before = admin.pam()
    screen = admin.start("enable", "su", "--user", alice.name, SHORT)
    screen.expect("root is not asked")
    screen.expect(f"Password for {alice.name}:")
    screen.sendline(alice.password)
    screen.expect(f"Verification code for {alice.name}:")
    assert admin.pam() == before
    screen.sendline(phone.totp())
    screen.expect("you get in with it")
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


def test_enable__asks_for_a_trial_if_no_code_was_accepted_yet(
    admin: Admin, alice: Person, phone: Phone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUDO_USER", alice.name)
    screen = admin.start("enable", "sudo", WHOEVER, LONG)
    assert screen.expect(["gave a right code", "Password for "]) == 1
    screen.sendintr()
    screen.expect("nothing was changed")


@pytest.mark.parametrize("answer", ["no", "y", "yes"])
def test_enable__needs_a_whole_yes_to_lock_users_out(
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
def test_enable__lists_refused_users_for_su_and_login(
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


def test_enable__names_an_earlier_setting_of_sshd_that_overrides_it(admin: Admin, phone: Phone) -> None:
    (admin.mounts.directory / "ssh" / "sshd_config").write_text(
        "KbdInteractiveAuthentication no\nInclude /etc/ssh/sshd_config.d/*.conf\n"
    )
    done = admin.run("enable", "sshd", SHORT)
    assert "/etc/ssh/sshd_config:1 comes first" in done.stderr
    (admin.mounts.directory / "ssh" / "sshd_config").write_text("PasswordAuthentication yes\n")
    assert "does not include /etc/ssh/sshd_config.d" in admin.run("enable", "sshd", SHORT).stderr


def test_enable__without_enrolled_users_needs_enrol_later(admin: Admin, alice: Person, tmp_path: Path) -> None:
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


def test_disable__keeps_changes_of_others(admin: Admin, phone: Phone) -> None:
    screen = admin.start("enable", "sudo", "--yes", LONG)
    screen.expect(ASKED)
    path = admin.mounts.directory / "pam.d" / "sudo"
    ours = path.read_text()
    path.write_text(ours + "# mine\n")
    done = admin.run("disable", "sudo")
    assert "changed by somebody else" in done.stderr
    assert path.read_text().endswith("# mine\n")
    assert "pam_softtoken" not in path.read_text()
