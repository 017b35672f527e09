"""Follow a new user of signed commands on a fresh Debian, from `apt install` to `apt remove`, with the packages."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

from pam_softtoken.otp.statement import Statement
from tests.support.fresh_debian import FreshDebian, Resident
from tests.support.packages import NAMES, PLUGIN, Packages
from tests.support.signing_device import SigningDevice, requests_in, uris_in
from tests.system.test_new_administrator import as_user, end_of, start

LINE = "Plugin softtoken_approval"
CONF = "/etc/sudo.conf"
READY, CODE = "Press Enter when it is in your soft token: ", "Code: "
RUN = ("printf", "it%sran", "_")


@pytest.fixture
def alice(debian: FreshDebian) -> Iterator[Resident]:
    """A user of the fresh Debian who may use sudo."""
    made = Resident(debian)
    debian.run("adduser", made.name, "sudo")
    yield made
    made.remove()


@pytest.fixture
def installed(debian: FreshDebian, packages: Packages) -> FreshDebian:
    debian.install(*packages.all, packages[PLUGIN])
    return debian


def shown(screen: pexpect.spawn[str]) -> str:
    assert isinstance(screen.logfile_read, io.StringIO)
    return screen.logfile_read.getvalue()


def widely(command: list[str]) -> pexpect.spawn[str]:
    """Start a command on a terminal that is wide enough for a request in one line."""
    screen = start(command)
    screen.setwinsize(60, 4000)
    return screen


def enrol(person: Resident) -> SigningDevice:
    """Enrol a token that signs, as the user."""
    screen = widely(as_user(person, "softtoken-enroll", "--sign"))
    screen.expect_exact("[sudo] password")
    screen.sendline(person.password)
    screen.expect_exact(READY)
    device = SigningDevice(uris_in(shown(screen))[-1])
    screen.sendline("")
    screen.expect_exact(CODE)
    screen.sendline(device.sign(requests_in(shown(screen))[-1]))
    status, text = end_of(screen)
    assert status == 0, text
    return device


def ask(person: Resident, *words: str) -> pexpect.spawn[str]:
    """Start a command at sudo, up to the question for a signature."""
    screen = widely(as_user(person, "sudo", "-k", "--", *words))
    screen.expect_exact("[sudo] password")
    screen.sendline(person.password)
    screen.expect_exact(CODE)
    return screen


def sign(device: SigningDevice, screen: pexpect.spawn[str]) -> tuple[Statement, int | None, str]:
    """Sign what a sudo asks about, and wait for its end."""
    (request,) = requests_in(shown(screen))
    screen.sendline(device.sign(request))
    return device.read(request), *end_of(screen)


def turn_on(debian: FreshDebian, person: Resident, device: SigningDevice) -> None:
    """Turn signatures on, and confirm it by a signed command."""
    screen = start(debian.command("softtoken-admin", "enable", "sudo", "--sign", "--user", person.name, "--yes"))
    screen.expect_exact("In another terminal")
    _, status, text = sign(device, ask(person, "true"))
    assert status == 0, text
    status, text = end_of(screen)
    assert (status, "Done." in text) == (0, True), text


def check_that_only_a_signature_counts(person: Resident, device: SigningDevice) -> None:
    """Check that sudo runs a signed command, and not one with another code."""
    statement, status, text = sign(device, ask(person, *RUN))
    assert (status, "it_ran" in text) == (0, True), text
    assert (statement.user, statement.as_user, statement.env, statement.notes) == (person.name, "root", (), ())
    screen = ask(person, *RUN)
    screen.sendline("12345678")
    status, text = end_of(screen)
    assert (status, "softtoken: not signed" in text, "it_ran" in text) == (1, True, False), text


def test_new_user__signs_commands_loses_the_laptop_and_goes_on(installed: FreshDebian, alice: Resident) -> None:
    debian = installed
    device = enrol(alice)
    turn_on(debian, alice, device)

    check_that_only_a_signature_counts(alice, device)

    # The laptop is lost. Root takes its token away; nothing runs for alice until root has enrolled another one.
    debian.run("softtoken-admin", "revoke", alice.name, "laptop", "--yes")
    screen = widely(as_user(alice, "sudo", "-k", "--", *RUN))
    screen.expect_exact("[sudo] password")
    screen.sendline(alice.password)
    status, text = end_of(screen)
    assert (status, "softtoken: a signature is required" in text) == (1, True), text
    screen = widely(debian.command("softtoken-enroll", "--sign", "--user", alice.name, "--name", "new"))
    screen.expect_exact(READY)
    device = SigningDevice(uris_in(shown(screen))[-1])
    screen.sendline("")
    screen.expect_exact(CODE)
    screen.sendline(device.sign(requests_in(shown(screen))[-1]))
    assert end_of(screen)[0] == 0
    assert "it_ran" in sign(device, ask(alice, *RUN))[2]

    # The package does not leave a sudo behind that runs nothing.
    worked, said = debian.apt("remove", PLUGIN)
    assert worked, said
    assert LINE not in debian.path(CONF).read_text()
    assert "it_ran" in debian.run("sudo", *RUN)
    screen = widely(as_user(alice, "sudo", "-k", "--", *RUN))
    screen.expect_exact("[sudo] password")
    screen.sendline(alice.password)
    assert end_of(screen)[0] == 0
    worked, said = debian.apt("purge", *NAMES)
    assert worked, said
    assert not debian.path("/var/lib/softtoken").exists()


def test_package__with_the_line_is_upgraded_and_removed_without_a_sudo_that_runs_nothing(
    installed: FreshDebian, alice: Resident, newer_packages: Packages
) -> None:
    debian = installed
    device = enrol(alice)
    turn_on(debian, alice, device)
    debian.install(*newer_packages.all, newer_packages[PLUGIN])
    assert LINE in debian.path(CONF).read_text()
    assert "it_ran" in sign(device, ask(alice, *RUN))[2]

    # Somebody has written the line in another way, which disable finds, too.
    text = debian.path(CONF).read_text()
    debian.write(CONF, text.replace(LINE, "plugin \\\n softtoken_approval"))
    worked, said = debian.apt("remove", "libpam-softtoken")
    assert worked, said
    assert "softtoken_approval" not in debian.path(CONF).read_text()
    assert "it_ran" in debian.run("sudo", *RUN)


def test_plugin__has_the_files_and_modes_of_its_kind(packages: Packages) -> None:
    (listed,) = (line for line in packages.listing(PLUGIN) if line[5].endswith(".so"))
    assert listed[5] == "./usr/libexec/sudo/softtoken_approval.so"
    assert (listed[0][:2], listed[1]) == ("-r", "root/root")
    assert os.path.dirname(listed[5][1:]) == str(Path("/usr/libexec/sudo"))
