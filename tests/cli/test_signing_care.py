"""Look after users who sign sudo commands: status, revoke, unlock, reset-state, forget and rebind."""

from __future__ import annotations

import json
import os
import pwd
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pam_softtoken.account import signers
from pam_softtoken.account.safe_open import Account
from pam_softtoken.account.signers import SignerStore
from pam_softtoken.account.state import State
from pam_softtoken.errors import NotEnrolled, OtherAccount
from tests.support.account import Person, resident_of
from tests.support.account_changes import add, delete, rename, renumber, replace
from tests.support.admin import Admin, refused, succeeded
from tests.support.enroller import Enroller
from tests.support.installation import Installation
from tests.support.signing_device import SigningDevice, enrol_device

PLACE = Path("/var/lib/softtoken/sign")


@pytest.fixture
def admin(installed: Installation) -> Admin:
    """The installed `softtoken-admin`."""
    return Admin(installed)


@pytest.fixture
def enrol(enroller: Enroller) -> Callable[..., SigningDevice]:
    """Enrol a token that signs."""

    def enrol(person: Person, *options: str) -> SigningDevice:
        with enroller.start("--sign", "--user", person.name, *options) as dialogue:
            return enrol_device(dialogue)

    return enrol


Enrol = Callable[..., SigningDevice]


def account_of(person: Person) -> Account:
    return Account(person.name, person.uid, person.gid, home=str(person.home))


@contextmanager
def opened(account: Account) -> Iterator[SignerStore]:
    store = SignerStore(account)
    try:
        yield store
    finally:
        store.close()


def names_of(account: Account) -> list[str]:
    """Return the names of the tokens that sudo would ask for. It refuses an account without any."""
    with opened(account) as store:
        return [token.name for token in store.open_signers()]


def marks(name: str, uid: int) -> list[bool]:
    """Return whether there is the mark of the uid, and that of the name."""
    return [os.path.lexists(signers.uid_mark(uid)), os.path.lexists(signers.name_mark(name))]


def record_wrong_signatures(account: Account, count: int) -> None:
    """Write what sudo writes after so many wrong signatures."""
    with opened(account) as store:
        store.open_signers()
        store.lock(5)
        state = store.read_state() or State.new()
        store.write_state(state.with_wrong("local", count, int(time.time())))


def status_of(admin: Admin, person: Person) -> dict[str, Any]:
    (user,) = json.loads(succeeded(admin.run("status", person.name, "--json")))["users"]
    signing: dict[str, Any] = user["signing"]
    return signing


# -- status


def test_status__names_the_tokens_that_sign(admin: Admin, alice: Person, enrol: Enrol) -> None:
    assert status_of(admin, alice) == {
        "marked": False, "tokens": [], "waiting": [], "revoked": False, "problem": "", "cure": "",
    }  # fmt: skip
    assert "sign" not in succeeded(admin.run("status", alice.name))
    enrol(alice)
    enrol(alice, "--name=desk")
    facts = status_of(admin, alice)
    assert [each["name"] for each in facts["tokens"]] == ["laptop", "desk"]
    assert (facts["marked"], facts["problem"]) == (True, "")
    header, line, *rest = succeeded(admin.run("status", alice.name)).splitlines()
    assert re.split(r" {2,}", header)[-2:] == ["signs with", "remarks"]
    assert re.search(r"laptop, desk$", line)
    assert rest[-1] == (
        "sudo: asks nobody for a signature; softtoken-admin enable sudo --sign turns it on for those who can sign (1): "
        + alice.name
    )


def test_status__shows_no_key_and_writes_nothing(admin: Admin, alice: Person, enrol: Enrol) -> None:
    enrol(alice)
    place = PLACE / str(alice.uid)
    (place / "state").unlink(missing_ok=True)
    key = json.loads((place / "tokens").read_text())["signers"][0]["key"]
    for options in ((), ("--json",)):
        done = admin.run("status", alice.name, *options)
        assert key not in done.stdout + done.stderr
    assert os.listdir(place) == ["tokens"]


