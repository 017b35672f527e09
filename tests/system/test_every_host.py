"""Check every host: sshd, sudo, su and login ask for a code, accept it once, and let nobody in without one.

An ordinary run checks the right code, a wrong and a replayed one at every host, and the rest at half of them.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.account import Person
from tests.support.hosts import UNIX_PASSWORD_OR_STOP, Host
from tests.support.installation import Installation
from tests.support.process import Process, processes, wait_until
from tests.support.system_log import SystemLog
from tests.system.conftest import PASSWORD_HOSTS, BackendRemover
from tests.system.scenario import SLOW, wrong_code

PATIENT = "timeout=120"
"""Twice the time that the tests wait for the end of a backend."""


def wait_for_end_of_backend(installed: Installation) -> None:
    """Wait for the backend to end by itself: `PATIENT` has set its alarm to a later time."""
    wait_until(lambda: not backends(installed), "the end of the backend")


def backends(installed: Installation) -> list[Process]:
    """Return the processes that our module has started."""
    return [each for each in processes() if str(installed.backend) in each.command]


@pytest.mark.sampled(0.5)
def test_host__without_our_module_lets_in_without_a_code(host: Host, alice: Person, system_log: SystemLog) -> None:
    host.use_stack("")
    visit = host.log_in(alice)
    assert visit.entered_as == host.becomes(alice), visit
    assert visit.prompts == host.first_prompts
    assert system_log.ours() == []


def test_host__right_code_lets_in(host: Host, installed: Installation, alice: Person, system_log: SystemLog) -> None:
    host.use_stack(installed.line())
    code = alice.enrol(installed, SLOW).totp()
    visit = host.log_in(alice, code)
    assert visit.entered_as == host.becomes(alice), visit
    assert visit.prompts == [*host.first_prompts, "code"]
    assert code not in visit.screen
    assert system_log.ours() == [host.log_line(alice, "accepted", "accepted", token="phone")]


def test_host__wrong_code_is_refused(host: Host, installed: Installation, alice: Person, system_log: SystemLog) -> None:
    host.use_stack(installed.line())
    phone = alice.enrol(installed, SLOW)
    visit = host.log_in(alice, wrong_code(phone))
    assert not visit.entered_as, visit
    assert visit.prompts == [*host.first_prompts, "code"]
    assert host.log_in(alice, phone.totp()).entered_as, "a wrong code must not keep the right one out"
    assert system_log.ours() == [
        host.log_line(alice, "denied", "mismatch"),
        host.log_line(alice, "accepted", "accepted", token="phone"),
    ]


def test_host__replayed_code_is_refused(
    host: Host, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    host.use_stack(installed.line())
    phone = alice.enrol(installed, SLOW)
    code = phone.totp()
    assert host.log_in(alice, code).entered_as
    visit = host.log_in(alice, code)
    assert not visit.entered_as, visit
    assert visit.prompts == [*host.first_prompts, "code"]
    assert host.log_in(alice, phone.totp(1)).entered_as, "the code after that one is a new one"
    assert system_log.ours() == [
        host.log_line(alice, "accepted", "accepted", token="phone"),
        host.log_line(alice, "denied", "replayed", token="phone"),
        host.log_line(alice, "accepted", "accepted", token="phone"),
    ]


@pytest.mark.sampled(0.5)
def test_host__hotp_code_lets_in_once_and_skipped_codes_never(
    host: Host, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    host.use_stack(installed.line())
    phone = alice.enrol(installed, "--type=hotp")
    first, passed_over, third = phone.hotp(), phone.hotp(), phone.hotp()
    assert host.log_in(alice, first).entered_as == host.becomes(alice)
    assert not host.log_in(alice, first).entered_as
    assert host.log_in(alice, third).entered_as == host.becomes(alice)
    assert not host.log_in(alice, third).entered_as
    assert not host.log_in(alice, passed_over).entered_as
    accepted = host.log_line(alice, "accepted", "accepted", token="phone")
    replayed = host.log_line(alice, "denied", "replayed", token="phone")
    assert system_log.ours() == [accepted, replayed, accepted, replayed, replayed]


@pytest.mark.sampled(0.5)
def test_host__recovery_code_lets_in_once_and_says_how_many_are_left(
    host: Host, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    host.use_stack(installed.line())
    first, second, _ = alice.enrol(installed, SLOW, "--recovery-codes=3").recovery_codes
    visit = host.log_in(alice, first)
    assert visit.entered_as == host.becomes(alice), visit
    assert ("Recovery code accepted; 2 recovery codes left." in visit.screen) is not host.silent
    visit = host.log_in(alice, first)
    assert not visit.entered_as, visit
    visit = host.log_in(alice, second.replace("-", " ").upper())
    assert visit.entered_as == host.becomes(alice), visit
    assert ("Recovery code accepted; 1 recovery code left." in visit.screen) is not host.silent
    assert system_log.ours() == [
        host.log_line(alice, "accepted", "recovery", detail="left=2"),
        host.log_line(alice, "denied", "replayed"),
        host.log_line(alice, "accepted", "recovery", detail="left=1"),
    ]


@pytest.mark.sampled(0.5)
def test_host__user_without_a_token_gets_in_by_the_first_factor_under_nullok(
    host: Host, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    host.use_stack(installed.line("nullok"))
    visit = host.log_in(alice)
    assert visit.entered_as == host.becomes(alice), visit
    assert visit.prompts == host.first_prompts
    assert system_log.ours() == [host.log_line(alice, "ignored", "not_enrolled")]


@pytest.mark.sampled(0.5)
def test_host__enrolled_person_needs_a_code_under_nullok(
    host: Host, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    host.use_stack(installed.line("nullok"))
    phone = alice.enrol(installed, SLOW)
    visit = host.log_in(alice, wrong_code(phone))
    assert not visit.entered_as, visit
    assert host.log_in(alice, phone.totp()).entered_as
    assert system_log.reasons() == ["mismatch", "accepted"]


@pytest.mark.sampled(0.5)
def test_host__user_without_a_token_is_asked_and_refused(
    host: Host, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    host.use_stack(installed.line())
    visit = host.log_in(alice, "123456")
    assert not visit.entered_as, visit
    assert visit.prompts == [*host.first_prompts, "code"]
    cure = f"{alice.store}/tokens: there is no such file; as root: softtoken-enroll --user {alice.name}"
    assert system_log.ours() == [host.log_line(alice, "denied", "not_enrolled", detail=cure)]


@pytest.mark.sampled(0.5)
@pytest.mark.claim("A missing backend refuses, under `nullok` as well.")
def test_host__missing_backend_refuses_even_under_nullok(
    host: Host, installed: Installation, alice: Person, system_log: SystemLog, remove_backend: BackendRemover
) -> None:
    host.use_stack(installed.line("nullok"))
    phone = alice.enrol(installed, SLOW)
    with remove_backend():
        visit = host.log_in(alice, phone.totp())
    assert not visit.entered_as, visit
    # login tries again by itself while no question is asked.
    [line] = set(system_log.ours())
    assert line.startswith(f"pam_softtoken({host.service}:auth): ")
    assert "backend missing" in line
    assert host.log_in(alice, phone.totp()).entered_as, "with the backend back, everything is as before"


@pytest.mark.parametrize("host", PASSWORD_HOSTS, indirect=True)
def test_host__wrong_password_with_the_right_code_is_refused_and_spends_the_code(
    host: Host, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    # Under `required` a wrong password does not show until the end, so the code is asked for and judged. A code that
    # was sent counts as used: an observer must not use it, whatever else was wrong.
    host.use_stack(installed.line())
    phone = alice.enrol(installed, SLOW)
    code = phone.totp()
    visit = host.log_in(alice, code, password="not " + alice.password)
    assert not visit.entered_as, visit
    assert visit.prompts == ["password", "code"]
    assert not host.log_in(alice, code).entered_as
    assert host.log_in(alice, phone.totp(1)).entered_as
    assert system_log.reasons() == ["accepted", "replayed", "accepted"]


@pytest.mark.parametrize("host", PASSWORD_HOSTS, indirect=True)
def test_host__wrong_password_under_requisite_asks_for_no_code(
    host: Host, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    host.use_stack(installed.line(), first=UNIX_PASSWORD_OR_STOP)
    code = alice.enrol(installed, SLOW).totp()
    visit = host.log_in(alice, code, password="not " + alice.password)
    assert not visit.entered_as, visit
    assert visit.prompts == ["password"]
    assert host.log_in(alice, code).entered_as
    assert system_log.reasons() == ["accepted"]


@pytest.mark.sampled(0.5)
def test_host__refusals_look_alike(host: Host, installed: Installation, make_person: Callable[[], Person]) -> None:
    host.use_stack(installed.line())
    alice, bob = make_person(), make_person()
    phone = alice.enrol(installed, SLOW)
    code = phone.totp()
    assert host.log_in(alice, code).entered_as
    refusals = {
        "wrong": (alice, wrong_code(phone)),
        "replayed": (alice, code),
        "nonsense": (alice, "let me in"),
        "not enrolled": (bob, code),
    }
    screens = {
        why: host.log_in(person, answer).screen.replace(person.name, "NAME")
        for why, (person, answer) in refusals.items()
    }
    assert set(screens.values()) == {screens["wrong"]}


@pytest.mark.sampled(0.5)
def test_host__hangup_at_the_prompt_ends_the_backend_and_spends_no_code(
    host: Host, installed: Installation, alice: Person
) -> None:
    host.use_stack(installed.line(PATIENT))
    phone = alice.enrol(installed, SLOW)
    with host.session(alice) as visit:
        assert visit.prompts[-1] == "code"
        assert backends(installed), "the backend is there while the person thinks"
    wait_for_end_of_backend(installed)
    assert host.log_in(alice, phone.totp()).entered_as


@pytest.mark.sampled(0.5)
def test_host__session_has_nothing_of_ours_left_in_it(host: Host, installed: Installation, alice: Person) -> None:
    host.use_stack(installed.line(PATIENT))
    phone = alice.enrol(installed, SLOW)
    with host.session(alice, phone.totp()) as visit:
        assert visit.entered_as == host.becomes(alice), visit
        # The backend ends after its answer, so it may exist for another moment.
        wait_for_end_of_backend(installed)
        family = host.processes_of(visit)
        assert family, "the session itself is there"
        assert not [each for each in family if each.state == "Z"], family


@pytest.mark.sampled(0.5)
def test_host__before_the_day_reminds_and_lets_in_users_without_a_token(
    host: Host, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    host.use_stack(installed.line("required_from=2999-12-31"))
    visit = host.log_in(alice)
    assert visit.entered_as == host.becomes(alice), visit
    assert visit.prompts == host.first_prompts
    assert ("From 2999-12-31 on" in visit.screen) == (not host.silent), visit
    assert system_log.reasons() == ["not_enrolled"]
    host.use_stack(installed.line("required_from=2000-01-01"))
    assert not host.log_in(alice, "123456").entered_as
