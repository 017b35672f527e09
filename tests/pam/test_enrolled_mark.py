"""`nullok` is for those who never enrolled: the mark that the first accepted code leaves."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.account import Person
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, PERMIT, Service
from tests.support.installation import Installation
from tests.support.system_log import SystemLog

MARKS = Path("/var/lib/softtoken/enrolled")


@pytest.fixture
def nullok(installed: Installation, make_service: Callable[[str], Service]) -> Service:
    """A stack that lets in those who never enrolled."""
    return make_service(installed.line("nullok") + PERMIT)


def _log_in_once(installed: Installation, service: Service, person: Person) -> None:
    phone = person.enrol(installed, "--period=300")
    assert service.log_in(person, phone.totp()).result == PAM_SUCCESS


def test_nullok__who_never_enrolled_is_let_in_without_a_prompt(nullok: Service, alice: Person) -> None:
    outcome = nullok.log_in(alice)
    assert (outcome.result, outcome.prompts) == (PAM_SUCCESS, [])


@pytest.mark.parametrize("damage", ["directory deleted", "file deleted", "home emptied", "home gone"])
def test_nullok__who_has_logged_in_once_is_asked_whatever_became_of_his_files(
    installed: Installation, nullok: Service, alice: Person, system_log: SystemLog, damage: str
) -> None:
    _log_in_once(installed, nullok, alice)
    if damage == "file deleted":
        (alice.store / "tokens").unlink()
    elif damage == "directory deleted":
        shutil.rmtree(alice.store)
    else:
        for path in alice.home.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    if damage == "home gone":
        alice.home.rename(alice.home.with_suffix(".away"))
    outcome = nullok.log_in(alice, "123456")
    if damage == "home gone":
        alice.home.with_suffix(".away").rename(alice.home)
    assert outcome.result == PAM_AUTH_ERR
    assert len(outcome.prompts) == 1
    assert system_log.reasons()[-1] == ("unusable_file" if damage == "home gone" else "not_enrolled")


def test_nullok__the_user_cannot_take_the_mark_away_and_root_can(
    installed: Installation, nullok: Service, alice: Person
) -> None:
    _log_in_once(installed, nullok, alice)
    mark = MARKS / str(alice.uid)
    assert mark.stat().st_uid == 0
    for path in (mark, MARKS, MARKS.parent):
        assert not path.stat().st_mode & 0o022
    shutil.rmtree(alice.store)
    assert nullok.log_in(alice, "123456").result == PAM_AUTH_ERR
    mark.unlink()
    assert nullok.log_in(alice).result == PAM_SUCCESS


def test_nullok__an_application_without_root_sees_the_mark(
    installed: Installation, nullok: Service, alice: Person
) -> None:
    _log_in_once(installed, nullok, alice)
    shutil.rmtree(alice.store)
    assert nullok.log_in(alice, "123456", run_as=alice).result == PAM_AUTH_ERR