def test_status__shows_the_wait_of_wrong_signatures_and_unlock_ends_it(
    admin: Admin, alice: Person, enrol: Enrol
) -> None:
    enrol(alice)
    record_wrong_signatures(account_of(alice), 60)
    (wait,) = status_of(admin, alice)["waiting"]
    assert wait["wrong_answers"] == 60
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 15 * 60 + 5))
    assert wait["until"] <= until  # nobody waits longer than 15 minutes
    assert "signatures must wait until" in succeeded(admin.run("status", alice.name))
    done = admin.run("unlock", alice.name)
    assert succeeded(done) == ""
    assert "60 wrong signatures are forgotten" in done.stderr
    assert status_of(admin, alice)["waiting"] == []
    assert names_of(account_of(alice)) == ["laptop"]
    assert "nothing to wait for" in admin.run("unlock", alice.name).stderr


def test_unlock__ends_both_waits_of_a_user_with_both(
    admin: Admin, installed: Installation, alice: Person, enrol: Enrol
) -> None:
    alice.enrol(installed, "--recovery-codes=0")
    enrol(alice)
    record_wrong_signatures(account_of(alice), 7)
    done = admin.run("unlock", alice.name)
    assert succeeded(done) == ""
    assert "7 wrong signatures" in done.stderr


def test_unlock__of_a_user_with_nothing_is_refused(admin: Admin, alice: Person) -> None:
    assert "not enrolled" in refused(admin.run("unlock", alice.name))[0]


def test_state__damaged_one_is_shown_and_started_anew(admin: Admin, alice: Person, enrol: Enrol) -> None:
    enrol(alice)
    state = PLACE / str(alice.uid) / "state"
    for damage in (b"x" * 8192, b"x" * 100_000):
        state.write_bytes(damage)
        state.chmod(0o600)
        facts = status_of(admin, alice)
        assert facts["problem"]
        assert facts["cure"] == f"softtoken-admin reset-state {alice.name}"
        assert "reset-state" in refused(admin.run("unlock", alice.name))[1]
        assert succeeded(admin.run(*facts["cure"].split()[1:], "--yes")) == ""
        assert status_of(admin, alice)["problem"] == ""
        record_wrong_signatures(account_of(alice), 5)


# -- revoke


def test_revoke__everything_takes_what_signs_too_and_keeps_the_marks(
    admin: Admin, installed: Installation, alice: Person, enrol: Enrol
) -> None:
    alice.enrol(installed, "--recovery-codes=0")
    enrol(alice)
    enrol(alice, "--name=desk")
    done = admin.run("revoke", alice.name, "--yes")
    assert succeeded(done) == ""
    assert '"laptop", "desk"' in done.stderr
    assert "From now on no code of" in done.stderr
    assert names_of(account_of(alice)) == []
    assert marks(alice.name, alice.uid) == [True, True]
    facts = status_of(admin, alice)
    assert facts["revoked"]
    assert facts["cure"] == f"softtoken-enroll --sign --user {alice.name}"
    assert re.search(
        r" none +was enrolled before.*all signing tokens were revoked", succeeded(admin.run("status", alice.name))
    )


def test_revoke__of_a_user_who_only_signs(admin: Admin, alice: Person, enrol: Enrol) -> None:
    enrol(alice)
    done = admin.run("revoke", alice.name, "--yes")
    assert succeeded(done) == ""
    assert "recovery codes" not in done.stderr
    assert names_of(account_of(alice)) == []
    assert marks(alice.name, alice.uid) == [True, True]
    assert "sudo asks nobody for a signature" in done.stderr


def test_revoke__by_name_finds_what_signs_and_leaves_the_rest(
    admin: Admin, installed: Installation, alice: Person, enrol: Enrol
) -> None:
    alice.enrol(installed, "--recovery-codes=0", "--name=phone")
    enrol(alice)
    enrol(alice, "--name=desk")
    error, hint = refused(admin.run("revoke", alice.name, "tablet", "--yes"))
    assert error == f'{alice.name} has no token "tablet"'
    assert hint == 'there are: "phone", "laptop", "desk"'
    done = admin.run("revoke", alice.name, "laptop", "--yes")
    assert succeeded(done) == ""
    for when in ("Then", "Now"):  # before the question whether to revoke, and after it
        assert f'{when} "desk" of {alice.name} still signs sudo commands.' in done.stderr
    assert "no code" not in done.stderr
    assert names_of(account_of(alice)) == ["desk"]
    assert alice.store.joinpath("tokens").exists()
    assert succeeded(admin.run("revoke", alice.name, "phone", "--yes")) == ""
    assert names_of(account_of(alice)) == ["desk"]


