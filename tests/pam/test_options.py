"""Flip every option and see its effect, as a module argument and, if allowed, in a configuration file."""

from __future__ import annotations

import fcntl
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from pam_softtoken.option_table import OPTIONS
from tests.support.account import Person, Phone
from tests.support.client import (
    ECHO_OFF,
    ECHO_ON,
    PAM_AUTH_ERR,
    PAM_CONV_ERR,
    PAM_SERVICE_ERR,
    PAM_SUCCESS,
    TEXT_INFO,
    Outcome,
    Service,
)
from tests.support.installation import Installation
from tests.support.newcomer import in_its_directory
from tests.support.pam_scene import NO_CODES, PROMPT, Backends, Pam, oathtool, set_pin, steady_step
from tests.support.process import shortest_s
from tests.support.system_log import DEBUG, SystemLog

FLIPPED: set[str] = set()
FLIPPED_IN_FILE: set[str] = set()
Test = Callable[..., None]
Given = Callable[..., Service]


def flips(name: str, *, in_file: bool = True) -> Callable[[Test], Test]:
    """Mark a test as the one for an option. If the file can set the option, the test takes `given`, and runs twice."""

    def mark(test: Test) -> Test:
        FLIPPED.add(name)
        if in_file:
            FLIPPED_IN_FILE.add(name)
        return test

    return mark


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    """A configuration file that root may trust."""
    path = tmp_path / "softtoken.conf"
    path.touch(0o644)
    return path


@pytest.fixture(params=["argument", "file"])
def given(request: pytest.FixtureRequest, pam: Pam, conf: Path) -> Given:
    """Create a service with some options, in the PAM line or in a file that the line names."""

    def make(*options: str) -> Service:
        if request.param == "argument":
            return pam.service(*options)
        conf.write_text("".join(f"{option}\n" for option in options))
        return pam.service(f"conf={conf}")

    return make


@pytest.fixture
def behind_a_password(pam: Pam) -> Callable[[Service], Service]:
    """Return a function that adds a module before ours. It asks for a password, and its result does not count."""

    def make(service: Service) -> Service:
        return pam.stack("auth optional pam_unix.so nodelay\n" + (service.directory / service.name).read_text())

    return make


def test_options__each_is_flipped_by_a_test_here() -> None:
    # relay_for changes nothing here: test_relay.py flips it. The options of a realm need etcd: see test_fleet.py.
    options = [option for option in OPTIONS if not option.file_only and not option.name.startswith("fleet")]
    assert {option.name for option in options} == FLIPPED
    assert {option.name for option in options if not option.argument_only} == FLIPPED_IN_FILE


@flips("nullok")
def test_nullok__lets_in_users_without_a_token(pam: Pam, alice: Person, given: Given) -> None:
    # libpam returns PAM_PERM_DENIED, 6, when no module of a stack decides.
    assert pam.service().log_in(alice, "123456").result == PAM_AUTH_ERR
    outcome = given("nullok").log_in(alice)
    assert (outcome.result, outcome.messages) == (6, [])
    outcome = given("nullok=no").log_in(alice, "123456")
    assert (outcome.result, outcome.messages) == (PAM_AUTH_ERR, PROMPT)


@flips("required_from")
def test_required_from__lets_in_users_without_a_token_until_that_day(alice: Person, given: Given) -> None:
    outcome = given("required_from=2999-12-31").log_in(alice)
    assert (outcome.result, [style for style, _ in outcome.messages]) == (6, [TEXT_INFO])
    outcome = given("required_from=2000-01-01").log_in(alice, "123456")
    assert (outcome.result, outcome.messages) == (PAM_AUTH_ERR, PROMPT)


def test_nullok__asks_enrolled_users(alice: Person, phone: Phone, given: Given) -> None:
    service = given("nullok")
    assert service.log_in(alice, "000").result == PAM_AUTH_ERR
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS


@flips("enrol")
def test_enrol__enrols_users_without_a_token_at_the_account_line(
    installed: Installation, alice: Person, given: Given, behind_a_password: Callable[[Service], Service]
) -> None:
    for option, offered in (("enrol", True), ("enrol=no", False)):
        service = behind_a_password(given(option))
        path = service.directory / service.name
        stack = path.read_text().replace("optional pam_unix.so", "required pam_unix.so")
        ours = next(line for line in stack.splitlines() if str(installed.bridge) in line)
        path.write_text(f"{stack}account{ours.removeprefix('auth')}\n")
        outcome = in_its_directory(service, alice, alice.password, "1", "2", "3")
        assert ("Code that the app shows: " in outcome.prompts) is offered
        assert ("Verification code: " in outcome.prompts) is not offered


