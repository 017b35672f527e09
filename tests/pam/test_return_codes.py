"""Check each row of the design's table of PAM codes (section 6), through the real libpam, with the logged reason.

Faults in the files, the backend and the answer have separate test files: `test_bad_store.py`, `test_bad_backend.py`,
`test_bad_answer.py`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.account import Person, Phone
from tests.support.client import (
    FAIL,
    NO_ANSWER,
    PAM_AUTH_ERR,
    PAM_CONV_ERR,
    PAM_SERVICE_ERR,
    PAM_SUCCESS,
    PERMIT,
    Outcome,
    Service,
)
from tests.support.installation import Installation
from tests.support.newcomer import lines
from tests.support.pam_scene import (
    ERR,
    INFO,
    NO_CODES,
    NOBODY,
    NOTICE,
    OURS,
    PROMPT,
    ROOT,
    Backends,
    Pam,
    severities,
    wrong_code,
)
from tests.support.system_log import SystemLog

PAM_ABORT, PAM_BUF_ERR, PAM_CONV_AGAIN = 26, 5, 30


# ---- accepted and stored: PAM_SUCCESS


def test_accepted__right_code_is_success(service: Service, alice: Person, phone: Phone, system_log: SystemLog) -> None:
    outcome = service.log_in(alice, phone.totp(), options=["--item=rhost=192.0.2.7"])
    assert outcome.result == PAM_SUCCESS
    assert outcome.messages == PROMPT
    assert system_log.ours() == [
        f"{OURS}: user={alice.name} rhost=192.0.2.7 token=phone result=accepted reason=accepted"
    ]
    assert severities(system_log) == [INFO]


def test_accepted__is_said_only_after_the_use_is_on_the_disk(
    service: Service, alice: Person, phone: Phone, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-o", str(trace), "-e", "trace=pwrite64,fdatasync,fsync,write"]
    subprocess.run(
        [*command, *service.command(alice)], input=f"={phone.totp()}\n", text=True, check=True, capture_output=True
    )
    calls = [line.split(maxsplit=1)[1] for line in trace.read_text().splitlines()]
    stored = max(number for number, call in enumerate(calls) if call.startswith("pwrite64("))
    synced = max(number for number, call in enumerate(calls) if call.startswith("fdatasync("))
    said = [number for number, call in enumerate(calls) if call.startswith(r'write(0, "\1R\0')]
    assert len(said) == 1
    assert stored < synced < said[0]
    assert calls[synced].endswith("= 0")


def test_accepted__recovery_code_is_success(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog
) -> None:
    codes = alice.enrol(installed, "--recovery-codes=2").recovery_codes
    assert service.log_in(alice, codes[0]).result == PAM_SUCCESS
    assert system_log.reasons() == ["recovery"]
    assert system_log.outcomes()[0]["result"] == "accepted"
    assert severities(system_log) == [INFO]


# ---- mismatch, replay, malformed: PAM_AUTH_ERR


def test_refused__wrong_code_is_a_mismatch(
    service: Service, alice: Person, phone: Phone, system_log: SystemLog
) -> None:
    outcome = service.log_in(alice, wrong_code(phone))
    assert outcome.result == PAM_AUTH_ERR
    assert outcome.messages == PROMPT
    assert system_log.outcomes() == [{"user": alice.name, "result": "denied", "reason": "mismatch"}]
    assert severities(system_log) == [NOTICE]


def test_refused__used_code_is_a_replay(service: Service, alice: Person, phone: Phone, system_log: SystemLog) -> None:
    code = phone.totp()
    assert service.log_in(alice, code).result == PAM_SUCCESS
    outcome = service.log_in(alice, code)
    assert outcome.result == PAM_AUTH_ERR
    assert outcome.messages == PROMPT
    assert system_log.outcomes()[1:] == [
        {"user": alice.name, "token": "phone", "result": "denied", "reason": "replayed"}
    ]
    assert severities(system_log) == [INFO, NOTICE]


def test_refused__recovery_code_that_is_not_of_the_set_is_a_mismatch(
    installed: Installation, service: Service, alice: Person, make_person: Callable[[], Person], system_log: SystemLog
) -> None:
    alice.enrol(installed, "--recovery-codes=1")
    others = make_person().enrol(installed, "--recovery-codes=1").recovery_codes
    assert service.log_in(alice, others[0]).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["mismatch"]


def test_refused__answer_is_in_no_line_of_the_log(pam: Pam, alice: Person, system_log: SystemLog) -> None:
    phone = alice.enrol(pam.installed, "--period=300", "--recovery-codes=1")
    service = pam.service("debug")
    answers = [phone.totp(), phone.totp(), wrong_code(phone), "correct horse battery", *2 * phone.recovery_codes]
    for answer in answers:
        service.log_in(alice, answer)
    text = "\n".join(system_log.ours())
    assert len(system_log.outcomes()) == len(answers)
    for secret in (*answers, str(phone.record["key"])):
        assert secret not in text
        assert secret.replace("-", "") not in text


# ---- no token file


def test_not_enrolled__nullok_is_ignore_without_a_prompt(pam: Pam, alice: Person, system_log: SystemLog) -> None:
    outcome = pam.only_ignore("nullok").log_in(alice)
    assert outcome.result == PAM_SUCCESS
    assert outcome.messages == []
    assert system_log.outcomes() == [{"user": alice.name, "result": "ignored", "reason": "not_enrolled"}]
    assert severities(system_log) == [INFO]


def test_not_enrolled__store_without_a_token_file_is_ignore_too(pam: Pam, alice: Person, phone: Phone) -> None:
    (alice.store / "tokens").unlink()
    assert pam.only_ignore("nullok").log_in(alice).result == PAM_SUCCESS


def test_not_enrolled__deleted_token_file_does_not_switch_the_factor_off(pam: Pam, alice: Person, phone: Phone) -> None:
    service = pam.only_ignore("nullok")
    pam.service("nullok").log_in(alice, phone.totp())
    shutil.rmtree(alice.store)
    assert service.log_in(alice).result == PAM_CONV_ERR


def test_not_enrolled__without_nullok_the_person_is_asked_and_refused(
    service: Service, alice: Person, system_log: SystemLog
) -> None:
    outcome = service.log_in(alice, "123456")
    assert outcome.result == PAM_AUTH_ERR
    assert outcome.messages == PROMPT
    (fields,) = system_log.outcomes()
    cure = f'"{alice.store}/tokens: there is no such file; as root: softtoken-enroll --user {alice.name}"'
    assert fields == {"user": alice.name, "result": "denied", "reason": "not_enrolled", "detail": cure}
    assert severities(system_log) == [NOTICE]


@pytest.mark.parametrize("options", [[], ["nullok"], ["debug"]], ids=["plain", "nullok", "debug"])
@pytest.mark.claim("An unknown name gets the same question, and is not logged.")
def test_unknown_user__is_asked_and_refused_and_never_named(
    pam: Pam, system_log: SystemLog, options: list[str]
) -> None:
    outcome = pam.service(*options).log_in(NOBODY, "123456")
    assert outcome.result == PAM_AUTH_ERR
    assert outcome.messages == PROMPT
    assert system_log.reasons() == ["unknown_user"]
    assert not [line for line in system_log.lines if NOBODY in line]


@pytest.mark.parametrize("options", [[], ["nullok"]], ids=["plain", "nullok"])
def test_user__lookup_that_fails_is_not_logged_as_an_unknown_user(
    pam: Pam, alice: Person, phone: Phone, tmp_path: Path, system_log: SystemLog, options: list[str]
) -> None:
    """The user database has an entry that is longer than the bridge accepts. The user sees the usual text."""
    entries = tmp_path / "passwd"
    service = pam.service(*options)
    for comment_bytes, result in ((20 * 1024, PAM_AUTH_ERR), (10 * 1024, PAM_SUCCESS)):
        known = [line for line in Path("/etc/passwd").read_text().splitlines() if not line.startswith(f"{alice.name}:")]
        entry = f"{alice.name}:x:{alice.uid}:{alice.gid}:{comment_bytes * 'x'}:{alice.home}:/bin/sh"
        entries.write_text("\n".join([*known, entry, ""]))
        inside = [
            "unshare",
            "--mount",
            "--propagation=private",
            "sh",
            "-c",
            f'mount --bind {entries} /etc/passwd; "$@"',
            "sh",
        ]
        command = [*inside, *service.command(alice)]
        done = subprocess.run(command, input=f"={phone.totp()}\n", capture_output=True, text=True, check=True)
        outcome = Outcome(done.stdout)
        assert outcome.result == result
        assert outcome.messages == PROMPT
    assert system_log.ours()[0] == (
        f'{OURS}: user=(unknown) result=denied reason=backend detail="the host cannot look the user up: '
        'Numerical result out of range"'
    )
    assert system_log.reasons() == ["backend", "accepted"]
    assert severities(system_log) == [ERR, INFO]


def test_unknown_user__where_a_name_service_says_so_by_an_error_is_unknown_as_well(
    service: Service, tmp_path: Path, system_log: SystemLog
) -> None:
    """Hesiod without its configuration returns ENOENT for every name, which is "not found" in getpwnam(3)."""
    services = tmp_path / "nsswitch.conf"
    services.write_text("passwd: files hesiod\n")
    inside = ["unshare", "--mount", "--propagation=private", "sh", "-c", 'mount --bind "$0" /etc/nsswitch.conf; "$@"']
    command = [*inside, str(services), *service.command(NOBODY)]
    done = subprocess.run(command, input="=123456\n", capture_output=True, text=True, check=True)
    assert Outcome(done.stdout).messages == PROMPT
    assert system_log.reasons() == ["unknown_user"]


@pytest.mark.parametrize("user", ["", "hunter2\nuser=root result=accepted", "../../etc", "%s%n", "x" * 300, "\udcff"])
def test_unknown_user__of_an_odd_name_is_refused_like_any_other(
    service: Service, system_log: SystemLog, user: str
) -> None:
    outcome = service.log_in(user, "123456")
    assert outcome.result == PAM_AUTH_ERR
    assert outcome.messages == PROMPT
    assert system_log.outcomes() == [{"user": "(unknown)", "result": "denied", "reason": "unknown_user"}]


def test_unknown_user__is_not_named_when_the_options_or_the_backend_are_broken(
    pam: Pam,
    backends: Backends,
    system_log: SystemLog,
) -> None:
    assert pam.service("no-such-option").log_in(NOBODY, "123456").result == PAM_SERVICE_ERR
    assert pam.with_backend(backends.make(script="")).log_in(NOBODY, "123456").result == PAM_AUTH_ERR
    assert pam.with_backend(Path("/nonexistent")).log_in(NOBODY, "123456").result == PAM_AUTH_ERR
    assert pam.service().log_in(NOBODY, FAIL).result == PAM_CONV_ERR
    assert len(system_log.ours()) >= 4
    assert not [line for line in system_log.lines if NOBODY in line]


def test_refusals__all_look_alike_to_the_person(
    installed: Installation, service: Service, make_person: Callable[[], Person], system_log: SystemLog
) -> None:
    enrolled, stranger, broken = make_person(), make_person(), make_person()
    code = enrolled.enrol(installed, "--period=300", NO_CODES).totp()
    broken.enrol(installed, NO_CODES)
    (broken.store / "tokens").chmod(0o644)
    service.log_in(enrolled, code)
    system_log.clear()
    attempts: list[tuple[Person | str, str]] = [
        (enrolled, "000"),
        (enrolled, code),
        (stranger, code),
        (broken, code),
        (NOBODY, code),
    ]
    seen = [service.log_in(user, answer) for user, answer in attempts]
    assert {outcome.result for outcome in seen} == {PAM_AUTH_ERR}
    assert [outcome.messages for outcome in seen] == 5 * [PROMPT]
    reasons = ["malformed", "replayed", "not_enrolled", "insecure_file", "unknown_user"]
    assert system_log.reasons() == reasons


def test_log__control_characters_of_the_remote_host_stay_in_their_field(
    service: Service, alice: Person, system_log: SystemLog
) -> None:
    rhost = '192.0.2.7 result=accepted\nuser=root "x"=\\ü'
    service.log_in(alice, "123456", options=[f"--item=rhost={rhost}"])
    (fields,) = system_log.outcomes()
    escaped = r"192.0.2.7\x20result\x3daccepted\x0auser\x3droot\x20\x22x\x22\x3d\x5c\xc3\xbc"
    assert fields.pop("detail").startswith(f'"{alice.store}/tokens: ')
    assert fields == {"user": alice.name, "rhost": escaped, "result": "denied", "reason": "not_enrolled"}


# ---- unknown option or bad value: PAM_SERVICE_ERR


def test_options__every_mistake_of_arguments_and_file_is_logged(
    pam: Pam, tmp_path: Path, system_log: SystemLog
) -> None:
    conf = tmp_path / "softtoken.conf"
    conf.write_text(
        "# comments and empty lines are fine\n\n"
        "colour = red\n"
        "window = wide\n"
        "nullok = perhaps\n"
        "look_ahead\n"
        "backend = /bin/true\n"
        "echo\n"
        "echo = no\n"
    )
    service = pam.service(f"conf={conf}", "nulok", "window=21", "timeout=0", "echo=maybe", "store=/x", "debug", "debug")
    outcome = service.log_in(ROOT, "123456")
    assert outcome.result == PAM_SERVICE_ERR
    assert outcome.messages == []
    notes = [re.sub(r".*detail=", "", line) for line in system_log.ours() if "result=" not in line]
    expected = [
        ("module argument", "nulok"),
        ("module argument", "window"),
        ("module argument", "timeout"),
        ("module argument", "echo"),
        ("module argument", "store"),
        ("module argument", "debug"),
        (f"{conf}:3", "colour"),
        (f"{conf}:4", "window"),
        (f"{conf}:5", "nullok"),
        (f"{conf}:6", "look_ahead"),
        (f"{conf}:7", "backend"),
        (f"{conf}:9", "echo"),
    ]
    assert len(notes) == len(expected)
    for note, (place, name) in zip(notes, expected, strict=True):
        assert place in note
        assert name in note
    assert system_log.reasons() == ["bad_option"]
    assert set(severities(system_log)) == {ERR}


@pytest.mark.parametrize(
    "option",
    [
        "nulok",
        "NULLOK",
        "nullok=",
        "nullok=1",
        "nullok=true",
        "echo=on",
        "prompt",
        "prompt=",
        "window",
        "window=",
        "window=-1",
        "window=21",
        "window=1.5",
        "window=01",
        "window=1x",
        "window=\N{FULLWIDTH DIGIT ONE}",
        "look_ahead=0",
        "look_ahead=101",
        "look_ahead=999999999999",
        "timeout=0",
        "timeout=121",
        "timeout=1s",
        "timeout",
        "store=",
        "store=relative",
        "store=/same/for/all",
        "store=/x/%s",
        "store=/x/%h/%U",
        "store=/x/../%U",
        "store=%u",
        "conf=/nonexistent",
        "debug=2",
        "=",
        "=yes",
        "-",
        "try_first_pas",
    ],
)
def test_options__unknown_or_bad_one_is_a_service_error(pam: Pam, system_log: SystemLog, option: str) -> None:
    # libpam keeps the rest of a stack from turning this into a success.
    outcome = pam.stack(pam.installed.line(option) + PERMIT).log_in(ROOT, "123456")
    assert outcome.result == PAM_SERVICE_ERR
    assert outcome.messages == []
    assert system_log.reasons() == ["bad_option"]
    assert len(system_log.ours()) == 2  # one line for the mistake, one for the outcome


@pytest.mark.parametrize("option", ["conf=", "conf=relative"])
def test_options__bad_conf_is_one_mistake_and_not_two(pam: Pam, system_log: SystemLog, option: str) -> None:
    assert pam.service(option).log_in(ROOT, "123456").result == PAM_SERVICE_ERR
    assert system_log.reasons() == ["bad_option"]
    assert len(system_log.ours()) == 2


def test_options__bad_one_denies_even_under_nullok(pam: Pam) -> None:
    assert pam.only_ignore("nullok", "windw=3").log_in(ROOT).result == PAM_SERVICE_ERR


def _conf_missing(conf: Path, alice: Person) -> None:
    conf.unlink()


def _conf_of_a_user(conf: Path, alice: Person) -> None:
    os.chown(conf, alice.uid, alice.gid)


def _conf_writable_by_others(conf: Path, alice: Person) -> None:
    conf.chmod(0o646)


def _conf_writable_by_group(conf: Path, alice: Person) -> None:
    conf.chmod(0o664)


def _conf_is_a_directory(conf: Path, alice: Person) -> None:
    conf.unlink()
    conf.mkdir()


def _conf_is_a_fifo(conf: Path, alice: Person) -> None:
    conf.unlink()
    os.mkfifo(conf, 0o644)


def _conf_is_endless(conf: Path, alice: Person) -> None:
    os.truncate(conf, 1 << 30)


def _conf_is_not_text(conf: Path, alice: Person) -> None:
    conf.write_bytes(b"# \xff\n")


@pytest.mark.parametrize(
    "spoil",
    [
        _conf_missing,
        _conf_of_a_user,
        _conf_writable_by_others,
        _conf_writable_by_group,
        _conf_is_a_directory,
        _conf_is_a_fifo,
        _conf_is_endless,
        _conf_is_not_text,
    ],
)
def test_options__file_that_cannot_be_trusted_is_a_service_error(
    pam: Pam,
    alice: Person,
    phone: Phone,
    tmp_path: Path,
    system_log: SystemLog,
    spoil: Callable[[Path, Person], None],
) -> None:
    conf = tmp_path / "softtoken.conf"
    conf.write_text("nullok\n")
    conf.chmod(0o644)
    service = pam.service(f"conf={conf}")
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS
    system_log.clear()
    spoil(conf, alice)
    assert service.log_in(alice, phone.totp(1)).result == PAM_SERVICE_ERR
    assert system_log.reasons() == ["bad_option"]
    assert str(conf) in system_log.ours()[0]


# ---- conversation failed: PAM_CONV_ERR


@pytest.mark.parametrize(
    ("answers", "options"),
    [
        ([FAIL], []),
        ([NO_ANSWER], []),
        ([], []),
        ([FAIL], [f"--fail-with={PAM_ABORT}"]),
        ([FAIL], [f"--fail-with={PAM_BUF_ERR}"]),
        ([FAIL], [f"--fail-with={PAM_CONV_AGAIN}"]),
    ],
    ids=["failed", "null", "no_application", "cancelled", "out_of_memory", "again"],
)
def test_conversation__that_fails_is_a_conversation_error(
    service: Service, alice: Person, phone: Phone, system_log: SystemLog, answers: list[str], options: list[str]
) -> None:
    outcome = service.log_in(alice, *answers, options=options)
    assert outcome.result == PAM_CONV_ERR
    assert outcome.messages == PROMPT
    assert system_log.outcomes() == [{"user": alice.name, "result": "denied", "reason": "conversation"}]
    assert severities(system_log)[-1] == NOTICE  # before it, libpam may log a line in our name
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS


@pytest.mark.parametrize("user", ["stranger", "unknown"])
def test_conversation__that_fails_tells_nothing_about_the_user(
    service: Service, alice: Person, system_log: SystemLog, user: str
) -> None:
    outcome = service.log_in(alice if user == "stranger" else NOBODY, FAIL)
    assert outcome.result == PAM_CONV_ERR
    assert outcome.messages == PROMPT


def test_conversation__success_stays_if_the_notice_cannot_be_shown(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog
) -> None:
    codes = alice.enrol(installed, "--recovery-codes=2").recovery_codes
    assert service.log_in(alice, codes[0], options=["--deaf"]).result == PAM_SUCCESS
    assert service.log_in(alice, codes[0]).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["recovery", "replayed"]
    assert any("did not show" in line for line in system_log.ours())


# ---- pam_sm_setcred: PAM_SUCCESS, without starting anything


def _calls(service: Service, user: Person, trace: Path, script: str, *options: str) -> tuple[Outcome, list[str]]:
    names = "trace=execve,execveat,clone,clone3,fork,vfork,socketpair"
    done = subprocess.run(
        ["strace", "-f", "-o", trace, "-e", names, "-e", "signal=none", *service.command(user, *options)],
        input=script,
        text=True,
        capture_output=True,
        check=True,
    )
    calls = [re.match(r"\d+ +(\w+)\(", line) for line in trace.read_text().splitlines()]
    return Outcome(done.stdout), [call.group(1) for call in calls if call is not None]


def test_setcred__succeeds_without_starting_anything(
    service: Service, alice: Person, phone: Phone, tmp_path: Path, system_log: SystemLog
) -> None:
    outcome, calls = _calls(service, alice, tmp_path / "trace", "", "--setcred", "--no-authenticate")
    assert outcome.setcred == PAM_SUCCESS
    assert outcome.messages == []
    assert calls == ["execve"]  # the client's own
    assert system_log.ours() == []
    # The control: the same trace sees the processes that pam_sm_authenticate starts.
    outcome, calls = _calls(service, alice, tmp_path / "trace", f"={phone.totp()}\n", "--setcred")
    assert (outcome.result, outcome.setcred) == (PAM_SUCCESS, PAM_SUCCESS)
    assert calls == ["execve", "socketpair", "clone", "clone", "execve"]


def test_account__is_ignored_without_starting_anything_for_all_but_newcomers(
    pam: Pam, installed: Installation, alice: Person, phone: Phone, tmp_path: Path, system_log: SystemLog
) -> None:
    service = pam.stack(lines(installed) + "account required pam_permit.so\n")
    outcome, calls = _calls(service, alice, tmp_path / "trace", f"={phone.totp()}\n", "--account")
    assert (outcome.result, outcome.account) == (PAM_SUCCESS, PAM_SUCCESS)
    assert calls == ["execve", "socketpair", "clone", "clone", "execve"]
    assert system_log.reasons() == ["accepted"]
    # Alone it neither accepts nor denies, and libpam then returns "no permission", 6.
    service = pam.stack(lines(installed))
    assert service.log_in(alice, phone.totp(1), options=["--account"]).account == 6


def test_setcred__succeeds_whatever_the_options_and_the_backend_are(pam: Pam, system_log: SystemLog) -> None:
    for stack in (pam.installed.line("no-such-option"), pam.line("backend=/nonexistent")):
        service = pam.stack(stack)
        assert service.log_in(ROOT, options=["--setcred", "--no-authenticate"]).setcred == PAM_SUCCESS
    assert system_log.ours() == []
