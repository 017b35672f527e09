"""Log in under several spellings of a name: they are one account everywhere."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pam_softtoken.account import state_format
from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SERVICE_ERR, PAM_SUCCESS, PERMIT
from tests.support.directory_service import DirectoryService
from tests.support.enroller import CODE_PROMPT, Finished
from tests.support.installation import Installation
from tests.support.newcomer import Talk, lines
from tests.support.pam_scene import Pam, lock_out, wrong_code
from tests.support.tools import PAM_PYTHON, needs_pam_python

SPELLINGS = (0, 1, 2)
ACCOUNT = "account required pam_permit.so\n"


@pytest.fixture(params=["%u", "%U", "home"])
def store(request: pytest.FixtureRequest, directory: DirectoryService) -> str:
    """The `store` option: root keeps tokens under the name or the uid, or they are in the home directory."""
    return "store=%h/.softtoken" if request.param == "home" else f"store={directory.stores}/{request.param}"


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.claim(
    "One user under several spellings of the name is one account: for `nullok`, the throttle, the log, "
    "enrolment and the administrator's commands."
)
def test_nullok__asks_an_enrolled_user_under_every_spelling(
    directory: DirectoryService, pam: Pam, installed: Installation, alice: Person, store: str, spelling: int
) -> None:
    service = pam.stack(installed.line(store, "nullok") + PERMIT)
    typed = directory.spellings_of(alice)[spelling]
    phone = directory.enrol(alice.name, "--period=300", "--store", store.removeprefix("store="))
    outcome = directory.log_in(service, typed)
    assert len(outcome.prompts) == 1
    assert outcome.result != PAM_SUCCESS
    assert directory.log_in(service, typed, phone.totp()).result == PAM_SUCCESS
    assert directory.log_in(service, alice.name, phone.totp()).result == PAM_AUTH_ERR


def _succeeded(done: Finished) -> str:
    assert done.status == 0, done.stderr
    return done.stdout


def _place(directory: DirectoryService, person: Person, store: str) -> Path:
    """Return the directory of a user's files."""
    if "%h" in store:
        return person.store
    return directory.stores / (person.name if store.endswith("%u") else str(person.uid))


def _marks(directory: DirectoryService) -> dict[str, str]:
    return {path.name: path.read_text() for path in directory.marks.iterdir()} if directory.marks.exists() else {}


@pytest.fixture
def gate(alice: Person) -> Iterator[None]:
    """Allow only members of one of Alice's groups to reach the home directory."""
    group = f"{alice.name}-staff"
    parent = alice.home.parent
    subprocess.run(["groupadd", group], check=True)
    subprocess.run(["gpasswd", "--add", alice.name, group], check=True, capture_output=True)
    shutil.chown(parent, group=group)
    parent.chmod(0o750)
    yield
    parent.chmod(0o755)
    shutil.chown(parent, group="root")
    subprocess.run(["groupdel", group], check=True)


@pytest.mark.lockout("the directory of other users hangs")
def test_directory__that_hangs_holds_no_user_of_the_host_itself(
    directory: DirectoryService, pam: Pam, alice: Person
) -> None:
    phone = directory.enrol(alice.name, "--period=300")
    service = pam.service()
    with directory.hanging():
        assert directory.log_in(service, alice.name, phone.totp()).result == PAM_SUCCESS
        assert directory.log_in(service, alice.name, phone.totp()).result == PAM_AUTH_ERR


@pytest.mark.usefixtures("gate")
@pytest.mark.lockout(
    "only a group of the user's may reach the home directory, and the directory that knows groups hangs",
    shows="a disk or name service hangs",
    cure="start the directory service again, such as with systemctl restart sssd",
)
def test_directory__hanging_one_that_is_needed_for_the_home_refuses_in_time(
    directory: DirectoryService, pam: Pam, alice: Person
) -> None:
    phone = directory.enrol(alice.name, "--period=300")
    service = pam.service("timeout=2")
    with directory.hanging():
        assert directory.log_in(service, alice.name, phone.totp()).result != PAM_SUCCESS
    (refused,) = directory.log.outcomes()
    assert refused["reason"] == "backend"
    assert refused["detail"].startswith('"no verdict; ')
    assert directory.log_in(service, alice.name, phone.totp()).result == PAM_SUCCESS


