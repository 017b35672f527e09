"""Log in with the clients that softtoken-clients(7) lists. Each gets in with a code, and not with the same code again."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import asyncssh
import paramiko
import pexpect
import pytest

from tests.support.account import Person, Phone, resident_of
from tests.support.hosts import REST, SSH, STEP_S
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES
from tests.support.private_mounts import PrivateMounts

SETTINGS = """Subsystem sftp internal-sftp
PasswordAuthentication yes
AuthenticationMethods keyboard-interactive:pam password publickey,keyboard-interactive:pam
"""
TAKES_PASSWORD = "auth required pam_unix.so use_first_pass nodelay\n"
WITH_KEY = ("-o", "PreferredAuthentications=publickey,keyboard-interactive")
LOCAL = "127.0.0.1"
ASKPASS = """#!/bin/sh
case $1 in
*[Vv]"erification code: ") printf '%s\\n' "$CODE" ;;
*"Password: ") printf '%s\\n' "$PASSWORD" ;;
esac
"""


class Clients:
    """One user with a token that counts, one sshd, and the programs of people who log in.

    Args:
        mounts: the namespace with the services.
        installed: the copy of the module.
        person: the user.
        directory: of the clients, who are root here.
    """

    def __init__(self, mounts: PrivateMounts, installed: Installation, person: Person, directory: Path) -> None:
        self.mounts = mounts
        self.installed = installed
        self.person = person
        self.directory = directory
        self.sshd = SSH(mounts, password=True, settings=SETTINGS)
        self.sshd.knows_key = True
        self.options = self.sshd.client_options(person)
        self.place = f"{person.name}@{LOCAL}"
        self.phone: Phone = person.enrol(installed, "--type=hotp", NO_CODES)
        self._askpass = directory / "askpass"
        self._askpass.write_text(ASKPASS)
        self._askpass.chmod(0o755)

    def asks_for_password_and_code(self) -> None:
        """Let sshd ask two questions."""
        self.sshd.use_stack(self.installed.line())

    def asks_for_code(self) -> None:
        """Let sshd ask for the code alone, after a public key."""
        self.sshd.use_stack(self.installed.line(), first="")

    def asks_once(self, service: str = "sshd") -> None:
        """Let a service ask for password and code in one answer."""
        self.mounts.set_service(service, one_answer(self.installed))

    def run(self, *command: str | Path, code: str = "") -> subprocess.CompletedProcess[str]:
        """Run a client without a terminal. The programs of OpenSSH then ask a helper program."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "LC_ALL": "C.UTF-8",
            "SSH_ASKPASS": str(self._askpass),
            "SSH_ASKPASS_REQUIRE": "force",
            "PASSWORD": self.person.password,
            "CODE": code,
        }
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            env=environment,
            timeout=STEP_S,
            start_new_session=True,
        )

    def gets_in_once(self, attempt: Callable[[str], bool]) -> None:
        """Check that a client gets in with a code, that the same code is refused, and that our module decided both."""
        self.mounts.log.clear()
        code = self.phone.hotp()
        assert attempt(code)
        assert self.mounts.log.reasons() == ["accepted"]
        assert not attempt(code)
        assert self.mounts.log.reasons() == ["accepted", "replayed"]


def one_answer(installed: Installation) -> str:
    """Return the stack for clients with one field: the password, with the code behind it."""
    return installed.line("forward_pass") + TAKES_PASSWORD + REST


@pytest.fixture(scope="module")
def clients(world: Path, installed: Installation) -> Iterator[Clients]:
    """The same user and sshd for all tests."""
    if not PrivateMounts.possible():
        pytest.skip("needs CAP_SYS_ADMIN: the hosts see PAM services of their own in a private mount namespace")
    directory = world / "clients"
    directory.mkdir(mode=0o755)
    with resident_of(world / "homes-clients") as person:
        mounts = PrivateMounts(directory / "mounts")
        made = Clients(mounts, installed, person, directory)
        yield made
        made.sshd.close()
        mounts.close()
    shutil.rmtree(directory)


def copying(program: str, clients: Clients) -> list[str]:
    """Return the command that fetches a file of the user's with one of these programs."""
    fetched = str(clients.directory / "fetched")
    if program == "rsync":
        return ["rsync", "-e", shlex.join(["ssh", *clients.options]), f"{clients.place}:.bashrc", fetched]
    return [program, "-q", *clients.options, f"{clients.place}:.bashrc", fetched]


@pytest.mark.parametrize("program", ["scp", "sftp", "rsync"])
def test_copying__asks_for_password_and_code_as_ssh_does(clients: Clients, program: str) -> None:
    clients.asks_for_password_and_code()
    fetched = clients.directory / "fetched"

    def attempt(code: str) -> bool:
        fetched.unlink(missing_ok=True)
        done = clients.run(*copying(program, clients), code=code)
        assert fetched.exists() == (done.returncode == 0), done
        return fetched.exists()

    clients.gets_in_once(attempt)
