"""Run the same `pam_module.py`, unchanged, under Debian's libpam-python, inside the host process."""

from __future__ import annotations

import fcntl
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.account import Person, Phone
from tests.support.client import (
    ECHO_OFF,
    ECHO_ON,
    FAIL,
    NO_ANSWER,
    PAM_AUTH_ERR,
    PAM_CONV_ERR,
    PAM_SERVICE_ERR,
    PAM_SUCCESS,
    PERMIT,
    TEXT_INFO,
    Service,
)
from tests.support.installation import Installation
from tests.support.newcomer import Talk, in_its_directory
from tests.support.pam_scene import INFO, NO_CODES, NOBODY, NOTICE, OURS, PROMPT, oathtool, severities, wrong_code
from tests.support.surroundings import LIMIT_S, full_queue, log_at, log_in_inside
from tests.support.system_log import SystemLog
from tests.support.tools import PAM_PYTHON, needs_pam_python

pytestmark = needs_pam_python()
Under = Callable[..., Service]


@pytest.fixture
def under(make_service: Callable[[str], Service], installed: Installation) -> Under:
    """Create a service of pam_python.so with our module in it."""

    def make(*options: str, control: str = "required", behind: str = "") -> Service:
        words = [f"[{option}]" if " " in option else option for option in options]
        module = installed.package / "pam_module.py"
        return make_service(f"auth {control} {PAM_PYTHON} {module} {' '.join(words)}\n{behind}")

    return make


def test_pam_python__runs_the_very_file_that_the_backend_runs(installed: Installation, under: Under) -> None:
    stack = (under().directory / "softtoken-test").read_text()
    path = Path(stack.split()[3])
    assert path == installed.package / "pam_module.py"
    assert path.read_bytes() == (Path(__file__).parents[2] / "pam_softtoken" / "pam_module.py").read_bytes()


def test_pam_python__right_code_is_accepted_once(
    under: Under, alice: Person, phone: Phone, system_log: SystemLog
) -> None:
    service = under()
    rhost = ["--item=rhost=192.0.2.7"]
    for code, result in ((phone.totp(), 0), (phone.totp(), 7), (wrong_code(phone), 7), ("x", 7), (phone.totp(1), 0)):
        outcome = service.log_in(alice, code, options=rhost)
        assert (outcome.result, outcome.messages) == (result, PROMPT)
    who = f"{OURS}: user={alice.name} rhost=192.0.2.7"
    assert system_log.ours() == [
        f"{who} token=phone result=accepted reason=accepted",
        f"{who} token=phone result=denied reason=replayed",
        f"{who} result=denied reason=mismatch",
        f"{who} result=denied reason=malformed",
        f"{who} token=phone result=accepted reason=accepted",
    ]
    assert severities(system_log) == [INFO, NOTICE, NOTICE, NOTICE, INFO]


@pytest.mark.lockout("the daemon at /dev/log hangs under pam_python")
def test_pam_python__is_held_by_no_log_that_hangs(under: Under, alice: Person, phone: Phone, outside: Path) -> None:
    service = under()
    (service.directory / "other").write_text(
        "auth required pam_deny.so\n"
    )  # otherwise libpam would log that it is missing
    with full_queue(outside / "log"):
        for result in (PAM_SUCCESS, PAM_AUTH_ERR):
            outcome = log_in_inside(service, alice, phone.totp(), setup=log_at(outside / "log"), limit_s=LIMIT_S)
            assert outcome.result == result


def test_pam_python__and_the_bridge_keep_one_record(
    under: Under, service: Service, alice: Person, phone: Phone, system_log: SystemLog
) -> None:
    assert under().log_in(alice, phone.totp()).result == PAM_SUCCESS
    assert service.log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    assert service.log_in(alice, phone.totp(1)).result == PAM_SUCCESS
    assert under().log_in(alice, phone.totp(1)).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["accepted", "replayed", "accepted", "replayed"]


