"""Password and code in one answer, with the real pam_unix: `try_first_pass`, `use_first_pass`, `forward_pass`."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from tests.support.account import Person, Phone
from tests.support.client import ECHO_OFF, PAM_AUTH_ERR, PAM_SUCCESS, Outcome, Service
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES, PROMPT, Clock, Pam, wrong_code
from tests.support.system_log import SystemLog

MODES = ("try_first_pass", "use_first_pass", "forward_pass")
ALL_MODES = [tuple(itertools.compress(MODES, chosen)) for chosen in itertools.product((False, True), repeat=len(MODES))]
COMBINED = (ECHO_OFF, "Password & verification code: ")
PASSWORD = (ECHO_OFF, "Password: ")
ASKS_FIRST = "auth optional pam_unix.so nodelay\n"
JUDGES_LAST = "auth required pam_unix.so use_first_pass nodelay\n"


@pytest.fixture
def phone(installed: Installation, alice: Person) -> Phone:
    """A token that counts, so that no test waits for a time step."""
    return alice.enrol(installed, "--type=hotp", "--recovery-codes=1")


@pytest.fixture
def between(pam: Pam, installed: Installation) -> Callable[..., Service]:
    """Create a service with our module between a pam_unix that asks and one that checks what we leave it."""

    def make(*modes: str, first: str = ASKS_FIRST, last: str = JUDGES_LAST) -> Service:
        return pam.stack(first + installed.line(*modes) + last)

    return make


def _log_in(service: Service, person: Person, *answers: str) -> Outcome:
    return service.log_in(person, *answers)


@pytest.mark.parametrize("modes", ALL_MODES, ids=" ".join)
def test_modes__code_and_password_each_in_its_place_let_in(
    between: Callable[..., Service], alice: Person, phone: Phone, modes: tuple[str, ...]
) -> None:
    service = between(*modes)
    password, use, forward = alice.password, "use_first_pass" in modes, "forward_pass" in modes
    if use or "try_first_pass" in modes:
        outcome = _log_in(service, alice, password + phone.hotp())
        # Without forward_pass the next module sees the code after the password, and refuses that.
        assert (outcome.result, outcome.messages) == (PAM_SUCCESS if forward else PAM_AUTH_ERR, [PASSWORD])
    outcome = _log_in(service, alice, password, (password if forward else "") + phone.hotp())
    if use:
        assert (outcome.result, outcome.messages) == (PAM_AUTH_ERR, [PASSWORD])
    else:
        assert (outcome.result, outcome.messages) == (PAM_SUCCESS, [PASSWORD, COMBINED if forward else PROMPT[0]])


@pytest.mark.parametrize("modes", ALL_MODES, ids=" ".join)
@pytest.mark.parametrize("what", ["wrong code", "replayed code", "wrong password", "empty", "short", "password alone"])
@pytest.mark.claim("Where password and code are one answer, no failure of the module lets the stack go on.")
@pytest.mark.sampled(0.5)
def test_modes__anything_else_does_not(
    between: Callable[..., Service], alice: Person, phone: Phone, modes: tuple[str, ...], what: str
) -> None:
    service = between(*modes)
    code, password = phone.hotp(), alice.password
    if what == "replayed code":
        assert between(first="", last="").log_in(alice, code).result == PAM_SUCCESS
    code = {"wrong code": wrong_code(phone), "empty": "", "short": code[:5], "password alone": ""}.get(what, code)
    password = {"wrong password": password + "x", "empty": ""}.get(what, password)
    answers = [password + code, (password if "forward_pass" in modes else "") + code]
    outcome = _log_in(service, alice, *answers)
    assert outcome.result != PAM_SUCCESS
    assert len(outcome.prompts) == (1 if "use_first_pass" in modes or outcome.messages == [PASSWORD] else 2)


@pytest.mark.parametrize("digits", [6, 7, 8])
@pytest.mark.parametrize(
    "password", ["secret", "ends in 2026", "99999999", "gehe\u00efm \u20ac", "x" * 400, " ", "-", "20-26\t\uff17"]
)
def test_forward_pass__passes_any_password_on_unchanged(
    installed: Installation, pam: Pam, alice: Person, digits: int, password: str
) -> None:
    phone = alice.enrol(installed, "--type=hotp", f"--digits={digits}", "--recovery-codes=1")
    seen = alice.home / "seen"
    script = alice.home / "see"
    script.write_text(f"#!/bin/sh\nexec cat >{seen}\n")
    script.chmod(0o755)
    line = installed.line("forward_pass")
    service = pam.stack(line + f"auth required pam_exec.so expose_authtok quiet seteuid {script}\n")
    for code in (phone.hotp(), phone.recovery_codes[0], phone.hotp()):
        outcome = service.log_in(alice, password + code)
        assert (outcome.result, outcome.prompts) == (PAM_SUCCESS, [COMBINED[1]])
        assert seen.read_bytes().rstrip(b"\0") == password.encode()


@pytest.mark.parametrize("length", [506, 512, 600])
def test_forward_pass__does_not_pass_a_truncated_password_on(
    installed: Installation, pam: Pam, alice: Person, phone: Phone, length: int
) -> None:
    """The bridge cuts an answer at 512 bytes. The rest of a longer one may end like a code by chance."""
    service = pam.service("forward_pass")
    code = phone.hotp()
    cut = ("x" * (length - 6) + code)[-512:] if length > 506 else "x" * 506 + code
    assert service.log_in(alice, cut + "and more").result == PAM_AUTH_ERR
    assert service.log_in(alice, "x" * 505 + code).result == PAM_SUCCESS


def test_try_first_pass__reads_no_code_from_a_truncated_password(
    between: Callable[..., Service], alice: Person, phone: Phone, system_log: SystemLog
) -> None:
    service = between("use_first_pass", last="")
    assert _log_in(service, alice, "x" * 506 + phone.hotp_at(0) + "and more").result == PAM_AUTH_ERR
    assert system_log.reasons() == ["malformed"]


def test_forward_pass__keeps_a_prompt_of_the_administrator(pam: Pam, alice: Person, phone: Phone) -> None:
    service = pam.service("forward_pass", "prompt=Both:")
    assert service.log_in(alice, "secret" + phone.hotp()).prompts == ["Both: "]


def test_forward_pass__asks_unknown_and_not_enrolled_users_the_same(pam: Pam, alice: Person) -> None:
    service = pam.service("forward_pass")
    for user in (alice, "nobody-of-that-name-here"):
        outcome = service.log_in(user, "secret123456")
        assert (outcome.result, outcome.messages) == (PAM_AUTH_ERR, [COMBINED])


def test_forward_pass__leaves_nothing_for_the_next_module_after_a_refusal(
    pam: Pam, installed: Installation, alice: Person, phone: Phone
) -> None:
    asks_again = "auth required pam_unix.so try_first_pass nodelay\n"
    service = pam.stack(installed.line("forward_pass") + asks_again)
    outcome = service.log_in(alice, alice.password + wrong_code(phone), "")
    assert outcome.result != PAM_SUCCESS
    assert outcome.messages == [COMBINED, PASSWORD]


def test_try_first_pass__a_wrong_code_behind_the_password_counts_and_the_person_is_asked(
    between: Callable[..., Service], alice: Person, phone: Phone, system_log: SystemLog
) -> None:
    service = between("try_first_pass", last="")
    for _ in range(5):
        assert _log_in(service, alice, alice.password + wrong_code(phone), wrong_code(phone)).result == PAM_AUTH_ERR
    assert "throttled" in system_log.reasons()


def test_try_first_pass__a_password_that_ends_like_a_code_does_not_keep_its_owner_out(
    pam: Pam, installed: Installation, alice: Person, phone: Phone, clock: Clock
) -> None:
    """However many answers were wrong before: once the wait is over, the user can answer."""
    service = pam.stack(ASKS_FIRST + pam.line(f"backend={clock.backend}", "try_first_pass"))
    clock.set(1_740_000_000)
    for _ in range(10):
        assert _log_in(service, alice, "in 20260101", wrong_code(phone)).result == PAM_AUTH_ERR
    clock.set(1_740_000_901)
    outcome = _log_in(service, alice, "in 20260101", phone.hotp())
    assert (outcome.result, outcome.messages) == (PAM_SUCCESS, [PASSWORD, *PROMPT])


def test_try_first_pass__looks_at_neither_answer_while_the_person_has_to_wait(
    pam: Pam, installed: Installation, alice: Person, phone: Phone, clock: Clock, system_log: SystemLog
) -> None:
    service = pam.stack(ASKS_FIRST + pam.line(f"backend={clock.backend}", "try_first_pass"))
    wrong, code = wrong_code(phone), phone.hotp()
    clock.set(1_740_000_000)
    for _ in range(3):
        assert _log_in(service, alice, "secret" + wrong, wrong).result == PAM_AUTH_ERR
    assert _log_in(service, alice, "secret" + code, code).result == PAM_AUTH_ERR
    # Six answers, of which the sixth was not judged: five wrong ones cause a wait of one second.
    assert system_log.reasons() == ["mismatch", "mismatch", "mismatch", "throttled"]
    clock.set(1_740_000_002)
    # The user typed it, so it counts as used; the next one works.
    assert _log_in(service, alice, "secret" + code, code).result == PAM_AUTH_ERR
    assert _log_in(service, alice, "secret", phone.hotp()).result == PAM_SUCCESS


def test_try_first_pass__a_password_that_ends_like_a_code_does_not_part_two_consecutive_codes(
    between: Callable[..., Service], alice: Person, phone: Phone
) -> None:
    service = between("try_first_pass", last="")
    assert _log_in(service, alice, "in 20260101", phone.hotp_at(50)).result == PAM_AUTH_ERR
    assert _log_in(service, alice, "in 20260101", phone.hotp_at(51)).result == PAM_SUCCESS


def test_try_first_pass__a_password_without_a_code_costs_nothing(
    between: Callable[..., Service], alice: Person, phone: Phone, system_log: SystemLog
) -> None:
    service = between("try_first_pass", last="")
    for _ in range(8):
        assert _log_in(service, alice, alice.password + "b", phone.hotp()).result == PAM_SUCCESS
    assert system_log.reasons() == 8 * ["accepted"]


@pytest.mark.parametrize("modes", [("use_first_pass",), ("try_first_pass", "use_first_pass")], ids=" ".join)
def test_use_first_pass__without_a_password_refuses_and_asks_nothing(
    pam: Pam, alice: Person, phone: Phone, system_log: SystemLog, modes: tuple[str, ...]
) -> None:
    outcome = pam.service(*modes).log_in(alice, phone.hotp())
    assert (outcome.result, outcome.messages) == (PAM_AUTH_ERR, [])
    assert system_log.reasons() == ["malformed"]


def test_try_first_pass__without_a_password_asks(pam: Pam, alice: Person, phone: Phone) -> None:
    outcome = pam.service("try_first_pass").log_in(alice, phone.hotp())
    assert (outcome.result, outcome.messages) == (PAM_SUCCESS, PROMPT)


def test_modes__without_them_a_password_in_front_of_the_code_is_refused(
    pam: Pam, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    phone = alice.enrol(installed, "--type=hotp", NO_CODES)
    assert pam.service().log_in(alice, "1" + phone.hotp_at(0) + "1").result == PAM_AUTH_ERR
    assert pam.service().log_in(alice, "secret" + phone.hotp()).result == PAM_AUTH_ERR
    assert set(system_log.reasons()) <= {"malformed", "mismatch"}
    assert pam.service().log_in(alice, phone.hotp_at(0)).result == PAM_SUCCESS


@pytest.mark.parametrize("modes", [m for m in ALL_MODES if m], ids=" ".join)
@pytest.mark.claim("Where password and code are one answer, no failure of the module lets the stack go on.")
def test_modes__no_error_of_ours_lets_the_stack_go_on_without_a_code(
    between: Callable[..., Service], alice: Person, phone: Phone, modes: tuple[str, ...]
) -> None:
    (alice.store / "state").write_bytes(b"damaged")
    outcome = _log_in(between(*modes), alice, alice.password + phone.hotp(), alice.password + phone.hotp())
    assert outcome.result == PAM_AUTH_ERR
