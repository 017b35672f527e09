"""Accounts that are renamed, renumbered, moved or deleted: which users get in, which do not, and what helps."""

from __future__ import annotations

import json
import re
import secrets
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pam_softtoken.account import account_record, places, ram_record, revocation, revoking
from pam_softtoken.account.safe_open import Account
from pam_softtoken.errors import Revoked
from tests.support.account import Person
from tests.support.account_changes import (
    Host,
    add,
    delete,
    move_home,
    rename,
    rename_and_renumber,
    rename_with_vipw,
    renumber,
    renumber_with_vipw,
    replace,
    set_home,
)
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS
from tests.support.directory_service import DirectoryService
from tests.support.pam_scene import Pam

HOME, HOME_BY_NAME = "%h/.softtoken", "%h/.codes/%u"


@pytest.fixture
def host(request: pytest.FixtureRequest, directory: DirectoryService, pam: Pam) -> Host:
    """A host with the store that the test names."""
    return Host(directory, pam, request.param)


def free_uid() -> int:
    """Return a random uid far above those that useradd chooses, so that no test at the same time has it."""
    return 2_000_000 + secrets.randbelow(1_000_000)


def change(person: Person, how: str) -> None:
    """Change an account as administrators do."""
    name = person.name
    if how == "group":
        subprocess.run(["groupadd", f"{name}g"], check=True)
        subprocess.run(["usermod", "--gid", f"{name}g", name], check=True, capture_output=True)
        subprocess.run(["groupmod", "--non-unique", "--gid", str(free_uid()), f"{name}g"], check=True)
        return
    changes: dict[str, Callable[[], None]] = {
        "name": lambda: rename(person, f"{name}new"),
        "name by vipw": lambda: rename_with_vipw(person, f"{name}.corp.example"),
        "uid": lambda: renumber(person, free_uid()),
        "uid by vipw": lambda: renumber_with_vipw(person, free_uid()),
        "name and uid": lambda: rename_and_renumber(person, f"{name}new", free_uid()),
        "home with -m": lambda: move_home(person, with_files=True),
        "home": lambda: move_home(person, with_files=False),
    }
    changes[how]()


def outcome(host: Host, person: Person, *answers: str) -> tuple[int, int, str, str]:
    """Log in with `nullok`, which lets in users who never enrolled. Return result, prompts, reason and detail."""
    done = host.directory.log_in(host.service("nullok"), person.name, *answers)
    last = host.log.outcomes()[-1]
    return done.result, len(done.prompts), last["reason"], last.get("detail", "").strip('"')


def command_in(detail: str, before: str) -> list[str]:
    """Return the words of the `softtoken-admin` command that stands behind `before` in a text."""
    found = re.search(re.escape(before) + r"softtoken-admin ([^;]+?)(?: brings along.*)?(?:;|$)", detail)
    assert found is not None, detail
    return shlex.split(found[1])


def run_cure(host: Host, words: list[str]) -> None:
    """Run a command of `softtoken-admin` as it was shown, with the store of this test."""
    more = ["--store", host.template, "--yes"] if words[0] in ("rebind", "forget") else []
    done = host.directory.run("softtoken-admin", *words, *more)
    assert done.status == 0, done.stderr


def orphans(host: Host) -> list[dict[str, object]]:
    found = json.loads(host.admin("status", "--json"))["orphans"]
    assert isinstance(found, list)
    return found


def put_back(place: Path, tokens: bytes, *, owner: str) -> None:
    """Restore an old copy of a token file."""
    place.mkdir(mode=0o700, exist_ok=True)
    (place / "tokens").write_bytes(tokens)
    (place / "tokens").chmod(0o600)
    for path in (place, place / "tokens"):
        shutil.chown(path, owner)


STAYS = [
    pytest.param("name", HOME, marks=pytest.mark.lockout("usermod -l, tokens in the home directory")),
    pytest.param(
        "name by vipw", HOME, marks=pytest.mark.lockout("a name changed by vipw, tokens in the home directory")
    ),
    pytest.param("uid", HOME, marks=pytest.mark.lockout("usermod -u, tokens in the home directory")),
    ("uid", HOME_BY_NAME),
    pytest.param(
        "name and uid", HOME, marks=pytest.mark.lockout("usermod -l and -u at once, tokens in the home directory")
    ),
    pytest.param("home with -m", HOME, marks=pytest.mark.lockout("usermod -d with -m, tokens in the home directory")),
    pytest.param("home", "%U", marks=pytest.mark.lockout("usermod -d, tokens kept by root")),
    pytest.param("group", HOME, marks=pytest.mark.lockout("usermod -g and groupmod, tokens in the home directory")),
    pytest.param("group", "%u", marks=pytest.mark.lockout("usermod -g and groupmod, tokens kept by root")),
]


