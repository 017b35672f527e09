"""Bind root's tokens to a name and a uid: no account inherits them with only one of the two."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable

import pytest

from tests.support.account import Person, Phone
from tests.support.account_changes import Host, rename, renumber
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, PERMIT
from tests.support.directory_service import DirectoryService
from tests.support.enroller import Finished
from tests.support.installation import Installation
from tests.support.newcomer import Talk, lines
from tests.support.pam_scene import Pam


@pytest.fixture(params=["%u", "%U"])
def host(request: pytest.FixtureRequest, directory: DirectoryService, pam: Pam) -> Host:
    """A host that names a user's place by name, and one that names it by uid."""
    return Host(directory, pam, request.param)


def _successor(host: Host, former: Person) -> None:
    """Create a user in the same place: the old uid with a new name, or the old name with a new uid."""
    if host.by_name:
        renumber(former, former.uid + 5000)
    else:
        rename(former, f"{former.name}new")


def _outcome(host: Host, person: Person, *answers: str, options: tuple[str, ...] = ("nullok",)) -> tuple[int, int, str]:
    outcome = host.directory.log_in(host.service(*options), person.name, *answers)
    return outcome.result, len(outcome.prompts), host.log.reasons()[-1]


@pytest.mark.claim(
    "Somebody who gets the name or uid of a former user inherits no token, no issued code and no time of "
    "grace, and is not let in as a newcomer."
)
def test_successor__to_a_name_or_uid_inherits_no_token_and_is_no_newcomer(host: Host, alice: Person) -> None:
    phone = host.enrol(alice, "--recovery-codes=2")
    tokens = host.place_of(alice) / "tokens"
    before = tokens.read_bytes()
    assert host.owner_of(alice) == {"name": alice.name, "uid": alice.uid}
    _successor(host, alice)
    for answer in (phone.totp(), phone.recovery_codes[0], "000000"):
        assert _outcome(host, alice, answer) == (PAM_AUTH_ERR, 1, "other_account")
    assert tokens.read_bytes() == before


@pytest.mark.claim(
    "Somebody who gets the name or uid of a former user inherits no token, no issued code and no time of "
    "grace, and is not let in as a newcomer."
)
def test_successor__is_let_in_by_no_grace_and_no_issued_code(host: Host, alice: Person) -> None:
    phone = host.enrol(alice)
    rhost = ["--item=rhost=192.0.2.7"]
    service = host.service("grace=1h")
    assert host.directory.log_in(service, alice.name, phone.totp(), options=rhost).result == PAM_SUCCESS
    issued = json.loads(host.admin("code-for", alice.name, "--for=1h", "--json"))["code"]
    _successor(host, alice)
    assert host.directory.log_in(service, alice.name, issued, options=rhost).result == PAM_AUTH_ERR
    anew = host.enrol(alice, "--force")
    assert host.owner_of(alice) == {"name": alice.name, "uid": alice.uid}
    for answer in (issued, phone.totp()):
        assert host.directory.log_in(service, alice.name, answer, options=rhost).result == PAM_AUTH_ERR
    assert host.directory.log_in(service, alice.name, anew.totp(), options=rhost).result == PAM_SUCCESS


def test_enrolment__where_the_tokens_are_gone_inherits_no_grace(
    host: Host, alice: Person, directory: DirectoryService
) -> None:
    phone = host.enrol(alice)
    rhost = ["--item=rhost=192.0.2.7"]
    service = host.service("grace=1h")
    assert directory.log_in(service, alice.name, phone.totp(), options=rhost).result == PAM_SUCCESS
    (host.place_of(alice) / "tokens").unlink()
    users = directory.directory / "users.oath"
    users.write_text(f"HOTP {alice.name} - 3132333435363738393031323334353637383930\n")
    users.chmod(0o600)
    done = directory.run("softtoken-enroll", "--import", users, "--no-confirm", "--store", host.template)
    assert done.status == 0, done.stderr
    outcome = directory.log_in(service, alice.name, "000000", options=rhost)
    assert (outcome.result, len(outcome.prompts)) == (PAM_AUTH_ERR, 1)


