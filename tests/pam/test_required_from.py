"""The option `required_from`.

Before its day, users who never enrolled are let in and reminded. From that day on, they are asked and refused.
"""

from __future__ import annotations

import datetime
import subprocess
import zoneinfo

import pytest

from tests.support.account import Person
from tests.support.client import PAM_AUTH_ERR, PAM_SERVICE_ERR, PAM_SUCCESS, TEXT_INFO, Outcome, Service
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES, OURS, PROMPT, Clock, Pam
from tests.support.system_log import SystemLog

DAY = "2027-01-15"
LAST_SECOND = datetime.datetime(2027, 1, 14, 23, 59, 59).astimezone().timestamp()
IGNORED = 6
"""libpam's result for a stack in which every module returned `PAM_IGNORE`: PAM_PERM_DENIED."""
ZONES = "/usr/share/zoneinfo"
_WITH_ZONE = 'mount --bind "$1" /etc/localtime; shift; exec "$@"'


@pytest.fixture
def service(pam: Pam, standing_clock: Clock) -> Service:
    """A service whose clock is at the last second before the day."""
    standing_clock.set(LAST_SECOND)
    return pam.with_backend(standing_clock.backend, f"required_from={DAY}")


def reminder(days: str) -> list[tuple[int, str]]:
    return [(TEXT_INFO, f"From {DAY} on, {days}, logging in takes a code. Run softtoken-enroll before that.")]


def test_required_from__lets_in_until_the_last_second_and_asks_from_the_first(
    service: Service, alice: Person, standing_clock: Clock, system_log: SystemLog
) -> None:
    outcome = service.log_in(alice)
    assert (outcome.result, outcome.messages) == (IGNORED, reminder("tomorrow"))
    standing_clock.set(LAST_SECOND + 1)
    outcome = service.log_in(alice, "123456")
    assert (outcome.result, outcome.messages) == (PAM_AUTH_ERR, PROMPT)
    who = f"{OURS}: user={alice.name}"
    ignored, denied = system_log.ours()
    assert ignored == f'{who} result=ignored reason=not_enrolled detail="required in 1 d"'
    assert denied.startswith(f'{who} result=denied reason=not_enrolled detail="{alice.store}/tokens: there is no such ')


def test_required_from__clock_that_was_never_set_counts_as_after_the_day(
    service: Service, alice: Person, standing_clock: Clock, system_log: SystemLog
) -> None:
    standing_clock.set(2 * 24 * 60 * 60)
    outcome = service.log_in(alice, "123456")
    assert (outcome.result, outcome.messages) == (PAM_AUTH_ERR, PROMPT)
    note, _ = system_log.ours()
    assert "this machine's clock says 1970-01-03: the day of required_from may have come" in note


@pytest.mark.parametrize(("today", "days"), [((2027, 1, 13), 2), ((2026, 12, 31), 15), ((2026, 11, 24), 52)])
def test_required_from__counts_the_days(
    service: Service, alice: Person, standing_clock: Clock, today: tuple[int, int, int], days: int
) -> None:
    assert (datetime.date(2027, 1, 15) - datetime.date(*today)).days == days
    for hour in (0, 12, 23):
        standing_clock.set(datetime.datetime(*today, hour).astimezone().timestamp())
        assert service.log_in(alice).messages == reminder(f"in {days} days")


def test_required_from__asks_enrolled_users_before_and_after_the_day(
    service: Service, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    phone = alice.enrol(installed, "--type=hotp", NO_CODES)
    for answer, result in (("000000", PAM_AUTH_ERR), (phone.hotp(), PAM_SUCCESS)):
        outcome = service.log_in(alice, answer)
        assert (outcome.result, outcome.messages) == (result, PROMPT)
    (alice.store / "tokens").unlink()
    outcome = service.log_in(alice, "000000")
    assert (outcome.result, outcome.messages) == (PAM_AUTH_ERR, PROMPT), "the mark says that the user was enrolled"
    assert "has been enrolled before" in system_log.outcomes()[-1]["detail"]


def test_required_from__missing_home_does_not_count_as_never_enrolled(service: Service, alice: Person) -> None:
    away = alice.home.with_name("away")
    alice.home.rename(away)
    assert service.log_in(alice, "000000").result == PAM_AUTH_ERR
    away.rename(alice.home)


def test_required_from__silent_application_gets_no_reminder(service: Service, alice: Person) -> None:
    outcome = service.log_in(alice, options=["--silent"])
    assert (outcome.result, outcome.messages) == (IGNORED, [])


def test_required_from__does_not_depend_on_whether_the_reminder_is_shown(
    service: Service, alice: Person, system_log: SystemLog
) -> None:
    assert service.log_in(alice, options=["--deaf"]).result == IGNORED
    assert system_log.reasons() == ["not_enrolled"]


def test_required_from__is_stronger_than_nullok(pam: Pam, alice: Person, standing_clock: Clock) -> None:
    both = pam.with_backend(standing_clock.backend, "nullok", f"required_from={DAY}")
    standing_clock.set(LAST_SECOND)
    assert both.log_in(alice).messages == reminder("tomorrow")
    standing_clock.set(LAST_SECOND + 1)
    assert both.log_in(alice, "123456").result == PAM_AUTH_ERR


@pytest.mark.parametrize(
    "date",
    ["", "tomorrow", "2027-1-15", "15.01.2027", "2027-02-29", "2027-13-01", "2027-00-10", "2027-01-00", "2027-04-31",
     "1999-12-31", "3000-01-01", "2027-01-15 ", "+027-01-15", "2027-01-\u06601", "20270115"],
)  # fmt: skip
def test_required_from__invalid_day_lets_nobody_in(pam: Pam, alice: Person, system_log: SystemLog, date: str) -> None:
    outcome = pam.service(f"required_from={date}").log_in(alice, "123456")
    assert (outcome.result, outcome.messages) == (PAM_SERVICE_ERR, [])
    assert "required_from takes a day, such as 2027-01-15" in system_log.ours()[0]
    assert system_log.reasons() == ["bad_option"]


def test_required_from__begins_with_the_day_of_the_host_not_of_the_caller(
    pam: Pam, alice: Person, standing_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = pam.with_backend(standing_clock.backend, f"required_from={DAY}")
    standing_clock.set(LAST_SECOND + 1)
    monkeypatch.setenv("TZ", "XXX+24")
    assert service.log_in(alice, "123456").result == PAM_AUTH_ERR


@pytest.mark.parametrize("zone", ["Pacific/Auckland", "America/Los_Angeles", "Asia/Kathmandu"])
@pytest.mark.claim("`required_from` ends at midnight in the host's time zone, whatever the caller's time zone is.")
def test_required_from__begins_at_midnight_of_the_hosts_time_zone(
    pam: Pam, alice: Person, standing_clock: Clock, zone: str
) -> None:
    service = pam.with_backend(standing_clock.backend, f"required_from={DAY}")
    midnight = datetime.datetime(2027, 1, 15, tzinfo=zoneinfo.ZoneInfo(zone)).timestamp()
    there = ["unshare", "--mount", "--propagation=private", "sh", "-euc", _WITH_ZONE, "sh", f"{ZONES}/{zone}"]
    for second, result in ((-1, IGNORED), (0, PAM_AUTH_ERR)):
        standing_clock.set(midnight + second)
        command = [*there, *service.command(alice)]
        done = subprocess.run(command, input="=123456\n", check=True, capture_output=True, text=True)
        assert Outcome(done.stdout).result == result