@pytest.mark.parametrize(("how", "host"), STAYS, indirect=["host"])
def test_owner__of_a_changed_account_gets_in_at_once(host: Host, alice: Person, how: str) -> None:
    phone = host.enrol(alice)
    first = phone.totp()
    assert outcome(host, alice, first)[0] == PAM_SUCCESS
    change(alice, how)
    assert outcome(host, alice, first)[:3] == (PAM_AUTH_ERR, 1, "replayed")
    assert outcome(host, alice, phone.totp(1))[0] == PAM_SUCCESS


REBIND = "softtoken-admin rebind"
CURED = [
    pytest.param(
        "name", HOME_BY_NAME, "not_enrolled",
        marks=pytest.mark.lockout(
            "usermod -l, tokens in the home directory under the name", shows="reason=not_enrolled", cure=REBIND
        ),
    ),
    pytest.param(
        "name", "%U", "other_account",
        marks=pytest.mark.lockout("usermod -l, store by uid", shows="reason=other_account", cure=REBIND),
    ),
    pytest.param(
        "name by vipw", "%u", "not_enrolled",
        marks=pytest.mark.lockout("a name changed by vipw, store by name", shows="reason=not_enrolled", cure=REBIND),
    ),
    pytest.param(
        "uid", "%U", "not_enrolled",
        marks=pytest.mark.lockout("usermod -u, store by uid", shows="reason=not_enrolled", cure=REBIND),
    ),
    pytest.param(
        "uid by vipw", "%u", "other_account",
        marks=pytest.mark.lockout("a uid changed by vipw, store by name", shows="reason=other_account", cure=REBIND),
    ),
    pytest.param(
        "name and uid", "%U", "not_enrolled",
        marks=pytest.mark.lockout("usermod -l and -u at once, store by uid", shows="reason=not_enrolled", cure=REBIND),
    ),
    ("name and uid", "%u", "not_enrolled"),
]  # fmt: skip


@pytest.mark.parametrize(("how", "host", "reason"), CURED, indirect=["host"])
def test_owner__of_a_changed_account_gets_in_by_the_command_in_the_log(
    host: Host, alice: Person, how: str, reason: str
) -> None:
    phone = host.enrol(alice)
    first = phone.totp()
    assert outcome(host, alice, first)[0] == PAM_SUCCESS
    change(alice, how)
    *refused, detail = outcome(host, alice, phone.totp(1))
    assert refused == [PAM_AUTH_ERR, 1, reason]
    cure = command_in(detail, "if that is the same user: ")
    assert {" ".join(["softtoken-admin", *cure])} >= {str(each["cure"]) for each in orphans(host)}
    run_cure(host, cure)
    assert outcome(host, alice, first)[:3] == (PAM_AUTH_ERR, 1, "replayed")
    assert outcome(host, alice, phone.totp(1))[0] == PAM_SUCCESS
    assert orphans(host) == []


@pytest.mark.parametrize(("how", "host"), [("name", "%u"), ("uid", "%U")], indirect=["host"])
def test_owner__of_an_account_that_was_changed_before_the_first_login_is_no_newcomer(
    host: Host, alice: Person, how: str
) -> None:
    phone = host.enrol(alice)
    change(alice, how)
    *refused, detail = outcome(host, alice, phone.totp())
    assert refused == [PAM_AUTH_ERR, 1, "not_enrolled"]
    run_cure(host, command_in(detail, "if that is the same user: "))
    assert outcome(host, alice, phone.totp())[0] == PAM_SUCCESS


@pytest.mark.parametrize("host", [HOME, "%u", "%U"], indirect=True)
def test_owner__is_recognised_after_a_new_name_and_a_new_uid_with_a_rebind_each(host: Host, alice: Person) -> None:
    phone = host.enrol(alice)
    assert outcome(host, alice, phone.totp())[0] == PAM_SUCCESS
    name, uid = alice.name, alice.uid
    change(alice, "name")
    host.admin("rebind", alice.name, "--old-name", name, "--yes")
    change(alice, "uid")
    host.admin("rebind", alice.name, "--old-uid", str(uid), "--yes")
    assert outcome(host, alice, "00000000")[:2] == (PAM_AUTH_ERR, 1)
    assert outcome(host, alice, phone.totp(1))[0] == PAM_SUCCESS