@pytest.mark.parametrize("other", ["use_first_pass", "forward_pass", "pin_required"])
def test_enrol__is_refused_beside_conflicting_options(
    alice: Person, given: Given, system_log: SystemLog, other: str
) -> None:
    assert given("enrol", other).log_in(alice, "000").result == PAM_SERVICE_ERR
    assert f"enrol does not go with {other}" in system_log.ours()[0]
    assert given("enrol", f"{other}=no").log_in(alice, "000").result == PAM_AUTH_ERR


@flips("echo")
def test_echo__shows_the_typed_code(alice: Person, phone: Phone, given: Given) -> None:
    assert given().log_in(alice, "000").messages[0][0] == ECHO_OFF
    assert given("echo=no").log_in(alice, "000").messages[0][0] == ECHO_OFF
    outcome = given("echo").log_in(alice, phone.totp())
    assert outcome.result == PAM_SUCCESS
    assert outcome.messages[0][0] == ECHO_ON


@flips("prompt")
@pytest.mark.parametrize("text", ["Code:", "Code from your phone, please", "[%s%n] 50%", "Código é:", "a=b"])
def test_prompt__is_the_text_of_the_question(alice: Person, given: Given, text: str) -> None:
    outcome = given(f"prompt={text}").log_in(alice, "000")
    assert outcome.messages == [(ECHO_OFF, text + " ")]


@flips("try_first_pass")
def test_try_first_pass__finds_the_code_behind_a_password_or_asks_for_it(
    installed: Installation, alice: Person, given: Given, behind_a_password: Callable[[Service], Service]
) -> None:
    phone = alice.enrol(installed, "--type=hotp", NO_CODES)
    for option, prompts in (("try_first_pass=no", 2), ("try_first_pass", 1)):
        service = behind_a_password(given(option))
        outcome = service.log_in(alice, "secret" + phone.hotp(), phone.hotp())
        assert (outcome.result, len(outcome.prompts)) == (PAM_SUCCESS, prompts)
    assert len(service.log_in(alice, "secret", phone.hotp()).prompts) == 2


@flips("use_first_pass")
def test_use_first_pass__finds_the_code_behind_a_password_and_never_asks(
    installed: Installation, alice: Person, given: Given, behind_a_password: Callable[[Service], Service]
) -> None:
    phone = alice.enrol(installed, "--type=hotp", NO_CODES)
    assert behind_a_password(given("use_first_pass=no")).log_in(alice, "secret", phone.hotp()).result == PAM_SUCCESS
    service = behind_a_password(given("use_first_pass"))
    for answer, result in (("secret", PAM_AUTH_ERR), ("secret" + phone.hotp(), PAM_SUCCESS)):
        outcome = service.log_in(alice, answer)
        assert (outcome.result, len(outcome.prompts)) == (result, 1)


@flips("forward_pass")
def test_forward_pass__takes_password_and_code_in_one_answer(
    installed: Installation, alice: Person, given: Given
) -> None:
    phone = alice.enrol(installed, "--type=hotp", NO_CODES)
    assert given("forward_pass=no").log_in(alice, "secret" + phone.hotp_at(0)).result == PAM_AUTH_ERR
    assert given("forward_pass").log_in(alice, "secret" + phone.hotp_at(0)).result == PAM_SUCCESS


@flips("no_drift")
def test_no_drift__learns_nothing_of_an_apps_clock(installed: Installation, alice: Person, given: Given) -> None:
    phone = alice.enrol(installed, "--period=300", NO_CODES)
    step = steady_step(300)
    codes = oathtool(phone, step + 5, 4)
    for option, result in (("no_drift", PAM_AUTH_ERR), ("no_drift=no", PAM_SUCCESS)):
        service = given(option, "no_throttle")
        assert service.log_in(alice, codes[0]).result == PAM_AUTH_ERR
        assert service.log_in(alice, codes[1]).result == result


@flips("pin_required")
def test_pin_required__refuses_users_without_a_pin(installed: Installation, alice: Person, given: Given) -> None:
    phone = alice.enrol(installed, "--type=hotp", NO_CODES)
    assert given("pin_required").log_in(alice, phone.hotp_at(0)).result == PAM_AUTH_ERR
    assert given("pin_required=no").log_in(alice, phone.hotp()).result == PAM_SUCCESS
    set_pin(alice.store / "tokens", "4711")
    assert given("pin_required").log_in(alice, "4711" + phone.hotp()).result == PAM_SUCCESS