@pytest.mark.parametrize("damage", ["unbound", "bound to another name", "bound to another uid"])
def test_reader__refuses_a_file_of_another_account(host: Host, alice: Person, damage: str) -> None:
    """Neither the login, nor the user's program, nor the administrator's program reads it as the user's."""
    phone = host.enrol(alice)
    tokens = host.place_of(alice) / "tokens"
    document = json.loads(tokens.read_text())
    if damage == "unbound":
        del document["account"]
    elif damage == "bound to another name":
        document["account"]["name"] = "mallory"
    else:
        document["account"]["uid"] += 1
    tokens.write_text(json.dumps(document))
    before = tokens.read_bytes()
    assert _outcome(host, alice, phone.totp()) == (PAM_AUTH_ERR, 1, "other_account")
    assert "rebind" in host.log.outcomes()[-1]["detail"]
    where = ("--user", alice.name, "--store", host.template)
    for words in (
        ["--list"],
        ["--remove=phone", "--force"],
        ["--new-recovery-codes", "--no-confirm"],
        ["--no-confirm"],
    ):
        assert host.directory.run("softtoken-enroll", *where, *words).refused().error
    for words in (["unlock", alice.name], ["code-for", alice.name, "--for=1h"], ["reset-state", alice.name, "--yes"]):
        assert host.refused(*words)
    assert tokens.read_bytes() == before
    (facts,) = json.loads(host.admin("status", "--json", alice.name))["users"]
    assert facts["status"] == "unusable"


def test_writer__keeps_the_tokens_bound(host: Host, alice: Person, directory: DirectoryService) -> None:
    owner = {"name": alice.name, "uid": alice.uid}
    where = ("--user", alice.name, "--store", host.template, "--no-confirm")
    host.enrol(alice)
    users = directory.directory / "users.oath"
    users.write_text(f"HOTP {alice.name} - 3132333435363738393031323334353637383930\n")
    for words in (
        ("--name=spare",),
        ("--force", "--recovery-codes=0"),
        ("--new-recovery-codes", "--recovery-codes=2"),
        ("--import", str(users), "--name=imported"),
        ("--remove=spare",),
    ):
        done = directory.run("softtoken-enroll", *where, *words)
        assert done.status == 0, done.stderr
        assert host.owner_of(alice) == owner, words
    host.admin("revoke", alice.name, "imported", "--yes")
    assert host.owner_of(alice) == owner


def test_newcomer__in_a_login_is_bound(host: Host, alice: Person) -> None:
    stack = "auth requisite pam_unix.so nodelay\n" + lines(host.pam.installed, host.option) + PERMIT
    service = host.pam.stack(stack + "account required pam_permit.so\n")
    with Talk(service, alice, inside=host.directory.mounts.command()) as talk:
        talk.go_on()
    assert talk.let_in
    assert host.owner_of(alice) == {"name": alice.name, "uid": alice.uid}


def _self_service(host: Host, person: Person, *words: str, user: str = "") -> Finished:
    """Run the program as sudo starts it for a user."""
    host.directory.set_conf(f"store = {host.template}\n")
    sudo = ["env", f"SUDO_UID={person.uid}", f"SUDO_USER={user or person.name}"]
    return host.directory.run("softtoken-enroll", "--self", "--no-confirm", *words, around=sudo)


@pytest.mark.parametrize("words", [[], ["--force"], ["--new-recovery-codes"], ["--remove=phone", "--force"]])
def test_self__changes_no_token_of_a_former_user_and_adds_none(host: Host, alice: Person, words: list[str]) -> None:
    host.enrol(alice)
    tokens = host.place_of(alice) / "tokens"
    before = tokens.read_bytes()
    _successor(host, alice)
    assert "administrator" in _self_service(host, alice, *words).stderr
    assert tokens.read_bytes() == before


def test_self__under_another_spelling_is_the_one_account(host: Host, alice: Person) -> None:
    _, domain, _ = host.directory.spellings_of(alice)
    done = _self_service(host, alice, "--recovery-codes=0", user=domain)
    assert done.status == 0, done.stderr
    assert host.owner_of(alice) == {"name": alice.name, "uid": alice.uid}


def test_move__binds_to_the_account_and_back_home_to_nobody(
    directory: DirectoryService, pam: Pam, installed: Installation, alice: Person
) -> None:
    phone = directory.enrol(alice.name, "--period=300")
    tokens = directory.state / str(alice.uid) / "tokens"
    done = directory.run("softtoken-admin", "move", alice.name, "--to", "system")
    assert done.status == 0, done.stderr
    assert json.loads(tokens.read_text())["account"] == {"name": alice.name, "uid": alice.uid}
    done = directory.run("softtoken-admin", "move", alice.name, "--to", "home")
    assert done.status == 0, done.stderr
    assert "account" not in json.loads((alice.store / "tokens").read_text())
    assert directory.log_in(pam.stack(installed.line()), alice.name, phone.totp()).result == PAM_SUCCESS