def test_revoke__by_a_name_that_both_have_takes_both(
    admin: Admin, installed: Installation, alice: Person, enrol: Enrol
) -> None:
    alice.enrol(installed, "--recovery-codes=0", "--name=laptop")
    enrol(alice)
    done = admin.run("revoke", alice.name, "laptop", "--yes")
    assert succeeded(done) == ""
    assert "no code of" in done.stderr
    assert names_of(account_of(alice)) == []


def test_revoke__counts_for_an_attempt_that_waits_for_its_answer(admin: Admin, alice: Person, enrol: Enrol) -> None:
    enrol(alice)
    with opened(account_of(alice)) as waiting:
        assert len(waiting.open_signers()) == 1
        assert succeeded(admin.run("revoke", alice.name, "--yes")) == ""
        waiting.lock(5)
        assert waiting.reread_signers() == ()


def test_revoke__without_room_removes_the_file_and_not_the_marks(admin: Admin, alice: Person, enrol: Enrol) -> None:
    """Then sudo finds the mark and no token, and refuses as well."""
    enrol(alice)
    directory = PLACE / str(alice.uid)
    script = 'mount -t tmpfs -o size=8k,mode=700 tmpfs "$1.full"; cp -a "$1/." "$1.full"; mount --move "$1.full" "$1"'
    script += '; cat /dev/zero >"$1/filler" || :; place=$1; shift; "$@"; ls "$place"'
    full = Path(f"{directory}.full")
    full.mkdir(0o700)
    try:
        inside = admin.after("unshare", "--mount", "sh", "-euc", script, "sh", str(directory))
        done = inside.run("revoke", alice.name, "--yes")
        assert succeeded(done).split() == ["filler", "state"]
    finally:
        full.rmdir()
    assert names_of(account_of(alice)) == ["laptop"]  # outside, to show what was there


@pytest.mark.parametrize("damage", ["damaged", "open to others", "a link", "another state"])
def test_revoke__works_whatever_the_files_are(admin: Admin, alice: Person, enrol: Enrol, damage: str) -> None:
    enrol(alice)
    tokens, state = PLACE / str(alice.uid) / "tokens", PLACE / str(alice.uid) / "state"
    if damage == "damaged":
        tokens.write_bytes(b"{")
    elif damage == "open to others":
        tokens.chmod(0o666)
    elif damage == "a link":
        tokens.rename(tokens.with_name("kept"))
        tokens.symlink_to("kept")
    else:
        state.unlink(missing_ok=True)
        state.symlink_to("/etc/passwd")
    before = Path("/etc/passwd").read_bytes()
    assert status_of(admin, alice)["problem"]
    assert succeeded(admin.run("revoke", alice.name, "--yes")) == ""
    assert names_of(account_of(alice)) == []
    assert Path("/etc/passwd").read_bytes() == before


def test_revoke__finds_what_was_left_under_a_former_uid(admin: Admin, alice: Person, enrol: Enrol) -> None:
    """Or the tokens would count again after rebind."""
    enrol(alice)
    former = Account(alice.name, free_uid(), alice.gid, home="/")
    moved = Path(signers.uid_mark(former.uid))
    (PLACE / str(alice.uid)).rename(moved)
    try:
        text = (moved / "tokens").read_text().replace(f'"uid": {alice.uid}', f'"uid": {former.uid}')
        (moved / "tokens").write_text(text)
        assert names_of(former) == ["laptop"]
        assert succeeded(admin.run("revoke", alice.name, "--yes")) == ""
        assert names_of(former) == []
    finally:
        shutil.rmtree(moved)