@flips("grace")
def test_grace__asks_for_no_second_code(installed: Installation, alice: Person, given: Given) -> None:
    phone = alice.enrol(installed, "--type=hotp", NO_CODES)
    here = ["--item=rhost=192.0.2.7"]
    for option, prompts in (("grace=0", PROMPT), ("grace=8h", [])):
        service = given(option)
        assert service.log_in(alice, phone.hotp(), options=here).result == PAM_SUCCESS
        assert service.log_in(alice, phone.hotp(), options=here).messages == prompts


@flips("window")
def test_window__is_how_far_a_clock_may_be_off(
    pam: Pam, installed: Installation, alice: Person, given: Given, system_log: SystemLog
) -> None:
    phone = alice.enrol(installed, "--period=300", NO_CODES)
    step = steady_step(300)
    code = {offset: oathtool(phone, step + offset)[0] for offset in (-4, -3, -2, -1, 0, 1, 3, 4)}
    narrow = given("window=0", "no_throttle")
    assert narrow.log_in(alice, code[-1]).result == PAM_AUTH_ERR
    assert narrow.log_in(alice, code[1]).result == PAM_AUTH_ERR
    assert pam.service("no_throttle").log_in(alice, code[-2]).result == PAM_AUTH_ERR
    wide = given("window=3", "no_throttle")
    assert wide.log_in(alice, code[-4]).result == PAM_AUTH_ERR
    assert wide.log_in(alice, code[4]).result == PAM_AUTH_ERR
    assert system_log.reasons() == 5 * ["mismatch"]
    assert wide.log_in(alice, code[-3]).result == PAM_SUCCESS
    assert given("window=0").log_in(alice, code[0]).result == PAM_SUCCESS
    assert given("window=3").log_in(alice, code[3]).result == PAM_SUCCESS


@flips("no_throttle")
def test_no_throttle__lets_the_right_code_in_after_any_number_of_wrong_ones(
    pam: Pam, installed: Installation, alice: Person, given: Given
) -> None:
    phone = alice.enrol(installed, "--type=hotp", NO_CODES)
    limited = pam.service()
    for _ in range(6):
        assert limited.log_in(alice, "00000000").result == PAM_AUTH_ERR
    assert given("no_throttle").log_in(alice, phone.hotp()).result == PAM_SUCCESS


@flips("look_ahead")
def test_look_ahead__is_how_often_a_button_may_be_pressed_in_vain(
    pam: Pam, installed: Installation, alice: Person, given: Given
) -> None:
    codes = oathtool(alice.enrol(installed, "--type=hotp", NO_CODES), 0, 40)
    assert pam.service().log_in(alice, codes[10]).result == PAM_AUTH_ERR
    assert given("look_ahead=12").log_in(alice, codes[12]).result == PAM_AUTH_ERR
    assert given("look_ahead=13").log_in(alice, codes[12]).result == PAM_SUCCESS
    assert given("look_ahead=1").log_in(alice, codes[14]).result == PAM_AUTH_ERR
    assert given("look_ahead=1").log_in(alice, codes[13]).result == PAM_SUCCESS


@flips("store")
def test_store__is_where_the_token_is_looked_for(
    pam: Pam, installed: Installation, alice: Person, given: Given, system_log: SystemLog
) -> None:
    phone = alice.enrol(installed, "--period=300", NO_CODES, "--store=%h/other")
    assert {path.name for path in (alice.home / "other").iterdir()} == {"tokens", "state"}
    assert {path.stat().st_uid for path in (alice.home / "other").iterdir()} == {alice.uid}
    assert pam.service().log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    assert given("store=%h/other").log_in(alice, phone.totp()).result == PAM_SUCCESS
    assert given("store=%h/other").log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["not_enrolled", "accepted", "replayed"]


@flips("conf", in_file=False)
def test_conf__names_the_file(pam: Pam, conf: Path, alice: Person) -> None:
    conf.write_text("# asked in the file\n\n  prompt  =  From the file:  \n")
    assert pam.service().log_in(alice, "000").messages == PROMPT
    assert pam.service(f"conf={conf}").log_in(alice, "000").messages == [(ECHO_OFF, "From the file: ")]


@flips("backend", in_file=False)
def test_backend__is_the_program_that_is_started(pam: Pam, backends: Backends, alice: Person) -> None:
    backend = backends.make(script="send(b'C', 4, b'I am another one'); receive(); send(b'R', 0)")
    assert pam.service().log_in(alice, "000").messages == PROMPT
    assert pam.with_backend(backend).log_in(alice, "000").messages == [(4, "I am another one")]