def test_required_from__asks_an_enrolled_user_under_every_spelling(
    directory: DirectoryService, pam: Pam, installed: Installation, alice: Person
) -> None:
    store = f"{directory.stores}/%u"
    service = pam.stack(installed.line(f"store={store}", "required_from=2999-12-31") + PERMIT)
    directory.enrol(alice.name, "--store", store)
    for typed in directory.spellings_of(alice):
        outcome = directory.log_in(service, typed, "000000")
        assert (outcome.result, len(outcome.prompts)) == (PAM_AUTH_ERR, 1)


def test_mark__is_one_for_all_spellings_and_says_the_canonical_name(
    directory: DirectoryService, pam: Pam, installed: Installation, alice: Person, store: str
) -> None:
    service = pam.stack(installed.line(store, "nullok") + PERMIT)
    _, domain, mail = directory.spellings_of(alice)
    phone = directory.enrol(alice.name, "--period=300", "--store", store.removeprefix("store="))
    assert directory.log_in(service, domain, phone.totp()).result == PAM_SUCCESS
    assert _marks(directory) == {str(alice.uid): alice.name}
    for kept in (directory.stores / alice.name, directory.stores / str(alice.uid), alice.store):
        shutil.rmtree(kept, ignore_errors=True)
    outcome = directory.log_in(service, mail, "000000")
    assert (outcome.result, len(outcome.prompts)) == (PAM_AUTH_ERR, 1)


@pytest.mark.claim(
    "One user under several spellings of the name is one account: for `nullok`, the throttle, the log, "
    "enrolment and the administrator's commands."
)
def test_throttle__counts_guesses_under_all_spellings_together(
    directory: DirectoryService, pam: Pam, installed: Installation, alice: Person, store: str
) -> None:
    service = pam.stack(installed.line(store))
    spellings = directory.spellings_of(alice)
    phone = directory.enrol(alice.name, "--period=300", "--store", store.removeprefix("store="))
    for number in range(4):
        directory.log_in(service, spellings[number % 3], wrong_code(phone))
    assert directory.log.reasons() == ["mismatch"] * 4
    present = state_format.decode((_place(directory, alice, store) / "state").read_bytes(), path="state")[1]
    assert [count for count, _ in present.wrong.values()] == [4]
    assert {fields["user"] for fields in directory.log.outcomes()} == {alice.name}


def test_grace__given_under_one_spelling_counts_under_the_others(
    directory: DirectoryService, pam: Pam, installed: Installation, alice: Person, store: str
) -> None:
    service = pam.stack(installed.line(store, "grace=1h"))
    name, domain, mail = directory.spellings_of(alice)
    phone = directory.enrol(alice.name, "--period=300", "--store", store.removeprefix("store="))
    rhost = ["--item=rhost=192.0.2.7"]
    assert directory.log_in(service, domain, phone.totp(), options=rhost).result == PAM_SUCCESS
    for typed in (name, mail):
        outcome = directory.log_in(service, typed, options=rhost)
        assert (outcome.result, outcome.prompts) == (PAM_SUCCESS, [])


@pytest.mark.claim(
    "One user under several spellings of the name is one account: for `nullok`, the throttle, the log, "
    "enrolment and the administrator's commands."
)
def test_enroll__under_any_spelling_is_the_one_account(
    directory: DirectoryService, pam: Pam, installed: Installation, alice: Person, store: str
) -> None:
    service = pam.stack(installed.line(store))
    template = store.removeprefix("store=")
    name, domain, mail = directory.spellings_of(alice)
    phone = directory.enrol(domain, "--period=300", "--store", template)
    mistake = directory.run("softtoken-enroll", "--user", mail, "--no-confirm", "--store", template).refused()
    assert mistake.error == f'{name} is already enrolled with token "phone"'
    assert directory.log_in(service, name, phone.totp()).result == PAM_SUCCESS


