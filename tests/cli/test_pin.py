"""Run `softtoken-enroll --pin` and `--no-pin`: a present code first, then the new PIN twice, never shown."""

from __future__ import annotations

import signal

import pytest

from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.enroller import TOKEN_PROMPT, Enroller
from tests.support.installation import Installation
from tests.support.listing import listing
from tests.support.pam_scene import set_pin
from tests.support.system_log import SystemLog

NEW, AGAIN = "New PIN, 4 to 16 letters and digits:", "The same again:"
CHECKED = "PIN and code of one of your tokens:"
PIN, OTHER = "Kx4711", "0815"


@pytest.fixture
def phone(installed: Installation, alice: Person) -> Phone:
    """Alice's token."""
    return alice.enrol(installed, "--type=hotp", "--recovery-codes=2")


def _set(enroller: Enroller, person: Person, code: str, pin: str, *, columns: int = 80, has_pin: bool = False) -> str:
    with enroller.start("--pin", person=person, columns=columns) as dialogue:
        dialogue.expect(CHECKED if has_pin else TOKEN_PROMPT)
        dialogue.type(code)
        for question in (NEW, AGAIN):
            dialogue.expect(question)
            dialogue.type(pin)
        assert dialogue.finish() == 0
        return dialogue.transcript


@pytest.mark.parametrize("columns", [80, 40])
def test_pin__is_needed_before_each_code_once_it_is_set(
    enroller: Enroller, alice: Person, phone: Phone, service: Service, columns: int
) -> None:
    transcript = _set(enroller, alice, phone.hotp(), PIN, columns=columns)
    assert PIN not in transcript
    assert f"Done. {alice.name} types the PIN in front of each code from now on, also of a recovery code." in transcript
    assert PIN.encode() not in (alice.store / "tokens").read_bytes()
    for front, result in (("", PAM_AUTH_ERR), (OTHER, PAM_AUTH_ERR), (PIN, PAM_SUCCESS)):
        assert service.log_in(alice, front + phone.hotp_at(1)).result == result
    for front, result in (("", PAM_AUTH_ERR), (PIN, PAM_SUCCESS)):
        assert service.log_in(alice, front + phone.recovery_codes[0]).result == result


def test_pin__change_and_removal_take_the_present_one(
    enroller: Enroller, alice: Person, phone: Phone, service: Service
) -> None:
    _set(enroller, alice, phone.hotp(), PIN)
    tokens = (alice.store / "tokens").read_bytes()
    with enroller.start("--no-pin", person=alice) as dialogue:
        for answer in (phone.hotp_at(1), OTHER + phone.hotp_at(1), "nonsense"):
            dialogue.expect(CHECKED)
            dialogue.type(answer)
        assert "no code was right; nothing was changed" in dialogue.refused().error
    assert (alice.store / "tokens").read_bytes() == tokens
    _set(enroller, alice, PIN + phone.hotp(), OTHER, has_pin=True)
    assert service.log_in(alice, PIN + phone.hotp_at(2)).result == PAM_AUTH_ERR
    assert service.log_in(alice, OTHER + phone.hotp()).result == PAM_SUCCESS
    with enroller.start("--no-pin", person=alice) as dialogue:
        dialogue.expect(CHECKED)
        dialogue.type(OTHER + phone.hotp())
        dialogue.expect(f"Done. {alice.name} types codes without a PIN again.")
        assert dialogue.finish() == 0
    assert service.log_in(alice, phone.hotp()).result == PAM_SUCCESS


@pytest.mark.lockout("the PIN is forgotten", shows="reason=mismatch", cure="softtoken-enroll --user alice --no-pin")
def test_pin__forgotten_one_is_removed_by_root(
    enroller: Enroller, alice: Person, phone: Phone, service: Service, system_log: SystemLog
) -> None:
    set_pin(alice.store / "tokens", PIN)
    assert service.log_in(alice, phone.hotp_at(0)).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["mismatch"]
    assert enroller.run("--user", alice.name, "--no-pin").status == 0
    assert service.log_in(alice, phone.hotp_at(0)).result == PAM_SUCCESS


def test_pin__root_sets_and_removes_it_without_the_present_one(
    enroller: Enroller, alice: Person, phone: Phone, service: Service
) -> None:
    with enroller.start("--pin", "--user", alice.name) as dialogue:
        for question in (f"New PIN for {alice.name}, 4 to 16 letters and digits: ", AGAIN):
            dialogue.expect(question)
            dialogue.type(PIN)
        assert dialogue.finish() == 0
    assert service.log_in(alice, PIN + phone.hotp()).result == PAM_SUCCESS
    assert enroller.run("--no-pin", "--user", alice.name).status == 0
    assert service.log_in(alice, phone.hotp()).result == PAM_SUCCESS


def test_pin__has_to_be_one_and_to_be_typed_twice_alike(enroller: Enroller, alice: Person, phone: Phone) -> None:
    tokens = (alice.store / "tokens").read_bytes()
    with enroller.start("--pin", person=alice) as dialogue:
        dialogue.expect(TOKEN_PROMPT)
        dialogue.type(phone.hotp())
        for unfit in ("123", "12 34"):
            dialogue.expect(NEW)
            dialogue.type(unfit)
            dialogue.expect("That is not 4 to 16 letters (A to Z) and digits.")
        dialogue.expect(NEW)
        dialogue.type(PIN)
        dialogue.expect(AGAIN)
        dialogue.type(OTHER)
        dialogue.expect("That was not the same.")
        assert "there is no new PIN; nothing was changed" in dialogue.refused().error
    assert (alice.store / "tokens").read_bytes() == tokens


def _without_state(person: Person) -> dict[str, tuple[object, ...]]:
    return {name: entry for name, entry in listing(person.store).items() if name != "state"}


@pytest.mark.parametrize("until", [TOKEN_PROMPT, NEW, AGAIN])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_pin__interrupted_at_any_question_changes_nothing_but_the_used_code(
    enroller: Enroller, alice: Person, phone: Phone, until: str, number: signal.Signals
) -> None:
    tokens = (alice.store / "tokens").read_bytes()
    before = _without_state(alice)
    with enroller.start("--pin", person=alice) as dialogue:
        for question, answer in ((TOKEN_PROMPT, phone.hotp()), (NEW, PIN), (AGAIN, PIN)):
            dialogue.expect(question)
            if question == until:
                break
            dialogue.type(answer)
        dialogue.signal(number)
        assert "interrupted; nothing was changed" in dialogue.refused().error
    assert (alice.store / "tokens").read_bytes() == tokens
    assert _without_state(alice) == before


def test_pin__change_without_a_terminal_a_token_or_a_pin_is_refused(
    enroller: Enroller, alice: Person, phone: Phone
) -> None:
    assert "no terminal" in enroller.run("--pin", person=alice).refused().error
    assert "has no PIN" in enroller.run("--no-pin", person=alice).refused().error
    assert "does not go with" in enroller.run("--pin", "--json", person=alice).refused(2).error
    assert "does not go with" in enroller.run("--pin", "--no-pin", person=alice).refused(2).error
    (alice.store / "tokens").unlink()
    assert "is not enrolled" in enroller.run("--no-pin", person=alice).refused().error
