"""Log in with a home, or only the store in it, on a file system that never answers: denied within seconds."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.account import Person
from tests.support.admin import Admin
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Outcome
from tests.support.fault import SLACK_S
from tests.support.hanging_disk import HangingDisk
from tests.support.installation import Installation
from tests.support.pam_scene import ERR, NO_CODES, Pam, severities
from tests.support.process import Process, processes, shortest_s, wait_until
from tests.support.surroundings import assert_in_once
from tests.support.system_log import SystemLog

TIMEOUT_S = 2
BOUND_S = TIMEOUT_S + SLACK_S
PLAIN: list[str] = []
INHERITS_ORPHANS = ["/usr/bin/python3", "-I", "-c", """
import ctypes, os, sys
PR_SET_CHILD_SUBREAPER = 36
assert ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""]  # fmt: skip


def backends(installed: Installation) -> list[Process]:
    """Return the processes that our module has started."""
    return [each for each in processes() if str(installed.backend) in each.command]


@pytest.fixture(autouse=True)
def _possible() -> None:
    if not HangingDisk.possible():
        pytest.skip("needs /dev/fuse and CAP_SYS_ADMIN: it mounts a file system that hangs")


@pytest.mark.lockout(
    "the disk of the home or of the store hangs",
    shows="a disk or name service hangs",
    cure="umount -l the disk, or bring its server back",
)
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
@pytest.mark.claim(
    "The same holds while the user swaps these files for links during the login, and on a disk that hangs."
)
def test_hanging_disk__denies_within_seconds_and_lets_in_when_it_is_gone(
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
        outcomes: list[tuple[int, list[tuple[int, str]]]] = []

        def deny() -> None:
            done = subprocess.run(
                [*disk.inside, *host, *service.command(alice)],
                input=f"={code}\n", capture_output=True, text=True, check=True, timeout=60,
            )  # fmt: skip
            outcomes.append((Outcome(done.stdout).result, Outcome(done.stdout).messages))

        assert shortest_s(deny, within_s=BOUND_S) < BOUND_S
        assert outcomes == len(outcomes) * [(PAM_AUTH_ERR, [])]
        if unkillable:
            hanging = ["D"] * len(outcomes)
            wait_until(lambda: [backend.state for backend in backends(installed)] == hanging, "backends that hang")
        else:
            wait_until(lambda: not backends(installed), "the end of the backend by its alarm")
    wait_until(lambda: not backends(installed), "the end of the backend")
    logged = system_log.outcomes()
    assert len(logged) == len(outcomes)
    for fields in logged:
        assert fields["reason"] == "backend"
        assert ": a disk or name service hangs, or " in fields["detail"]
    assert severities(system_log) == [ERR] * len(logged)
    # With the disk back, everything works.
    assert_in_once(pam.service(), alice, code)


@pytest.mark.parametrize("unkillable", [False, True], ids=["killable", "unkillable"])
def test_hanging_disk__does_not_hold_up_revoke(
    pam: Pam, installed: Installation, alice: Person, unkillable: bool
) -> None:
    code = alice.enrol(installed, "--period=300", NO_CODES).totp()
    with HangingDisk(alice.home, unkillable=unkillable) as disk:
        done = Admin(installed).after(*disk.inside).run("revoke", alice.name, "--yes")
        assert done.status == 0, done.stderr
        assert f"From now on no code of {alice.name} is accepted." in done.stderr
        assert "the disk does not answer" in done.stderr
    assert pam.service().log_in(alice, code).result == PAM_AUTH_ERR


def test_hanging_disk__does_not_delay_commands_of_root_for_a_user(
    pam: Pam, installed: Installation, alice: Person
) -> None:
    """All at once, because each waits as long as it may."""
    code = alice.enrol(installed, "--period=300", NO_CODES).totp()
    commands = [
        ["unlock", alice.name],
        ["code-for", alice.name, "--for=1h"],
        ["reset-state", alice.name, "--yes"],
        ["move", alice.name, "--to=system"],
    ]
    with HangingDisk(alice.home, unkillable=True) as disk, ThreadPoolExecutor(len(commands)) as administrators:
        admin = Admin(installed).after(*disk.inside)
        finished = list(administrators.map(lambda words: admin.run(*words), commands))
    for words, done in zip(commands, finished, strict=True):
        assert (done.status, done.stdout) == (1, ""), words
        assert f"the disk with the files of {alice.name} does not answer" in done.stderr, words
        assert f"softtoken-admin revoke {alice.name} works without the disk" in done.stderr, words
    assert pam.service().log_in(alice, code).result == PAM_SUCCESS


def test_hanging_disk__mounted_by_the_user_is_denied_at_once(
    pam: Pam, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    """The kernel sends such a file system no requests from root's processes, so it cannot hang or lie."""
    code = alice.enrol(installed, "--period=300", NO_CODES).totp()
    service = pam.only_ignore("nullok", "timeout=60")
    with HangingDisk(alice.home, unkillable=True, owner=alice.uid) as disk:
        done = subprocess.run(
            [*disk.inside, *service.command(alice)],
            input=f"={code}\n", capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        assert Outcome(done.stdout).result == PAM_AUTH_ERR
        revoked = Admin(installed).after(*disk.inside).run("revoke", alice.name, "--yes")
        assert revoked.status == 0
        assert "Permission denied" in revoked.stderr
    assert system_log.reasons() == ["unusable_file"]
    assert pam.service().log_in(alice, code).result == PAM_AUTH_ERR
