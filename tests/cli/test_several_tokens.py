"""Enrol several tokens: adding one needs a code of another, and each of them logs in on its own."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from pam_softtoken.account import state_format
from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.disk import fill
from tests.support.enroller import (
    CODE_PROMPT,
    OTHERS_CODE_PROMPT,
    TOKEN_PROMPT,
    Dialogue,
    Enroller,
    recovery_codes_in,
    uri_in,
)
from tests.support.installation import Installation
from tests.support.listing import listing
from tests.support.pam_scene import lock_out

QUICK = ("--no-confirm", "--json", "--recovery-codes=0")
HOTP = ("--type=hotp", "--recovery-codes=0")
SPENT = "Right. That code cannot be used again."


def names(person: Person) -> list[str]:
    """Read the names of a person's tokens from the file."""
    return [token["name"] for token in json.loads((person.store / "tokens").read_bytes())["tokens"]]


def permit(dialogue: Dialogue, code: str) -> None:
    """Prove with a code that the tokens belong to the user."""
    dialogue.expect(TOKEN_PROMPT)
    dialogue.type(code)
    dialogue.expect(SPENT)
    dialogue.expect(CODE_PROMPT)


def finish(dialogue: Dialogue) -> Phone:
    """Confirm the new token with one of its codes."""
    phone = dialogue.phone()
    dialogue.type(phone.hotp() if phone.record["type"] == "hotp" else phone.totp())
    assert dialogue.finish() == 0, dialogue.transcript
    return phone


def code_of(phone: Phone, kind: str) -> str:
    """Return a code of one of the three kinds."""
    if kind == "recovery":
        return phone.recovery_codes[0]
    return phone.hotp() if kind == "hotp" else phone.totp()


def set_pin(person: Person, pin: str) -> None:
    """Write the scrypt hash (RFC 7914) of a PIN into a token file."""
    file = person.store / "tokens"
    document = json.loads(file.read_bytes())
    digest = hashlib.scrypt(pin.encode(), salt=bytes(16), n=1024, r=8, p=1, dklen=16)
    document["pin"] = {"scrypt": [1024, 8, 1], "salt": bytes(16).hex(), "hash": digest.hex(), "length": len(pin)}
    file.write_text(json.dumps(document))


@pytest.fixture
def phone(installed: Installation, alice: Person) -> Phone:
    """Alice's first token. It is a HOTP token, so a test can use any number of codes without waiting."""
    return alice.enrol(installed, "--type=hotp", "--recovery-codes=2")


# Adding one.


@pytest.mark.parametrize("columns", [80, 40])
def test_add__dialogue_asks_for_a_code_and_both_tokens_log_in(
    enroller: Enroller, alice: Person, phone: Phone, service: Service, columns: int
) -> None:
    with enroller.start("--name=spare", "--period=300", person=alice, columns=columns) as dialogue:
        told = dialogue.expect(TOKEN_PROMPT)
        assert told == f'{alice.name} is enrolled with "phone". This adds "spare".\r\n'
        dialogue.type(phone.hotp())
        dialogue.expect(SPENT)
        dialogue.expect(CODE_PROMPT)
        spare = finish(dialogue)
        assert dialogue.transcript.endswith(
            f'Done. {alice.name} has another token, "spare"; the recovery codes are as they were.\r\n'
        )
        assert recovery_codes_in(dialogue.transcript) == []
    assert names(alice) == ["phone", "spare"]
    for answer in (phone.hotp(), spare.totp(1), phone.hotp(), *phone.recovery_codes):
        assert service.log_in(alice, answer).result == PAM_SUCCESS


def test_add__key_goes_to_stdout_and_the_questions_to_stderr(enroller: Enroller, alice: Person, phone: Phone) -> None:
    with enroller.start("--name=spare", *HOTP, person=alice, piped=[2]) as dialogue:
        dialogue.type(phone.hotp())
        dialogue.expect("URI:  ")
        dialogue.expect("\r\n")
        finish(dialogue)
        stderr = dialogue.file(2)
    assert [text in stderr for text in (TOKEN_PROMPT, SPENT, CODE_PROMPT, "Done.")] == [True] * 4
    key = re.search(r"secret=(\w+)", uri_in(dialogue.transcript)).group(1)  # type: ignore[union-attr]
    assert key not in stderr