@flips("timeout", in_file=False)
def test_timeout__is_how_long_the_host_waits(pam: Pam, backends: Backends, alice: Person) -> None:
    backend = backends.make(script="signal.alarm(0); wait_for_the_end()")
    for timeout_s in (1, 2):
        service = pam.with_backend(backend, f"timeout={timeout_s}")
        within_s = timeout_s + 0.9
        assert timeout_s - 0.1 < shortest_s(partial(service.log_in, alice), within_s=within_s) < within_s
        assert service.log_in(alice).result == PAM_AUTH_ERR


def test_timeout__is_known_to_the_backend_too(pam: Pam, alice: Person, phone: Phone, system_log: SystemLog) -> None:
    with (alice.store / "state").open("rb") as state:
        fcntl.flock(state, fcntl.LOCK_EX)
        service = pam.service("timeout=1")
        assert shortest_s(lambda: service.log_in(alice, phone.totp()), within_s=1) < 1
    assert system_log.reasons()[-1] == "lock_timeout"
    assert {fields["result"] for fields in system_log.outcomes()} == {"denied"}


@flips("debug")
def test_debug__logs_the_steps_on_the_way(alice: Person, phone: Phone, given: Given, system_log: SystemLog) -> None:
    assert given("debug=no").log_in(alice, "000").result == PAM_AUTH_ERR
    (only,) = system_log.ours()
    assert "result=denied" in only
    system_log.clear()
    assert given("debug").log_in(alice, phone.totp()).result == PAM_SUCCESS
    (only,) = system_log.ours()
    assert "result=accepted" in only
    steps = [line for line in system_log.lines if line.startswith(DEBUG)]
    assert steps
    assert all("pam_softtoken(" in line and "user=" in line and "result=" not in line for line in steps)


# ---- the file


@pytest.mark.parametrize("option", [option.name for option in OPTIONS if option.argument_only])
def test_file__cannot_set_options_that_only_a_line_may_set(pam: Pam, conf: Path, alice: Person, option: str) -> None:
    conf.write_text(f"{option} = {'5' if option == 'timeout' else '/bin/true'}\n")
    assert pam.service(f"conf={conf}").log_in(alice, "000").result == PAM_SERVICE_ERR


@pytest.mark.parametrize(
    ("in_file", "argument", "messages"),
    [
        ("prompt = File:", "prompt=Argument:", [(ECHO_OFF, "Argument: ")]),
        ("echo", "echo=no", PROMPT),
        ("echo = no", "echo", [(ECHO_ON, PROMPT[0][1])]),
        ("nullok", "nullok=no", PROMPT),
        ("nullok = no", "nullok", []),
        ("nullok = yes", "echo", []),
        ("store = /var/lib/nowhere/%U\nnullok", "store=%h/.softtoken", []),
    ],
)
def test_file__is_overruled_by_arguments(
    pam: Pam, conf: Path, alice: Person, in_file: str, argument: str, messages: list[tuple[int, str]]
) -> None:
    conf.write_text(in_file + "\n")
    assert pam.service(f"conf={conf}", argument).log_in(alice, "000").messages == messages


def test_file__at_its_own_place_is_read_where_none_is_named(
    service: Service, alice: Person, tmp_path: Path, system_log: SystemLog
) -> None:
    """In the client's own mount namespace, so that the machine's file is not touched."""
    security = tmp_path / "security"
    security.mkdir()
    script = 'mount --bind "$0" /etc/security && exec "$@"'

    def log_in() -> Outcome:
        command = ["unshare", "--mount", "sh", "-c", script, str(security), *service.command(alice)]
        return Outcome(subprocess.run(command, input="=000\n", check=True, capture_output=True, text=True).stdout)

    assert log_in().messages == PROMPT
    (security / "softtoken.conf").write_text("prompt = From the usual place:\n")
    assert log_in().messages == [(ECHO_OFF, "From the usual place: ")]
    (security / "softtoken.conf").chmod(0o666)
    assert log_in().result == PAM_SERVICE_ERR
    (security / "softtoken.conf").write_text("")
    assert system_log.reasons() == ["not_enrolled", "not_enrolled", "bad_option"]


# ---- a store outside the home directory


@pytest.fixture
def outside(world: Path) -> Iterator[Path]:
    """A root-owned directory for all users' tokens."""
    path = world / f"store-{time.monotonic_ns()}"
    path.mkdir(mode=0o755)
    yield path
    subprocess.run(["rm", "-rf", path], check=True)