@pytest.mark.lockout(
    "a uid changed by vipw, tokens in the home directory", shows="reason=insecure_file", cure="chown -hR --from="
)
@pytest.mark.parametrize("host", [HOME], indirect=True)
def test_owner__gets_in_after_chown_of_files_with_the_old_uid(host: Host, alice: Person) -> None:
    phone = host.enrol(alice)
    first = phone.totp()
    assert outcome(host, alice, first)[0] == PAM_SUCCESS
    old = alice.uid
    change(alice, "uid by vipw")
    *refused, detail = outcome(host, alice, phone.totp(1))
    assert refused == [PAM_AUTH_ERR, 1, "insecure_file"]
    assert f"{alice.home}: belongs to uid {old}" in detail
    subprocess.run(["chown", "-hR", f"--from={old}", alice.name, alice.home], check=True)
    assert outcome(host, alice, first)[:3] == (PAM_AUTH_ERR, 1, "replayed")
    assert outcome(host, alice, phone.totp(1))[0] == PAM_SUCCESS


@pytest.mark.lockout(
    "usermod -d without -m, tokens in the old home directory",
    shows="reason=not_enrolled",
    cure="softtoken-admin move",
)
@pytest.mark.parametrize("host", [HOME], indirect=True)
def test_owner__gets_in_after_move_of_tokens_from_the_old_home(host: Host, alice: Person) -> None:
    phone = host.enrol(alice)
    first = phone.totp()
    assert outcome(host, alice, first)[0] == PAM_SUCCESS
    old = alice.home
    change(alice, "home")
    *refused, detail = outcome(host, alice, phone.totp(1))
    assert refused == [PAM_AUTH_ERR, 1, "not_enrolled"]
    assert f"was {old}" in detail
    (facts,) = json.loads(host.admin("status", "--json", alice.name))["users"]
    assert facts["elsewhere"] == [f"{old}/.softtoken"]
    run_cure(host, command_in(detail, f"was {old}; "))
    assert not (old / ".softtoken").exists()
    assert outcome(host, alice, first)[:3] == (PAM_AUTH_ERR, 1, "replayed")
    assert outcome(host, alice, phone.totp(1))[0] == PAM_SUCCESS


@pytest.mark.parametrize("host", [HOME], indirect=True)
@pytest.mark.parametrize("named", [False, True])
def test_move__moves_tokens_from_an_old_home_only_if_the_user_owns_it(
    host: Host, alice: Person, make_person: Callable[[], Person], named: bool
) -> None:
    phone = host.enrol(alice)
    assert outcome(host, alice, phone.totp())[0] == PAM_SUCCESS
    old, bob = alice.home, make_person()
    change(alice, "home")
    words = ["move", alice.name, "--to", "system", *(["--old-home", str(old)] if named else [])]
    subprocess.run(["chown", bob.name, old], check=True)
    done = host.directory.run("softtoken-admin", *words)
    assert done.status == 1
    assert f"{old}: belongs to uid {bob.uid}" in done.stderr or named is False
    subprocess.run(["chown", alice.name, old], check=True)
    run_cure(host, words)
    roots = Host(host.directory, host.pam, "%U")
    roots.option = f"store={host.directory.state}/%U"
    assert outcome(roots, alice, phone.totp(1))[0] == PAM_SUCCESS


@pytest.mark.parametrize("how", ["name", "uid", "name and uid"])
def test_move__of_a_changed_account_names_the_command_that_comes_first(
    directory: DirectoryService, pam: Pam, alice: Person, how: str
) -> None:
    host = Host(directory, pam, HOME)
    phone = host.enrol(alice)
    assert outcome(host, alice, phone.totp())[0] == PAM_SUCCESS
    words = ("move", alice.name, "--to", "system")
    run_cure(host, list(words))
    change(alice, how)
    done = directory.run("softtoken-admin", "move", alice.name, "--to", "home")
    assert done.status == 1
    rebind = re.search(r"softtoken-admin (rebind [^;\n]+)", done.stderr)
    assert rebind is not None, done.stderr
    in_system = ("--store", "/var/lib/softtoken/%U", "--yes")
    assert directory.run("softtoken-admin", *rebind[1].split(), *in_system).status == 0
    run_cure(host, ["move", alice.name, "--to", "home"])
    assert outcome(host, alice, phone.totp(1))[0] == PAM_SUCCESS