def test_add__json_is_one_object_without_recovery_codes(
    enroller: Enroller, alice: Person, phone: Phone, service: Service
) -> None:
    with enroller.start("--name=spare", "--type=hotp", "--json", person=alice, piped=[1]) as dialogue:
        permit(dialogue, phone.hotp())
        finish(dialogue)
        record = json.loads(dialogue.file(1))
    assert (record["name"], record["recovery_codes"]) == ("spare", [])
    assert service.log_in(alice, Phone(record).hotp_at(1)).result == PAM_SUCCESS


def test_add__page_to_print_says_that_the_recovery_codes_stay(
    enroller: Enroller, alice: Person, phone: Phone, outside: Path
) -> None:
    page = outside / "page.html"
    done = enroller.run(*QUICK, "--user", alice.name, "--name=spare", "--sheet", page)
    assert done.status == 0, done.stderr
    text = page.read_text()
    assert "the account keeps those that it had" in text
    assert "There are none" not in text
    assert "<code>--name</code>" in text


def test_tokens__each_has_a_counter_of_its_own(installed: Installation, alice: Person, service: Service) -> None:
    tokens = [alice.enrol(installed, *HOTP, f"--name=token {number}") for number in range(3)]
    used = []
    for steps in (1, 2, 3):
        for token in tokens[:steps]:
            used.append(token.hotp())
            assert service.log_in(alice, used[-1]).result == PAM_SUCCESS
    assert [token.counter for token in tokens] == [3, 2, 1]
    for code in used:
        assert service.log_in(alice, code).result == PAM_AUTH_ERR
    for token in tokens:
        assert service.log_in(alice, token.hotp()).result == PAM_SUCCESS


def test_tokens__sixteen_of_them_all_log_in(installed: Installation, alice: Person, service: Service) -> None:
    tokens = [alice.enrol(installed, *HOTP, f"--name=token {number}") for number in range(16)]
    assert [service.log_in(alice, token.hotp()).result for token in tokens] == [PAM_SUCCESS] * 16


# The code that permits the addition.


@pytest.mark.parametrize("kind", ["totp", "hotp", "recovery"])
@pytest.mark.claim("The code that permitted adding a token counts as used, and a code that logged in permits nothing.")
def test_add__code_that_permitted_it_is_refused_at_a_login(
    enroller: Enroller, installed: Installation, alice: Person, service: Service, kind: str
) -> None:
    options = ["--type=hotp"] if kind == "hotp" else ["--period=300"]
    phone = alice.enrol(installed, *options, "--recovery-codes=2")
    code = code_of(phone, kind)
    with enroller.start("--name=spare", *HOTP, person=alice) as dialogue:
        permit(dialogue, code)
        # Not only at the end: from the moment on when it has been accepted.
        assert service.log_in(alice, code).result == PAM_AUTH_ERR
        finish(dialogue)
    assert service.log_in(alice, code).result == PAM_AUTH_ERR
    left = phone.recovery_codes[1] if kind == "recovery" else phone.next()
    assert service.log_in(alice, left).result == PAM_SUCCESS


@pytest.mark.parametrize("kind", ["totp", "hotp", "recovery"])
@pytest.mark.claim("The code that permitted adding a token counts as used, and a code that logged in permits nothing.")
def test_add__code_used_for_a_login_is_not_enough(
    enroller: Enroller, installed: Installation, alice: Person, service: Service, kind: str
) -> None:
    options = ["--type=hotp"] if kind == "hotp" else ["--period=300"]
    phone = alice.enrol(installed, *options, "--recovery-codes=1")
    code = code_of(phone, kind)
    tokens = (alice.store / "tokens").read_bytes()
    with enroller.start("--name=spare", *HOTP, person=alice) as dialogue:
        dialogue.expect(TOKEN_PROMPT)
        assert service.log_in(alice, code).result == PAM_SUCCESS
        dialogue.type(code)
        dialogue.expect("has been used, or one after it has: wait until the app shows the next one.")
        dialogue.expect(TOKEN_PROMPT)
        dialogue.press_control("D")
        dialogue.refused()
        assert "URI:" not in dialogue.transcript
    assert (alice.store / "tokens").read_bytes() == tokens


