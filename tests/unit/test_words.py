"""The texts of the package and of its tests keep simple rules of plain English."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.installation import TREE

WRONG_START = re.compile(r"(Give|Tell|Have|Make|Say|Take|Let|Find out|Put|Be)\b")
"""Docstrings begin with Return, Check, Raise, Read, Write, List, Ask or another verb that says as much."""
WRONG_WORD = re.compile(r"\b(he|his|him|himself|she|her|hers|herself|whoever|whomever)\b", re.IGNORECASE)
MODULES = sorted(
    path
    for place in ("pam_softtoken", "scripts", "tests")
    for path in (TREE / place).rglob("*")
    if path.is_file() and (path.suffix == ".py" or path.open("rb").readline().startswith(b"#!/usr/bin/python3"))
)
TEXTS = sorted(
    path
    for pattern in (
        "pam_softtoken/**/*.py",
        "pam_softtoken/bridge/*.[ch]",
        "pam_softtoken/man/*.in",
        "pam_softtoken/man/*.txt",
        "scripts/*",
        "scripts/lib/*",
        "debian/*",
        "debian/tests/*",
        "debian/examples/**/*",
        ".github/**/*.md",
        "README.md",
        "tests/*.md",
        "tests/**/*.[ch]",
    )
    for path in TREE.glob(pattern)
    if path.is_file() and path.name != "copyright"
)


def docstrings(path: Path) -> Iterator[tuple[int, str]]:
    """Return line and text of the docstring of a module and of each class and function in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            yield getattr(node, "lineno", 1), ast.get_docstring(node) or ""


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(TREE)))
def test_docstrings__begin_with_a_plain_verb(path: Path) -> None:
    assert [(line, text.splitlines()[0]) for line, text in docstrings(path) if WRONG_START.match(text)] == []


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(TREE)))
def test_texts__speak_of_users_as_they(path: Path) -> None:
    lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
    assert [(number, line) for number, line in lines if WRONG_WORD.search(line)] == []


def prose(path: Path) -> Iterator[tuple[int, str]]:
    """Return line and text of each comment, each docstring and each name of a function or class, as words."""
    with tokenize.open(path) as lines:
        yield from (
            (token.start[0], token.string)
            for token in tokenize.generate_tokens(lines.readline)
            if token.type == tokenize.COMMENT
        )
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.lineno, node.name.replace("_", " ")
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def test_tests__speak_of_users_as_they() -> None:
    """Other strings in a test may be anything, such as the input of a user."""
    texts = [(path, line, text) for path in (TREE / "tests").rglob("*.py") for line, text in prose(path)]
    assert [each for each in texts if WRONG_WORD.search(each[2])] == []