@pytest.mark.parametrize("asking", ["for all", "for one", "for one by a third spelling"])
def test_import__of_a_file_with_another_spelling_is_for_the_one_account(
    directory: DirectoryService, pam: Pam, installed: Installation, alice: Person, store: str, asking: str
) -> None:
    service = pam.stack(installed.line(store))
    template = store.removeprefix("store=")
    name, domain, mail = directory.spellings_of(alice)
    users = directory.directory / "users.oath"
    users.write_text(f"HOTP {domain} - 3132333435363738393031323334353637383930\n")
    users.chmod(0o600)
    whose = {"for all": [], "for one": ["--user", name], "for one by a third spelling": ["--user", mail]}[asking]
    _succeeded(directory.run("softtoken-enroll", *whose, "--import", users, "--no-confirm", "--store", template))
    assert directory.log_in(service, name, "755224").result == PAM_SUCCESS  # RFC 4226, appendix D


def test_newcomer__enrolled_under_another_spelling_is_the_same_account(
    directory: DirectoryService, pam: Pam, installed: Installation, alice: Person, store: str
) -> None:
    name, domain, mail = directory.spellings_of(alice)
    service = pam.stack("auth requisite pam_unix.so nodelay\n" + lines(installed, store) + PERMIT + ACCOUNT)
    with Talk(service, alice, typed=domain, inside=directory.mounts.command()) as talk:
        talk.go_on()
    assert talk.let_in
    assert f"{name} has no soft token yet" in talk.text
    assert _marks(directory) == {str(alice.uid): name}
    later = pam.stack(installed.line(store))
    assert directory.log_in(later, mail, talk.phone.totp(1)).result == PAM_SUCCESS


def test_newcomer__enrols_even_if_another_module_spells_the_name_differently(
    directory: DirectoryService, pam: Pam, installed: Installation, alice: Person
) -> None:
    name, domain, _ = directory.spellings_of(alice)
    service = pam.stack("auth requisite pam_unix.so nodelay\n" + lines(installed) + PERMIT + ACCOUNT)
    options = [f"--user-between={name}"]
    with Talk(service, alice, typed=domain, inside=directory.mounts.command(), options=options) as talk:
        talk.go_on()
    assert talk.let_in
    assert (alice.store / "tokens").exists()


@pytest.mark.parametrize("name", ["x" * 255, "\u0436" * 30, "\u0436" * 127], ids=["ascii", "large code", "no code"])
def test_newcomer__with_a_long_name_enrols_and_sees_no_message_that_is_too_long(
    directory: DirectoryService, pam: Pam, installed: Installation, alice: Person, name: str
) -> None:
    """Two wrong answers, and the code drawn twice: the longest possible dialogue."""
    canonical = "".join(f"\\x{byte:02x}" for byte in name.encode())
    directory.add("longname", alice, name=canonical)
    service = pam.stack("auth requisite pam_unix.so nodelay\n" + lines(installed) + PERMIT + ACCOUNT)
    with Talk(service, alice, typed="longname", inside=directory.mounts.command()) as talk:
        talk.go_on(until=CODE_PROMPT)
        key = talk.text.partition("Key:  ")[2].partition("\n")[0].replace(" ", "")
        phone = Phone(
            {"key": key, "algorithm": "SHA1", "digits": 6, "period": 30, "counter": None, "recovery_codes": []}
        )
        if "press Enter" in talk.text:
            talk.answer("")
            talk.go_on(until=CODE_PROMPT)
        for code in ("x", "x", phone.totp()):
            talk.answer(code)
            talk.go_on(until=CODE_PROMPT)
    assert talk.let_in
    assert max(len(text.encode()) for text in talk.shown) < 512