def test_move__out_of_the_store_does_not_hand_over_the_tokens_of_another_account(
    directory: DirectoryService, alice: Person
) -> None:
    directory.enrol(alice.name)
    assert directory.run("softtoken-admin", "move", alice.name, "--to", "system").status == 0
    rename(alice, f"{alice.name}new")
    assert directory.run("softtoken-admin", "move", alice.name, "--to", "home").status == 1
    assert not alice.store.exists()


def test_move__interrupted_one_is_not_finished_for_another_account(directory: DirectoryService, alice: Person) -> None:
    directory.enrol(alice.name)
    assert directory.run("softtoken-admin", "move", alice.name, "--to", "system").status == 0
    place = directory.state / str(alice.uid)
    (place / "tokens").rename(place / ".tokens.moving")
    rename(alice, f"{alice.name}new")
    assert directory.run("softtoken-admin", "move", alice.name, "--to", "home").status == 1
    assert not alice.store.exists()


# -- rebind


def _rebind_words(host: Host, change: str, alice: Person) -> list[str]:
    name, uid = alice.name, alice.uid
    if change == "name":
        rename(alice, f"{name}new")
        return ["rebind", alice.name, "--old-name", name, "--yes"]
    renumber(alice, uid + 5000)
    return ["rebind", alice.name, "--old-uid", str(uid), "--yes"]


@pytest.mark.parametrize("change", ["name", "uid"])
def test_rebind__of_a_renamed_or_renumbered_account_goes_on_and_a_used_code_stays_used(
    host: Host, alice: Person, change: str
) -> None:
    phone = host.enrol(alice)
    first = phone.totp()
    assert _outcome(host, alice, first)[0] == PAM_SUCCESS
    mark = host.directory.marks / str(alice.uid)
    words = _rebind_words(host, change, alice)
    assert _outcome(host, alice, phone.totp(1), options=())[0] == PAM_AUTH_ERR
    host.admin(*words)
    assert host.owner_of(alice) == {"name": alice.name, "uid": alice.uid}
    assert (host.directory.marks / str(alice.uid)).read_text() == alice.name
    assert mark.exists() is (change == "name")
    assert _outcome(host, alice, first)[0] == PAM_AUTH_ERR
    assert _outcome(host, alice, phone.totp(1))[0] == PAM_SUCCESS
    assert [path.name for path in host.directory.stores.iterdir()] == [host.place_of(alice).name]
    assert any("softtoken-admin: action=rebind" in line for line in host.log.lines)


@pytest.mark.parametrize("change", ["name", "uid"])
def test_rebind__needs_a_confirmation_and_the_recorded_account(host: Host, alice: Person, change: str) -> None:
    host.enrol(alice)
    old = (alice.name, alice.uid)
    words = _rebind_words(host, change, alice)
    assert "no terminal" in host.refused(*words[:-1])
    assert host.refused("rebind", alice.name, "--old-name", "mallory", "--old-uid", "77", "--yes")
    (tokens,) = host.directory.stores.glob("*/tokens")
    assert json.loads(tokens.read_text())["account"] == {"name": old[0], "uid": old[1]}


def test_rebind__needs_the_name_or_uid_of_the_former_user(host: Host, alice: Person) -> None:
    host.enrol(alice)
    tokens = host.place_of(alice) / "tokens"
    before = tokens.read_bytes()
    old = f"{alice.name} (uid {alice.uid})"
    _successor(host, alice)
    for words in ([], ["--old-name", "mallory"] if not host.by_name else ["--old-uid", "77"]):
        assert f"are those of {old}" in host.refused("rebind", alice.name, *words, "--yes")
    assert tokens.read_bytes() == before


def test_rebind__takes_no_token_from_an_existing_account(
    host: Host, alice: Person, make_person: Callable[[], Person]
) -> None:
    bob = make_person()
    host.enrol(alice)
    before = (host.place_of(alice) / "tokens").read_bytes()
    said = host.refused("rebind", bob.name, "--old-name", alice.name, "--old-uid", str(alice.uid), "--yes")
    assert f"there is an account {alice.name}" in said
    host.enrol(bob)
    assert host.refused("rebind", bob.name, "--newcomer", "--yes")
    assert host.refused("rebind", bob.name, "--yes")
    assert (host.place_of(alice) / "tokens").read_bytes() == before


