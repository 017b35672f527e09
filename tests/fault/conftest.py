"""What the tests of kills and of failing calls share."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.account import Person
from tests.support.client import Service
from tests.support.fault import Stage, Troupe, make_directory
from tests.support.installation import Installation


@pytest.fixture
def make_troupe(
    world: Path,
    installed: Installation,
    make_person: Callable[[], Person],
    make_service: Callable[[str], Service],
) -> Iterator[Callable[[str], Troupe]]:
    """Make a stage for each processor, up to four, all of one kind."""
    directories: list[Path] = []

    def make(kind: str) -> Troupe:
        stages = []
        for _ in range(min(len(os.sched_getaffinity(0)), 4)):
            directories.append(make_directory(world))
            stages.append(Stage(directories[-1], installed, make_person(), make_service, kind))
        return Troupe(stages)

    yield make
    for directory in directories:
        shutil.rmtree(directory)
