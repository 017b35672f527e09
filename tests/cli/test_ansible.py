"""Run the worked example for Ansible with the real ansible-playbook over a local connection."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.enroller import record_of
from tests.support.installation import TREE, Installation
from tests.support.listing import listing

PLAYBOOK = Path(sys.executable).with_name("ansible-playbook")
TIMEOUT_S = 300


class Controller:
    """The controller that administers hosts with Ansible. The one host is this machine, too.

    Args:
        directory: the copy of the example.
        program: the host's `softtoken-enroll`.
        users: the users concerned.
    """

    def __init__(self, directory: Path, program: Path, users: list[str]) -> None:
        shutil.copytree(TREE / "debian/examples/ansible", directory)
        self.directory = directory
        self.secrets = directory / "secrets"
        (directory / "inventory").write_text(
            "server ansible_connection=local ansible_python_interpreter=/usr/bin/python3\n"
        )
        self.on_host = directory / "on-host"
        self._settings = {
            "users": users,
            "softtoken_enroll": str(program),
            "on_host": str(self.on_host),
            "ansible_become": False,  # we are root, and sudo is not set up here
        }

    def play(self, name: str, **settings: object) -> str:
        """Run a playbook, and return Ansible's output."""
        command = [str(PLAYBOOK), "-i", "inventory", name, "-e", json.dumps({**self._settings, **settings})]
        environment = {
            "PATH": f"{PLAYBOOK.parent}:/usr/bin:/bin",
            "HOME": str(self.directory),
            "LC_ALL": "C.UTF-8",
            "ANSIBLE_NOCOLOR": "1",
        }
        done = subprocess.run(
            command, check=False, capture_output=True, text=True,
            cwd=self.directory, env=environment, timeout=TIMEOUT_S,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def phone(self, person: Person) -> Phone:
        """Return the token in a user's letter."""
        (uri,) = re.findall(r"^ +(otpauth://\S+)$", (self.secrets / f"{person.name}.letter").read_text(), re.MULTILINE)
        codes = json.loads((self.secrets / f"{person.name}.recovery").read_text())["recovery_codes"]
        return Phone(record_of(uri, codes))


@pytest.fixture
def people(make_person: Callable[[], Person]) -> list[Person]:
    """Two users of the host."""
    return [make_person(), make_person()]


@pytest.fixture
def controller(outside: Path, installed: Installation, people: list[Person]) -> Controller:
    """The controller, with the example as it is delivered."""
    return Controller(outside / "example", installed.enroll, [person.name for person in people])


def changed(shown: str) -> dict[str, int]:
    """Read from Ansible's recap the number of changed tasks, and check that none has failed."""
    recap = re.findall(r"^(\w+) +: ok=\d+ +changed=(\d+) +unreachable=0 +failed=0 ", shown, re.MULTILINE)
    assert recap, shown
    return {host: int(number) for host, number in recap}


def test_example__provisions_users_and_keeps_their_changes(
    controller: Controller, people: list[Person], installed: Installation, service: Service
) -> None:
    shown = controller.play("provision.yml")
    assert changed(shown) == {"localhost": 2, "server": 3}
    controller.play("hand-out.yml", issuer="Example & Co")
    secrets = [path.read_text() for path in controller.secrets.glob("*.key")]
    assert len(secrets) == 2
    for person in people:
        phone = controller.phone(person)
        code, recovery_code = phone.totp(), phone.recovery_codes[3]
        secrets += [str(phone.record["key"]), *phone.recovery_codes]
        for answer in (code, recovery_code):
            assert service.log_in(person, answer).result == PAM_SUCCESS
            assert service.log_in(person, answer).result == PAM_AUTH_ERR
    for secret in secrets:
        assert secret not in shown
    assert {path.stat().st_mode & 0o777 for path in controller.secrets.iterdir()} == {0o600}
    for path in controller.on_host.iterdir():
        assert not any(secret in path.read_text() for secret in secrets)

    before = [listing(person.home) for person in people]
    assert changed(controller.play("provision.yml")) == {"localhost": 0, "server": 0}
    assert [listing(person.home) for person in people] == before

    own = people[1].enrol(installed, "--force", "--recovery-codes=0")
    shown = controller.play("provision.yml")
    assert changed(shown) == {"localhost": 0, "server": 0}
    assert f'"msg": "{people[1].name}"' in shown
    assert service.log_in(people[1], own.totp(1)).result == PAM_SUCCESS
