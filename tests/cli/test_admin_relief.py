"""Help a user from an administrator's terminal: `softtoken-admin unlock`, `revoke`, `reset-state`, `code-for`."""

from __future__ import annotations

import datetime
import json
import re
import time
from pathlib import Path

import pytest

from pam_softtoken.account import ram_record
from pam_softtoken.account.state_format import SLOT_BYTES
from tests.support.account import Person, Phone
from tests.support.admin import Admin, refused, succeeded
from tests.support.client import PAM_AUTH_ERR, PAM_IGNORE, PAM_SUCCESS, Service
from tests.support.enroller import ENVIRONMENT
from tests.support.installation import Installation
from tests.support.leak import keep
from tests.support.pam_scene import Pam, lock_out, steady_step
from tests.support.system_log import SystemLog

CODE = r"[0-9A-Z]{4}-[0-9A-Z]{4}-[0-9A-Z]{4}"
NOBODY = "nobody-of-that-name-here"
COMMANDS = ("unlock", "revoke", "reset-state", "code-for")


@pytest.fixture
def admin(installed: Installation) -> Admin:
    """The installed `softtoken-admin`."""
    return Admin(installed)


@pytest.fixture
def phone(installed: Installation, alice: Person) -> Phone:
    """Alice's token and two recovery codes. Its codes last longer than any test."""
    mark = Path("/var/lib/softtoken/enrolled", str(alice.uid))
    mark.unlink(missing_ok=True)  # of another test
    return alice.enrol(installed, "--period=300", "--recovery-codes=2")


def arguments(command: str, user: str) -> list[str]:
    """Return the words of a subcommand that asks no question."""
    more = {"revoke": ["--yes"], "reset-state": ["--yes"], "code-for": ["--for=1h"]}
    return [command, user, *more.get(command, [])]


# -- all of them


@pytest.mark.parametrize("command", COMMANDS)
def test_relief__of_an_unknown_user_is_refused(admin: Admin, command: str) -> None:
    error, hint = refused(admin.run(*arguments(command, NOBODY)))
    assert NOBODY in error
    assert "getent passwd" in hint


@pytest.mark.parametrize("command", COMMANDS)
def test_relief__for_a_user_without_tokens_is_refused_and_creates_no_file(
    admin: Admin, alice: Person, command: str
) -> None:
    error, hint = refused(admin.run(*arguments(command, alice.name)))
    assert "is not enrolled" in error
    assert f"softtoken-enroll --user {alice.name}" in hint
    assert not alice.store.exists()


@pytest.mark.parametrize("command", COMMANDS)
def test_relief__needs_root(admin: Admin, alice: Person, phone: Phone, command: str) -> None:
    error, hint = refused(admin.run(*arguments(command, alice.name), person=alice))
    assert (error, hint) == ("only root can do that", f"sudo softtoken-admin {command} {alice.name}")


@pytest.mark.parametrize("command", COMMANDS)
def test_relief__log_names_the_administrator(
    admin: Admin, alice: Person, phone: Phone, system_log: SystemLog, command: str
) -> None:
    lock_out(alice)
    done = admin.run(*arguments(command, alice.name), environment={**ENVIRONMENT, "SUDO_USER": "carol evil=1"})
    if command == "code-for":
        keep(succeeded(done).strip())
    system_log.ours()  # waits for the last
    (line,) = [line for line in system_log.lines if "softtoken-admin" in line]
    said = rf"softtoken-admin: action={command} user={alice.name} (\w+=\S+ )?by=carol\\x20evil\\x3d1"
    assert re.search(rf"softtoken-admin\[\d+\]: {said}", line)


# -- unlock


@pytest.mark.lockout(
    "somebody typed too many wrong codes, and root is there",
    shows="reason=throttled",
    cure="softtoken-admin unlock alice",
)
def test_unlock__ends_the_wait_at_once(
    admin: Admin, alice: Person, phone: Phone, service: Service, system_log: SystemLog
) -> None:
    lock_out(alice)
    assert service.log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["throttled"]
    done = admin.run("unlock", alice.name)
    assert succeeded(done) == ""
    assert "forgotten" in done.stderr
    assert service.log_in(alice, phone.totp(1)).result == PAM_SUCCESS
    assert service.log_in(alice, phone.totp(1)).result == PAM_AUTH_ERR, "a used code stays used"


def test_unlock__of_a_user_without_a_wait_changes_nothing_and_says_so(
    admin: Admin, alice: Person, phone: Phone
) -> None:
    before = (alice.store / "state").read_bytes()
    done = admin.run("unlock", alice.name)
    assert succeeded(done) == ""
    assert "nothing to wait for" in done.stderr
    assert (alice.store / "state").read_bytes() == before


