"""Run `enable`, `disable` and `confirm` with impossible requests, and check their messages."""

from __future__ import annotations

import pytest

from tests.support.account import Person
from tests.support.admin import Admin, refused
from tests.support.installation import Installation


@pytest.fixture
def admin(installed: Installation) -> Admin:
    """The installed `softtoken-admin`."""
    return Admin(installed)


USAGE = {
    "../sudo": ('"../sudo" is not the name of a service',),
    "": ('"" is not the name of a service',),
    "sudo --for 1y": ('"1y" is not a time from 1s to 1d',),
    "sudo --for 2d": ('"2d" is not a time from 1s to 1d',),
    "sudo --with publickey": ('"sudo" does not use public keys', "--with publickey is for sshd"),
    "sudo --with token": ('unknown value: "token"',),
    "sudo --sign=yes": ('--sign: unknown value: "yes"', "one of required"),
    "sudo --sign --for 2d": ('"2d" is not a time from 1s to 1d',),
    "sudo --sign --lock-out nobody-like-this": ('no such user: "nobody-like-this"',),
    "sshd --sign": ('"sshd" runs no commands that could be signed', "--sign is for sudo"),
    "sudo --sign --with password": ("--with is about codes, and goes with no --sign",),
    "sudo --sign --except games": ("--except is about codes, and goes with no --sign",),
    "sudo --sign --enrol-later": ("--enrol-later is about codes, and goes with no --sign",),
}


@pytest.mark.parametrize("words", USAGE)
def test_enable__impossible_arguments_are_a_usage_error(words: str, admin: Admin) -> None:
    said = refused(admin.run("enable", *(words.split() or [""])), status=2)
    assert all(text in "; ".join(said) for text in USAGE[words])


@pytest.mark.parametrize("command", ["enable", "disable"])
def test_service__unknown_one_lists_the_services_that_exist(command: str, admin: Admin) -> None:
    error, hint = refused(admin.run(command, "ssh"))
    assert error == 'no such service: "ssh"'
    assert {"su", "login"} <= set(hint.removeprefix("there are ").split(", "))
    assert "common-auth" not in hint


def test_confirm__with_nothing_to_confirm_says_so(admin: Admin) -> None:
    error, _ = refused(admin.run("confirm", "no-such-service"))
    assert error == "nothing waits to be confirmed"


@pytest.mark.parametrize("words", [
    "enable sudo", "enable sudo --sign", "disable sudo", "disable sudo --sign", "confirm", "roll-back",
])  # fmt: skip
def test_service__only_root_may_change_one(words: str, admin: Admin, alice: Person) -> None:
    assert refused(admin.run(*words.split(), person=alice)) == (
        "only root can do that",
        f"sudo softtoken-admin {words}",
    )