# -- revocations


@pytest.mark.parametrize(
    ("how", "host"),
    [
        ("name", HOME),
        ("uid", HOME),
        ("uid by vipw", HOME),
        ("home with -m", HOME),
        ("name", "%u"),
        ("uid", "%U"),
        ("name and uid", HOME),
        ("name and uid", "%U"),
    ],
    indirect=["host"],
)
@pytest.mark.parametrize("which", ["everything", "one"])
def test_revoked_token__stays_revoked_after_any_change_of_the_account(
    host: Host, alice: Person, how: str, which: str
) -> None:
    """The token is refused before and after root rebinds it to the changed account, and after a new enrolment."""
    phone = host.enrol(alice)
    other = host.enrol(alice, "--name=other") if which == "one" else None
    assert outcome(host, alice, phone.totp())[0] == PAM_SUCCESS
    name, uid = alice.name, alice.uid
    kept = (host.place_of(alice) / "tokens").read_bytes()
    host.admin("revoke", name, *(["phone"] if other else []), "--yes")
    place = host.place_of(alice)
    put_back(place, kept, owner=alice.name if host.template == HOME else "root")
    change(alice, how)
    if how == "uid by vipw":
        subprocess.run(["chown", "-R", alice.name, alice.home], check=True)
    result, prompts, reason, _ = outcome(host, alice, phone.totp(1))
    assert (result, prompts) == (PAM_AUTH_ERR, 1)
    if host.template == HOME:
        assert reason == ("revoked" if other is None else "mismatch")
    changed = [f"--old-name={name}"] * (name != alice.name) + [f"--old-uid={uid}"] * (uid != alice.uid)
    if other is not None and host.template == HOME:
        assert outcome(host, alice, other.totp())[0] == PAM_SUCCESS
        assert outcome(host, alice, phone.totp(1))[0] == PAM_AUTH_ERR
    if changed:
        host.admin("rebind", alice.name, *changed, "--yes")
    assert outcome(host, alice, phone.totp(1))[0] == PAM_AUTH_ERR
    anew = host.enrol(alice, "--force")
    assert outcome(host, alice, phone.totp(1))[0] == PAM_AUTH_ERR
    assert outcome(host, alice, anew.totp())[0] == PAM_SUCCESS


@pytest.mark.parametrize("host", [HOME], indirect=True)
def test_revoke__of_a_renumbered_account_keeps_earlier_revocations(host: Host, alice: Person) -> None:
    """Tokens that root enrolled after the first revocation work, as long as they are not revoked themselves."""
    first = host.enrol(alice)
    assert outcome(host, alice, first.totp())[0] == PAM_SUCCESS
    host.admin("revoke", alice.name, "--yes")
    second, third = host.enrol(alice), host.enrol(alice, "--name=third")
    tokens = host.place_of(alice) / "tokens"
    kept = tokens.read_bytes()
    change(alice, "uid")
    assert outcome(host, alice, second.totp())[0] == PAM_SUCCESS
    host.admin("revoke", alice.name, "phone", "--yes")
    tokens.write_bytes(kept)
    for gone in (first, second):
        assert outcome(host, alice, gone.totp(1))[0] == PAM_AUTH_ERR
    assert outcome(host, alice, third.totp())[0] == PAM_SUCCESS


@pytest.mark.parametrize("uid", [1000, 2000], ids=["former", "present"])
def test_revocation__under_either_uid_refuses_a_login_under_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uid: int
) -> None:
    for name, path in (("DATA", tmp_path), ("NAMES", tmp_path / "names"), ("REVOKED", tmp_path / "revoked")):
        monkeypatch.setattr(places, name, str(path))
    account_record.record(Account("alice", 1000, 1000, home="/home/alice"))
    revoking.revoke(1000, fingerprints=["a"], everything=False, now=1)
    seen = revocation.read_for(Account("alice", 2000, 2000, home="/home/alice"))
    assert not seen.counts("a")
    seen.require_unchanged()
    revoking.revoke(uid, fingerprints=["b"], everything=False, now=2)
    with pytest.raises(Revoked):
        seen.require_unchanged()


