"""Log in with hostile limits (setrlimit(2)), capabilities and flags: the owner gets in, or the log names the limit."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.fault.conftest import Owner
from tests.support.account import Person
from tests.support.client import PAM_AUTH_ERR, Service
from tests.support.installation import Installation
from tests.support.surroundings import as_user, assert_in_once, log_in_around
from tests.support.system_log import SystemLog

CAP_SYS_RESOURCE = 24
REAL_TIME = ["chrt", "--fifo", "1"]


@pytest.mark.parametrize(
    "limit",
    [
        pytest.param("cpu=1:", marks=pytest.mark.lockout("the host may use one second of processor time (RLIMIT_CPU)")),
        pytest.param("fsize=0:", marks=pytest.mark.lockout("the host may write no file (RLIMIT_FSIZE)")),
        pytest.param("data=4194304:", marks=pytest.mark.lockout("the host may have 4 MiB of data (RLIMIT_DATA)")),
        pytest.param("stack=65536:", marks=pytest.mark.lockout("the host may have 64 KiB of stack (RLIMIT_STACK)")),
        pytest.param("core=0:0", marks=pytest.mark.lockout("the host may leave no core (RLIMIT_CORE)")),
        pytest.param("rss=0:0", marks=pytest.mark.lockout("the host may keep no memory resident (RLIMIT_RSS)")),
        pytest.param("nproc=0:0", marks=pytest.mark.lockout("a host of root's may make no process (RLIMIT_NPROC)")),
        pytest.param("nofile=8:8", marks=pytest.mark.lockout("the host may open 8 files (RLIMIT_NOFILE)")),
        pytest.param("memlock=0:0", marks=pytest.mark.lockout("the host may lock no memory (RLIMIT_MEMLOCK)")),
        pytest.param("as=8388608:", marks=pytest.mark.lockout("the host may have 8 MiB of address space (RLIMIT_AS)")),
        pytest.param("locks=0:0", marks=pytest.mark.lockout("the host may lock no file (RLIMIT_LOCKS)")),
        pytest.param("sigpending=0:0", marks=pytest.mark.lockout("the host may queue no signal (RLIMIT_SIGPENDING)")),
        pytest.param("msgqueue=0:0", marks=pytest.mark.lockout("the host may have no message queue (RLIMIT_MSGQUEUE)")),
        pytest.param("nice=0:0", marks=pytest.mark.lockout("the host may raise no priority (RLIMIT_NICE)")),
        pytest.param("rtprio=0:0", marks=pytest.mark.lockout("the host may have no real-time policy (RLIMIT_RTPRIO)")),
    ],
)
def test_limit__of_a_host_run_by_root_keeps_nobody_out(service: Service, owner: Owner, limit: str) -> None:
    assert_in_once(service, owner.person, owner.phone.totp(), around=["prlimit", f"--{limit}"])


@pytest.mark.lockout("a host with a real-time policy may run for 12 ms without a pause (RLIMIT_RTTIME)")
def test_limit__of_real_time_keeps_nobody_out(installed: Installation, service: Service, alice: Person) -> None:
    """Hashing a recovery code takes longer than that."""
    if subprocess.run([*REAL_TIME, "true"], check=False, capture_output=True).returncode != 0:
        pytest.skip("needs CAP_SYS_NICE, and control groups that allow a real-time policy")
    (code,) = alice.enrol(installed, "--recovery-codes=1").recovery_codes
    around = [*REAL_TIME, "prlimit", "--rttime=12000:"]
    assert_in_once(service, alice, code, around=around)


def _may_raise_limits() -> bool:
    capabilities = re.search(r"CapEff:\s*(\w+)", Path("/proc/self/status").read_text())
    return capabilities is not None and bool(int(capabilities.group(1), 16) >> CAP_SYS_RESOURCE & 1)


@pytest.mark.parametrize("limit", ["cpu=1", "fsize=0", "data=4194304", "stack=65536", "as=8388608", "rttime=1"])
def test_limit__hard_one_is_raised_if_root_may(service: Service, owner: Owner, limit: str) -> None:
    if not _may_raise_limits():
        pytest.skip("root has no CAP_SYS_RESOURCE here, so that nobody can raise a hard limit")
    around = ["prlimit", f"--{limit}:{limit.partition('=')[2]}"]
    assert_in_once(service, owner.person, owner.phone.totp(), around=around)


CANNOT_START = "cannot start /usr/bin/python3: "
NO_VERDICT = "no verdict; .*the limits of this service on memory or processor time are too low"


@pytest.mark.parametrize(
    ("limit", "reason", "detail"),
    [
        pytest.param(
            "fsize=0:0",
            "not_stored",
            r"\.softtoken/state: File too large; raise the limit of file sizes of this service \(fsize\)",
            marks=pytest.mark.lockout(
                "a service without root may write no file",
                shows="File too large; raise the limit of file sizes of this service (fsize)",
                cure="LimitFSIZE=infinity in its unit, or prlimit --fsize=unlimited",
            ),
        ),
        pytest.param(
            "nproc=0:0",
            "backend",
            f"{CANNOT_START}Resource temporarily unavailable; raise the limit of processes ",
            marks=pytest.mark.lockout(
                "a service without root may make no process",
                shows="Resource temporarily unavailable; raise the limit of processes (nproc, or TasksMax of systemd)",
                cure="LimitNPROC=infinity in its unit, or prlimit --nproc=unlimited",
            ),
        ),
        pytest.param(
            "nofile=6:6",
            "backend",
            f"{CANNOT_START}Too many open files; raise the limit of open files of this service ",
            marks=pytest.mark.lockout(
                "a service has no descriptors left",
                shows="Too many open files; raise the limit of open files of this service (nofile)",
                cure="LimitNOFILE=1024 in its unit, or prlimit --nofile=1024",
            ),
        ),
        pytest.param(
            "as=8388608:8388608",
            "backend",
            NO_VERDICT,
            marks=pytest.mark.lockout(
                "a service has no address space for an interpreter",
                shows="no verdict",
                cure="LimitAS=infinity in its unit, or prlimit --as=unlimited",
            ),
        ),
        pytest.param(
            "data=4194304:4194304",
            "backend",
            NO_VERDICT,
            marks=pytest.mark.lockout(
                "a service has no memory for an interpreter",
                shows="no verdict",
                cure="LimitDATA=infinity in its unit, or prlimit --data=unlimited",
            ),
        ),
    ],
)
def test_limit__too_low_one_is_named_and_a_higher_one_lets_in(
    service: Service, owner: Owner, system_log: SystemLog, limit: str, reason: str, detail: str
) -> None:
    code = owner.phone.totp()
    service_of_user = as_user(owner.person)
    limited = log_in_around([*service_of_user, "prlimit", f"--{limit}"], service, owner.person, code, code)
    assert [outcome.result for outcome in limited] == 2 * [PAM_AUTH_ERR]
    assert [(fields["reason"], bool(re.search(detail, fields["detail"]))) for fields in system_log.outcomes()] == [
        (reason, True)
    ] * 2, system_log.ours()
    assert_in_once(service, owner.person, code, around=service_of_user)


@pytest.mark.parametrize(
    "around",
    [
        pytest.param(
            ["setpriv", "--no-new-privs"],
            marks=pytest.mark.lockout("the host runs with no_new_privs (NoNewPrivileges= of systemd)"),
        ),
        pytest.param(
            ["setpriv", "--inh-caps=-dac_override,-dac_read_search", "--bounding-set=-dac_override,-dac_read_search"],
            marks=pytest.mark.lockout("root cannot read the home, as on NFS with root_squash"),
        ),
    ],
)
@pytest.mark.parametrize("without_root", [False, True], ids=["root", "user"])
def test_privileges__that_a_host_lacks_keep_nobody_out(
    service: Service, owner: Owner, around: list[str], without_root: bool
) -> None:
    """The home and its content are closed to everybody but the owner, so root reaches them only as the owner."""
    owner.person.home.chmod(0o700)
    around = [*around, *(as_user(owner.person) if without_root else [])]
    assert_in_once(service, owner.person, owner.phone.totp(), around=around)
