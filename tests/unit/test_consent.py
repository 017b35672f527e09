"""The question whether to go on: which answers count, and what happens where nobody can answer."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import TextIO

import pytest

from pam_softtoken.program_errors import EnrolmentFailed, NotConfirmed
from pam_softtoken.ui import consent
from pam_softtoken.ui.terminal import Terminal

SCREEN = Terminal("program", results=None)


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], object]]:
    """Type something on a terminal that is stdin."""
    ours, theirs = os.openpty()
    with os.fdopen(theirs) as stdin:
        monkeypatch.setattr("sys.stdin", stdin)
        yield lambda text: os.write(ours, text.encode())
    os.close(ours)


@pytest.mark.parametrize("answer", ["y", "yes", " YES "])
def test_consent__is_y_or_yes(typed: Callable[[str], object], answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    typed(f"{answer}\n")
    consent.require(SCREEN, "Go on?", given=False)
    assert capsys.readouterr().err.startswith("Go on? [y/N] ")


@pytest.mark.parametrize("answer", ["", "n", "yo", "yes please", "ja"])
def test_consent__is_not_any_other_answer(typed: Callable[[str], object], answer: str) -> None:
    typed(f"{answer}\n")
    with pytest.raises(NotConfirmed, match="not confirmed; nothing was changed") as caught:
        consent.require(SCREEN, "Go on?", given=False, option="--sure")
    assert caught.value.hint == "answer y, or add --sure"


def test_consent__is_not_the_end_of_the_input(typed: Callable[[str], object]) -> None:
    typed("\x04")
    with pytest.raises(EnrolmentFailed, match="nothing was changed"):
        consent.require(SCREEN, "Go on?", given=False)


@pytest.mark.parametrize("answer", ["y", "no", ""])
def test_consent__to_a_dangerous_change_needs_the_whole_word(typed: Callable[[str], object], answer: str) -> None:
    typed(f"{answer}\nyes\n")
    with pytest.raises(NotConfirmed, match="not confirmed; nothing was changed"):
        consent.require_whole_word(SCREEN, "Lock out alice?")
    consent.require_whole_word(SCREEN, "Lock out alice?")


@pytest.mark.parametrize("stdin", ["closed", "pipe"])
def test_consent__without_a_terminal_comes_from_the_option_only(stdin: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.write(writer, b"y\n")
    os.close(writer)
    with os.fdopen(reader) as pipe:
        given: TextIO | None = pipe if stdin == "pipe" else None
        monkeypatch.setattr("sys.stdin", given)
        consent.require(SCREEN, "Go on?", given=True)
        with pytest.raises(NotConfirmed, match="there is no terminal to ask on; nothing was changed") as caught:
            consent.require(SCREEN, "Go on?", given=False, option="--sure")
    assert (caught.value.hint, caught.value.exit_status) == ("add --sure", 1)