# -- deleted accounts


REUSED = [
    ("name", HOME),
    pytest.param(
        "name", "%u",
        marks=pytest.mark.lockout(
            "userdel, then a new user of the same name", shows="rebind", cure="softtoken-admin rebind"
        ),
    ),
    pytest.param(
        "uid", HOME,
        marks=pytest.mark.lockout(
            "userdel, then a new user with the same uid", shows="rebind", cure="softtoken-admin rebind"
        ),
    ),
    ("uid", "%U"),
    pytest.param(
        "home", "%U",
        marks=pytest.mark.lockout(
            "userdel, then a new user with the same home directory", shows="rebind", cure="softtoken-admin rebind"
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("reused", "host"), REUSED, indirect=["host"])
@pytest.mark.parametrize("keeping", [False, True], ids=["with -r", "without -r"])
def test_newcomer__with_the_name_uid_or_home_of_a_deleted_user_inherits_nothing(
    host: Host, alice: Person, reused: str, keeping: bool
) -> None:
    renumber(alice, free_uid())  # in this test the uid must not go to another account when it is free
    phone = host.enrol(alice)
    assert outcome(host, alice, phone.totp())[0] == PAM_SUCCESS
    name = alice.name if reused == "name" else f"{alice.name}new"
    uid = alice.uid if reused == "uid" else free_uid()
    home = alice.home if reused == "home" else None
    replace(alice, name=name, uid=uid, home=home, keeping=keeping and reused != "uid")
    result, prompts, _, detail = outcome(host, alice, phone.totp(1))
    assert (result, prompts) == (PAM_AUTH_ERR, 1)
    run_cure(host, command_in(detail, "if not: "))
    assert outcome(host, alice)[:2] == (PAM_SUCCESS, 0)  # nullok
    own = host.enrol(alice)
    assert outcome(host, alice, phone.totp(1))[0] == PAM_AUTH_ERR
    assert outcome(host, alice, own.totp())[0] == PAM_SUCCESS


@pytest.mark.parametrize("host", [HOME, "%u", "%U"], indirect=True)
def test_forget__after_userdel_makes_the_next_user_of_name_and_uid_a_newcomer(host: Host, alice: Person) -> None:
    renumber(alice, free_uid())  # when it is given up, no other test may get it
    phone = host.enrol(alice)
    assert outcome(host, alice, phone.totp())[0] == PAM_SUCCESS
    name, uid = alice.name, alice.uid
    assert f"there is an account {name}" in host.refused("forget", name, "--yes")
    host.admin("revoke", name, "--yes")
    delete(alice, keeping=False)
    words = ["useradd", "--create-home", "--home-dir", str(alice.home), "--uid", str(uid), name]
    found = orphans(host)
    assert {each["cure"] for each in found} == {f"softtoken-admin forget {name} --uid {uid}"}
    assert {each["account"] for each in found} == {"gone"}
    run_cure(host, command_in(str(found[0]["cure"]), ""))
    assert orphans(host) == []
    subprocess.run(words, check=True, capture_output=True)
    alice.home.chmod(0o755)
    assert outcome(host, alice)[:2] == (PAM_SUCCESS, 0)  # nullok
    own = host.enrol(alice)
    assert outcome(host, alice, own.totp())[0] == PAM_SUCCESS


@pytest.mark.parametrize("host", [HOME], indirect=True)
def test_rebind__newcomer_keeps_the_record_made_on_a_read_only_home(host: Host, alice: Person) -> None:
    phone = host.enrol(alice)
    assert outcome(host, alice, phone.totp())[0] == PAM_SUCCESS
    change(alice, "uid")
    in_run = ram_record.path_of(alice.uid, str(host.place_of(alice)))
    run = host.directory.mounts.command
    subprocess.run(run("sh", "-c", f"mkdir -p /run/softtoken && touch {in_run}"), check=True)
    host.admin("rebind", alice.name, "--newcomer", "--yes")
    subprocess.run(run("test", "-e", in_run), check=True)


@pytest.mark.parametrize("host", ["%U"], indirect=True)
def test_forget__changes_nothing_of_an_existing_account(host: Host, alice: Person) -> None:
    """A copy of the account's store lies beside the store. Then a former account with the same uid has left a store."""
    phone = host.enrol(alice)
    name, uid = alice.name, alice.uid
    assert outcome(host, alice, phone.totp())[0] == PAM_SUCCESS
    place = host.place_of(alice)
    copy = place.with_name(f"{uid}.copy")
    shutil.copytree(place, copy)
    host.admin("revoke", name, "--yes")
    (found,) = orphans(host)
    assert (found["path"], found["cure"]) == (str(copy), "")
    for words in ((name,), ("--uid", str(uid)), (name, "--uid", str(uid))):
        assert f"there is an account {name}" in host.refused("forget", *words, "--yes")
    assert (copy / "tokens").exists()
    shutil.copytree(copy, place, dirs_exist_ok=True)
    assert outcome(host, alice, phone.totp(1))[::2] == (PAM_AUTH_ERR, "revoked")

    former = host.directory.stores / f"{uid}.former"
    shutil.move(copy, former)
    document = json.loads((former / "tokens").read_text())
    document["account"]["name"] = f"{name}former"
    (former / "tokens").write_text(json.dumps(document))
    in_run = f"/run/softtoken/{uid}-0123456789abcdef"
    run = host.directory.mounts.command
    subprocess.run(run("sh", "-c", f"mkdir -p /run/softtoken && touch {in_run}"), check=True)
    assert f"is {name} (uid {uid}) now" in host.refused("forget", f"{name}former", "--yes")
    host.admin("forget", f"{name}former", "--uid", str(uid), "--yes")
    assert not former.exists()
    subprocess.run(run("test", "-e", in_run), check=True)
    assert outcome(host, alice, phone.totp(1))[::2] == (PAM_AUTH_ERR, "revoked")


@pytest.mark.parametrize("host", ["%U"], indirect=True)
def test_forget_all__is_refused_while_a_directory_service_may_have_the_accounts(host: Host, alice: Person) -> None:
    """While a directory service does not answer, its accounts look as if they were deleted."""
    phone = host.enrol(alice)
    assert outcome(host, alice, phone.totp())[0] == PAM_SUCCESS
    replace(alice, name=f"{alice.name}new", uid=free_uid(), keeping=False)
    before = orphans(host)
    conf = host.directory.directory / "nsswitch.conf"
    usual = conf.read_text()
    conf.write_text(usual.replace("passwd: files", "passwd: files sss"))
    assert "sss may have them" in host.refused("forget", "--all", "--yes")
    assert orphans(host) == before
    conf.write_text(usual)
    host.admin("forget", "--all", "--yes")
    assert orphans(host) == []


@pytest.mark.parametrize("host", ["%U"], indirect=True)
def test_status__names_orphans_of_every_kind_with_the_cure(host: Host, alice: Person) -> None:
    renumber(alice, free_uid())  # when it is given up, no other test may get it
    phone = host.enrol(alice)
    host.enrol(alice, "--name=other")
    assert outcome(host, alice, phone.totp())[0] == PAM_SUCCESS
    host.admin("revoke", alice.name, "other", "--yes")
    service = host.directory.state / "changes" / "sshd"
    service.mkdir(parents=True)
    (service / "pending").touch()
    (service / f"awaited:{alice.name}").touch()
    in_run = f"/run/softtoken/{alice.uid}-0123456789abcdef"
    subprocess.run(host.directory.mounts.command("sh", "-c", f"mkdir -p /run/softtoken && touch {in_run}"), check=True)
    assert orphans(host) == []
    former, uid = alice.name, alice.uid
    replace(alice, name=f"{former}new", uid=free_uid(), keeping=False)
    found = orphans(host)
    assert {each["kind"] for each in found} == {"store", "mark", "name", "home", "revocations", "record", "awaited"}
    forget = f"softtoken-admin forget {former} --uid {uid}"
    cures = {each["kind"]: each["cure"] for each in found}
    assert cures == {**dict.fromkeys(cures, forget), "awaited": "softtoken-admin confirm sshd"}
    shown = host.admin("status")
    assert f"there is no account {former} (uid {uid}) any more; {forget}\n" in shown
    assert in_run in shown
    assert "only a login of" in shown
    host.admin("forget", "--all", "--yes")
    assert {each["kind"] for each in orphans(host)} == {"awaited"}
    assert "nothing is left of" in host.refused("forget", former, "--yes")
    assert "nothing is left of" in host.refused("forget", "", "--yes")


@pytest.mark.parametrize("host", ["%u", "%U"], indirect=True)
def test_second_name__of_a_uid_gets_no_token_of_the_first_name(host: Host, alice: Person) -> None:
    phone = host.enrol(alice)
    assert outcome(host, alice, phone.totp())[0] == PAM_SUCCESS
    first, alias = alice.name, f"{alice.name}-alias"
    subprocess.run(
        ["useradd", "--non-unique", "--uid", str(alice.uid), "--home-dir", str(alice.home), alias], check=True
    )
    try:
        alice.name = alias
        assert outcome(host, alice, phone.totp(1))[:2] == (PAM_AUTH_ERR, 1)
        assert f"there is an account {first}" in host.refused("rebind", alias, "--old-name", first, "--yes")
        if host.by_name:
            own = host.enrol(alice)
            assert outcome(host, alice, own.totp())[0] == PAM_SUCCESS
    finally:
        subprocess.run(["userdel", "--force", alias], check=True, capture_output=True)
        alice.name = first
    assert outcome(host, alice, phone.totp(1))[0] == PAM_SUCCESS


# -- home directories


@pytest.mark.parametrize("host", ["%U"], indirect=True)
def test_account__with_another_name_and_uid_is_no_newcomer_when_others_get_the_old_ones(
    host: Host, alice: Person, make_person: Callable[[], Person]
) -> None:
    """`enrol` refuses it, too."""
    phone = host.enrol(alice)
    assert outcome(host, alice, phone.totp())[0] == PAM_SUCCESS
    name, uid = alice.name, alice.uid
    rename_and_renumber(alice, f"{name}new", free_uid())
    bob, carol = make_person(), make_person()
    renumber(bob, uid)
    rename(carol, name)
    assert outcome(host, alice, phone.totp(1))[:3] == (PAM_AUTH_ERR, 1, "not_enrolled")
    done = host.directory.log_in(host.service("enrol"), alice.name, "")
    assert (done.result, len(done.prompts)) == (PAM_AUTH_ERR, 1)
    in_store = ("--store", host.template, "--yes")
    everybody = host.directory.run("softtoken-admin", "rebind", "--all", *in_store)
    assert "left alone" in everybody.stderr  # is alice the user, or bob, or carol?
    host.admin("rebind", alice.name, "--old-name", name, "--old-uid", str(uid), "--yes")
    assert outcome(host, alice, phone.totp(1))[0] == PAM_SUCCESS


@pytest.mark.parametrize("host", ["%U"], indirect=True)
def test_rebind_all__brings_an_account_with_another_name_and_uid_along(host: Host, alice: Person) -> None:
    phone = host.enrol(alice)
    assert outcome(host, alice, phone.totp())[0] == PAM_SUCCESS
    change(alice, "name and uid")
    assert "no account that is gone" in host.refused("forget", "--all", "--yes")
    host.admin("rebind", "--all", "--yes")
    assert outcome(host, alice, phone.totp(1))[0] == PAM_SUCCESS
    assert orphans(host) == []


@pytest.mark.parametrize("host", ["%U"], indirect=True)
def test_forget__frees_the_home_directory_of_a_deleted_account(host: Host, alice: Person) -> None:
    """Also if the account had another home directory at its first login, and a killed login has written one record."""
    phone = host.enrol(alice)
    assert outcome(host, alice, phone.totp())[0] == PAM_SUCCESS
    change(alice, "home with -m")
    assert outcome(host, alice, phone.totp(1))[0] == PAM_SUCCESS
    name, uid, home = alice.name, alice.uid, alice.home
    names = host.directory.state / ".names"
    for record in names.iterdir():
        if not record.name.startswith(account_record.HOME_PREFIX):
            record.unlink()
    delete(alice, keeping=True)
    host.admin("forget", name, "--uid", str(uid), "--yes")
    assert orphans(host) == []
    add(alice, name=f"{name}new", uid=free_uid(), home=home)
    assert outcome(host, alice)[:2] == (PAM_SUCCESS, 0)  # nullok
    assert list(names.iterdir()) == []


@pytest.mark.parametrize("host", ["%U"], indirect=True)
def test_new_user__of_a_home_directory_that_its_user_has_left_is_a_newcomer(
    host: Host, alice: Person, make_person: Callable[[], Person]
) -> None:
    phone = host.enrol(alice)
    assert outcome(host, alice, phone.totp())[0] == PAM_SUCCESS
    bob = make_person()
    home, alice.home = alice.home, bob.home
    set_home(alice, f"{alice.home}2")
    set_home(bob, str(home))
    assert outcome(host, bob)[:2] == (PAM_SUCCESS, 0)  # nullok
    assert orphans(host) == []
    assert outcome(host, alice, phone.totp(1))[0] == PAM_SUCCESS


@pytest.mark.lockout("accounts that share a home directory such as / or /nonexistent")
@pytest.mark.parametrize("host", ["%U"], indirect=True)
@pytest.mark.parametrize("home", ["/", "/nonexistent", "/var/empty", "/srv"])
def test_shared_home__keeps_nobody_out(host: Host, alice: Person, make_person: Callable[[], Person], home: str) -> None:
    """While the enrolled account exists, has another name or uid, and is gone. `/srv` has a third account."""
    people = [alice, bob] = [alice, make_person()]
    if home == "/srv":
        people.append(make_person())
    own = [person.home for person in people]
    try:
        for person in people:
            set_home(person, home)
        phone = host.enrol(alice)
        assert outcome(host, alice, phone.totp())[0] == PAM_SUCCESS
        assert outcome(host, bob)[:2] == (PAM_SUCCESS, 0)  # nullok
        change(alice, "uid by vipw")
        assert outcome(host, bob)[:2] == (PAM_SUCCESS, 0)
        rename(alice, f"{alice.name}new")
        assert outcome(host, bob)[:2] == (PAM_SUCCESS, 0)
        phones = [host.enrol(person) for person in (alice, bob)]
        for person, theirs in zip((alice, bob), phones, strict=True):
            assert outcome(host, person, theirs.totp())[0] == PAM_SUCCESS
        for person, theirs in zip((alice, bob), phones, strict=True):
            assert outcome(host, person, theirs.totp(1))[0] == PAM_SUCCESS
    finally:
        for person, before in zip(people, own, strict=True):
            set_home(person, str(before))


# -- many at once


@pytest.mark.lockout("a setting renames all users", shows="reason=other_account", cure="softtoken-admin rebind --all")
@pytest.mark.parametrize("host", ["%U"], indirect=True)
def test_rebind_all__rebinds_all_but_ambiguous_accounts(
    host: Host, alice: Person, make_person: Callable[[], Person]
) -> None:
    people = [alice, make_person(), make_person()]
    phones = [host.enrol(person) for person in people]
    for person, phone in zip(people, phones, strict=True):
        assert outcome(host, person, phone.totp())[0] == PAM_SUCCESS
    carol, former = people[2], people[2].name
    for person in people:
        rename_with_vipw(person, f"{person.name}.corp.example")
    successor = make_person()
    rename_with_vipw(successor, former)  # carol, or a new user with the old name?
    assert outcome(host, alice, phones[0].totp(1))[2] == "other_account"
    done = host.directory.run("softtoken-admin", "rebind", "--all", "--yes", "--store", host.template)
    assert done.status == 0, done.stderr
    assert "left alone" in done.stderr
    for person, phone in zip(people[:2], phones, strict=False):
        assert outcome(host, person, phone.totp(1))[0] == PAM_SUCCESS
    assert outcome(host, carol, phones[2].totp(1))[2] == "other_account"
    assert {each["user"] for each in orphans(host)} == {former}
    host.admin("rebind", carol.name, "--old-name", former, "--yes")
    assert outcome(host, carol, phones[2].totp(1))[0] == PAM_SUCCESS


@pytest.mark.parametrize("host", [HOME], indirect=True)
def test_rebind__lets_the_renamed_user_confirm_a_change_that_waits_for_them(host: Host, alice: Person) -> None:
    phone = host.enrol(alice)
    assert outcome(host, alice, phone.totp())[0] == PAM_SUCCESS
    former = alice.name
    rename(alice, f"{former}new")
    service = host.service()
    waiting: Path = host.directory.state / "changes" / service.name
    waiting.mkdir(parents=True)
    (waiting / "pending").touch()
    (waiting / f"awaited:{former}").touch()
    host.admin("rebind", alice.name, "--old-name", former, "--yes")
    done = host.directory.log_in(service, alice.name, phone.totp(1), options=["--setcred"])
    assert done.result == PAM_SUCCESS
    assert (waiting / "login").exists()
