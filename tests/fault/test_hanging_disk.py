"""A home, or only the store in it, on a file system that never answers: a denial within seconds."""

from __future__ import annotations

import subprocess
import time

import pytest

from tests.support.account import Person
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Outcome
from tests.support.fault import SLACK_S
from tests.support.hanging_disk import HangingDisk
from tests.support.installation import Installation
from tests.support.pam_scene import ERR, NO_CODES, Pam, severities
from tests.support.process import Process, processes, wait_until
from tests.support.system_log import SystemLog

TIMEOUT_S = 2
PLAIN: list[str] = []
INHERITS_ORPHANS = ["/usr/bin/python3", "-I", "-c", """
import ctypes, os, sys
PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""]  # fmt: skip


def backends(installed: Installation) -> list[Process]:
    """Find the processes that our module has started."""
    return [each for each in processes() if str(installed.backend) in each.command]


@pytest.fixture(autouse=True)
def _possible() -> None:
    if not HangingDisk.possible():
        pytest.skip("needs /dev/fuse and CAP_SYS_ADMIN: it mounts a file system that hangs")


@pytest.mark.parametrize(
    ("place", "unkillable", "host"),
    [
        (".", False, PLAIN),
        (".", True, PLAIN),
        (".", True, INHERITS_ORPHANS),
        (".softtoken", False, PLAIN),
        (".softtoken", True, PLAIN),
    ],
    ids=["home", "home-unkillable", "home-unkillable-subreaper", "store", "store-unkillable"],
)
def test_hanging_disk__denies_within_seconds(
    pam: Pam,
    installed: Installation,
    alice: Person,
    system_log: SystemLog,
    place: str,
    unkillable: bool,
    host: list[str],
) -> None:
    code = alice.enrol(installed, "--period=300", NO_CODES).totp()
    service = pam.only_ignore("nullok", f"timeout={TIMEOUT_S}")
    with HangingDisk(alice.home / place, unkillable=unkillable) as disk:
        started = time.monotonic()
        done = subprocess.run(
            [*disk.inside, *host, *service.command(alice)],
            input=f"={code}\n", capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert time.monotonic() - started < TIMEOUT_S + SLACK_S
        assert (Outcome(done.stdout).result, Outcome(done.stdout).messages) == (PAM_AUTH_ERR, [])
        if unkillable:
            assert [backend.state for backend in backends(installed)] == ["D"]
        else:
            wait_until(lambda: not backends(installed), "the end of the backend by its alarm")
    wait_until(lambda: not backends(installed), "the end of the backend")
    assert system_log.reasons() == ["backend"]
    assert severities(system_log) == [ERR]
    # With the disk back, all is well.
    assert pam.service().log_in(alice, code).result == PAM_SUCCESS
