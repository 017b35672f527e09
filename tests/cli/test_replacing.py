"""Enrol when a token already exists, or appears meanwhile."""

from __future__ import annotations

import json
import subprocess

import pytest

from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.enroller import CODE_PROMPT, ENTER_PROMPT, Enroller, Mistake
from tests.support.installation import Installation
from tests.support.listing import listing
from tests.support.pam_waiting import Waiting

SCRIPT = ("--no-confirm", "--json", "--period=300", "--recovery-codes=1")


def test_enroll__refuses_to_overwrite_without_force(
    enroller: Enroller, installed: Installation, alice: Person, service: Service
) -> None:
    phone = alice.enrol(installed, "--period=300", "--name=old phone", "--recovery-codes=0")
    before = listing(alice.home)
    mistake = enroller.run(*SCRIPT, "--name=old phone", person=alice).refused()
    assert mistake.error == f'{alice.name} is already enrolled with token "old phone"'
    assert mistake.hint == (
        "softtoken-enroll --name spare adds another one; --force replaces it and the recovery codes"
    )
    assert listing(alice.home) == before
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS


def test_enroll__refuses_to_overwrite_before_it_shows_a_new_key(
    enroller: Enroller, installed: Installation, alice: Person
) -> None:
    alice.enrol(installed, "--recovery-codes=0")
    with enroller.start(person=alice) as dialogue:
        assert dialogue.refused().before == ""


@pytest.mark.lockout("the app was deleted, and its user enrols again with --force")
def test_enroll__force_replaces_token_and_recovery_codes(
    enroller: Enroller, installed: Installation, alice: Person, service: Service
) -> None:
    old = alice.enrol(installed, "--period=300", "--recovery-codes=1")
    new = Phone(json.loads(enroller.run(*SCRIPT, "--force", person=alice).stdout))
    for answer in (old.totp(), old.recovery_codes[0]):
        assert service.log_in(alice, answer).result == PAM_AUTH_ERR
    for answer in (new.totp(), new.recovery_codes[0]):
        assert service.log_in(alice, answer).result == PAM_SUCCESS
    assert [path.name for path in sorted(alice.store.iterdir())] == ["state", "tokens"]