def test_pam_python__attempts_in_one_process_do_not_mix(
    under: Under, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    codes = oathtool(alice.enrol(installed, "--type=hotp", NO_CODES), 0, 5)
    answers = [codes[0], codes[0], codes[1], codes[4], codes[3], codes[4]]
    outcomes = under().log_in_often(alice, *answers, attempts=len(answers))
    assert [outcome.result for outcome in outcomes] == [0, 7, 0, 0, 7, 7]
    assert all(outcome.messages == PROMPT for outcome in outcomes)


def test_pam_python__recovery_code_is_accepted_once_and_the_rest_counted(
    under: Under, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    first, second = alice.enrol(installed, "--recovery-codes=2").recovery_codes
    outcome = under().log_in(alice, first.lower())
    assert (outcome.result, len(outcome.messages)) == (PAM_SUCCESS, 2)
    assert outcome.messages[1][0] == TEXT_INFO
    assert "1 " in outcome.messages[1][1]
    assert under().log_in(alice, first).result == PAM_AUTH_ERR
    outcome = under().log_in(alice, second, options=["--silent"])
    assert (outcome.result, outcome.messages) == (PAM_SUCCESS, PROMPT)
    assert system_log.reasons() == ["recovery", "replayed", "recovery"]


def test_pam_python__lost_hotp_counter_is_found_by_two_codes(
    under: Under, installed: Installation, alice: Person
) -> None:
    phone = alice.enrol(installed, "--type=hotp", NO_CODES)
    (alice.store / "state").unlink()
    for counter, result in ((7, PAM_AUTH_ERR), (9, PAM_AUTH_ERR), (10, PAM_SUCCESS), (9, PAM_AUTH_ERR)):
        assert under().log_in(alice, phone.hotp_at(counter)).result == result


def test_pam_python__not_enrolled_is_asked_or_ignored(under: Under, alice: Person, system_log: SystemLog) -> None:
    outcome = under().log_in(alice, "123456")
    assert (outcome.result, outcome.messages) == (PAM_AUTH_ERR, PROMPT)
    only_ignore = under("nullok", control="[ignore=1 default=die]", behind="auth requisite pam_deny.so\n" + PERMIT)
    outcome = only_ignore.log_in(alice)
    assert (outcome.result, outcome.messages) == (PAM_SUCCESS, [])
    assert system_log.reasons() == ["not_enrolled", "not_enrolled"]


@pytest.mark.parametrize("options", [[], ["nullok"]], ids=["plain", "nullok"])
def test_pam_python__unknown_user_is_asked_and_refused_and_never_named(
    under: Under, system_log: SystemLog, options: list[str]
) -> None:
    outcome = under(*options).log_in(NOBODY, "123456")
    assert (outcome.result, outcome.messages) == (PAM_AUTH_ERR, PROMPT)
    assert system_log.reasons() == ["unknown_user"]
    assert not [line for line in system_log.lines if NOBODY in line]


def test_pam_python__options_act(under: Under, alice: Person, phone: Phone, system_log: SystemLog) -> None:
    outcome = under("echo", "prompt=Code from your phone:").log_in(alice, "000")
    assert outcome.messages == [(ECHO_ON, "Code from your phone: ")]
    assert under("prompt=Code:").log_in(alice, "000").messages == [(ECHO_OFF, "Code: ")]
    assert under("window=21", "nulok").log_in(alice, phone.totp()).result == PAM_SERVICE_ERR
    assert system_log.reasons() == ["malformed", "malformed", "bad_option"]
    assert len(system_log.ours()) == 5


@pytest.mark.parametrize("answer", [FAIL, NO_ANSWER])
def test_pam_python__conversation_that_fails_is_a_conversation_error(
    under: Under, alice: Person, phone: Phone, system_log: SystemLog, answer: str
) -> None:
    assert under().log_in(alice, answer).result == PAM_CONV_ERR
    assert system_log.reasons() == ["conversation"]


@pytest.mark.parametrize("answer", ["", "7" * 512, "7" * 65536, "%s%n"])
def test_pam_python__odd_answer_is_malformed(
    under: Under, alice: Person, phone: Phone, system_log: SystemLog, answer: str
) -> None:
    assert under().log_in(alice, answer).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["malformed"]


def test_pam_python__answer_that_is_not_utf_8_is_refused(
    under: Under, alice: Person, phone: Phone, system_log: SystemLog
) -> None:
    # pam_python cannot hand it over: it raises, and that is a denial.
    assert under().log_in(alice, "\udcff\udcfe").result == PAM_AUTH_ERR
    assert system_log.reasons() == ["internal"]
    assert "UnicodeDecodeError" in system_log.outcomes()[0]["detail"]


def test_pam_python__unusable_files_deny(under: Under, alice: Person, phone: Phone, system_log: SystemLog) -> None:
    state = alice.store / "state"
    with state.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert under("timeout=1").log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    state.chmod(0o644)
    assert under("nullok").log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    state.chmod(0o600)
    state.write_bytes(8192 * b"x")
    assert under().log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["lock_timeout", "insecure_file", "damaged_state"]


def test_pam_python__host_without_root_logs_its_user_in(
    under: Under, alice: Person, phone: Phone, make_person: Callable[[], Person]
) -> None:
    assert under().log_in(alice, phone.totp(), run_as=alice).result == PAM_SUCCESS
    assert under().log_in(alice, phone.totp(), run_as=alice).result == PAM_AUTH_ERR
    assert under("nullok").log_in(alice, phone.totp(1), run_as=make_person()).result == PAM_AUTH_ERR


def test_pam_python__setcred_succeeds(under: Under, alice: Person, phone: Phone) -> None:
    outcome = under().log_in(alice, phone.totp(), options=["--setcred"])
    assert (outcome.result, outcome.setcred) == (PAM_SUCCESS, PAM_SUCCESS)


def test_pam_python__enrols_in_the_login(
    make_service: Callable[[str], Service], installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    module = f"{PAM_PYTHON} {installed.package / 'pam_module.py'} enrol"
    front = "auth requisite pam_unix.so nodelay\n"
    ours = f"auth required {module}\naccount required {module}\n"
    service = make_service(front + ours + "account required pam_permit.so\n")
    with Talk(service, alice) as talk:
        talk.go_on(password="wrong")
    assert "otpauth" not in talk.text
    with Talk(service, alice) as talk:
        talk.go_on()
    assert talk.let_in, talk.text
    assert "▀" in talk.text
    assert in_its_directory(service, alice, alice.password, talk.phone.totp(1)).account == PAM_SUCCESS
    assert system_log.ours()[1] == (
        f"pam_softtoken(softtoken-test:account): user={alice.name} token=phone result=accepted reason=enrolled"
    )


def test_pam_python__user_that_the_application_changes_at_the_prompt_is_not_let_in(
    under: Under, alice: Person, phone: Phone, make_person: Callable[[], Person], system_log: SystemLog
) -> None:
    bob = make_person()
    outcome = under().log_in(alice, phone.totp(), options=[f"--user-at=1:{bob.name}"])
    assert outcome.result == PAM_AUTH_ERR
    assert system_log.reasons()[-1] == "backend"
