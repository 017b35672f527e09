"""The programs that allow enrolment: they are recognised by the path of their file, and by nothing that they claim."""

from __future__ import annotations

import os

import pytest

from pam_softtoken.errors import EnrolmentRefused
from pam_softtoken.pam import host_program


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the kernel reports as the running program. The last one counts."""
    said = ["/usr/sbin/sshd"]
    monkeypatch.setattr(os, "readlink", lambda path: said[-1])
    return said


@pytest.mark.parametrize("path", ["/usr/sbin/sshd", "/usr/lib/openssh/sshd-session (deleted)", "/usr/bin/su"])
def test_program__in_a_known_place_is_known_even_after_an_upgrade(program: list[str], path: str) -> None:
    program.append(path)
    host_program.require_known(1)


@pytest.mark.parametrize(
    "path", ["/usr/bin/python3.11", "/tmp/usr/sbin/sshd", "/usr/sbin/sshd2", "/usr/bin/../bin/su", "/usr/bin/sudo", ""]
)
def test_program__elsewhere_is_not_known(program: list[str], path: str) -> None:
    program.append(path)
    with pytest.raises(EnrolmentRefused, match="not known"):
        host_program.require_known(1)


def test_program__that_has_ended_is_not_known() -> None:
    with pytest.raises(EnrolmentRefused, match="cannot be seen"):
        host_program.require_known(2**22 + 1)
