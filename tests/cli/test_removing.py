"""Run `softtoken-enroll --remove` and `--new-recovery-codes`: removed codes are dead at once, the others stay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.disk import fill
from tests.support.enroller import CODE_PROMPT, ENTER_PROMPT, TOKEN_PROMPT, Enroller, recovery_codes_in
from tests.support.installation import Installation
from tests.support.listing import listing
from tests.support.pam_scene import Pam

HOTP = ("--type=hotp", "--recovery-codes=0")
RENEW = "--new-recovery-codes"
SPENT = "Right. That code cannot be used again."


def names(person: Person) -> list[str]:
    """Read the names of a person's tokens from the file."""
    return [token["name"] for token in json.loads((person.store / "tokens").read_bytes())["tokens"]]


@pytest.fixture
def phone(installed: Installation, alice: Person) -> Phone:
    """Alice's first token."""
    return alice.enrol(installed, "--type=hotp", "--recovery-codes=3")


@pytest.fixture
def spare(installed: Installation, alice: Person, phone: Phone) -> Phone:
    """Alice's second token."""
    return alice.enrol(installed, *HOTP, "--name=spare")


# Removing a token.


@pytest.mark.parametrize("columns", [80, 40])
@pytest.mark.claim(
    "The codes of a removed token are refused at once, and its used codes stay used when its key comes back."
)
def test_remove__needs_a_code_and_the_removed_token_is_refused_at_once(
    enroller: Enroller, alice: Person, phone: Phone, spare: Phone, *, service: Service, columns: int
) -> None:
    assert service.log_in(alice, spare.hotp()).result == PAM_SUCCESS
    with enroller.start("--remove=spare", person=alice, columns=columns) as dialogue:
        dialogue.expect(TOKEN_PROMPT)
        code = phone.hotp()
        dialogue.type(code)
        dialogue.expect(f'Done. "spare" is gone; {alice.name} is enrolled with "phone".')
        assert dialogue.finish() == 0
    assert names(alice) == ["phone"]
    for answer in (spare.hotp(), code):
        assert service.log_in(alice, answer).result == PAM_AUTH_ERR
    for answer in (phone.hotp(), *phone.recovery_codes):
        assert service.log_in(alice, answer).result == PAM_SUCCESS


@pytest.mark.claim(
    "The codes of a removed token are refused at once, and its used codes stay used when its key comes back."
)
def test_remove__used_codes_stay_used_when_the_key_comes_back(
    enroller: Enroller, alice: Person, spare: Phone, service: Service
) -> None:
    used = spare.hotp()
    assert service.log_in(alice, used).result == PAM_SUCCESS
    root = ("--user", alice.name)
    assert enroller.run(*root, "--remove=spare", "--force").status == 0
    key = str(spare.record["key"]).encode()
    again = ("--no-confirm", "--json", *HOTP, "--name=found again", "--key-file=-")
    assert enroller.run(*root, *again, typed=key).status == 0
    assert service.log_in(alice, used).result == PAM_AUTH_ERR
    assert service.log_in(alice, spare.hotp()).result == PAM_SUCCESS


def test_remove__wrong_code_changes_nothing(enroller: Enroller, alice: Person, phone: Phone, spare: Phone) -> None:
    tokens = (alice.store / "tokens").read_bytes()
    with enroller.start("--remove=spare", "--force", person=alice) as dialogue:
        for _ in range(3):
            dialogue.expect(TOKEN_PROMPT)
            dialogue.type(phone.hotp_at(500))
        assert dialogue.refused().error == "no code was right; nothing was changed"
    assert (alice.store / "tokens").read_bytes() == tokens


@pytest.mark.parametrize("options", [("--no-confirm",), ("--no-confirm", "--force"), ("--force",), ()])
def test_remove__by_a_user_without_a_question_is_refused(
    enroller: Enroller, alice: Person, spare: Phone, options: tuple[str, ...]
) -> None:
    tokens = (alice.store / "tokens").read_bytes()
    hint = enroller.run("--remove=spare", *options, person=alice).refused().hint
    assert "add --no-confirm" not in hint, "that would not help"
    assert (alice.store / "tokens").read_bytes() == tokens


@pytest.mark.parametrize(("answer", "left"), [("y", 1), ("YES", 1), ("n", 2), ("", 2), ("spare", 2)])
def test_remove__root_is_asked_for_a_confirmation(
    enroller: Enroller, alice: Person, spare: Phone, answer: str, left: int
) -> None:
    with enroller.start("--remove=spare", "--user", alice.name) as dialogue:
        dialogue.expect(f'Remove token "spare" of {alice.name}? [y/N] ')
        dialogue.type(answer)
        if left == 1:
            assert dialogue.finish() == 0
        else:
            assert dialogue.refused().error == "not confirmed; nothing was changed"
    assert len(names(alice)) == left


