"""Run the bridge alone with backends that are missing, dangerous, dead, slow or faulty: each is a denial."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from tests.support.account import Person
from tests.support.client import (
    ECHO_OFF,
    PAM_AUTH_ERR,
    PAM_CONV_ERR,
    PAM_SERVICE_ERR,
    PAM_SUCCESS,
    Outcome,
    Service,
)
from tests.support.installation import Installation
from tests.support.pam_scene import (
    ALERT,
    ERR,
    NO_CODES,
    OURS,
    ROOT,
    Backends,
    Pam,
    severities,
    wait_until,
)
from tests.support.process import shortest_s
from tests.support.system_log import SystemLog


def test_backend__of_our_own_can_say_yes(backends: Backends, pam: Pam, system_log: SystemLog) -> None:
    """The control for the following tests: they are not refused only for being another backend."""
    backend = backends.make(script="send(b'C', 1, b'Well? '); receive(); send(b'L', 6, b'hello'); send(b'R', 0)")
    outcome = pam.with_backend(backend).log_in(ROOT, "x")
    assert outcome.result == PAM_SUCCESS
    assert outcome.messages == [(ECHO_OFF, "Well? ")]
    assert system_log.ours() == [f"{OURS}: hello"]


def test_backend__verdict_brings_a_line_for_the_log_along(backends: Backends, pam: Pam, system_log: SystemLog) -> None:
    backend = backends.make(script=r"send(b'L', 6, b'hello'); send(b'R', 0, b'\5' + b'x' * 4092)")
    assert pam.with_backend(backend).log_in(ROOT).result == PAM_SUCCESS
    hello, last = system_log.ours()
    assert hello == f"{OURS}: hello"
    assert last.startswith(f"{OURS}: xxx")
    assert severities(system_log) == [6, 5]


@pytest.mark.parametrize("path", ["/nonexistent/backend", "/usr/bin", "/dev/null", "relative", ""])
def test_backend__missing_denies(pam: Pam, system_log: SystemLog, path: str) -> None:
    outcome = pam.with_backend(path).log_in(ROOT, "123456")
    assert outcome.result == PAM_AUTH_ERR
    assert outcome.messages == []
    (said,) = system_log.ours()
    assert f"backend missing: '{path}'" in said
    assert system_log.reasons() == ["backend"]
    assert severities(system_log) == [ERR]


def test_backend__removed_under_a_live_stack_denies(backends: Backends, pam: Pam, system_log: SystemLog) -> None:
    backend = backends.make(script="send(b'R', 0)")
    service = pam.with_backend(backend)
    assert service.log_in(ROOT).result == PAM_SUCCESS
    backend.unlink()
    assert service.log_in(ROOT).result == PAM_AUTH_ERR


def _file_writable_by_group(backend: Path, alice: Person) -> None:
    backend.chmod(0o664)


def _file_writable_by_others(backend: Path, alice: Person) -> None:
    backend.chmod(0o646)


def _file_of_a_user(backend: Path, alice: Person) -> None:
    os.chown(backend, alice.uid, alice.gid)


def _directory_writable_by_group(backend: Path, alice: Person) -> None:
    backend.parent.chmod(0o775)


def _directory_writable_by_others(backend: Path, alice: Person) -> None:
    backend.parent.chmod(0o757)


def _directory_of_a_user(backend: Path, alice: Person) -> None:
    os.chown(backend.parent, alice.uid, alice.gid)


def _directory_above_writable_by_others(backend: Path, alice: Person) -> None:
    backend.parent.parent.chmod(0o777)


def _directory_above_of_a_user(backend: Path, alice: Person) -> None:
    os.chown(backend.parent.parent, alice.uid, alice.gid)


def _file_writable_behind_a_link(backend: Path, alice: Person) -> None:
    target = backend.with_name("target")
    backend.rename(target)
    target.chmod(0o666)
    backend.symlink_to(target)


@pytest.mark.parametrize(
    "spoil",
    [
        _file_writable_by_group,
        _file_writable_by_others,
        _file_of_a_user,
        _directory_writable_by_group,
        _directory_writable_by_others,
        _directory_of_a_user,
        _directory_above_writable_by_others,
        _directory_above_of_a_user,
        _file_writable_behind_a_link,
    ],
)
def test_backend__that_others_could_have_written_is_not_started(
    backends: Backends,
    pam: Pam,
    alice: Person,
    system_log: SystemLog,
    tmp_path: Path,
    spoil: Callable[[Path, Person], None],
) -> None:
    mark = tmp_path / "started"
    backend = backends.make(script=f"open({str(mark)!r}, 'w'); send(b'R', 0)")
    service = pam.with_backend(backend)
    assert service.log_in(alice).result == PAM_SUCCESS
    mark.unlink()
    spoil(backend, alice)
    assert service.log_in(alice).result == PAM_AUTH_ERR
    assert not mark.exists()
    (said,) = system_log.ours()
    assert "backend refused: others own or can write" in said
    assert system_log.reasons() == ["backend"]
    assert severities(system_log) == [ALERT]


def test_backend__in_a_directory_like_tmp_is_started(backends: Backends, pam: Pam) -> None:
    backend = backends.make(script="send(b'R', 0)")
    backend.parent.chmod(0o1777)
    assert pam.with_backend(backend).log_in(ROOT).result == PAM_SUCCESS


def test_backend__of_the_user_is_started_where_the_host_is_the_user(
    backends: Backends, pam: Pam, make_person: Callable[[], Person], alice: Person
) -> None:
    backend = backends.make(script="send(b'R', 0)")
    os.chown(backend, alice.uid, alice.gid)
    service = pam.with_backend(backend)
    assert service.log_in(alice, run_as=alice).result == PAM_SUCCESS
    assert service.log_in(alice, run_as=make_person()).result == PAM_AUTH_ERR


def assert_denied(service: Service, answer: str = "123456") -> None:
    """Check that a login is denied."""
    assert service.log_in(ROOT, answer).result == PAM_AUTH_ERR


def _has_ended(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_backend__that_never_answers_denies_in_time_and_is_gone(
    backends: Backends, pam: Pam, system_log: SystemLog, tmp_path: Path
) -> None:
    mark = tmp_path / "pid"
    backend = backends.make(script=f"open({str(mark)!r}, 'w').write(str(os.getpid()))\nwhile True: signal.pause()")
    service = pam.with_backend(backend, "timeout=1")
    assert 0.9 < shortest_s(partial(assert_denied, service), within_s=3) < 3
    for fields in system_log.outcomes():
        assert fields["detail"].startswith('"no verdict; ')
        assert (fields["result"], fields["reason"]) == ("denied", "backend")
    assert set(severities(system_log)) == {ERR}
    wait_until(lambda: _has_ended(int(mark.read_text())), "the backend's alarm had rung")


def test_backend__that_never_answers_after_the_prompt_denies_in_time(
    backends: Backends, pam: Pam, system_log: SystemLog
) -> None:
    backend = backends.make(script="send(b'C', 1, b'? '); signal.alarm(0); receive(); wait_for_the_end()")
    service = pam.with_backend(backend, "timeout=1")
    assert 0.9 < shortest_s(partial(assert_denied, service), within_s=3) < 3
    assert set(system_log.reasons()) == {"backend"}


def test_backend__clock_stands_still_while_the_person_types(backends: Backends, pam: Pam) -> None:
    backend = backends.make(script="signal.alarm(0); send(b'C', 1, b'? '); receive(); send(b'R', 0)")
    service = pam.with_backend(backend, "timeout=1")
    assert_accepted_at_last(lambda: service.log_in(ROOT, "123456", options=["--typing-ms=1500"]))


def test_module__clock_stands_still_while_the_person_types(pam: Pam, installed: Installation, alice: Person) -> None:
    phone = alice.enrol(installed, "--type=hotp", NO_CODES)
    service = pam.service("timeout=1", "no_throttle")
    assert_accepted_at_last(lambda: service.log_in(alice, phone.hotp(), options=["--typing-ms=2500"]))


def assert_accepted_at_last(log_in: Callable[[], Outcome]) -> None:
    """Log in until it succeeds. On a busy machine the backend may not even start within its one second."""
    assert any(log_in().result == PAM_SUCCESS for _ in range(10))


@pytest.mark.parametrize(
    "script",
    [
        "os._exit(0)",
        "os._exit(1)",
        "os.kill(os.getpid(), signal.SIGKILL)",
        "raise RuntimeError",
        "os.close(0); time.sleep(0)",
        "send(b'C', 1, b'? '); os._exit(0)",
        "send(b'C', 1, b'? '); receive(); os.kill(os.getpid(), signal.SIGSEGV)",
        "send(b'L', 6, b'nearly there')",
        "this is not Python",
    ],
)
def test_backend__that_dies_without_a_verdict_denies(
    backends: Backends, pam: Pam, system_log: SystemLog, script: str
) -> None:
    service = pam.with_backend(backends.make(script=script))
    assert shortest_s(partial(assert_denied, service), within_s=3) < 3
    for fields in system_log.outcomes():
        assert fields["detail"].startswith('"no verdict; ')
        assert (fields["result"], fields["reason"]) == ("denied", "backend")


@pytest.mark.parametrize(
    "frames",
    [
        "os.write(0, b'garbage, and more of it')",
        r"os.write(0, b'\1')",
        r"os.write(0, b'\1R')",
        r"os.write(0, b'\0R\0')",
        r"os.write(0, b'\2R\0')",
        r"os.write(0, b'1R0')",
        "send(b'R', 0, version=2)",
        "send(b'R', 0, b'x')",
        r"send(b'R', 0, b'\10level')",
        r"send(b'R', 0, b'\6cut\0here')",
        r"send(b'R', 0, b'\6' + b'x' * 4093)",
        "send(b'X', 0)",
        "send(b'S', 0)",
        "send(b'A', 0)",
        "send(b'r', 0)",
        "send(b'L', 8, b'level')",
        "send(b'L', 255, b'level')",
        r"send(b'L', 6, b'cut\0here')",
        "send(b'C', 0, b'style')",
        "send(b'C', 5, b'style')",
        "send(b'C', 7, b'style')",
        "send(b'C', 255, b'style')",
        r"send(b'C', 1, b'cut\0here')",
        "send(b'L', 6, b'x' * 4094)",
        "send(b'C', 4, b'x' * 4094)",
        "os.write(0, b'x' * 100000)",
        r"os.write(0, b'\1R\0' + bytes(4094))",
    ],
)
def test_backend__that_speaks_another_language_denies(
    backends: Backends, pam: Pam, system_log: SystemLog, frames: str
) -> None:
    """A later verdict does not count, whatever comes before it."""
    backend = backends.make(script=f"{frames}\nsend(b'R', 0)\nwait_for_the_end()")
    outcome = pam.with_backend(backend).log_in(ROOT, "123456")
    assert outcome.result == PAM_AUTH_ERR
    assert outcome.messages == []
    assert system_log.outcomes() == [{"result": "denied", "reason": "backend", "detail": '"Protocol error"'}]


def test_backend__empty_frame_is_an_end(backends: Backends, pam: Pam, system_log: SystemLog) -> None:
    backend = backends.make(script="import socket; socket.socket(fileno=0).send(b''); send(b'R', 0)")
    assert pam.with_backend(backend).log_in(ROOT, "123456").result == PAM_AUTH_ERR
    assert system_log.reasons() == ["backend"]


def test_backend__largest_frames_pass(backends: Backends, pam: Pam) -> None:
    backend = backends.make(script="send(b'C', 4, b'x' * 4093); receive(); send(b'R', 0)")
    outcome = pam.with_backend(backend).log_in(ROOT)
    assert outcome.result == PAM_SUCCESS
    assert outcome.messages == [(4, 4093 * "x")]


@pytest.mark.parametrize(("frames", "result"), [(63, PAM_SUCCESS), (64, PAM_AUTH_ERR), (1000, PAM_AUTH_ERR)])
def test_backend__has_64_frames_and_no_more(
    backends: Backends, pam: Pam, system_log: SystemLog, frames: int, result: int
) -> None:
    script = f"for _ in range({frames}): send(b'L', 6, b'talking')\nsend(b'R', 0)"
    assert pam.with_backend(backends.make(script=script)).log_in(ROOT).result == result
    assert system_log.reasons() == ([] if result == PAM_SUCCESS else ["backend"])
    assert len([line for line in system_log.ours() if "talking" in line]) == min(frames, 64)


def test_backend__format_characters_are_only_text(backends: Backends, pam: Pam, system_log: SystemLog) -> None:
    script = "send(b'C', 1, b'%s%n%500d? '); receive(); send(b'L', 6, b'%s%n'); send(b'R', 7)"
    outcome = pam.with_backend(backends.make(script=script)).log_in(ROOT, "x")
    assert outcome.messages == [(ECHO_OFF, "%s%n%500d? ")]
    assert system_log.ours() == [f"{OURS}: %s%n"]


PERMITTED = {0: PAM_SUCCESS, 3: PAM_SERVICE_ERR, 7: PAM_AUTH_ERR, 19: PAM_CONV_ERR}
PAM_IGNORE, ALL_IGNORED = 25, 6
"""The result of libpam itself, PAM_PERM_DENIED, when no module of a stack decides."""


@pytest.mark.parametrize("code", [*range(34), 127, 128, 255])
@pytest.mark.sampled(0.4)
def test_backend__only_five_verdicts_reach_libpam(backends: Backends, pam: Pam, code: int) -> None:
    expected = ALL_IGNORED if code == PAM_IGNORE else PERMITTED.get(code, PAM_AUTH_ERR)
    assert pam.with_backend(backends.make(script=f"send(b'R', {code})")).log_in(ROOT).result == expected


def test_backend__gets_at_most_512_bytes_of_an_answer(backends: Backends, pam: Pam, system_log: SystemLog) -> None:
    script = "send(b'C', 1, b'? '); got = receive(); send(b'L', 6, b'%d' % len(got)); send(b'R', 7)"
    service = pam.with_backend(backends.make(script=script))
    for length in (0, 1, 511, 512, 513, 65536, 200000):
        assert shortest_s(partial(assert_denied, service, length * "1"), within_s=3) < 3
        said = int(system_log.ours()[-1].rsplit(" ", 1)[1])
        assert said == len(b"\1A=") + min(length, 512)


def test_backend__that_reads_no_answer_does_not_block_the_host(backends: Backends, pam: Pam) -> None:
    """Data that would fill the socket of CVE-2015-3238 is cut off before: all answers of an attempt fit into it."""
    script = "for _ in range(63): send(b'C', 1, b'? ')\nsend(b'R', 0)\nwait_for_the_end()"
    service = pam.with_backend(backends.make(script=script))
    outcomes: list[Outcome] = []
    assert shortest_s(lambda: outcomes.append(service.log_in(ROOT, *63 * [70000 * "1"])), within_s=5) < 5
    assert outcomes[-1].result == PAM_SUCCESS


def test_host__items_that_do_not_fit_into_a_frame_deny(service: Service, system_log: SystemLog) -> None:
    assert service.log_in(4096 * "x", "123456").result == PAM_AUTH_ERR
    assert "do not fit" in system_log.outcomes()[0]["detail"]
    assert not [line for line in system_log.lines if "xxxx" in line]