def test_unlock__of_a_damaged_state_names_the_cure(admin: Admin, alice: Person, phone: Phone) -> None:
    (alice.store / "state").write_bytes(b"x" * 8192)
    _, hint = refused(admin.run("unlock", alice.name))
    assert f"softtoken-admin reset-state {alice.name}" in hint


# -- revoke


@pytest.mark.claim("After `revoke` of everything nobody gets in, not even under `nullok`.")
def test_revoke__of_everything_lets_nobody_in_not_even_under_nullok(
    admin: Admin, alice: Person, phone: Phone, pam: Pam
) -> None:
    """Alice has never logged in with a code, so only the revocation can have left the mark."""
    assert succeeded(admin.run("revoke", alice.name, "--yes")) == ""
    assert not (alice.store / "tokens").exists()
    service = pam.service("nullok")
    for code in (phone.totp(), phone.recovery_codes[0]):
        assert service.log_in(alice, code).result == PAM_AUTH_ERR


def test_nullok__lets_in_users_without_a_token_or_a_revocation(alice: Person, pam: Pam) -> None:
    Path("/var/lib/softtoken/enrolled", str(alice.uid)).unlink(missing_ok=True)
    assert pam.only_ignore("nullok").log_in(alice).result in (PAM_SUCCESS, PAM_IGNORE)


def test_revoke__of_one_token_leaves_the_others_and_the_recovery_codes(
    admin: Admin, installed: Installation, alice: Person, phone: Phone, service: Service
) -> None:
    spare = alice.enrol(installed, "--name=spare", "--period=300")
    issued = keep(succeeded(admin.run("code-for", alice.name, "--for=1h")).strip())
    assert succeeded(admin.run("revoke", alice.name, "phone", "--yes")) == ""
    assert service.log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    assert service.log_in(alice, issued).result == PAM_AUTH_ERR
    assert service.log_in(alice, spare.totp()).result == PAM_SUCCESS
    assert service.log_in(alice, phone.recovery_codes[0]).result == PAM_SUCCESS


def test_revoke__question_lists_the_tokens_to_revoke(admin: Admin, alice: Person, phone: Phone) -> None:
    before = (alice.store / "tokens").read_bytes()
    with admin.start("revoke", alice.name) as dialogue:
        said = dialogue.expect("Revoke? [y/N] ")
        assert "denied until" in said
        dialogue.type("")
        assert dialogue.finish() == 1
    assert (alice.store / "tokens").read_bytes() == before
    with admin.start("revoke", alice.name) as dialogue:
        dialogue.expect("Revoke? [y/N] ")
        dialogue.type("y")
        assert dialogue.finish() == 0
    assert not (alice.store / "tokens").exists()


def test_revoke__without_a_terminal_needs_yes(admin: Admin, alice: Person, phone: Phone) -> None:
    done = admin.run("revoke", alice.name)
    assert done.status == 1
    assert done.stderr.endswith("softtoken-admin: hint: add --yes\n")
    assert (alice.store / "tokens").exists()


def test_revoke__of_an_unknown_token_lists_the_tokens(admin: Admin, alice: Person, phone: Phone) -> None:
    error, hint = refused(admin.run("revoke", alice.name, "tablet", "--yes"))
    assert '"tablet"' in error
    assert hint == 'there are: "phone"'


def test_revoke__removes_an_unreadable_token_file(admin: Admin, alice: Person, phone: Phone) -> None:
    (alice.store / "tokens").write_text("{")
    assert succeeded(admin.run("revoke", alice.name, "--yes")) == ""
    assert not (alice.store / "tokens").exists()


# -- reset-state


def test_reset_state__of_a_damaged_one_lets_no_code_of_the_window_in_twice(
    admin: Admin, alice: Person, phone: Phone, service: Service
) -> None:
    steady_step(300)
    codes = [phone.totp(step) for step in (-1, 0, 1)]
    assert service.log_in(alice, codes[2]).result == PAM_SUCCESS
    (alice.store / "state").write_bytes(b"x" * 9000)
    assert service.log_in(alice, codes[2]).result == PAM_AUTH_ERR
    done = admin.run("reset-state", alice.name, "--yes")
    assert succeeded(done) == ""
    assert "All recovery codes stop working" in done.stderr
    assert "--new-recovery-codes" in done.stderr
    for code in (*codes, *phone.recovery_codes):
        assert service.log_in(alice, code).result == PAM_AUTH_ERR


