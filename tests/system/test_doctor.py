"""Check that `softtoken-admin doctor` is right about sshd: a real login shows it, and shows that the command repairs
it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.support.account import Person
from tests.support.doctor import Found, found_in, steps
from tests.support.hosts import SSH
from tests.support.installation import Installation
from tests.support.private_mounts import PrivateMounts
from tests.system.scenario import SLOW

Examine = Callable[[SSH], Found]


@contextmanager
def sshd_with(mounts: PrivateMounts, settings: str, *, password: bool) -> Iterator[SSH]:
    """Start an sshd with settings that go before the usual ones."""
    host = SSH(mounts, password=password, settings=settings)
    try:
        yield host
    finally:
        host.close()


@pytest.fixture
def examine(mounts: PrivateMounts, installed: Installation) -> Examine:
    """Run the doctor on an sshd and its PAM service."""

    def look(host: SSH) -> Found:
        script = "while umount -l /etc/ssh/sshd_config 2>/dev/null; do :; done; mount --bind $1 /etc/ssh/sshd_config"
        subprocess.run(mounts.command("sh", "-euc", script, "sh", str(host.configuration)), check=True)
        program = str(installed.root / "scripts" / "softtoken-admin")
        done = subprocess.run(
            mounts.command(program, "doctor", "--json"), capture_output=True, text=True, check=False, timeout=300
        )
        return found_in(done)

    return look


def test_sshd__sound_one_is_sound(
    mounts: PrivateMounts, installed: Installation, alice: Person, examine: Examine
) -> None:
    with sshd_with(mounts, "", password=True) as host:
        host.use_stack(installed.line())
        phone = alice.enrol(installed, SLOW)
        assert host.log_in(alice, phone.totp()).prompts == ["password", "code"]
        assert examine(host).worse_than_notes() == []


def test_sshd__sufficient_password_lets_in_without_a_code_until_mended(
    mounts: PrivateMounts, installed: Installation, alice: Person, examine: Examine
) -> None:
    with sshd_with(mounts, "", password=True) as host:
        host.use_stack(installed.line(), first="auth sufficient pam_unix.so nodelay\n")
        phone = alice.enrol(installed, SLOW)
        visit = host.log_in(alice)
        assert (visit.entered_as, visit.prompts) == (alice.name, ["password"]), visit
        finding = examine(host).only("/etc/pam.d/sshd:1", "get into sshd without a code")
        for step in steps(finding["mend"]):
            subprocess.run(mounts.command(*step), check=True)
        assert examine(host).worse_than_notes() == []
        visit = host.log_in(alice)
        assert (visit.entered_as, visit.prompts) == ("", ["password", "code"]), visit
        assert host.log_in(alice, phone.totp(), password="wrong").entered_as == ""
        assert host.log_in(alice, phone.totp()).entered_as == alice.name


def test_sshd__public_key_skips_pam(
    mounts: PrivateMounts, installed: Installation, alice: Person, examine: Examine
) -> None:
    with sshd_with(mounts, "AuthenticationMethods any\n", password=False) as host:
        host.use_stack(installed.line())
        alice.enrol(installed, SLOW)
        visit = host.log_in(alice)
        assert (visit.entered_as, visit.prompts) == (alice.name, []), visit
        found = examine(host)
    finding = found.only("/etc/ssh/sshd_config:1", "a public key skips PAM")
    mended = finding["mend"].partition("in /etc/ssh/sshd_config, line 1, write: AuthenticationMethods ")[2]
    with sshd_with_again(mounts, f"AuthenticationMethods {mended}\n") as host:
        visit = host.log_in(alice)
        assert (visit.entered_as, visit.prompts) == ("", ["code"]), visit
        assert examine(host).worse_than_notes() == []


@contextmanager
def sshd_with_again(mounts: PrivateMounts, settings: str) -> Iterator[SSH]:
    """Start another sshd in the same place."""
    subprocess.run(["rm", "-r", mounts.directory / "sshd"], check=True)
    with sshd_with(mounts, settings, password=False) as host:
        yield host


def test_sshd__without_keyboard_interactive_nobody_is_asked(
    mounts: PrivateMounts, installed: Installation, alice: Person, examine: Examine
) -> None:
    settings = "KbdInteractiveAuthentication no\nPubkeyAuthentication no\nPasswordAuthentication yes\n"
    with sshd_with(mounts, settings + "AuthenticationMethods any\n", password=True) as host:
        host.use_stack(installed.line())
        phone = alice.enrol(installed, SLOW)
        visit = host.log_in(alice, phone.totp())
        assert (visit.entered_as, visit.prompts) == ("", []), visit
        found = examine(host)
    assert found.only("/etc/ssh/sshd_config:1", "nobody is asked for a code")["severity"] == "error"
    assert found.only("/etc/ssh/sshd_config:3", "the method password cannot ask")["severity"] == "warning"