@pytest.mark.parametrize("store", ["%h/.softtoken", "%U"])
def test_rebind__with_the_uid_of_an_existing_account_keeps_its_revocation(
    directory: DirectoryService, pam: Pam, alice: Person, make_person: Callable[[], Person], store: str
) -> None:
    """Alice's former uid was given to bob, or root has mistyped it."""
    bob = make_person()
    template = store if store.startswith("%h") else f"{directory.stores}/{store}"
    service = pam.stack(pam.installed.line(f"store={template}") + PERMIT)
    where = ("--store", template)
    phone = directory.enrol(bob.name, "--period=300", *where)
    assert directory.log_in(service, bob.name, phone.totp()).result == PAM_SUCCESS
    tokens = (bob.store if store.startswith("%h") else directory.stores / str(bob.uid)) / "tokens"
    kept = tokens.read_bytes()
    assert directory.run("softtoken-admin", "revoke", bob.name, "--yes", *where).status == 0
    directory.run("softtoken-admin", "rebind", alice.name, "--old-uid", str(bob.uid), "--yes", *where)
    tokens.parent.mkdir(mode=0o700, exist_ok=True)
    tokens.write_bytes(kept)
    tokens.chmod(0o600)
    owner = bob if store.startswith("%h") else None
    for path in (tokens.parent, tokens) if owner else ():
        os.chown(path, bob.uid, bob.gid)
    assert directory.log_in(service, bob.name, phone.totp(1)).result == PAM_AUTH_ERR
    assert directory.log.reasons()[-1] == "revoked"
    assert (
        directory.log_in(pam.stack(pam.installed.line(f"store={template}", "nullok") + PERMIT), bob.name).result
        != PAM_SUCCESS
    )


def test_rebind__binds_an_unbound_file_to_the_account_of_its_directory(
    host: Host, alice: Person, make_person: Callable[[], Person]
) -> None:
    phone = host.enrol(alice)
    tokens = host.place_of(alice) / "tokens"
    document = json.loads(tokens.read_text())
    del document["account"]
    tokens.write_text(json.dumps(document))
    assert _outcome(host, alice, phone.totp())[2] == "other_account"
    bob = make_person()
    # A place by name fits any uid, and a place by uid fits any name.
    elsewhere = ("--old-name", alice.name if host.by_name else "somebody-gone", "--old-uid", str(alice.uid))
    if host.by_name:
        elsewhere = (*elsewhere[:3], str(alice.uid + 7))
    assert "do not name" in host.refused("rebind", bob.name, *elsewhere, "--yes")
    host.admin("rebind", alice.name, "--yes")
    assert _outcome(host, alice, phone.totp())[0] == PAM_SUCCESS


def _revoke(directory: DirectoryService, person: Person) -> Phone:
    """Enrol a user, revoke the token, and restore the old files, as the user can."""
    phone = directory.enrol(person.name, "--period=300")
    content = (person.store / "tokens").read_bytes()
    done = directory.run("softtoken-admin", "revoke", person.name, "--yes")
    assert done.status == 0, done.stderr
    tokens = person.store / "tokens"
    tokens.write_bytes(content)
    tokens.chmod(0o600)
    os.chown(tokens, person.uid, person.gid)
    return phone


@pytest.mark.parametrize("host", ["%u"], indirect=True)
def test_newcomer__lifts_no_revocation_of_the_account_itself(host: Host, alice: Person) -> None:
    """Only the leftovers of a former user of the name, in a store by names, are removed."""
    host.enrol(alice)
    _successor(host, alice)
    phone = _revoke(host.directory, alice)
    host.admin("rebind", alice.name, "--newcomer", "--yes")
    assert not host.place_of(alice).exists()
    home = host.pam.stack(host.pam.installed.line() + PERMIT)
    assert host.directory.log_in(home, alice.name, phone.totp()).result == PAM_AUTH_ERR


