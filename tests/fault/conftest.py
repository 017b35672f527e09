"""Share fixtures among the tests of failing calls, kills and surroundings."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pam_softtoken.account import ram_record
from tests.support.account import Person, Phone, resident_of
from tests.support.client import Service
from tests.support.fault import Stage, Troupe, make_directory
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES
from tests.support.process import wait_until
from tests.support.sampling import amount


class Owner:
    """A user and their token.

    Attributes:
        person, phone: see their classes.
    """

    def __init__(self, person: Person, phone: Phone) -> None:
        self.person = person
        self.phone = phone


@pytest.fixture(scope="module")
def resident(world: Path, installed: Installation) -> Iterator[Owner]:
    """The one user of all surroundings: making one takes longer than logging in."""
    parent = make_directory(world)
    with resident_of(parent / "homes-limits") as person:
        yield Owner(person, person.enrol(installed, "--period=300", NO_CODES))
    shutil.rmtree(parent)


@pytest.fixture
def owner(resident: Owner) -> Iterator[Owner]:
    """The same user, without any earlier login."""
    state = resident.person.store / "state"
    before = state.read_bytes()
    resident.person.forget_on_the_host()
    yield resident
    state.write_bytes(before)


@pytest.fixture
def phone_for_records_in_run(installed: Installation, alice: Person) -> Phone:
    """Alice's token, for hosts with records in /run. Codes from before the machine's start do not count there."""
    phone = alice.enrol(installed, NO_CODES)
    wait_until(
        lambda: ram_record.age_s() > 3 * int(str(phone.record["period"])), "the machine to be older", within_s=120
    )
    return phone


@pytest.fixture
def make_troupe(
    world: Path,
    installed: Installation,
    make_person: Callable[[], Person],
    make_service: Callable[[str], Service],
) -> Iterator[Callable[[str], Troupe]]:
    """Return a function that makes a stage, in the full run one for each processor, up to four, all of one kind."""
    directories: list[Path] = []

    def make(kind: str) -> Troupe:
        stages = []
        for _ in range(amount(1, full=min(len(os.sched_getaffinity(0)), 4))):
            directories.append(make_directory(world))
            stages.append(Stage(directories[-1], installed, make_person(), make_service, kind))
        return Troupe(stages)

    yield make
    for directory in directories:
        shutil.rmtree(directory)