@pytest.mark.lockout(
    "both records of the state are damaged", shows="reason=damaged_state", cure="softtoken-admin reset-state alice"
)
def test_reset_state__the_code_after_the_window_is_right_again(
    admin: Admin, alice: Person, phone: Phone, pam: Pam, system_log: SystemLog
) -> None:
    (alice.store / "state").write_bytes(b"x" * 8192)
    assert pam.service("window=3").log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["damaged_state"]
    assert succeeded(admin.run("reset-state", alice.name, "--yes")) == ""
    # Another service with a wider window need not wait.
    assert pam.service("window=3").log_in(alice, phone.totp(2)).result == PAM_SUCCESS


def test_reset_state__of_an_intact_state_keeps_the_used_recovery_codes(
    admin: Admin, alice: Person, phone: Phone, service: Service
) -> None:
    assert service.log_in(alice, phone.recovery_codes[0]).result == PAM_SUCCESS
    done = admin.run("reset-state", alice.name, "--yes")
    assert succeeded(done) == ""
    assert "in order" in done.stderr
    assert "recovery codes stop working" not in done.stderr
    assert service.log_in(alice, phone.recovery_codes[0]).result == PAM_AUTH_ERR
    assert service.log_in(alice, phone.recovery_codes[1]).result == PAM_SUCCESS


def test_reset_state__removes_a_damaged_record_of_a_read_only_time(
    admin: Admin, alice: Person, phone: Phone, service: Service
) -> None:
    record = Path(ram_record.path_of(alice.uid, str(alice.store)))
    record.parent.mkdir(mode=0o711, exist_ok=True)
    record.write_bytes(b"x" * SLOT_BYTES)
    record.chmod(0o600)
    assert service.log_in(alice, phone.recovery_codes[0]).result == PAM_AUTH_ERR
    assert succeeded(admin.run("reset-state", alice.name, "--yes")) == ""
    assert not record.exists()
    assert service.log_in(alice, phone.recovery_codes[0]).result == PAM_SUCCESS


def test_reset_state__question_says_what_follows(admin: Admin, installed: Installation, alice: Person) -> None:
    alice.enrol(installed, "--type=hotp", "--recovery-codes=0")
    (alice.store / "state").write_bytes(b"x" * 8192)
    with admin.start("reset-state", alice.name) as dialogue:
        said = dialogue.expect("Start it anew? [y/N] ")
        assert "is damaged" in said
        assert "two codes in a row" in said
        dialogue.type("n")
        assert dialogue.finish() == 1
    assert (alice.store / "state").read_bytes() == b"x" * 8192


# -- code-for


def test_code_for__prints_the_code_alone_and_until_when_beside_it(
    admin: Admin, alice: Person, phone: Phone, service: Service
) -> None:
    done = admin.run("code-for", alice.name, "--for=1h")
    code = keep(succeeded(done).removesuffix("\n"))
    assert re.fullmatch(CODE, code)
    assert code not in done.stderr
    assert re.search(r"works once, .* until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d", done.stderr)
    stored = b"".join(path.read_bytes() for path in alice.store.iterdir())
    assert code.encode() not in stored
    assert code.replace("-", "").encode() not in stored
    assert service.log_in(alice, code).result == PAM_SUCCESS


def test_code_for__json_has_all_that_a_program_needs(admin: Admin, alice: Person, phone: Phone) -> None:
    before = int(time.time())
    done = admin.run("code-for", alice.name, "--for=90m", "--json")
    record = json.loads(succeeded(done))
    assert done.stderr == ""
    keep(record["code"])
    expires = datetime.datetime.fromisoformat(record.pop("expires")).timestamp()
    assert before + 5400 <= expires <= time.time() + 5400
    assert re.fullmatch(CODE, record.pop("code"))
    assert record == {"user": alice.name, "pin_in_front": False}


@pytest.mark.parametrize("span", ["0", "59s", "25h", "2d", "1", "h", "-1h", "1h30m", "", "1 h", "\u0661h"])
def test_code_for__a_time_out_of_range_is_refused(admin: Admin, alice: Person, phone: Phone, span: str) -> None:
    error, hint = refused(admin.run("code-for", alice.name, f"--for={span}"), 2)
    assert "from 1m to 24h" in error
    assert hint == "as in --for 1h"


@pytest.mark.lockout(
    "the phone and the recovery codes are lost, and root is there",
    shows="Verification code:",
    cure="softtoken-admin code-for alice --for 1h",
)
def test_code_for__without_recovery_codes_works_as_well(
    admin: Admin, installed: Installation, alice: Person, service: Service
) -> None:
    alice.enrol(installed, "--recovery-codes=0")
    outcome = service.log_in(alice, "")
    assert (outcome.result, outcome.prompts) == (PAM_AUTH_ERR, ["Verification code: "])
    code = keep(succeeded(admin.run("code-for", alice.name, "--for=1h")).strip())
    assert service.log_in(alice, code).result == PAM_SUCCESS