def test_add__code_permits_one_addition(enroller: Enroller, alice: Person, phone: Phone) -> None:
    code = phone.hotp()
    with enroller.start("--name=spare", *HOTP, person=alice) as dialogue:
        permit(dialogue, code)
        finish(dialogue)
    with enroller.start("--name=third", *HOTP, person=alice) as dialogue:
        dialogue.expect(TOKEN_PROMPT)
        dialogue.type(code)
        dialogue.expect("has been used, or one after it has")
    assert names(alice) == ["phone", "spare"]


@pytest.mark.claim("Wrong codes for permission to change tokens count as wrong answers.")
def test_add__wrong_codes_change_nothing_and_count_as_wrong_answers(
    enroller: Enroller, alice: Person, phone: Phone, service: Service
) -> None:
    tokens = (alice.store / "tokens").read_bytes()
    wrong = phone.hotp_at(500)
    with enroller.start("--name=spare", *HOTP, person=alice) as dialogue:
        for _ in range(3):
            dialogue.expect(TOKEN_PROMPT)
            dialogue.type(wrong)
            dialogue.expect("The code is not right now")
        mistake = dialogue.refused()
        assert mistake.error == "no code was right; nothing was changed"
        assert "URI:" not in dialogue.transcript
    assert (alice.store / "tokens").read_bytes() == tokens
    _, present = state_format.decode((alice.store / "state").read_bytes(), path="state")
    assert {bucket: count for bucket, (count, _) in present.wrong.items()} == {"local": 3}
    assert service.log_in(alice, phone.hotp()).result == PAM_SUCCESS


def test_add__input_that_is_not_a_code_is_an_error_and_does_not_count(
    enroller: Enroller, alice: Person, phone: Phone
) -> None:
    with enroller.start("--name=spare", *HOTP, person=alice) as dialogue:
        for typed in ("", "hello"):
            dialogue.expect(TOKEN_PROMPT)
            dialogue.type(typed)
            dialogue.expect("That is not a code: a code has 6 to 8 digits.")
        permit(dialogue, phone.hotp())
        finish(dialogue)
    assert state_format.decode((alice.store / "state").read_bytes(), path="state")[1].wrong == {}


def test_add__after_too_many_wrong_answers_needs_two_codes_in_a_row(
    enroller: Enroller, alice: Person, phone: Phone
) -> None:
    lock_out(alice)
    with enroller.start("--name=spare", *HOTP, person=alice) as dialogue:
        dialogue.expect(TOKEN_PROMPT)
        dialogue.type(phone.hotp())
        dialogue.expect("Too many wrong codes; one code alone is accepted again in 24 h: two codes in a row")
        permit(dialogue, phone.hotp())
        finish(dialogue)
    assert names(alice) == ["phone", "spare"]


def test_add__with_a_pin_is_refused_during_a_wait(enroller: Enroller, alice: Person, phone: Phone) -> None:
    set_pin(alice, "4711")
    lock_out(alice)
    with enroller.start("--name=spare", *HOTP, person=alice) as dialogue:
        dialogue.expect("PIN and code of one of your tokens: ")
        dialogue.type("4711" + phone.hotp())
        assert dialogue.refused().error.startswith("too many wrong codes; one code alone is accepted again in 15 min")
    assert names(alice) == ["phone"]


def test_add__lost_hotp_counter_needs_two_codes(
    enroller: Enroller, alice: Person, phone: Phone, service: Service
) -> None:
    (alice.store / "state").unlink()
    with enroller.start("--name=spare", *HOTP, person=alice) as dialogue:
        dialogue.expect(TOKEN_PROMPT)
        dialogue.type(phone.hotp())
        dialogue.expect("two in a row bring the token back")
        permit(dialogue, phone.hotp())
        spare = finish(dialogue)
    for token in (phone, spare):
        assert service.log_in(alice, token.hotp()).result == PAM_SUCCESS


def test_add__pin_is_asked_for_and_stays(enroller: Enroller, alice: Person, phone: Phone, service: Service) -> None:
    set_pin(alice, "2468")
    with enroller.start("--name=spare", *HOTP, person=alice) as dialogue:
        dialogue.expect("PIN and code of one of your tokens: ")
        dialogue.type(phone.hotp_at(0))
        dialogue.expect("The code is not right now")
        dialogue.expect("PIN and code of one of your tokens: ")
        dialogue.type("2468" + phone.hotp())
        dialogue.expect(SPENT)
        dialogue.expect(CODE_PROMPT)
        spare = finish(dialogue)
    assert enroller.run("--new-recovery-codes", "--no-confirm", "--user", alice.name).status == 0
    assert enroller.run("--remove=phone", "--force", "--user", alice.name).status == 0
    assert service.log_in(alice, spare.hotp()).result == PAM_AUTH_ERR
    assert service.log_in(alice, "2468" + spare.hotp()).result == PAM_SUCCESS


