"""The place of a user's files: no template lets two users share one place."""

from __future__ import annotations

import pytest

from pam_softtoken.account.safe_open import Account
from pam_softtoken.account.store import Location
from pam_softtoken.errors import ConfigError

ALICE, BOB = (Account(name, uid, uid, home=f"/home/{name}") for name, uid in (("alice", 1001), ("bob", 1002)))


@pytest.mark.parametrize("template", ["/%U", "/%u", "/var/lib/softtoken/%U", "/a%%b/%u/token", "%h/.softtoken"])
def test_location__is_another_one_for_each_user(template: str) -> None:
    assert Location(template, ALICE).path != Location(template, BOB).path


def test_location__fills_in_the_user() -> None:
    assert Location("/srv/100%%/%U-%u", ALICE).path == "/srv/100%/1001-alice"
    assert Location("%h/.softtoken", ALICE).path == "/home/alice/.softtoken"


@pytest.mark.parametrize("name", ["a%U", "%u", "%%", "%h"])
def test_location__takes_no_part_of_a_name_for_a_field(name: str) -> None:
    assert Location("/srv/%U/%u", Account(name, 1001, 1001, home="/home/a")).path == f"/srv/1001/{name}"


@pytest.mark.parametrize("name", ["", ".", "..", ".ssh", "a/b", "../b", "a\nb", "a\x7fb"])
def test_location__whose_name_cannot_be_part_of_a_path_is_refused_by_name_and_found_by_uid(name: str) -> None:
    odd = Account(name, 1001, 1001, home="/home/a")
    with pytest.raises(ConfigError):
        Location("/srv/%u", odd)
    assert Location("/srv/%U", odd).path == "/srv/1001"
