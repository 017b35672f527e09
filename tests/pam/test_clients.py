"""Run the real libpam in hosts without root: our own client, pamela and python-pam. Check the module's exports."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_CONV_ERR, PAM_SUCCESS, TEXT_INFO, Service
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES, NOBODY, PROMPT, Pam, wrong_code
from tests.support.system_log import SystemLog

LIBRARIES = ("pamela", "python-pam")
HERE = Path(__file__).parent


# ---- a host that runs as the user


def test_unprivileged__right_code_is_accepted_once(
    service: Service, alice: Person, phone: Phone, system_log: SystemLog
) -> None:
    for code, result in ((phone.totp(), 0), (phone.totp(), 7), (wrong_code(phone), 7), (phone.totp(1), 0)):
        outcome = service.log_in(alice, code, run_as=alice)
        assert (outcome.result, outcome.messages) == (result, PROMPT)
    assert system_log.reasons() == ["accepted", "replayed", "mismatch", "accepted"]


def test_unprivileged__and_root_keep_one_record(
    service: Service, alice: Person, phone: Phone, system_log: SystemLog
) -> None:
    assert service.log_in(alice, phone.totp(), run_as=alice).result == PAM_SUCCESS
    assert service.log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    assert service.log_in(alice, phone.totp(1)).result == PAM_SUCCESS
    assert service.log_in(alice, phone.totp(1), run_as=alice).result == PAM_AUTH_ERR
    for name in ("tokens", "state"):
        status = (alice.store / name).stat()
        assert (status.st_uid, status.st_gid, status.st_mode) == (alice.uid, alice.gid, 0o100600)


@pytest.mark.parametrize("kind", ["hotp", "recovery"])
def test_unprivileged__other_codes_work_once(
    installed: Installation, service: Service, alice: Person, kind: str
) -> None:
    phone = alice.enrol(installed, "--type=hotp", "--recovery-codes=1")
    code = phone.hotp() if kind == "hotp" else phone.recovery_codes[0]
    outcome = service.log_in(alice, code, run_as=alice)
    assert outcome.result == PAM_SUCCESS
    assert [style for style, _ in outcome.messages[1:]] == ([TEXT_INFO] if kind == "recovery" else [])
    assert service.log_in(alice, code, run_as=alice).result == PAM_AUTH_ERR


def test_unprivileged__state_is_made_where_it_is_missing(service: Service, alice: Person, phone: Phone) -> None:
    (alice.store / "state").unlink()
    assert service.log_in(alice, phone.totp(), run_as=alice).result == PAM_AUTH_ERR
    assert service.log_in(alice, phone.totp(1), run_as=alice).result == PAM_SUCCESS
    status = (alice.store / "state").stat()
    assert (status.st_uid, status.st_mode, status.st_size) == (alice.uid, 0o100600, 16384)


def test_unprivileged__not_enrolled_is_asked_or_ignored(pam: Pam, alice: Person, system_log: SystemLog) -> None:
    outcome = pam.service().log_in(alice, "123456", run_as=alice)
    assert (outcome.result, outcome.messages) == (PAM_AUTH_ERR, PROMPT)
    outcome = pam.only_ignore("nullok").log_in(alice, run_as=alice)
    assert (outcome.result, outcome.messages) == (PAM_SUCCESS, [])
    outcome = pam.only_ignore("nullok").log_in(NOBODY, "123456", run_as=alice)
    assert (outcome.result, outcome.messages) == (PAM_AUTH_ERR, PROMPT)
    assert system_log.reasons() == ["not_enrolled", "not_enrolled", "unknown_user"]


def test_unprivileged__cannot_log_in_as_another_user(
    pam: Pam, make_person: Callable[[], Person], system_log: SystemLog
) -> None:
    alice, mallory = make_person(), make_person()
    phone = alice.enrol(pam.installed, "--period=300", NO_CODES)
    for service in (pam.service(), pam.only_ignore("nullok")):
        outcome = service.log_in(alice, phone.totp(), run_as=mallory)
        assert (outcome.result, outcome.messages) == (PAM_AUTH_ERR, PROMPT)
    assert system_log.reasons() == ["unusable_file", "unusable_file"]
    assert pam.service().log_in(alice, phone.totp()).result == PAM_SUCCESS


@pytest.mark.parametrize("at_roots", [False, True], ids=["in the home", "in a store of root's"])
@pytest.mark.lockout(
    "a service that does not run as root asks for codes of other users",
    shows="this service runs as uid",
    cure="take the line with pam_softtoken out",
)
def test_unprivileged__service_of_another_user_is_told_why_it_cannot_read_tokens(
    pam: Pam, make_person: Callable[[], Person], outside: Path, system_log: SystemLog, at_roots: bool
) -> None:
    """PostgreSQL runs as a user of its own. What it asks, it cannot check."""
    alice, postgres = make_person(), make_person()
    (outside / "tokens").mkdir(mode=0o700)
    store = [f"store={outside}/tokens/%U"] if at_roots else []
    phone = alice.enrol(pam.installed, "--period=300", NO_CODES, *(f"--{option}" for option in store))
    assert pam.service(*store).log_in(alice, phone.totp(), run_as=postgres).result == PAM_AUTH_ERR
    (refusal,) = system_log.outcomes()
    assert (refusal["result"], refusal["reason"]) == ("denied", "unusable_file")
    assert f"this service runs as uid {postgres.uid}, which cannot read it; " in refusal["detail"]
    assert "take the line with pam_softtoken out of its PAM service" in refusal["detail"]
    assert "move --all" not in refusal["detail"]
    without_ours = pam.stack("auth required pam_permit.so\n")
    assert without_ours.log_in(alice, run_as=postgres).result == PAM_SUCCESS


def test_unprivileged__conversation_that_fails_is_a_conversation_error(
    service: Service, alice: Person, phone: Phone
) -> None:
    assert service.log_in(alice, run_as=alice).result == PAM_CONV_ERR
    assert service.log_in(alice, phone.totp(), run_as=alice).result == PAM_SUCCESS


# ---- clients of other projects


@pytest.fixture(scope="session")
def python_client(world: Path) -> Path:
    """The libraries and the script that drives them, in a place that every user can read."""
    directory = world / "python-clients"
    directory.mkdir(mode=0o755)
    for name in ("pamela", "pam", "six"):
        spec = importlib.util.find_spec(name)
        assert spec is not None, f"{name} is not installed"
        assert spec.origin is not None
        origin = Path(spec.origin)
        if origin.name == "__init__.py":
            shutil.copytree(origin.parent, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(origin, directory)
    script = Path(shutil.copy(HERE / "python_client.py", directory))
    for path in [directory, *directory.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return script


class Library:
    """One of the libraries in a process of the user's.

    Args:
        name: one of `LIBRARIES`.
        script: `python_client.py` beside its libraries.
    """

    def __init__(self, name: str, script: Path) -> None:
        self.name = name
        self._script = script

    def log_in(self, service: Service, user: Person | str, answer: str, *, run_as: Person) -> int:
        """Run a login attempt, and return the PAM return code."""
        name = user if isinstance(user, str) else user.name
        done = subprocess.run(
            ["/usr/bin/python3", "-I", self._script, self.name, service.directory, service.name, name, answer],
            user=run_as.uid,
            group=run_as.gid,
            extra_groups=[],
            capture_output=True,
            check=True,
            text=True,
            timeout=300,
        )
        said = json.loads(done.stdout)
        assert said["uid"] == 3 * [run_as.uid]
        if self.name == "python-pam":
            self.messages = said["messages"]
        return int(said["result"])


@pytest.fixture(params=LIBRARIES)
def library(request: pytest.FixtureRequest, python_client: Path) -> Library:
    """Each of the two libraries."""
    return Library(request.param, python_client)


@pytest.fixture
def with_account(pam: Pam) -> Callable[..., Service]:
    """Create a service with the account and credentials parts that the libraries need."""

    def make(*options: str) -> Service:
        ours = pam.installed.line(*options)
        return pam.stack(ours + "auth optional pam_permit.so\naccount required pam_permit.so\n")

    return make


def test_library__right_code_is_accepted_once_and_a_wrong_one_never(
    library: Library, with_account: Callable[..., Service], alice: Person, phone: Phone, system_log: SystemLog
) -> None:
    service = with_account()
    for code, result in ((phone.totp(), 0), (phone.totp(), 7), (wrong_code(phone), 7), ("", 7), (phone.totp(1), 0)):
        assert library.log_in(service, alice, code, run_as=alice) == result
        if library.name == "python-pam":
            assert library.messages == [text for _, text in PROMPT]
    assert system_log.reasons() == ["accepted", "replayed", "mismatch", "malformed", "accepted"]


def test_library__recovery_code_is_accepted_once(
    library: Library, with_account: Callable[..., Service], alice: Person, installed: Installation
) -> None:
    (code,) = alice.enrol(installed, "--recovery-codes=1").recovery_codes
    assert library.log_in(with_account(), alice, code, run_as=alice) == PAM_SUCCESS
    assert library.log_in(with_account(), alice, code, run_as=alice) == PAM_AUTH_ERR


def test_library__hotp_code_is_accepted_once(
    library: Library, with_account: Callable[..., Service], alice: Person, installed: Installation
) -> None:
    code = alice.enrol(installed, "--type=hotp", NO_CODES).hotp()
    assert library.log_in(with_account(), alice, code, run_as=alice) == PAM_SUCCESS
    assert library.log_in(with_account(), alice, code, run_as=alice) == PAM_AUTH_ERR


def test_library__not_enrolled_is_asked_and_refused_or_let_in_under_nullok(
    library: Library, with_account: Callable[..., Service], alice: Person, system_log: SystemLog
) -> None:
    assert library.log_in(with_account(), alice, "123456", run_as=alice) == PAM_AUTH_ERR
    assert library.log_in(with_account("nullok"), alice, "123456", run_as=alice) == PAM_SUCCESS
    if library.name == "python-pam":
        assert library.messages == []
    assert system_log.reasons() == ["not_enrolled", "not_enrolled"]


def test_library__unknown_user_is_asked_and_refused(
    library: Library, with_account: Callable[..., Service], alice: Person, system_log: SystemLog
) -> None:
    assert library.log_in(with_account("nullok"), NOBODY, "123456", run_as=alice) == PAM_AUTH_ERR
    assert system_log.reasons() == ["unknown_user"]


def test_library__is_the_real_thing(library: Library, pam: Pam, alice: Person) -> None:
    """The control: without our module the same call succeeds, and with pam_deny it fails, whatever the answer."""
    account = "account required pam_permit.so\n"
    assert library.log_in(pam.stack("auth required pam_permit.so\n" + account), alice, "x", run_as=alice) == 0
    assert library.log_in(pam.stack("auth required pam_deny.so\n" + account), alice, "x", run_as=alice) == 7


# ---- the module as a shared object


def test_bridge__exports_its_entry_points_and_nothing_else(installed: Installation) -> None:
    done = subprocess.run(["nm", "-D", "--defined-only", installed.bridge], check=True, capture_output=True, text=True)
    symbols = {line.split()[-1] for line in done.stdout.splitlines()}
    assert symbols == {"pam_sm_acct_mgmt", "pam_sm_authenticate", "pam_sm_setcred"}


def test_bridge__needs_libpam_and_the_c_library_only(installed: Installation) -> None:
    done = subprocess.run(["readelf", "-d", installed.bridge], check=True, capture_output=True, text=True)
    needed = {line.split("[")[1].rstrip("]") for line in done.stdout.splitlines() if "(NEEDED)" in line}
    assert needed == {"libpam.so.0", "libc.so.6"}
    assert "BIND_NOW" in done.stdout
    headers = subprocess.run(["readelf", "-lW", installed.bridge], check=True, capture_output=True, text=True).stdout
    assert "GNU_RELRO" in headers
    (stack,) = (line for line in headers.splitlines() if "GNU_STACK" in line)
    assert " RW " in stack