@pytest.mark.parametrize("field", ["%U", "%u", "users/%u-%U%%"])
def test_store__outside_the_home_belongs_to_root(
    installed: Installation, pam: Pam, alice: Person, outside: Path, system_log: SystemLog, field: str
) -> None:
    (outside / "users").mkdir(mode=0o755)
    template = f"{outside}/{field}"
    phone = alice.enrol(installed, "--period=300", NO_CODES, f"--store={template}")
    filled = field.replace("%%", "@").replace("%U", str(alice.uid)).replace("%u", alice.name).replace("@", "%")
    directory = outside / filled
    for path, mode in ((directory, 0o40700), (directory / "tokens", 0o100600), (directory / "state", 0o100600)):
        status = path.stat()
        assert (status.st_uid, status.st_gid, status.st_mode) == (0, 0, mode)
    assert not alice.store.exists()
    service = pam.service(f"store={template}")
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS
    assert service.log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    assert service.log_in(alice, phone.totp(1)).result == PAM_SUCCESS
    assert system_log.reasons() == ["accepted", "replayed", "accepted"]


def test_store__outside_the_home_is_made_by_the_first_enrolment(
    installed: Installation, pam: Pam, alice: Person, outside: Path
) -> None:
    phone = alice.enrol(installed, "--period=300", NO_CODES, f"--store={outside}/softtoken/%U")
    assert ((outside / "softtoken").stat().st_uid, (outside / "softtoken").stat().st_mode) == (0, 0o40700)
    assert pam.service(f"store={outside}/softtoken/%U").log_in(alice, phone.totp()).result == PAM_SUCCESS


@pytest.mark.parametrize("name", [".", "tokens", "state"])
def test_store__outside_the_home_with_something_of_the_users_in_it_denies(
    installed: Installation, pam: Pam, alice: Person, outside: Path, system_log: SystemLog, name: str
) -> None:
    phone = alice.enrol(installed, "--period=300", NO_CODES, f"--store={outside}/%U")
    subprocess.run(["chown", alice.name, outside / str(alice.uid) / name], check=True)
    assert pam.service(f"store={outside}/%U").log_in(alice, phone.totp()).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["insecure_file"]


def test_store__outside_the_home_needs_a_host_with_root(
    installed: Installation, pam: Pam, alice: Person, outside: Path, system_log: SystemLog
) -> None:
    phone = alice.enrol(installed, "--period=300", NO_CODES, f"--store={outside}/%U")
    service = pam.service(f"store={outside}/%U")
    assert service.log_in(alice, phone.totp(), run_as=alice).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["unusable_file"]


def test_store__outside_the_home_ignores_users_without_a_directory_there(
    pam: Pam, alice: Person, outside: Path, system_log: SystemLog
) -> None:
    assert pam.only_ignore("nullok", f"store={outside}/%U").log_in(alice).result == PAM_SUCCESS
    assert pam.service(f"store={outside}/%U").log_in(alice, "000").result == PAM_AUTH_ERR
    # A missing common part says nothing about any user: it may not be mounted.
    outside.rmdir()
    assert pam.only_ignore("nullok", f"store={outside}/%U").log_in(alice, "000").result == PAM_AUTH_ERR
    outside.mkdir()
    assert system_log.reasons() == ["not_enrolled", "not_enrolled", "unusable_file"]


def test_store__outside_the_home_does_not_need_a_home(
    installed: Installation, pam: Pam, alice: Person, outside: Path
) -> None:
    phone = alice.enrol(installed, "--period=300", NO_CODES, f"--store={outside}/%U")
    away = alice.home.with_name(alice.home.name + ".away")
    alice.home.rename(away)
    try:
        assert pam.service(f"store={outside}/%U").log_in(alice, phone.totp()).result == PAM_SUCCESS
    finally:
        away.rename(alice.home)


def test_store__of_one_user_is_not_anothers(
    installed: Installation, pam: Pam, make_person: Callable[[], Person], outside: Path
) -> None:
    alice, mallory = make_person(), make_person()
    phone = alice.enrol(installed, "--period=300", NO_CODES, f"--store={outside}/%U")
    service = pam.service(f"store={outside}/%U")
    assert service.log_in(mallory, phone.totp()).result == PAM_AUTH_ERR
    assert service.log_in(mallory, run_as=mallory).result == PAM_CONV_ERR
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS


# ---- how a PAM line is written


def test_line__brackets_keep_spaces_and_brackets_together(pam: Pam, alice: Person) -> None:
    service = pam.stack(
        f"auth required {pam.installed.bridge} backend={pam.installed.backend} "
        r"[prompt=Code [of [your\] phone\]:] window=2 [store=%h/my tokens]" + "\n"
    )
    assert service.log_in(alice, "000").messages == [(ECHO_OFF, "Code [of [your] phone]: ")]
