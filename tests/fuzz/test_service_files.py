"""The reader of PAM service files against libpam itself: what libpam runs, with which arguments, and what comes of it.

SERVICE_FILES_SECONDS=3600 goes on for an hour; SERVICE_FILES_SEED is printed with each failure, and plays it again.
SERVICE_FILES_ROOT names a directory with the unpacked packages libpam0g, libc6, libaudit1 and libcap-ng0 of another
Debian, whose libpam is then taken instead of this machine's.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pam_softtoken.pam.dialect import IN_PIECES, WHOLE_LINES
from tests.fuzz import service_files
from tests.fuzz.service_files import Case, Libpam, difference

AT_ONCE = 200
SECONDS = float(os.environ.get("SERVICE_FILES_SECONDS", "0"))
SEED = int(os.environ.get("SERVICE_FILES_SEED", "20261127"))
MAKERS = {
    "files that include each other": (service_files.make_case, 2),
    "as deep as libpam goes": (service_files.make_deep_case, 1),
    "pam.conf": (service_files.make_one_file_case, 1),
}
"""Each with how many rounds an ordinary run takes."""


@pytest.fixture(scope="module")
def libpam(world: Path) -> Iterator[Libpam]:
    with tempfile.TemporaryDirectory(prefix="service-files-", dir=world) as directory:
        yield Libpam(Path(directory) / "root", os.environ.get("SERVICE_FILES_ROOT", ""))


def _require_same(libpam: Libpam, cases: list[Case], seed: str) -> None:
    accounts = libpam.run(cases)
    assert len(accounts) == len(cases)
    for number, (case, account) in enumerate(zip(cases, accounts, strict=True)):
        difference_ = difference(case, account, libpam.dialect)
        assert not difference_, f"{seed}, case {number}: {case}\n{difference_}"


@pytest.mark.parametrize("maker", MAKERS)
def test_reader__predicts_what_libpam_does_with_any_service(libpam: Libpam, maker: str) -> None:
    make, rounds = MAKERS[maker]
    end = time.monotonic() + SECONDS
    number = 0
    while number < rounds or time.monotonic() < end:
        seed = f"SERVICE_FILES_SEED={SEED + number}"
        source = random.Random(SEED + number)
        _require_same(libpam, [make(source) for _ in range(AT_ONCE)], seed)
        number += 1


@pytest.mark.parametrize("in_one_file", [False, True], ids=["in directories", "in pam.conf"])
def test_reader__predicts_what_libpam_does_with_a_kept_service(libpam: Libpam, in_one_file: bool) -> None:
    kept = service_files.kept_cases()
    names = [name for name, case in kept.items() if ("pam.conf" in case) is in_one_file]
    _require_same(libpam, [kept[name] for name in names], f"kept cases {names}")


def test_cases__reach_what_they_are_made_for() -> None:
    """The control: among the services of a run are enough that libpam reads without a problem, and some it gives up."""
    source = random.Random(SEED)
    stacks = [service_files.read(service_files.make_case(source), IN_PIECES) for _ in range(AT_ONCE)]
    assert sum(not stack.problems for stack in stacks) > AT_ONCE // 20
    assert sum(stack.is_given_up for stack in stacks) > 5
    assert sum(bool(stack.ours) for stack in stacks) > AT_ONCE // 4
    assert sum(any(line.depth for line in stack.lines) for stack in stacks) > 20
    source = random.Random(SEED)
    others = [service_files.read(service_files.make_case(source), WHOLE_LINES) for _ in range(AT_ONCE)]
    differing = [
        [line.meaning for line in one.lines] != [line.meaning for line in other.lines]
        for one, other in zip(stacks, others, strict=True)
    ]
    assert sum(differing) > 20