def test_newcomer__with_a_former_users_name_or_uid_can_enrol_once_root_says_so(host: Host, alice: Person) -> None:
    phone = host.enrol(alice)
    assert _outcome(host, alice, phone.totp())[0] == PAM_SUCCESS
    old_name = alice.name
    _successor(host, alice)
    assert _outcome(host, alice, "000000")[2] == "other_account"
    host.admin("rebind", alice.name, "--newcomer", "--yes")
    assert not host.place_of(alice).exists()
    assert not (host.directory.marks / str(alice.uid)).exists()
    assert _outcome(host, alice)[:2] == (PAM_SUCCESS, 0)  # nullok
    (line,) = [line for line in host.log.lines if "softtoken-admin: action=rebind" in line]
    assert "newcomer=yes" in line
    assert old_name in line


@pytest.mark.claim(
    "Somebody who gets the name or uid of a former user inherits no token, no issued code and no time of "
    "grace, and is not let in as a newcomer."
)
def test_mark__of_a_former_user_of_the_uid_denies_and_says_why_and_root_can_lift_it(
    directory: DirectoryService, pam: Pam, installed: Installation, alice: Person
) -> None:
    """In a home directory, too: a user with a reused uid is neither let in without a code nor locked out in silence."""
    service = pam.stack(installed.line("nullok") + PERMIT)
    phone = directory.enrol(alice.name, "--period=300")
    assert directory.log_in(service, alice.name, phone.totp()).result == PAM_SUCCESS
    former = alice.name
    rename(alice, f"{former}new")
    shutil.rmtree(alice.store)
    assert directory.log_in(service, alice.name, "000000").result == PAM_AUTH_ERR
    assert f"enrolled as {former}" in directory.log.outcomes()[-1]["detail"].replace("\\x20", " ")
    (facts,) = json.loads(directory.run("softtoken-admin", "status", "--json", alice.name).stdout)["users"]
    assert facts["former_name"] == former
    done = directory.run("softtoken-admin", "rebind", alice.name, "--newcomer", "--yes")
    assert done.status == 0, done.stderr
    outcome = directory.log_in(service, alice.name)
    assert (outcome.result, outcome.prompts) == (PAM_SUCCESS, [])


def test_mark__follows_a_renamed_user_with_the_next_code(
    directory: DirectoryService, pam: Pam, installed: Installation, alice: Person
) -> None:
    service = pam.stack(installed.line("nullok") + PERMIT)
    phone = directory.enrol(alice.name, "--period=300")
    assert directory.log_in(service, alice.name, phone.totp()).result == PAM_SUCCESS
    rename(alice, f"{alice.name}new")
    assert directory.log_in(service, alice.name, phone.totp(1)).result == PAM_SUCCESS
    assert (directory.marks / str(alice.uid)).read_text() == alice.name


def test_status__names_places_that_fit_no_account(host: Host, alice: Person, make_person: Callable[[], Person]) -> None:
    bob = make_person()
    host.enrol(bob)
    assert json.loads(host.admin("status", "--json"))["orphans"] == []
    host.enrol(alice)
    place, old = host.place_of(alice), (alice.name, alice.uid)
    _successor(host, alice)
    found = json.loads(host.admin("status", "--json"))["orphans"]
    (orphan,) = [each for each in found if each["kind"] == "store"]
    assert (orphan["path"], orphan["user"], orphan["uid"]) == (str(place), *old)
    assert f"orphan: {place}" in host.admin("status")


@pytest.mark.parametrize("change", ["name", "uid"])
@pytest.mark.parametrize("call", ["renameat,renameat2", "rename"], ids=["of the file", "of the directory"])
@pytest.mark.lockout("softtoken-admin rebind is killed, and given again")
def test_rebind__killed_where_it_renames_lets_nobody_in_and_is_finished_by_the_same_command(
    host: Host, alice: Person, change: str, call: str
) -> None:
    phone = host.enrol(alice)
    first = phone.totp()
    assert _outcome(host, alice, first)[0] == PAM_SUCCESS
    place = str(host.place_of(alice))
    words = [*_rebind_words(host, change, alice), "--store", host.template]
    only = ["-P", place] if call == "rename" else []  # not the record of the name
    kill = ["strace", "-f", "-o", "/dev/null", *only, "-e", f"inject={call}:signal=KILL"]
    killed = host.directory.run("softtoken-admin", *words, around=kill).status
    moves_directory = host.by_name is (change == "name")
    assert (killed != 0) is (call != "rename" or moves_directory)
    result, prompts, _ = _outcome(host, alice, first)
    assert (result, prompts) == (PAM_AUTH_ERR, 1)
    if killed:
        host.directory.run("softtoken-admin", *words)
    assert _outcome(host, alice, phone.totp(1))[0] == PAM_SUCCESS