@pytest.mark.parametrize("option", ["--force", "--no-confirm"])
def test_remove__root_need_not_be_asked(enroller: Enroller, alice: Person, spare: Phone, option: str) -> None:
    done = enroller.run("--remove=spare", "--user", alice.name, option)
    assert (done.status, done.stdout) == (0, "")
    assert names(alice) == ["phone"]


def test_remove__root_without_a_terminal_is_refused_with_a_hint(
    enroller: Enroller, alice: Person, spare: Phone
) -> None:
    mistake = enroller.run("--remove=spare", "--user", alice.name).refused()
    assert "no terminal" in mistake.error
    assert mistake.hint == "add --no-confirm"
    assert len(names(alice)) == 2


def test_remove__unknown_name_is_refused_before_anything_is_asked(
    enroller: Enroller, alice: Person, phone: Phone
) -> None:
    before = listing(alice.home)
    with enroller.start("--remove=a\x1b[2Jb", person=alice) as dialogue:
        mistake = dialogue.refused()
        assert "\x1b" not in dialogue.transcript
    assert mistake.before == ""
    assert mistake.error.startswith(f"{alice.name} has no token")
    assert "--list" in mistake.hint
    assert listing(alice.home) == before


def test_remove__last_token_is_refused_without_force(enroller: Enroller, alice: Person, phone: Phone) -> None:
    before = listing(alice.home)
    with enroller.start("--remove=phone", person=alice) as dialogue:
        mistake = dialogue.refused()
    assert mistake.before == ""
    assert mistake.error == f'"phone" is the only token of {alice.name}'
    assert "--force" in mistake.hint
    assert listing(alice.home) == before


def test_remove__last_token_goes_with_force_and_logins_are_denied(
    enroller: Enroller, installed: Installation, alice: Person, phone: Phone, service: Service
) -> None:
    used = phone.hotp()
    assert service.log_in(alice, used).result == PAM_SUCCESS  # which leaves the mark
    with enroller.start("--remove=phone", "--force", person=alice) as dialogue:
        told = dialogue.expect(TOKEN_PROMPT)
        assert "logins that require a code are denied" in told
        assert f"/var/lib/softtoken/enrolled/{alice.uid}" in told
        dialogue.type(phone.recovery_codes[0])
        assert dialogue.finish() == 0
        assert f"{alice.name} is not enrolled any more" in dialogue.transcript
    assert sorted(path.name for path in alice.store.iterdir()) == ["state"]
    for answer in (phone.hotp(), phone.recovery_codes[1]):
        assert service.log_in(alice, answer).result == PAM_AUTH_ERR
    # With the key back, used codes are still used.
    key = str(phone.record["key"]).encode()
    again = ("--no-confirm", "--json", *HOTP, "--key-file=-")
    assert enroller.run(*again, person=alice, typed=key).status == 0
    assert service.log_in(alice, used).result == PAM_AUTH_ERR


def test_remove__other_one_removed_meanwhile_leaves_the_last(
    enroller: Enroller, alice: Person, phone: Phone, spare: Phone
) -> None:
    with enroller.start("--remove=spare", "--force", person=alice) as dialogue:
        dialogue.expect(TOKEN_PROMPT)
        assert enroller.run("--remove=phone", "--force", "--user", alice.name).status == 0
        dialogue.type(spare.hotp())
        assert "somebody else has changed the tokens" in dialogue.refused().error
    assert names(alice) == ["spare"]


def test_remove__token_added_meanwhile_stays(
    enroller: Enroller, installed: Installation, alice: Person, phone: Phone, *, spare: Phone, service: Service
) -> None:
    with enroller.start("--remove=spare", person=alice) as dialogue:
        dialogue.expect(TOKEN_PROMPT)
        third = alice.enrol(installed, *HOTP, "--name=third")
        dialogue.type(phone.hotp())
        assert dialogue.finish() == 0
    assert names(alice) == ["phone", "third"]
    assert service.log_in(alice, third.hotp()).result == PAM_SUCCESS


@pytest.mark.parametrize("key", ["C", "D"])
@pytest.mark.parametrize("caller", ["alice", "root"])
def test_remove__stopped_at_its_prompt_changes_nothing(
    enroller: Enroller, alice: Person, spare: Phone, key: str, caller: str
) -> None:
    before = listing(alice.home)
    person = alice if caller == "alice" else None
    with enroller.start("--remove=spare", "--user", alice.name, person=person) as dialogue:
        dialogue.expect(TOKEN_PROMPT if person else "[y/N] ")
        dialogue.press_control(key)
        assert dialogue.refused().error.endswith("nothing was changed")
    assert listing(alice.home) == before


