"""Run the shipped bridge under valgrind's memcheck: several logins of each kind in one process.

valgrind turns the bridge's clone(CLONE_VM | CLONE_VFORK) into a fork, as it does with vfork. So the children are
checked
in copies of the host's memory until execve. Their reports are silenced, because they would appear in the middle of the
client's output. Nothing needs to be suppressed.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.account import Person
from tests.support.client import FAIL, NO_ANSWER, PAM_AUTH_ERR, PAM_CONV_ERR, PAM_SUCCESS, Outcome, Service
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES, ROOT, Backends, Pam, oathtool

REPORTED = 99
ROUNDS = 3
VALGRIND = (
    f"valgrind --quiet --error-exitcode={REPORTED} --leak-check=full --show-leak-kinds=definite "
    "--errors-for-leak-kinds=definite --trace-children=no --child-silent-after-fork=yes"
)


@pytest.fixture(scope="module")
def installed(world: Path) -> Installation:
    """A copy of the product whose client runs under valgrind."""
    return Installation.make(world / "valgrind", flags=("-g",), around_client=VALGRIND)


def test_login__right_wrong_and_without_an_answer_leaves_no_report(
    installed: Installation, pam: Pam, alice: Person
) -> None:
    codes = oathtool(alice.enrol(installed, "--type=hotp", NO_CODES), 0, ROUNDS)
    answers = [answer for code in codes for answer in (code, code, NO_ANSWER, FAIL)]
    outcomes = pam.service("no_throttle").log_in_often(alice, *answers, attempts=4 * ROUNDS)
    assert [each.result for each in outcomes] == [PAM_SUCCESS, PAM_AUTH_ERR, PAM_CONV_ERR, PAM_CONV_ERR] * ROUNDS


@pytest.mark.parametrize(
    ("script", "result"),
    [
        ("send(b'L', 6, b'hello'); send(b'C', 4, b'x' * 4093); receive(); send(b'R', 0, b'\\6bye')", PAM_SUCCESS),
        ("send(b'C', 4, b'x' * 4094); send(b'R', 0)", PAM_AUTH_ERR),
        ("os.write(0, b'\\1R'); send(b'R', 0)", PAM_AUTH_ERR),
        ("send(b'C', 1, b'? '); os.kill(os.getpid(), signal.SIGKILL)", PAM_AUTH_ERR),
        ("this is not Python", PAM_AUTH_ERR),
    ],
)
def test_login__with_a_bad_backend_leaves_no_report(backends: Backends, pam: Pam, script: str, result: int) -> None:
    service = pam.with_backend(backends.make(script=script))
    outcomes = service.log_in_often(ROOT, *ROUNDS * ["x"], attempts=ROUNDS)
    assert [each.result for each in outcomes] == [result] * ROUNDS


def test_login__without_a_backend_leaves_no_report(pam: Pam) -> None:
    outcomes = pam.with_backend("/nonexistent").log_in_often(ROOT, attempts=ROUNDS)
    assert [each.result for each in outcomes] == [PAM_AUTH_ERR] * ROUNDS


def test_login__in_a_host_that_is_process_1_has_no_sanitizer_report(
    installed: Installation, service: Service, alice: Person
) -> None:
    codes = oathtool(alice.enrol(installed, "--type=hotp", NO_CODES), 0, ROUNDS)
    command = ["unshare", "--pid", "--fork", "--mount-proc", *service.command(alice, f"--repeat={ROUNDS}")]
    script = "".join(f"={code}\n" for code in codes)
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=True, timeout=300)
    assert [Outcome(line).result for line in done.stdout.splitlines()] == [PAM_SUCCESS] * ROUNDS


@pytest.mark.parametrize(
    ("right", "wrong", "word"),
    [
        ("out:\n\tfree(asked);\n", "out:\n", "definitely lost"),
        ("explicit_bzero(answer, strlen(answer));", "explicit_bzero(answer, strlen(answer) + 2);", "Invalid write"),
    ],
)
def test_valgrind__notices_a_broken_bridge(
    installed: Installation,
    backends: Backends,
    make_service: Callable[[str], Service],
    right: str,
    wrong: str,
    word: str,
) -> None:
    """The control."""
    backend = backends.make(script="send(b'C', 1, b'? '); receive(); send(b'R', 0)")
    broken = installed.broken_bridge(backend.with_name("pam_softtoken.so"), right=right, wrong=wrong, flags=("-g",))
    service = make_service(f"auth required {broken} backend={backend}\n")
    done = subprocess.run(service.command(ROOT), input=b"=x\n", capture_output=True, check=False, timeout=300)
    assert done.returncode == REPORTED
    assert word in done.stderr.decode()