def test_add__root_is_asked_for_no_code(enroller: Enroller, alice: Person, phone: Phone, service: Service) -> None:
    with enroller.start("--user", alice.name, "--name=spare", *HOTP) as dialogue:
        dialogue.expect(OTHERS_CODE_PROMPT.format(alice.name))
        assert TOKEN_PROMPT not in dialogue.transcript
        spare = finish(dialogue)
    for token in (phone, spare):
        assert service.log_in(alice, token.hotp()).result == PAM_SUCCESS


@pytest.mark.parametrize("more", [(), ("--force",)], ids=["plain", "force"])
def test_add__by_a_user_without_a_question_is_refused(
    enroller: Enroller, alice: Person, phone: Phone, more: tuple[str, ...]
) -> None:
    before = listing(alice.home)
    mistake = enroller.run(*QUICK, "--name=spare", *more, person=alice).refused()
    assert mistake.error == "that takes a code of an enrolled token, and --no-confirm asks for none"
    assert mistake.hint.startswith("leave --no-confirm out")
    assert listing(alice.home) == before


def test_add__code_of_a_token_removed_meanwhile_permits_nothing(
    enroller: Enroller, installed: Installation, alice: Person, phone: Phone
) -> None:
    stolen = alice.enrol(installed, *HOTP, "--name=stolen")
    with enroller.start("--name=thief's", *HOTP, person=alice) as dialogue:
        permit(dialogue, stolen.hotp())
        assert enroller.run("--user", alice.name, "--remove=stolen", "--force").status == 0
        dialogue.type(dialogue.phone().hotp())
        assert "has been removed meanwhile; nothing was changed" in dialogue.refused().error
    assert names(alice) == ["phone"]


def test_add__recovery_code_replaced_meanwhile_permits_nothing(enroller: Enroller, alice: Person, phone: Phone) -> None:
    with enroller.start("--name=thief's", *HOTP, person=alice) as dialogue:
        permit(dialogue, phone.recovery_codes[0])
        assert enroller.run("--user", alice.name, "--new-recovery-codes", "--no-confirm").status == 0
        dialogue.type(dialogue.phone().hotp())
        assert "has been removed meanwhile; nothing was changed" in dialogue.refused().error
    assert names(alice) == ["phone"]


# What is there stays.


def test_add__used_recovery_codes_stay_used_with_a_lost_state(
    enroller: Enroller, alice: Person, phone: Phone, service: Service
) -> None:
    spent = phone.recovery_codes[0]
    assert service.log_in(alice, spent).result == PAM_SUCCESS
    (alice.store / "state").unlink()
    assert enroller.run(*QUICK, "--user", alice.name, "--name=spare").status == 0
    assert service.log_in(alice, spent).result == PAM_AUTH_ERR


def test_force__replaces_the_token_of_that_name_and_the_recovery_codes_and_no_other_token(
    enroller: Enroller, installed: Installation, alice: Person, phone: Phone, service: Service
) -> None:
    spare = alice.enrol(installed, *HOTP, "--name=spare")
    done = enroller.run("--no-confirm", "--json", "--type=hotp", "--recovery-codes=1", "--force", person=alice)
    new = Phone(json.loads(done.stdout))
    assert names(alice) == ["phone", "spare"]
    for answer in (phone.hotp(), *phone.recovery_codes):
        assert service.log_in(alice, answer).result == PAM_AUTH_ERR
    for answer in (new.hotp(), spare.hotp(), *new.recovery_codes):
        assert service.log_in(alice, answer).result == PAM_SUCCESS


def test_force__replaces_a_damaged_token_file(enroller: Enroller, alice: Person, phone: Phone) -> None:
    (alice.store / "tokens").write_text("{")
    assert "--force" in enroller.run(*QUICK, "--name=spare", person=alice).refused().hint
    assert enroller.run(*QUICK, "--name=spare", "--force", person=alice).status == 0
    assert names(alice) == ["spare"]