@pytest.mark.claim(
    "One user under several spellings of the name is one account: for `nullok`, the throttle, the log, "
    "enrolment and the administrator's commands."
)
def test_admin__helps_a_user_under_any_spelling(
    directory: DirectoryService, pam: Pam, installed: Installation, alice: Person, store: str
) -> None:
    template = store.removeprefix("store=")
    service = pam.stack(installed.line(store, "nullok") + PERMIT)
    name, domain, mail = directory.spellings_of(alice)
    phone = directory.enrol(name, "--period=300", "--store", template)
    directory.log_in(service, domain, wrong_code(phone))
    lock_out(alice, _place(directory, alice, store))
    (facts,) = json.loads(_succeeded(directory.run("softtoken-admin", "status", "--json", mail, "--store", template)))[
        "users"
    ]
    assert (facts["user"], facts["status"], len(facts["waiting"])) == (name, "enrolled", 1)
    done = directory.run("softtoken-admin", "unlock", domain, "--store", template)
    assert f"{name} need not wait" in done.stderr
    issued = json.loads(
        _succeeded(directory.run("softtoken-admin", "code-for", mail, "--for=1h", "--json", "--store", template))
    )
    assert issued["user"] == name
    _succeeded(directory.run("softtoken-admin", "revoke", mail, "--yes", "--store", template))
    for typed in (name, domain, mail):
        assert directory.log_in(service, typed, phone.totp()).result == PAM_AUTH_ERR
    assert {fields["user"] for fields in directory.log.outcomes()} == {name}


def test_change__is_confirmed_by_a_login_under_another_spelling(
    directory: DirectoryService, pam: Pam, installed: Installation, alice: Person
) -> None:
    service = pam.stack(installed.line(f"store={directory.stores}/%U") + PERMIT)
    name, domain, _ = directory.spellings_of(alice)
    phone = directory.enrol(name, "--period=300", "--store", f"{directory.stores}/%U")
    change = directory.state / "changes" / service.name
    change.mkdir(parents=True)
    (change / "pending").touch()
    assert directory.log_in(service, domain, phone.totp(), options=["--setcred"]).result == PAM_SUCCESS
    assert sorted(path.name for path in change.iterdir()) == ["login", "pending"]


NAMES_THAT_LEAD_ELSEWHERE = ["", ".", "..", ".hidden", "../alice", "a/b", "/", r"a\x0ab", r"a\x7fb", r"\x01", r"\xff"]


@pytest.mark.parametrize("canonical", NAMES_THAT_LEAD_ELSEWHERE)
@pytest.mark.parametrize("template", ["%u", "%u/tokens", "x%u", "%U"])
@pytest.mark.sampled(0.3)
def test_canonical_name__that_leads_elsewhere_is_denied_and_makes_nothing(
    directory: DirectoryService, pam: Pam, installed: Installation, alice: Person, canonical: str, template: str
) -> None:
    """A hostile name service supplies it. With %U the name is no part of a path."""
    store = f"{directory.stores}/users/{template}"
    (directory.stores / "users").mkdir(mode=0o700)
    (directory.stores / "tokens").write_text("{}")
    service = pam.stack(installed.line(f"store={store}", "nullok") + PERMIT)
    directory.add("eve", alice, name=canonical)
    outcome = directory.log_in(service, "eve", "000000")
    if template == "%U" and canonical:
        assert outcome.result == PAM_SUCCESS  # nullok, and nobody has enrolled
    else:
        assert outcome.result == (PAM_SERVICE_ERR if canonical else PAM_AUTH_ERR)
        assert directory.log.reasons() == ["bad_option" if canonical else "backend"]
        done = directory.run("softtoken-enroll", "--user", "eve", "--no-confirm", "--store", store)
        assert done.refused().error
    assert sorted(path.name for path in directory.stores.rglob("*")) == ["tokens", "users"]


@needs_pam_python()
def test_pam_python__knows_one_account_under_every_spelling(
    directory: DirectoryService, pam: Pam, installed: Installation, alice: Person
) -> None:
    option = f"store={directory.stores}/%u"
    service = pam.stack(f"auth required {PAM_PYTHON} {installed.package}/pam_module.py {option} nullok\n" + PERMIT)
    phone = directory.enrol(alice.name, "--period=300", "--store", f"{directory.stores}/%u")
    _, domain, mail = directory.spellings_of(alice)
    assert directory.log_in(service, domain, phone.totp()).result == PAM_SUCCESS
    assert directory.log_in(service, mail, phone.totp()).result == PAM_AUTH_ERR
    assert [fields["user"] for fields in directory.log.outcomes()] == [alice.name] * 2
