"""Read the markers of tests without running the tests, for the tables that are made from them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1]


def calls(marker: str) -> Iterator[tuple[str, ast.Call]]:
    """List the uses of a marker, file by file.

    Args:
        marker: its name, such as `lockout`.

    Returns:
        The name of the test, and the call that makes the marker; also where it marks one of several parameters.
    """
    for path in sorted(TESTS.rglob("test_*.py")):
        text = path.read_text()
        if f"pytest.mark.{marker}" not in text:
            continue
        for function in ast.walk(ast.parse(text)):
            if isinstance(function, ast.FunctionDef):
                for decorator in function.decorator_list:
                    for each in ast.walk(decorator):
                        if isinstance(each, ast.Call) and ast.unparse(each.func) == f"pytest.mark.{marker}":
                            yield function.name, each