def test_add__name_in_use_is_refused_and_another_one_offered(
    enroller: Enroller, installed: Installation, alice: Person, phone: Phone
) -> None:
    alice.enrol(installed, *HOTP, "--name=spare")
    before = listing(alice.home)
    with enroller.start("--name=spare", person=alice) as dialogue:
        mistake = dialogue.refused()
    assert mistake.before == ""
    assert mistake.error == f'{alice.name} is already enrolled with token "spare"'
    assert "--name spare2 adds another one; --force replaces it" in mistake.hint
    assert listing(alice.home) == before


def test_add__seventeenth_token_is_refused_before_anything_is_asked(
    enroller: Enroller, installed: Installation, alice: Person
) -> None:
    for number in range(16):
        alice.enrol(installed, *HOTP, f"--name=token {number}")
    before = listing(alice.home)
    with enroller.start(person=alice) as dialogue:
        mistake = dialogue.refused()
    assert mistake.before == ""
    assert mistake.error == f"{alice.name} has 16 tokens, and there can be no more"
    assert "--remove" in mistake.hint
    assert listing(alice.home) == before
    # One in the place of another is none too many.
    assert enroller.run(*QUICK, "--name=token 7", "--force", person=alice).status == 0


SAME_KEYS: dict[str, tuple[Callable[[str], str], list[str]]] = {
    "the same": (lambda key: key, []),
    "digits": (lambda key: key, ["--digits=8"]),
    "type": (lambda key: key, ["--type=totp"]),
    "algorithm": (lambda key: key, ["--algorithm=SHA256"]),
    # RFC 2104, section 2: a short key is filled up with zeros. 32 characters of Base32 are 20 bytes, 8 more are 5.
    "zeros at the end": (lambda key: key + "AAAAAAAA", []),
    "zeros at the end, digits": (lambda key: key + "AAAAAAAA", ["--digits=8"]),
}


@pytest.mark.parametrize("difference", SAME_KEYS)
def test_add__key_that_another_token_has_is_refused(
    enroller: Enroller, alice: Person, phone: Phone, difference: str
) -> None:
    before = listing(alice.home)
    spell, options = SAME_KEYS[difference]
    key = spell(str(phone.record["key"])).encode()
    command = (*QUICK, "--user", alice.name, "--name=spare", "--type=hotp", *options, "--key-file=-")
    mistake = enroller.run(*command, typed=key).refused()
    assert mistake.error == f'token "phone" of {alice.name} has the same key'
    assert listing(alice.home) == before


# Two at once, and interruptions.


def test_add__two_at_once_are_both_added(enroller: Enroller, alice: Person, phone: Phone, service: Service) -> None:
    with (
        enroller.start("--name=one", *HOTP, person=alice) as first,
        enroller.start("--name=two", *HOTP, person=alice) as second,
    ):
        permit(first, phone.hotp())
        permit(second, phone.hotp())
        added = [finish(second), finish(first)]
    assert names(alice) == ["phone", "two", "one"]
    for token in (phone, *added):
        assert service.log_in(alice, token.hotp()).result == PAM_SUCCESS


def test_add__two_of_one_name_at_once_leave_the_first(
    enroller: Enroller, alice: Person, phone: Phone, service: Service
) -> None:
    with (
        enroller.start("--name=spare", *HOTP, person=alice) as first,
        enroller.start("--name=spare", *HOTP, person=alice) as second,
    ):
        permit(first, phone.hotp())
        permit(second, phone.hotp())
        quicker = finish(second)
        first.type(first.phone().hotp())
        assert first.refused().hint == "start again; what was shown here is not stored"
    assert service.log_in(alice, quicker.hotp()).result == PAM_SUCCESS


def test_add__many_processes_at_once_lose_no_token(
    enroller: Enroller, alice: Person, phone: Phone, service: Service
) -> None:
    commands = [
        [*map(str, enroller.program), *QUICK, "--type=hotp", "--user", alice.name, f"--name=token {number}"]
        for number in range(8)
    ]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for command in commands]
    results = [(process.communicate(timeout=60)[0], process.returncode) for process in running]
    added = [Phone(json.loads(stdout)) for stdout, status in results if status == 0]
    assert sorted(names(alice)) == sorted(["phone", *(str(token.record["name"]) for token in added)])
    for token in (phone, *added):
        assert service.log_in(alice, token.hotp()).result == PAM_SUCCESS


