"""What root records about an accepted user, and what the record under the home directory says about other accounts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pam_softtoken.account import account_record, enrolled_mark, places, revocation, revoking, user_lookup
from pam_softtoken.account.safe_open import Account
from pam_softtoken.errors import LookUpFailed, UnusableFile

HOME = "/home/st-nobody"
FORMER = Account("st-former", 2_000_000_001, 1, home=HOME)  # no account of this machine
PRESENT = Account("st-present", 2_000_000_002, 1, home=HOME)


@pytest.fixture(autouse=True)
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory for root's records; the caller passes for root."""
    monkeypatch.setattr(places, "DATA", str(tmp_path))
    for name in ("ENROLLED", "NAMES", "REVOKED"):
        monkeypatch.setattr(places, name, str(tmp_path / name))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return tmp_path


def _names(data: Path) -> set[str]:
    return {path.name for path in (data / "NAMES").iterdir()}


def test_home__of_an_account_that_is_gone_makes_no_newcomer() -> None:
    enrolled_mark.set_for(FORMER)
    assert enrolled_mark.was_accepted(PRESENT)
    assert account_record.former_uid(PRESENT) == FORMER.uid
    elsewhere = Account(PRESENT.name, PRESENT.uid, 1, home=f"{HOME}2")
    assert not enrolled_mark.was_accepted(elsewhere)


@pytest.mark.parametrize("home", [f"{HOME}/", "/home//st-nobody", f"/{HOME}", "/home/./st-nobody"])
def test_home__is_recognised_in_any_spelling(home: str) -> None:
    enrolled_mark.set_for(FORMER)
    assert enrolled_mark.was_accepted(Account(PRESENT.name, PRESENT.uid, 1, home=home))


@pytest.mark.parametrize("home", ["", "/", "/.", "//", "/nonexistent", "/nonexistent/", "/var/empty", "/dev/null"])
def test_home__of_nobody_has_no_record(data: Path, home: str) -> None:
    enrolled_mark.set_for(Account(FORMER.name, FORMER.uid, 1, home=home))
    assert not any(name.startswith("home-") for name in _names(data))
    assert not enrolled_mark.was_accepted(Account(PRESENT.name, PRESENT.uid, 1, home=home))


def test_failing_look_up__is_no_proof_that_the_user_is_new(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> Account:
        raise LookUpFailed("no answer")

    enrolled_mark.set_for(FORMER)
    monkeypatch.setattr(user_lookup, "account_of_name", fail)
    with pytest.raises(UnusableFile):
        enrolled_mark.was_accepted(PRESENT)


@pytest.mark.parametrize("look_up", ["account_of_name", "account_of_uid"])
def test_home__of_a_renamed_or_renumbered_account_that_no_list_shows_locks_nobody_out(
    monkeypatch: pytest.MonkeyPatch, look_up: str
) -> None:
    name, uid = (FORMER.name, 5) if look_up == "account_of_name" else ("x", FORMER.uid)
    there = Account(name, uid, 1, home=HOME)
    enrolled_mark.set_for(FORMER)
    monkeypatch.setattr(user_lookup, look_up, lambda key: there)
    assert not enrolled_mark.was_accepted(PRESENT)
    there.home = "/home/st-new-user"  # who got the name or the uid
    assert enrolled_mark.was_accepted(PRESENT)


@pytest.mark.parametrize("look_up", ["account_of_name", "account_of_uid"])
def test_former_name__that_the_directory_still_knows_as_another_spelling_makes_no_newcomer(
    monkeypatch: pytest.MonkeyPatch, look_up: str
) -> None:
    """The account with the new name and uid is the answer for the former name. It is no second account."""
    enrolled_mark.set_for(FORMER)
    revoking.revoke(FORMER.uid, fingerprints=["a"], everything=False, now=1)
    monkeypatch.setattr(user_lookup, look_up, lambda key: PRESENT)
    assert enrolled_mark.was_accepted(PRESENT)
    assert revocation.read_for(PRESENT).names


def test_damaged_home_record__is_no_proof_that_the_user_is_new(data: Path) -> None:
    """A record that a power failure has emptied is damaged, too. The next accepted code writes it again."""
    (data / "NAMES").mkdir()
    record = Path(account_record.record_of_home(HOME))
    record.write_bytes(b"")
    assert enrolled_mark.was_accepted(PRESENT)
    enrolled_mark.set_for(PRESENT)
    assert account_record.read_record(str(record)).uid == PRESENT.uid  # type: ignore[union-attr]


def test_known_user__costs_no_look_at_the_home_record() -> None:
    """A directory in its place could not be read."""
    enrolled_mark.set_for(FORMER)
    record = Path(account_record.record_of_home(HOME))
    record.unlink()
    record.mkdir()
    assert account_record.former(FORMER) is None
    assert enrolled_mark.is_set_for(FORMER)
    with pytest.raises(UnusableFile):
        account_record.former(PRESENT)


def test_record__of_an_older_version_is_completed_at_the_next_accepted_code() -> None:
    enrolled_mark.set_for(FORMER)
    record, of_home = Path(account_record.record_of(FORMER.name)), Path(account_record.record_of_home(HOME))
    record.write_bytes(f"{FORMER.uid}\0{FORMER.name}\0{HOME}\0".encode())
    of_home.unlink()
    assert account_record.former(FORMER) is None
    assert not enrolled_mark.is_set_for(FORMER)
    enrolled_mark.set_for(FORMER)
    assert enrolled_mark.is_set_for(FORMER)
    assert enrolled_mark.was_accepted(PRESENT)


def test_home_record__leads_to_revocations_until_they_are_handed_over() -> None:
    """An accepted code of another token does not replace it."""
    enrolled_mark.set_for(FORMER)
    revoking.revoke(FORMER.uid, fingerprints=["a"], everything=False, now=1)
    enrolled_mark.set_for(PRESENT)
    assert enrolled_mark.is_set_for(PRESENT)
    assert account_record.former_uid(PRESENT) == FORMER.uid
    revoking.bring_along(PRESENT, keeping=False)
    assert account_record.former_uid(PRESENT) is None


def test_home_record__of_a_former_home_goes_but_not_that_of_its_next_user(data: Path) -> None:
    enrolled_mark.set_for(FORMER)
    moved = Account(FORMER.name, FORMER.uid, 1, home=f"{HOME}2")
    enrolled_mark.set_for(moved)
    assert not Path(account_record.record_of_home(HOME)).exists()
    enrolled_mark.set_for(Account(PRESENT.name, PRESENT.uid, 1, home=moved.home))
    account_record.forget_name(FORMER.name)
    assert Path(account_record.record_of_home(moved.home)).exists()
    account_record.forget_name(PRESENT.name)
    assert _names(data) == set()
