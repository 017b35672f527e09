"""Inspect the backend while it waits for an answer: no secret is where other users can see it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.account import Person, Phone
from tests.support.client import PAM_SUCCESS, Service
from tests.support.installation import Installation
from tests.support.leak import refuse
from tests.support.pam_waiting import Waiting
from tests.support.process import processes
from tests.support.system_log import DEV_LOG, SystemLog


def _backend_of(installed: Installation) -> Path:
    (found,) = [process for process in processes() if str(installed.backend) in process.command]
    return Path(f"/proc/{found.pid}")


@pytest.mark.claim(
    "No key, code, password or recovery code is in the log, in the backend's arguments, in its "
    "environment or in a core. Every test looks at the log, with `debug` on."
)
def test_backend__shows_nothing_in_its_arguments_and_environment(
    installed: Installation, service: Service, alice: Person, phone: Phone
) -> None:
    with Waiting(service, alice) as waiting:
        waiting.wait_for_prompt()
        place = _backend_of(installed)
        arguments = (place / "cmdline").read_bytes().split(b"\0")[:-1]
        environment = set((place / "environ").read_bytes().split(b"\0")[:-1])
        assert waiting.answer(phone.totp()).result == PAM_SUCCESS
    assert arguments == [b"/usr/bin/python3", b"-I", b"-S", b"-B", str(installed.backend).encode()]
    assert environment == {b"LC_ALL=C.UTF-8", b"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}


@pytest.mark.claim(
    "No key, code, password or recovery code is in the log, in the backend's arguments, in its "
    "environment or in a core. Every test looks at the log, with `debug` on."
)
def test_backend__cannot_leave_its_memory_in_a_core(
    installed: Installation, service: Service, alice: Person, phone: Phone
) -> None:
    """A limit of 1 byte stops a core file and also a core that is piped to a program, unlike 0: core(5)."""
    with Waiting(service, alice) as waiting:
        waiting.wait_for_prompt()
        (line,) = [
            line
            for line in (_backend_of(installed) / "limits").read_text().splitlines()
            if line.startswith("Max core file size")
        ]
        assert waiting.answer(phone.totp()).result == PAM_SUCCESS
    assert line.split()[4:6] == ["1", "1"]


def test_watch__finds_a_secret_in_a_log(phone: Phone) -> None:
    """The control for the search of the log at the end of every test."""
    harmless = f"<85>Nov 23 12:00:00 sshd[{phone.totp()}]: pam_softtoken(sshd:auth): user=alice result=denied"
    refuse([harmless])
    for secret in (phone.totp(), str(phone.record["key"])):
        with pytest.raises(AssertionError, match="has been logged"):
            refuse([harmless + f' detail="{secret}"'])


def test_watch__finds_a_typed_code_between_any_marks_in_a_log(service: Service, alice: Person) -> None:
    service.log_in(alice, "739 154")
    for text in ("typed:739154", "[739154]", "code 739154.", "739154, said he", "739 154", "/739154", "-739154-"):
        with pytest.raises(AssertionError, match="has been logged"):
            refuse([f"<87>Nov 23 12:00:00 sshd[739154]: pam_softtoken(sshd:auth): {text}"])
    for text in ("0.739154", "x739154", "739154x", "17391549", "739154.5"):
        refuse([f"<87>Nov 23 12:00:00 sshd[739154]: pam_softtoken(sshd:auth): {text}"])


def test_watch__restores_the_log_after_it_has_found_a_secret(phone: Phone) -> None:
    """Otherwise the next program that logs would wait for ever."""
    before = os.lstat(DEV_LOG).st_ino if os.path.lexists(DEV_LOG) else None
    log = SystemLog()
    log.lines.append(f"<85>Nov 23 12:00:00 sshd[1]: code {phone.totp()}")
    with pytest.raises(AssertionError, match="has been logged"):
        log.close()
    assert (os.lstat(DEV_LOG).st_ino if os.path.lexists(DEV_LOG) else None) == before
