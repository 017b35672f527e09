"""Restore files from an old backup: the owner gets in, and codes used before the backup stay used."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES, Pam
from tests.support.surroundings import assert_in_once
from tests.support.system_log import SystemLog

KINDS = {"totp": ["--period=300"], "hotp": ["--type=hotp"]}
LOOK_AHEAD = 10


class Backup:
    """Copies of some files of a user.

    Args:
        person: the user.
        names: the names of the files in the store.
    """

    def __init__(self, person: Person, names: list[str]) -> None:
        self._person = person
        self._files = {person.store / name: (person.store / name).read_bytes() for name in names}

    def restore(self) -> None:
        """Restore them as new files, as a backup program does."""
        for path, content in self._files.items():
            new = Path(f"{path}.restored")
            new.write_bytes(content)
            new.chmod(0o600)
            os.chown(new, self._person.uid, self._person.gid)
            new.rename(path)


def codes_of(phone: Phone, count: int) -> list[str]:
    if phone.record["type"] == "hotp":
        return [phone.hotp() for _ in range(count)]
    return [phone.totp(step) for step in range(count)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "names",
    [
        pytest.param(["tokens"], marks=pytest.mark.lockout("the token file is from a backup older than the state")),
        pytest.param(["state"], marks=pytest.mark.lockout("the state is from a backup older than the token file")),
        pytest.param(["tokens", "state"], marks=pytest.mark.lockout("token file and state are both from a backup")),
    ],
    ids="+".join,
)
def test_backup__restored_one_accepts_the_next_code_once(
    installed: Installation, pam: Pam, alice: Person, kind: str, names: list[str]
) -> None:
    service = pam.service("window=4")
    phone = alice.enrol(installed, *KINDS[kind], NO_CODES)
    before, since, following = codes_of(phone, 3)
    assert service.log_in(alice, before).result == PAM_SUCCESS
    backup = Backup(alice, names)
    alice.enrol(installed, "--name=spare", NO_CODES)
    assert service.log_in(alice, since).result == PAM_SUCCESS
    backup.restore()
    assert service.log_in(alice, before).result == PAM_AUTH_ERR
    if "state" not in names:
        assert service.log_in(alice, since).result == PAM_AUTH_ERR
    assert_in_once(service, alice, following)


@pytest.mark.lockout(
    "the state is from a backup of many HOTP logins ago",
    shows="reason=mismatch",
    cure="type two codes in a row",
)
def test_backup__of_a_counter_long_ago_is_caught_up_with_by_two_codes(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog
) -> None:
    phone = alice.enrol(installed, "--type=hotp", NO_CODES)
    backup = Backup(alice, ["state"])
    assert service.log_in(alice, phone.hotp()).result == PAM_SUCCESS
    phone.counter += 5 * LOOK_AHEAD
    backup.restore()
    system_log.clear()
    assert service.log_in(alice, phone.hotp()).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["mismatch"]
    assert_in_once(service, alice, phone.hotp())


@pytest.mark.lockout(
    "token file and state are from before the user got a new phone",
    shows="reason=mismatch",
    cure="softtoken-enroll --user alice --force",
)
def test_backup__from_before_a_new_phone_is_cured_by_enrolling_again(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog
) -> None:
    alice.enrol(installed, "--period=300", NO_CODES)
    backup = Backup(alice, ["tokens", "state"])
    phone = alice.enrol(installed, "--period=300", NO_CODES, "--force")
    backup.restore()
    assert service.log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["mismatch"]
    phone = alice.enrol(installed, "--period=300", NO_CODES, "--force")
    assert_in_once(service, alice, phone.totp(1))
