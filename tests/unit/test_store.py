"""The place of a user's files: no template lets two users share one place."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pam_softtoken.account import ram_record, state_format
from pam_softtoken.account.location import Location
from pam_softtoken.account.safe_open import Account
from pam_softtoken.account.state import State
from pam_softtoken.account.store import Store
from pam_softtoken.account.token_file import TokenFile, serialise
from pam_softtoken.errors import ConfigError
from pam_softtoken.otp.recovery_code import RecoverySet
from pam_softtoken.otp.token import Secret, TOTPToken

TOKEN = TOTPToken("phone", Secret(b"12345678901234567890"), algorithm="SHA1", digits=6, created=0)
NAME = TOKEN.fingerprint()
ALICE, BOB = (Account(name, uid, uid, home=f"/home/{name}") for name, uid in (("alice", 1001), ("bob", 1002)))


@pytest.mark.parametrize("template", ["/%U", "/%u", "/var/lib/softtoken/%U", "/a%%b/%u/token", "%h/.softtoken"])
def test_location__is_another_one_for_each_user(template: str) -> None:
    assert Location(template, ALICE).path != Location(template, BOB).path


def test_location__fills_in_the_user() -> None:
    assert Location("/srv/100%%/%U-%u", ALICE).path == "/srv/100%/1001-alice"
    assert Location("%h/.softtoken", ALICE).path == "/home/alice/.softtoken"


@pytest.mark.parametrize("name", ["a%U", "%u", "%%", "%h"])
def test_location__field_inside_a_user_name_is_not_replaced(name: str) -> None:
    assert Location("/srv/%U/%u", Account(name, 1001, 1001, home="/home/a")).path == f"/srv/1001/{name}"


@pytest.mark.parametrize("name", ["", ".", "..", ".ssh", "a/b", "../b", "a\nb", "a\x7fb"])
def test_location__user_name_unfit_for_a_path_works_only_by_uid(name: str) -> None:
    odd = Account(name, 1001, 1001, home="/home/a")
    with pytest.raises(ConfigError):
        Location("/srv/%u", odd)
    assert Location("/srv/%U", odd).path == "/srv/1001"


def _write(store: Store, new: State) -> None:
    store.open()
    store.lock(1)
    store.read_state()
    store.write_state(new)
    store.close()


def test_store__after_a_time_in_memory_writes_over_the_older_slot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over the newer slot, a power failure would leave only the older one, in which used codes are not used."""
    kept: dict[str, bytes] = {}
    monkeypatch.setattr(ram_record, "read", kept.get)
    monkeypatch.setattr(ram_record, "write", kept.__setitem__)
    monkeypatch.setattr(ram_record, "remove", kept.__delitem__)
    path = tmp_path / "store"
    path.mkdir(mode=0o700)
    (path / "tokens").write_bytes(serialise(TokenFile((TOKEN,), RecoverySet(bytes(16), ()))))
    (path / "tokens").chmod(0o600)
    location = Location("%h/store", Account("me", os.getuid(), os.getgid(), home=str(tmp_path)))
    for counter in (1, 2, 3):
        _write(Store(location), State(last={NAME: counter}))
    read_only = Store(location)
    read_only.read_only = True
    _write(read_only, State(last={NAME: 4}))
    assert len(kept) == 1
    newest = state_format.decode((path / "state").read_bytes(), path="")
    assert newest[1].last == {NAME: 3}
    _write(Store(location), State(last={NAME: 5}))
    data = (path / "state").read_bytes()
    assert state_format.decode(data, path="")[1].last == {NAME: 5}
    place = state_format.place_of(newest[0])
    assert state_format.decode_slot(data[place : place + state_format.SLOT_BYTES])[1].last == {NAME: 3}
    assert kept == {}
