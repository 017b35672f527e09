"""Run services whose control group has no room (systemd's TasksMax, MemoryMax): the log says so, and what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fault.conftest import Owner
from tests.support.client import PAM_AUTH_ERR, Service
from tests.support.process import wait_until
from tests.support.surroundings import assert_in_once, log_in_around
from tests.support.system_log import SystemLog

CONTROLLERS = Path("/sys/fs/cgroup")
JOIN = 'echo $$ >"$0/cgroup.procs"; exec "$@"'


@pytest.fixture
def group(request: pytest.FixtureRequest) -> Iterator[Path]:
    """A control group of the controller that the test names."""
    path = CONTROLLERS / request.param / f"softtoken-scarce-{os.getpid()}"
    try:
        path.mkdir()
    except OSError:
        pytest.skip(f"needs to make a control group: {path.parent} cannot be written")
    yield path
    wait_until(lambda: not (path / "cgroup.procs").read_text(), "the end of all in the group")
    path.rmdir()


@pytest.mark.parametrize(
    ("group", "limit", "tight", "wide", "words"),
    [
        pytest.param(
            "pids",
            "pids.max",
            "1",
            "max",
            "Resource temporarily unavailable; raise the limit of processes (nproc, or TasksMax of systemd)",
            marks=pytest.mark.lockout(
                "a service has as many processes as it may (TasksMax)",
                shows="raise the limit of processes (nproc, or TasksMax of systemd)",
                cure="systemctl set-property ssh.service TasksMax=infinity",
            ),
        ),
        pytest.param(
            "memory",
            "memory.limit_in_bytes",
            "2M",
            "-1",
            "the limits of this service on memory or processor time are too low",
            marks=pytest.mark.lockout(
                "a service has as much memory as it may (MemoryMax)",
                shows="the limits of this service on memory or processor time are too low",
                cure="systemctl set-property ssh.service MemoryMax=infinity",
            ),
        ),
    ],
    indirect=["group"],
    ids=["tasks", "memory"],
)
def test_control_group__without_room_is_named_and_a_higher_limit_lets_in(
    service: Service, owner: Owner, system_log: SystemLog, group: Path, limit: str, tight: str, wide: str, words: str
) -> None:
    code = owner.phone.totp()
    around = ["sh", "-c", JOIN, str(group)]
    (group / limit).write_text(tight)
    (refused,) = log_in_around(around, service, owner.person, code)
    assert refused.result == PAM_AUTH_ERR
    (fields,) = system_log.outcomes()
    assert words in fields["detail"]
    (group / limit).write_text(wide)
    assert_in_once(service, owner.person, code, around=around)