@pytest.mark.lockout("several programs enrol a user, or replace the token, at once")
def test_enroll__several_at_once_leave_the_token_that_one_of_them_showed(
    installed: Installation, alice: Person, service: Service
) -> None:
    """A refused run has shown nothing on stdout. Without --force, all runs but one are refused."""
    command = [str(installed.enroll), "--user", alice.name, *SCRIPT]
    for _ in range(2):
        alice.forget()
        for options in ([], ["--force"]):
            words = [*command, *options]
            running = [subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
            shown = []
            for each in running:
                out, errors = each.communicate(timeout=60)
                assert (each.returncode, bool(out)) in ((0, True), (1, False)), errors
                shown += [Phone(json.loads(out))] if out else []
            assert len(shown) == 1 or options
            results = [service.log_in(alice, phone.totp()).result for phone in shown]
            assert results.count(PAM_SUCCESS) == 1, results


@pytest.mark.lockout("the token is replaced while a login waits for its code")
def test_enroll__during_a_login_only_the_new_token_counts(
    enroller: Enroller, installed: Installation, alice: Person, service: Service
) -> None:
    old = alice.enrol(installed, "--period=300", "--recovery-codes=0")
    with Waiting(service, alice) as late, Waiting(service, alice) as login:
        late.wait_for_prompt()
        login.wait_for_prompt()
        new = Phone(json.loads(enroller.run(*SCRIPT, "--force", person=alice).stdout))
        assert late.answer(old.totp()).result == PAM_AUTH_ERR
        assert login.answer(new.totp()).result == PAM_SUCCESS


def test_enroll__force_without_an_earlier_token_is_fine(enroller: Enroller, alice: Person) -> None:
    assert enroller.run(*SCRIPT, "--force", person=alice).status == 0


@pytest.mark.parametrize("kind", ["totp", "hotp"])
def test_enroll__used_code_of_a_key_enrolled_again_is_still_refused(
    enroller: Enroller, alice: Person, service: Service, kind: str
) -> None:
    period = ["--period=300"] if kind == "totp" else []
    options = ("--no-confirm", "--json", f"--type={kind}", "--recovery-codes=0", *period)
    phone = Phone(json.loads(enroller.run(*options, person=alice).stdout))
    used = phone.totp() if kind == "totp" else phone.hotp()
    assert service.log_in(alice, used).result == PAM_SUCCESS
    key = str(phone.record["key"]).encode()
    # Another name, another number of digits, even another file: used codes are remembered by the key.
    (alice.store / "tokens").unlink()
    done = enroller.run(*options, "--name=again", "--key-file=-", person=alice, typed=key)
    assert done.status == 0
    assert service.log_in(alice, used).result == PAM_AUTH_ERR
    assert service.log_in(alice, phone.next()).result == PAM_SUCCESS


def test_enroll__used_recovery_code_stays_used_with_a_restored_token_file(
    enroller: Enroller, installed: Installation, alice: Person, service: Service
) -> None:
    code = alice.enrol(installed, "--recovery-codes=1").recovery_codes[0]
    assert service.log_in(alice, code).result == PAM_SUCCESS
    old = (alice.store / "tokens").read_bytes()
    assert enroller.run(*SCRIPT, "--force", person=alice).status == 0
    (alice.store / "tokens").write_bytes(old)
    assert service.log_in(alice, code).result == PAM_AUTH_ERR


def test_enroll__token_that_came_meanwhile_is_not_overwritten_without_force(
    enroller: Enroller, alice: Person, service: Service
) -> None:
    with enroller.start("--period=300", "--recovery-codes=1", person=alice) as dialogue:
        dialogue.expect(CODE_PROMPT)
        other = Phone(json.loads(enroller.run(*SCRIPT, person=alice).stdout))
        dialogue.type(dialogue.phone().totp())
        dialogue.expect(ENTER_PROMPT)
        dialogue.type("")
        mistake = dialogue.refused()
        assert mistake.error == f"somebody else has changed the tokens of {alice.name} meanwhile; nothing was changed"
        assert mistake.hint == "start again; what was shown here is not stored"
    assert service.log_in(alice, other.totp()).result == PAM_SUCCESS


def test_enroll__interrupted_one_leaves_the_token_that_came_meanwhile(
    enroller: Enroller, alice: Person, service: Service
) -> None:
    with enroller.start(person=alice) as dialogue:
        dialogue.expect(CODE_PROMPT)
        other = Phone(json.loads(enroller.run(*SCRIPT, person=alice).stdout))
        dialogue.press_control("C")
        dialogue.refused()
    assert service.log_in(alice, other.totp()).result == PAM_SUCCESS


def test_enroll__interrupted_one_does_not_hinder_one_that_began_meanwhile(
    enroller: Enroller, alice: Person, service: Service
) -> None:
    with enroller.start(person=alice) as first:
        first.expect(CODE_PROMPT)
        with enroller.start("--period=300", "--recovery-codes=1", person=alice) as second:
            second.expect(CODE_PROMPT)
            first.press_control("C")
            first.refused()
            # The state file that both had open is gone with the first. Whatever the second does about it, ...
            second.type(second.phone().totp())
            if second.expect_or_end(ENTER_PROMPT):
                second.type("")
            status = second.finish()
    # ... it either succeeds, or reports that it failed, and the next one works.
    if status != 0:
        assert Mistake(second.transcript).error.endswith("nothing was changed")
    assert (alice.store / "tokens").exists() == (status == 0)
    phone = Phone(json.loads(enroller.run(*SCRIPT, "--force", person=alice).stdout))
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS


@pytest.mark.parametrize("typed", ["the same code", "an older code"])
def test_enroll__code_used_up_by_a_login_meanwhile_does_not_confirm(
    enroller: Enroller, installed: Installation, alice: Person, service: Service, typed: str
) -> None:
    phone = alice.enrol(installed, "--period=300", "--recovery-codes=0")
    older, used = phone.totp(), phone.totp(1)
    (alice.home / "key.txt").write_text(str(phone.record["key"]))
    before = (alice.store / "tokens").read_bytes()
    options = ("--force", "--period=300", "--recovery-codes=0", f"--key-file={alice.home / 'key.txt'}")
    with enroller.start(*options, person=alice) as dialogue:
        dialogue.expect(CODE_PROMPT)
        assert service.log_in(alice, used).result == PAM_SUCCESS
        dialogue.type(used if typed == "the same code" else older)
        dialogue.expect("That code has been used before.")
    assert (alice.store / "tokens").read_bytes() == before
    assert service.log_in(alice, older).result == PAM_AUTH_ERR
    assert service.log_in(alice, used).result == PAM_AUTH_ERR


@pytest.mark.claim("The code that confirmed an enrolment counts as used.")
def test_enroll__confirming_code_that_a_login_uses_before_the_end_is_not_used_twice(
    enroller: Enroller, installed: Installation, alice: Person, service: Service
) -> None:
    phone = alice.enrol(installed, "--period=300", "--recovery-codes=0")
    code = phone.totp()
    (alice.home / "key.txt").write_text(str(phone.record["key"]))
    before = (alice.store / "tokens").read_bytes()
    options = ("--force", "--period=300", "--recovery-codes=1", f"--key-file={alice.home / 'key.txt'}")
    with enroller.start(*options, person=alice) as dialogue:
        dialogue.expect(CODE_PROMPT)
        dialogue.type(code)
        dialogue.expect(ENTER_PROMPT)
        assert service.log_in(alice, code).result == PAM_SUCCESS
        dialogue.type("")
        dialogue.refused()
    assert (alice.store / "tokens").read_bytes() == before
    assert service.log_in(alice, code).result == PAM_AUTH_ERR
