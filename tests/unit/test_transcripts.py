"""Transcripts in README and the manual pages: each sentence in them is a message that is in the code."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.installation import TREE

COMPOSED = (
    "Sign it? [y/N] y",
    "alice@server: Permission denied (publickey,keyboard-interactive).",  # of ssh
    "4 users: 1 enrolled, 2 not-enrolled, 1 unusable",
    "alice: moved to /var/lib/softtoken/1000",
)
"""Lines that are put together from words, or that another program shows."""
_FIRST = re.compile(r"\(alice@server\) |softtoken[\w-]*: (?:error|hint): |Skipped: line \d+: ")
"""What stands before a message."""
_TYPED_OR_SHORT = re.compile(r"\w+@\w+[$#]|\[sudo\]|\\|\.|Key:|URI:|.*  |(?:\S+ ?){0,3}$")
"""Commands, another program's lines, keys, rows of tables, and lines of up to three words."""
_MIN_SHARE = 0.25
"""A message with less text of its own would fit too much."""


class Messages:
    """All texts in the code, with any value where the code fills one in."""

    def __init__(self) -> None:
        lines = {line.strip() for path in (TREE / "pam_softtoken").rglob("*.py") for line in _lines_in(path)}
        self._fitting = [
            (len(line.replace("\0", "")), re.compile(".+".join(map(re.escape, line.split("\0")))))
            for line in lines
            if " " in line
        ]

    def have(self, line: str) -> bool:
        """Check whether a line is a message, or a question with its answer, or two messages in a row."""
        question = line.rpartition(": ")[0]
        first, _, second = line.partition(". ")
        is_one = any(self._has(shown) for shown in (line, line.removesuffix("."), question, f"{question}:"))
        return is_one or (second != "" and self._has(f"{first}.") and self._has(second))

    def _has(self, shown: str) -> bool:
        return any(own >= len(shown) * _MIN_SHARE and fitting.fullmatch(shown) for own, fitting in self._fitting)


def _lines_in(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.JoinedStr):
            pieces = [piece.value if isinstance(piece, ast.Constant) else "\0" for piece in node.values]
            yield from "".join(map(str, pieces)).split("\n")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from node.value.split("\n")


def _shown() -> dict[str, list[str]]:
    """Return the messages in each document's transcripts."""
    documents = {"README.md": re.findall(r"(?s)```console\n(.*?)```", (TREE / "README.md").read_text())}
    for page in sorted((TREE / "pam_softtoken/man").glob("*.in")):
        blocks = re.findall(r"(?ms)^\.Bd .*?\n(.*?)^\.Ed$", page.read_text())
        documents[page.name] = [block for block in blocks if re.search(r"(?m)^\w+@\w+[$#] ", block)]
    return {
        name: [
            _FIRST.sub("", line.strip())
            for block in blocks
            for line in block.splitlines()
            if not _TYPED_OR_SHORT.match(line.strip())
        ]
        for name, blocks in documents.items()
    }


SHOWN = {name: lines for name, lines in _shown().items() if lines}


@pytest.fixture(scope="module")
def messages() -> Messages:
    """Return all texts in the code."""
    return Messages()


@pytest.mark.parametrize("name", SHOWN)
def test_transcript__says_what_the_programs_say(messages: Messages, name: str) -> None:
    for line in SHOWN[name]:
        assert line in COMPOSED or messages.have(line), f"{name}: no program says: {line}"


def test_transcript__with_another_word_is_noticed(messages: Messages) -> None:
    assert sum(map(len, SHOWN.values())) > 50
    for line in (
        "Right. That code cannot be used again: use the next one to log in.",
        "Passwords are closed here, so a code comes on top of the key, as --with publickey asks.",
        'Done. "sshd" wants a code from now on; softtoken-admin disable sshd ends it.',
        "Code which the app shows: 175693",
    ):
        assert not messages.have(line)