def test_remove__full_disk_changes_nothing(
    enroller: Enroller, installed: Installation, alice: Person, small_home: Path, service: Service
) -> None:
    phone = alice.enrol(installed, *HOTP)
    alice.enrol(installed, *HOTP, "--name=spare")
    fill(small_home)
    assert "No space left" in enroller.run("--remove=spare", "--force", "--user", alice.name).refused().error
    assert names(alice) == ["phone", "spare"]
    assert sorted(path.name for path in alice.store.iterdir()) == ["state", "tokens"]
    assert service.log_in(alice, phone.hotp()).result == PAM_SUCCESS


def test_remove__ends_the_time_in_which_no_code_is_asked_for(
    enroller: Enroller, alice: Person, phone: Phone, *, spare: Phone, pam: Pam
) -> None:
    service = pam.service("grace=1h")
    options = ["--item=rhost=192.0.2.7"]
    assert service.log_in(alice, spare.hotp(), options=options).result == PAM_SUCCESS
    assert service.log_in(alice, options=options).prompts == []
    assert enroller.run("--remove=spare", "--force", "--user", alice.name).status == 0
    assert service.log_in(alice, spare.hotp(), options=options).result == PAM_AUTH_ERR
    assert service.log_in(alice, phone.hotp(), options=options).result == PAM_SUCCESS


# New recovery codes.


@pytest.mark.parametrize("columns", [80, 40])
@pytest.mark.parametrize("kind", ["token", "recovery code"])
def test_renew__new_recovery_codes_work_and_the_old_ones_do_not(
    enroller: Enroller, alice: Person, phone: Phone, *, service: Service, columns: int, kind: str
) -> None:
    with enroller.start(RENEW, "--recovery-codes=2", person=alice, columns=columns) as dialogue:
        dialogue.expect(TOKEN_PROMPT)
        dialogue.type(phone.hotp() if kind == "token" else phone.recovery_codes[0])
        dialogue.expect(SPENT)
        codes = recovery_codes_in(dialogue.expect(ENTER_PROMPT))
        assert len(set(codes)) == 2
        dialogue.type("")
        assert dialogue.finish() == 0
        assert [dialogue.transcript.count(code) for code in codes] == [1, 1], "they are shown once"
    for code in phone.recovery_codes:
        assert service.log_in(alice, code).result == PAM_AUTH_ERR
    for code in codes:
        assert service.log_in(alice, code).result == PAM_SUCCESS
        assert service.log_in(alice, code).result == PAM_AUTH_ERR
    assert service.log_in(alice, phone.hotp()).result == PAM_SUCCESS


def test_renew__helps_after_the_record_of_used_recovery_codes_is_lost(
    enroller: Enroller, installed: Installation, alice: Person, service: Service
) -> None:
    phone = alice.enrol(installed, "--period=300", "--recovery-codes=1")
    (alice.store / "state").unlink()
    with enroller.start(RENEW, "--recovery-codes=1", person=alice) as dialogue:
        dialogue.expect(TOKEN_PROMPT)
        dialogue.type(phone.totp(1))  # without the state, the present code counts as used
        dialogue.expect(SPENT)
        (code,) = recovery_codes_in(dialogue.expect(ENTER_PROMPT))
        dialogue.type("")
        assert dialogue.finish() == 0
    assert service.log_in(alice, phone.recovery_codes[0]).result == PAM_AUTH_ERR
    assert service.log_in(alice, code).result == PAM_SUCCESS


def test_renew__shows_the_codes_on_stdout_and_asks_on_stderr(enroller: Enroller, alice: Person, phone: Phone) -> None:
    with enroller.start(RENEW, person=alice, piped=[2]) as dialogue:
        dialogue.type(phone.hotp())
        dialogue.expect("Keep them on paper")
        dialogue.type("")
        assert dialogue.finish() == 0
        stderr = dialogue.file(2)
    assert len(recovery_codes_in(dialogue.transcript)) == 10
    assert [text in stderr for text in (TOKEN_PROMPT, SPENT, ENTER_PROMPT, "Done.")] == [True] * 4
    assert recovery_codes_in(stderr) == []


def test_renew__for_root_and_a_program(enroller: Enroller, alice: Person, phone: Phone, service: Service) -> None:
    done = enroller.run(RENEW, "--no-confirm", "--json", "--recovery-codes=1", "--user", alice.name)
    assert (done.status, done.stderr) == (0, "")
    (code,) = json.loads(done.stdout)["recovery_codes"]
    assert service.log_in(alice, phone.recovery_codes[0]).result == PAM_AUTH_ERR
    assert service.log_in(alice, code).result == PAM_SUCCESS


