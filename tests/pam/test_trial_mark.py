"""Check the mark of an attempt that only tests the module: no real guess can have it."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pam_softtoken import log
from pam_softtoken.pam import client
from tests.support.account import Person
from tests.support.client import PAM_AUTH_ERR, Service
from tests.support.installation import TREE
from tests.support.system_log import SystemLog

MARK = f"--variable={log.TRIAL_VARIABLE}={log.TRIAL}"


def test_trial__is_marked_where_our_own_program_says_so(service: Service, alice: Person, system_log: SystemLog) -> None:
    for is_trial in (True, False):
        client.authenticate(
            service.name, alice.name, lambda question, shown: "000000", directory=str(service.directory),
            is_trial=is_trial,
        )  # fmt: skip
    assert [line.get("trial") for line in system_log.outcomes()] == ["yes", None]


@pytest.mark.claim("No guess passes for a trial by `enable` or `doctor`.")
def test_trial__does_not_count_for_a_service_of_another_name(
    service: Service, alice: Person, system_log: SystemLog
) -> None:
    (service.directory / service.name).rename(service.directory / "sshd")
    service.name = "sshd"
    assert service.log_in(alice, "000000", options=(MARK,)).result == PAM_AUTH_ERR
    assert [line.get("trial") for line in system_log.outcomes()] == [None]


@pytest.mark.parametrize("value", ["", "no", "yes "])
def test_trial__does_not_count_with_another_value(
    service: Service, alice: Person, system_log: SystemLog, value: str
) -> None:
    options = (f"--variable={log.TRIAL_VARIABLE}={value}",)
    assert service.log_in(alice, "000000", options=options).result == PAM_AUTH_ERR
    assert [line.get("trial") for line in system_log.outcomes()] == [None]


@pytest.mark.claim("No guess passes for a trial by `enable` or `doctor`.")
def test_trial__does_not_count_for_an_ordinary_user(service: Service, alice: Person, system_log: SystemLog) -> None:
    assert service.log_in(alice, "000000", run_as=alice, options=(MARK,)).result == PAM_AUTH_ERR
    assert [line.get("trial") for line in system_log.outcomes()] == [None]


@pytest.mark.claim("No guess passes for a trial by `enable` or `doctor`.")
def test_trial__does_not_count_in_a_set_uid_program(service: Service, alice: Person, system_log: SystemLog) -> None:
    """There the real user id is the caller's, as in su and sudo."""
    as_set_uid = (
        f"import os, sys; os.setresuid({alice.uid}, 0, 0); "
        "from pam_softtoken.pam import client as pam_client; "
        f"pam_client.authenticate({service.name!r}, {alice.name!r}, lambda *question: '000000', "
        f"directory={str(service.directory)!r}, is_trial=True)"
    )
    subprocess.run([sys.executable, "-c", as_set_uid], cwd=TREE, check=True, timeout=60)
    (line,) = system_log.outcomes()
    assert (line.get("trial"), line["uid"]) == (None, str(alice.uid))


def test_trial__does_not_count_by_a_variable_of_the_process(
    service: Service, alice: Person, system_log: SystemLog
) -> None:
    """The environment of a process is not PAM's."""
    done = subprocess.run(
        service.command(alice),
        input=b"=000000\n",
        env={log.TRIAL_VARIABLE: log.TRIAL},
        check=True,
        capture_output=True,
        timeout=60,
    )
    assert b'"result": 7' in done.stdout
    assert [line.get("trial") for line in system_log.outcomes()] == [None]
