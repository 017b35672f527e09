"""The mutation run: what it breaks, and that the files it names exist."""

from __future__ import annotations

import importlib
from typing import Any

import pytest

from tests.support.installation import TREE

SOURCE = b"""
LIMIT = 3

def check(a: int, *, b: bool = False) -> int:
    if a < 3 and not b:
        raise ValueError(a)
    return a + 1
"""


@pytest.fixture
def mutate(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(TREE / "scripts" / "lib"))
    return importlib.import_module("mutate")


def test_mutants__are_one_small_change_of_one_function_each(mutate: Any) -> None:
    found = mutate.mutants_of("x.py", SOURCE)
    assert {(each.before, each.after) for each in found} == {
        ("a < 3 and (not b)", "(not (a < 3 and (not b)))"),
        ("a < 3 and (not b)", "(a < 3 or not b)"),
        ("a < 3 and (not b)", "(a < 3)"),
        ("a < 3 and (not b)", "(not b)"),
        ("a < 3", "(a <= 3)"),
        ("3", "4"),
        ("not b", "(b)"),
        ("raise ValueError(a)", "pass"),
        ("return a + 1", "pass"),
        ("a + 1", "(a - 1)"),
        ("1", "2"),
    }
    assert {each.function for each in found} == {"check"}


def test_mutants__are_made_of_files_that_exist(mutate: Any) -> None:
    mutants = mutate.all_mutants(list(mutate.TARGETS), set())
    folders = {each.path.partition("/")[0] for each in mutants}
    named = [name for folder in folders for name in [*mutate.MORE_TESTS.get(folder, ()), *mutate.DEEP[folder]]]
    assert [name for name in named if not (TREE / name).is_file()] == []
    keys = {each.key for each in mutants}
    assert set(mutate.KNOWN.read_text().splitlines()) <= keys
