"""Log in with no code, or with no answer at all, through the real module: denied at once, with one NOTICE line."""

from __future__ import annotations

import os
import socket
import subprocess
from types import TracebackType

import pytest

from pam_softtoken.bridge import wire
from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Outcome, Service
from tests.support.installation import Installation
from tests.support.pam_scene import NOTICE, PROMPT, severities, wrong_code
from tests.support.process import WAIT_S
from tests.support.system_log import SystemLog

KIB = 1024

MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "a space": b" ",
    "1 digit": b"1",
    "5 digits": b"12345",
    "9 digits": b"123456789",
    "4 digits and a space": b"12 34",
    "letters": b"abcdef",
    "a minus sign": b"-",
    "a full stop inside": b"123.456",
    "a plus sign": b"+12345",
    "hexadecimal": b"0x1234",
    "full-width digits": (5 * "\N{FULLWIDTH DIGIT ONE}").encode(),
    "Arabic-Indic digits": (6 * "\N{ARABIC-INDIC DIGIT ONE}").encode(),
    "a digit of superscript": b"12345\xc2\xb2",
    "a tab": b"12345\t",
    "a vertical tab": b"123456\v",
    "a control character": b"12345\x01",
    "an escape sequence": b"\x1b[2J123456",
    "a C1 control character": b"123456\xc2\x9b",
    "a line separator": "123456\N{LINE SEPARATOR}".encode(),
    "not UTF-8": b"\xff\xfe\xfd\xfc\xfb\xfa",
    "cut off in a character": b"12345\xe2\x82",
    "an encoded surrogate": b"12345\xed\xb3\xbf",
    "65 digits": 65 * b"1",
    "512 digits": 512 * b"1",
    "513 digits": 513 * b"1",
    "70 KiB of digits": 70 * KIB * b"7",
    "70 KiB of spaces": 70 * KIB * b" ",
    "70 KiB not UTF-8": 70 * KIB * b"\xff",
    "a recovery code cut short": b"ABCD-EFGH-JKM",
    "a recovery code too long": b"ABCD-EFGH-JKM0",
    "SQL": b"' OR 1=1 --",
    "a format": b"%s%s%s%n",
    "a log line": b"x result=accepted reason=accepted",
    "NUL at the front": b"\x00123456",
    "NUL after a digit": b"1\x0023456",
}
"""Answers with the form of neither a code nor a recovery code."""


def attempt(service: Service, person: Person, line: bytes, *options: str) -> Outcome:
    """Answer the one prompt with a line of the client's script.

    A module that waits in vain for its backend logs an error. So the log shows that it did not wait.
    """
    done = subprocess.run(
        service.command(person, *options), input=line + b"\n", capture_output=True, check=True, timeout=60
    )
    return Outcome(done.stdout.decode())


@pytest.mark.parametrize("answer", MALFORMED.values(), ids=MALFORMED)
def test_answer__without_a_code_is_refused_with_one_notice(
    service: Service, alice: Person, phone: Phone, system_log: SystemLog, answer: bytes
) -> None:
    before = (alice.store / "state").read_bytes()
    outcome = attempt(service, alice, b"=" + answer)
    assert outcome.result == PAM_AUTH_ERR
    assert outcome.messages == PROMPT
    assert system_log.outcomes() == [{"user": alice.name, "result": "denied", "reason": "malformed"}]
    assert severities(system_log) == [NOTICE]
    assert (alice.store / "state").read_bytes() == before
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS


@pytest.mark.parametrize("behind", [600 * b" ", 600 * b"0", b"\x7f", b"\v", b"\xff"], ids=repr)
def test_answer__right_code_with_more_behind_it_is_refused(
    service: Service, alice: Person, phone: Phone, system_log: SystemLog, behind: bytes
) -> None:
    assert attempt(service, alice, b"=" + phone.totp().encode() + behind).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["malformed"]
    assert severities(system_log) == [NOTICE]


