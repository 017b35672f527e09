"""Programs that tests write as texts import modules that are there; no type checker looks into a text."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parents[1]
IMPORT = re.compile(r"^[ \t]*from (pam_softtoken[\w.]*) import ([\w, ]+)$", re.MULTILINE)


def _imports(path: Path) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            for found in IMPORT.finditer(node.value):
                for name in found[2].split(","):
                    yield found[1], name.split()[0]


FOUND = sorted({each for path in TESTS.rglob("*.py") for each in _imports(path)})


@pytest.mark.parametrize(("module", "name"), FOUND, ids=[".".join(each) for each in FOUND])
def test_written_programs__import_what_is_there(module: str, name: str) -> None:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    names = re.search(rf"^(?:def|class) {name}\b|^{name}\b.*=|import.*\b{name}\b", Path(spec.origin).read_text(), re.M)
    assert names or (spec.submodule_search_locations and importlib.util.find_spec(f"{module}.{name}"))