def test_force__does_not_replace_tokens_that_changed_during_the_dialogue(
    enroller: Enroller, alice: Person, phone: Phone
) -> None:
    with enroller.start(*HOTP, "--force", person=alice) as dialogue:
        dialogue.expect(CODE_PROMPT)
        rival = enroller.run(*QUICK, "--type=hotp", "--force", person=alice)
        tokens = (alice.store / "tokens").read_bytes()
        dialogue.type(dialogue.phone().hotp())
        assert "somebody else has changed the tokens" in dialogue.refused().error
    assert (alice.store / "tokens").read_bytes() == tokens
    assert json.loads(rival.stdout)["key"] in tokens.decode()


def test_add__killed_before_its_last_step_leaves_the_confirming_code_used(
    enroller: Enroller, alice: Person, phone: Phone, service: Service
) -> None:
    """The use is recorded before the token exists. In the other order, the code would still work for a login."""
    tokens = (alice.store / "tokens").read_bytes()
    calls = "rename,renameat,renameat2"
    strace = ("strace", "-o", "/dev/null", "-e", f"trace={calls}", "-e", f"inject={calls}:signal=KILL")
    with enroller.after(*strace).start("--name=spare", *HOTP, person=alice) as dialogue:
        permit(dialogue, phone.hotp())
        spare = dialogue.phone()
        code = spare.hotp()
        dialogue.type(code)
        assert dialogue.finish() != 0
    assert (alice.store / "tokens").read_bytes() == tokens
    key = str(spare.record["key"]).encode()
    assert enroller.run(*QUICK, "--user", alice.name, "--name=spare", *HOTP, "--key-file=-", typed=key).status == 0
    assert service.log_in(alice, code).result == PAM_AUTH_ERR
    assert service.log_in(alice, spare.hotp()).result == PAM_SUCCESS


@pytest.mark.parametrize("prompt", [TOKEN_PROMPT, CODE_PROMPT])
@pytest.mark.parametrize("key", ["C", "D"])
def test_add__stopped_at_a_prompt_leaves_the_tokens_as_they_were(
    enroller: Enroller, alice: Person, phone: Phone, *, service: Service, prompt: str, key: str
) -> None:
    tokens, files = (alice.store / "tokens").read_bytes(), sorted(alice.store.iterdir())
    with enroller.start("--name=spare", *HOTP, person=alice) as dialogue:
        dialogue.expect(TOKEN_PROMPT)
        if prompt == CODE_PROMPT:
            dialogue.type(phone.hotp())
            dialogue.expect(CODE_PROMPT)
        dialogue.press_control(key)
        assert dialogue.refused().error.endswith("nothing was changed")
    assert (alice.store / "tokens").read_bytes() == tokens
    assert sorted(alice.store.iterdir()) == files
    assert service.log_in(alice, phone.hotp()).result == PAM_SUCCESS


def test_add__on_a_full_disk_is_refused_before_a_code_is_used_up(
    enroller: Enroller, installed: Installation, alice: Person, small_home: Path, service: Service
) -> None:
    phone = alice.enrol(installed, *HOTP)
    fill(small_home)
    before = listing(small_home)
    with enroller.start("--name=spare", *HOTP, person=alice) as dialogue:
        mistake = dialogue.refused()
    assert mistake.before == ""
    assert "No space left on device; nothing was changed" in mistake.error
    assert listing(small_home) == before
    assert service.log_in(alice, phone.hotp()).result == PAM_SUCCESS


def test_add__disk_that_fills_up_during_the_dialogue_leaves_the_tokens_as_they_were(
    enroller: Enroller, installed: Installation, alice: Person, small_home: Path, service: Service
) -> None:
    phone = alice.enrol(installed, *HOTP)
    tokens = (alice.store / "tokens").read_bytes()
    with enroller.start("--name=spare", *HOTP, person=alice) as dialogue:
        permit(dialogue, phone.hotp())
        fill(small_home)
        spare = dialogue.phone()
        dialogue.type(spare.hotp())
        assert "No space left on device; nothing was changed" in dialogue.refused().error
    assert (alice.store / "tokens").read_bytes() == tokens
    assert sorted(path.name for path in alice.store.iterdir()) == ["state", "tokens"]
    assert service.log_in(alice, phone.hotp()).result == PAM_SUCCESS
    assert service.log_in(alice, spare.hotp()).result == PAM_AUTH_ERR