def test_revoke__leaves_the_tokens_of_a_second_account_with_the_uid(admin: Admin, alice: Person, enrol: Enrol) -> None:
    enrol(alice)
    twin = f"{alice.name}twin"
    words = ["useradd", "--non-unique", "--uid", str(alice.uid), "--gid", str(alice.gid), "--no-create-home", twin]
    subprocess.run(words, check=True, capture_output=True)
    try:
        succeeded(admin.run("revoke", twin, "--force", "--yes"))
        assert names_of(account_of(alice)) == ["laptop"]
        facts = json.loads(succeeded(admin.run("status", twin, "--json")))["users"][0]["signing"]
        assert f"holds the signing tokens of {alice.name}" in facts["problem"]
        assert facts["cure"] == ""
    finally:
        subprocess.run(["userdel", twin], check=True, capture_output=True)
        Path(signers.name_mark(twin)).unlink(missing_ok=True)


# -- accounts that change


@pytest.fixture
def carol(outside: Path) -> Iterator[Person]:
    """A user whose account the test changes."""
    outside.chmod(0o755)
    with resident_of(outside / "homes") as person:
        try:
            yield person
        finally:
            if all(each.pw_name != person.name for each in pwd.getpwall()):
                add(person, name=person.name, uid=person.uid, home=person.home)


def free_uid() -> int:
    """Return a random uid far above those that useradd chooses, so that no test at the same time has it."""
    return 3_000_000 + secrets.randbelow(1_000_000)


def orphans_of(admin: Admin, *accounts: tuple[str, int]) -> dict[str, dict[str, Any]]:
    """Return what status says of the marks of these users, by their paths."""
    listed = json.loads(succeeded(admin.run("status", "--json")))["orphans"]
    paths = {path for name, uid in accounts for path in (signers.name_mark(name), signers.uid_mark(uid))}
    return {each["path"]: each for each in listed if each["path"] in paths}


def test_rename__is_refused_at_sudo_until_rebind(admin: Admin, carol: Person, enrol: Enrol) -> None:
    enrol(carol)
    former = carol.name
    rename(carol, f"{former}new")
    try:
        with pytest.raises(OtherAccount):
            names_of(account_of(carol))
        facts = status_of(admin, carol)
        cure = f"softtoken-admin rebind {carol.name} --old-name {former}"
        assert facts["cure"] == cure
        orphans = orphans_of(admin, (former, carol.uid), (carol.name, carol.uid))
        assert [each["cure"] for each in orphans.values()] == [cure, cure]
        refused(admin.run("forget", former, "--uid", str(carol.uid), "--yes"))  # no way past signing
        assert marks(former, carol.uid) == [True, True]
        succeeded(admin.run(*cure.split()[1:], "--yes"))
        assert names_of(account_of(carol)) == ["laptop"]
        assert (marks(carol.name, carol.uid), marks(former, carol.uid)) == ([True, True], [True, False])
        assert status_of(admin, carol)["problem"] == ""
        assert orphans_of(admin, (former, carol.uid), (carol.name, carol.uid)) == {}
    finally:
        Path(signers.name_mark(former)).unlink(missing_ok=True)
        Path(signers.name_mark(carol.name)).unlink(missing_ok=True)
        rename(carol, former)


def test_renumber__keeps_a_mark_until_rebind(admin: Admin, carol: Person, enrol: Enrol) -> None:
    enrol(carol)
    former = carol.uid
    renumber(carol, free_uid())
    try:
        assert marks(carol.name, carol.uid) == [False, True]
        with pytest.raises(NotEnrolled) as caught:
            names_of(account_of(carol))
        assert not caught.value.proven
        cure = f"softtoken-admin rebind {carol.name} --old-uid {former}"
        assert status_of(admin, carol)["cure"] == cure
        orphans = orphans_of(admin, (carol.name, former), (carol.name, carol.uid))
        assert {each["cure"] for each in orphans.values()} == {cure}
        refused(admin.run("forget", carol.name, "--uid", str(former), "--yes"))
        succeeded(admin.run(*cure.split()[1:], "--yes"))
        assert names_of(account_of(carol)) == ["laptop"]
        assert marks(carol.name, former) == [False, True]
        assert status_of(admin, carol)["problem"] == ""
        assert orphans_of(admin, (carol.name, former), (carol.name, carol.uid)) == {}
    finally:
        shutil.rmtree(signers.uid_mark(carol.uid), ignore_errors=True)
        renumber(carol, former)