@pytest.mark.parametrize("pasted", ["{} {}\r", "\t{}\u00a0{}", "\u200b{}-{}\ufeff", "{}\u2011{}"], ids=ascii)
def test_answer__code_that_was_pasted_with_more_is_accepted_once(
    service: Service, alice: Person, phone: Phone, system_log: SystemLog, pasted: str
) -> None:
    code = phone.totp()
    answer = pasted.format(code[:3].translate({48 + digit: 0xFF10 + digit for digit in range(10)}), code[3:])
    assert attempt(service, alice, b"=" + answer.encode()).result == PAM_SUCCESS
    assert attempt(service, alice, b"=" + code.encode()).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["accepted", "replayed"]


def test_answer__ends_at_a_nul_as_a_string_of_pams_does(
    service: Service, alice: Person, phone: Phone, system_log: SystemLog
) -> None:
    for behind in (b"\0", b"\x001", b"\0" + 70 * KIB * b"7"):
        assert attempt(service, alice, b"=" + wrong_code(phone).encode() + behind).result == PAM_AUTH_ERR
    assert system_log.reasons() == 3 * ["mismatch"]
    assert attempt(service, alice, b"=" + phone.totp().encode() + b"\x001").result == PAM_SUCCESS


@pytest.mark.parametrize("digits", [7, 8])
def test_answer__code_of_another_length_is_a_mismatch(
    service: Service, alice: Person, phone: Phone, system_log: SystemLog, digits: int
) -> None:
    for answer in (wrong_code(phone).zfill(digits), phone.totp().zfill(digits), phone.totp().ljust(digits, "0")):
        assert attempt(service, alice, b"=" + answer.encode()).result == PAM_AUTH_ERR
    assert system_log.reasons() == 3 * ["mismatch"]
    assert severities(system_log) == 3 * [NOTICE]
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS


@pytest.mark.parametrize("place", [0, 3, 6])
def test_answer__with_a_nul_that_comes_past_the_bridge_is_malformed(
    installed: Installation, alice: Person, phone: Phone, place: int
) -> None:
    """No C string can hold a NUL, so the test itself asks this backend."""
    code = phone.totp().encode()
    with Asked(installed, alice) as asked:
        assert asked.receive()[:3] == frame(wire.CONVERSE, bytes([PROMPT[0][0]]))
        asked.send(frame(wire.ANSWER, b"=" + code[:place] + b"\0" + code[place:]))
        verdict = asked.receive()
    assert verdict[:3] == frame(wire.RESULT, bytes([PAM_AUTH_ERR]))
    assert verdict[3] == NOTICE
    assert verdict[4:].decode() == f"user={alice.name} result=denied reason=malformed"


class Asked:
    """A backend with the test in place of the bridge.

    Args:
        installed: the installation of the backend.
        person: the user who logs in.
    """

    def __init__(self, installed: Installation, person: Person) -> None:
        self._socket, its_own = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with its_own:
            command = ["/usr/bin/python3", "-I", "-S", "-B", str(installed.backend)]
            self._process = subprocess.Popen(command, stdin=its_own.fileno(), cwd="/", env={})
        self._socket.settimeout(WAIT_S)
        items = ["=test", "", "", ""]
        account = [person.name, person.name, str(person.uid), str(person.gid), str(person.home)]
        fields = ["0", *account, str(os.getuid()), "0", "0", *items]
        self.send(frame(wire.START, "".join(f"{field}\0" for field in fields).encode()))

    def send(self, message: bytes) -> None:
        """Send a frame."""
        self._socket.send(message)

    def receive(self) -> bytes:
        """Wait for a frame."""
        return self._socket.recv(wire.MAX_FRAME_BYTES)

    def __enter__(self) -> Asked:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._process.wait(WAIT_S)


def frame(kind: bytes, payload: bytes) -> bytes:
    """Return a frame."""
    return bytes([wire.VERSION]) + kind + payload