def test_renew__without_a_question_is_refused_to_a_user(enroller: Enroller, alice: Person, phone: Phone) -> None:
    before = listing(alice.home)
    assert "takes a code" in enroller.run(RENEW, "--no-confirm", "--json", person=alice).refused().error
    assert listing(alice.home) == before


def test_renew__old_codes_are_refused_in_a_login_under_way(
    enroller: Enroller, alice: Person, phone: Phone, service: Service
) -> None:
    """The second prompt comes from a process that has already read the old token file."""
    with enroller.start("--name=spare", *HOTP, person=alice) as dialogue:
        dialogue.expect(TOKEN_PROMPT)
        assert enroller.run(RENEW, "--no-confirm", "--user", alice.name).status == 0
        dialogue.type(phone.recovery_codes[0])
        dialogue.expect("The code is not right now")


@pytest.mark.parametrize("prompt", [TOKEN_PROMPT, ENTER_PROMPT])
@pytest.mark.parametrize("key", ["C", "D"])
def test_renew__stopped_at_a_prompt_leaves_the_old_codes_alive(
    enroller: Enroller, alice: Person, phone: Phone, *, service: Service, prompt: str, key: str
) -> None:
    tokens = (alice.store / "tokens").read_bytes()
    with enroller.start(RENEW, "--recovery-codes=1", person=alice) as dialogue:
        dialogue.expect(TOKEN_PROMPT)
        if prompt == ENTER_PROMPT:
            dialogue.type(phone.hotp())
            dialogue.expect(ENTER_PROMPT)
        dialogue.press_control(key)
        assert dialogue.refused().error.endswith("nothing was changed")
        shown = recovery_codes_in(dialogue.transcript)
    assert (alice.store / "tokens").read_bytes() == tokens
    for code in shown:
        assert service.log_in(alice, code).result == PAM_AUTH_ERR
    for code in phone.recovery_codes:
        assert service.log_in(alice, code).result == PAM_SUCCESS


def test_renew__two_at_once_leave_the_codes_of_the_first(
    enroller: Enroller, alice: Person, phone: Phone, service: Service
) -> None:
    with enroller.start(RENEW, "--recovery-codes=1", person=alice) as dialogue:
        dialogue.expect(TOKEN_PROMPT)
        dialogue.type(phone.hotp())
        dialogue.expect(ENTER_PROMPT)
        done = enroller.run(RENEW, "--recovery-codes=1", "--no-confirm", "--json", "--user", alice.name)
        dialogue.type("")
        assert "somebody else has changed" in dialogue.refused().error
        (slower,) = recovery_codes_in(dialogue.transcript)
    (quicker,) = json.loads(done.stdout)["recovery_codes"]
    assert service.log_in(alice, slower).result == PAM_AUTH_ERR
    assert service.log_in(alice, quicker).result == PAM_SUCCESS


def test_renew__full_disk_is_refused_before_a_code_is_used_up(
    enroller: Enroller, installed: Installation, alice: Person, small_home: Path, service: Service
) -> None:
    phone = alice.enrol(installed, "--type=hotp", "--recovery-codes=1")
    fill(small_home)
    before = listing(small_home)
    with enroller.start(RENEW, person=alice) as dialogue:
        mistake = dialogue.refused()
    assert mistake.before == ""
    assert "No space left" in mistake.error
    assert listing(small_home) == before
    for answer in (phone.hotp(), *phone.recovery_codes):
        assert service.log_in(alice, answer).result == PAM_SUCCESS


@pytest.mark.parametrize("options", [("--remove=phone",), (RENEW,), ("--remove=phone", "--force")])
def test_changes__for_a_user_without_tokens_fail_and_create_no_file(
    enroller: Enroller, alice: Person, options: tuple[str, ...]
) -> None:
    before = listing(alice.home)
    for person in (alice, None):
        with enroller.start(*options, "--user", alice.name, person=person) as dialogue:
            assert dialogue.refused().error == f"{alice.name} is not enrolled in {alice.store}"
    assert listing(alice.home) == before


def test_changes__to_tokens_of_another_user_are_refused(enroller: Enroller, alice: Person) -> None:
    for options in (("--list",), ("--remove=phone",), (RENEW,)):
        mistake = enroller.run(*options, "--user", "root", person=alice).refused()
        assert mistake.error == "only root can do that for somebody else"


def test_renew__in_a_store_outside_the_home_keeps_root_as_owner(
    enroller: Enroller, installed: Installation, alice: Person, outside: Path
) -> None:
    store = f"--store={outside}/%U"
    alice.enrol(installed, store, "--recovery-codes=1")
    assert CODE_PROMPT not in enroller.run(RENEW, store, person=alice).refused().error
    done = enroller.run(RENEW, store, "--no-confirm", "--json", "--recovery-codes=2", "--user", alice.name)
    assert len(json.loads(done.stdout)["recovery_codes"]) == 2
