"""Set hostile PAM items, as in CVE-2025-6020: one log line, escaped, and no path made from an item."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Outcome, Service
from tests.support.installation import Installation
from tests.support.pam_scene import ERR, INFO, NO_CODES, NOTICE, OURS, PROMPT, Pam, severities
from tests.support.system_log import SystemLog

MARK = "item-of-a-stranger"
ODD = {
    "up and away": f"../../../../tmp/{MARK}",
    "absolute": f"/etc/{MARK}",
    "control characters": f"{MARK}\n<81>pam_softtoken(sshd:auth): user=root\r result=accepted\x1b[2J\x7f\x01",
    "a format": f"{MARK}%s%n%s%n",
    "not UTF-8": f"{MARK}\udcff\udc80",
}
ENDLESS = MARK + 5000 * "x"
ITEMS = ["rhost", "tty", "ruser"]


class Traced:
    """One attempt, and its file system calls.

    Args:
        service: the service.
        user: the user name.
        code: the answer.
        trace: a file for the calls.
        options: options of the client.
    """

    def __init__(self, service: Service, user: Person | str, code: str, trace: Path, *options: str) -> None:
        tracing = ["strace", "-f", "-s", "10000", "-o", str(trace), "-e", "trace=%file", "-e", "signal=none"]
        command = [*tracing, *service.command(user, *options)]
        done = subprocess.run(command, input=f"={code}\n".encode(), capture_output=True, check=True)
        self.outcome = Outcome(done.stdout.decode())
        self.calls = [line.split(maxsplit=1)[1] for line in trace.read_text().splitlines()]

    @property
    def calls_with_the_mark(self) -> list[str]:
        """The calls that contain the mark, without the client's own start and systemd's look-up of a plausible user."""
        assert any("softtoken-backend" in call for call in self.calls)
        return [call for call in self.calls if MARK in call and "--confdir=" not in call and "/userdb/" not in call]


def only_line(log: SystemLog) -> str:
    """Return the one logged line, and check that it is one line of visible characters."""
    (line,) = log.ours()
    assert line.isascii()
    assert line.isprintable()
    assert line.startswith(f"{OURS}: ")
    return line


@pytest.mark.parametrize("value", ODD.values(), ids=ODD)
@pytest.mark.parametrize("item", ITEMS)
def test_item__odd_value_is_one_escaped_word_and_no_path(
    service: Service, alice: Person, phone: Phone, tmp_path: Path, system_log: SystemLog, item: str, value: str
) -> None:
    traced = Traced(service, alice, phone.totp(), tmp_path / "trace", f"--item={item}={value}")
    assert traced.outcome.result == PAM_SUCCESS
    assert traced.outcome.messages == PROMPT
    assert traced.calls_with_the_mark == []
    words = only_line(system_log).split()
    assert words[1] == f"user={alice.name}"
    assert words[-3:] == ["token=phone", "result=accepted", "reason=accepted"]
    assert len(words) == (6 if item == "rhost" else 5)
    assert severities(system_log) == [INFO]


@pytest.mark.parametrize("item", ITEMS)
def test_item__of_5000_characters_is_denied_with_one_line(
    service: Service, alice: Person, phone: Phone, system_log: SystemLog, item: str
) -> None:
    outcome = service.log_in(alice, phone.totp(), options=[f"--item={item}={ENDLESS}"])
    assert outcome.result == PAM_AUTH_ERR
    assert outcome.messages == []
    assert "do not fit" in only_line(system_log)
    assert severities(system_log) == [ERR]


@pytest.mark.parametrize("options", [[], ["nullok"], ["store=/var/lib/%u"], ["store=/var/lib/%u", "nullok"]], ids=str)
@pytest.mark.parametrize("user", ODD.values(), ids=ODD)
def test_user__of_an_odd_name_is_one_line_without_it_and_no_path(
    pam: Pam, tmp_path: Path, system_log: SystemLog, user: str, options: list[str]
) -> None:
    traced = Traced(pam.service(*options), user, "123456", tmp_path / "trace")
    assert traced.outcome.result == PAM_AUTH_ERR
    assert traced.outcome.messages == PROMPT
    assert traced.calls_with_the_mark == []
    assert only_line(system_log) == f"{OURS}: user=(unknown) result=denied reason=unknown_user"
    assert severities(system_log) == [NOTICE]


def test_user__of_5000_characters_is_denied_with_one_line(pam: Pam, system_log: SystemLog) -> None:
    assert pam.only_ignore("nullok").log_in(ENDLESS, "123456").result == PAM_AUTH_ERR
    assert MARK not in only_line(system_log)
    assert severities(system_log) == [ERR]


def test_user__changed_by_the_application_before_the_attempt_is_the_user_asked(
    installed: Installation, service: Service, alice: Person, make_person: Callable[[], Person], system_log: SystemLog
) -> None:
    """As in CVE-2024-9313: the name is read when it is used, and no earlier name is kept."""
    bob = make_person()
    phones = {person: person.enrol(installed, "--period=300", NO_CODES) for person in (alice, bob)}
    become_bob = [f"--item=user={bob.name}"]
    assert service.log_in(alice, phones[alice].totp(), options=become_bob).result == PAM_AUTH_ERR
    assert service.log_in(alice, phones[bob].totp(), options=become_bob).result == PAM_SUCCESS
    assert [(fields["user"], fields["reason"]) for fields in system_log.outcomes()] == [
        (bob.name, "mismatch"),
        (bob.name, "accepted"),
    ]
    assert service.log_in(alice, phones[alice].totp()).result == PAM_SUCCESS


def test_user__changed_by_the_application_at_the_prompt_is_not_let_in(
    installed: Installation, service: Service, alice: Person, make_person: Callable[[], Person], system_log: SystemLog
) -> None:
    bob = make_person()
    phone = alice.enrol(installed, "--period=300", NO_CODES)
    outcome = service.log_in(alice, phone.totp(), options=[f"--user-at=1:{bob.name}"])
    assert outcome.result == PAM_AUTH_ERR
    assert system_log.reasons()[-1] == "backend"