def test_rebind__does_not_bring_back_what_was_revoked(admin: Admin, carol: Person, enrol: Enrol) -> None:
    enrol(carol)
    former = carol.uid
    renumber(carol, free_uid())
    try:
        assert succeeded(admin.run("revoke", carol.name, "--yes")) == ""
        succeeded(admin.run("rebind", carol.name, "--old-uid", str(former), "--yes"))
        assert names_of(account_of(carol)) == []
        assert marks(carol.name, carol.uid) == [True, True]
    finally:
        shutil.rmtree(signers.uid_mark(carol.uid), ignore_errors=True)
        renumber(carol, former)


def test_newcomer__with_the_name_or_the_uid_of_a_former_user_is_refused_until_root_decides(
    admin: Admin, carol: Person, enrol: Enrol
) -> None:
    enrol(carol)
    former = (carol.name, carol.uid)
    replace(carol, name=f"{carol.name}b", uid=carol.uid, keeping=False)
    try:
        with pytest.raises(OtherAccount):
            names_of(account_of(carol))
        orphan = orphans_of(admin, former)[signers.uid_mark(carol.uid)]
        assert orphan["otherwise"] == f"softtoken-admin rebind {carol.name} --newcomer"
        succeeded(admin.run(*orphan["otherwise"].split()[1:], "--yes"))
        assert marks(carol.name, carol.uid) == [False, False]
        assert marks(*former) == [False, True]  # nobody has the name
        succeeded(admin.run("forget", former[0], "--yes"))
        assert marks(*former) == [False, False]
    finally:
        Path(signers.name_mark(former[0])).unlink(missing_ok=True)


def test_newcomer__with_the_name_only(admin: Admin, carol: Person, enrol: Enrol) -> None:
    enrol(carol)
    former = carol.uid
    replace(carol, name=carol.name, uid=free_uid(), keeping=False)
    assert marks(carol.name, carol.uid) == [False, True]
    succeeded(admin.run("rebind", carol.name, "--newcomer", "--yes"))
    assert marks(carol.name, carol.uid) == [False, False]
    assert not Path(signers.uid_mark(former)).exists()


def test_newcomer__is_not_said_of_an_account_with_tokens_of_its_own(admin: Admin, alice: Person, enrol: Enrol) -> None:
    enrol(alice)
    refused(admin.run("rebind", alice.name, "--newcomer", "--yes"))
    assert marks(alice.name, alice.uid) == [True, True]
    (PLACE / str(alice.uid) / "tokens").unlink()  # it may be its own mark all the same
    refused(admin.run("rebind", alice.name, "--newcomer", "--yes"))
    assert marks(alice.name, alice.uid) == [True, True]


def test_forget__takes_the_marks_of_a_user_who_is_gone(admin: Admin, carol: Person, enrol: Enrol) -> None:
    enrol(carol)
    (PLACE / str(carol.uid) / ".tokens.0123456789abcdef").write_bytes(b"left by a killed program")
    refused(admin.run("forget", carol.name, "--yes"))
    assert names_of(account_of(carol)) == ["laptop"]
    delete(carol, keeping=False)
    (cure,) = {each["cure"] for each in orphans_of(admin, (carol.name, carol.uid)).values()}
    assert cure == f"softtoken-admin forget {carol.name} --uid {carol.uid}"
    succeeded(admin.run(*cure.split()[1:], "--yes"))
    assert marks(carol.name, carol.uid) == [False, False]
    assert not Path(signers.uid_mark(carol.uid)).exists()


@pytest.mark.parametrize("left", ["mark of the uid", "mark of the name"])
def test_forget__takes_one_mark_that_is_left(admin: Admin, carol: Person, enrol: Enrol, left: str) -> None:
    enrol(carol)
    delete(carol, keeping=False)
    if left == "mark of the uid":
        Path(signers.name_mark(carol.name)).unlink()
        (PLACE / str(carol.uid) / "tokens").unlink()
    else:
        shutil.rmtree(PLACE / str(carol.uid))
    (orphan,) = orphans_of(admin, (carol.name, carol.uid)).values()
    succeeded(admin.run(*orphan["cure"].split()[1:], "--yes"))
    assert marks(carol.name, carol.uid) == [False, False]
