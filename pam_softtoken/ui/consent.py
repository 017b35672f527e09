"""Ask the user whether to go on. One place has the form of the question, the answers that count, and the refusals.

A program that cannot ask changes nothing, unless the command line has given the answer.
"""

from __future__ import annotations

import argparse

from pam_softtoken.program_errors import NotConfirmed
from pam_softtoken.ui import terminal


def add_yes(parser: argparse.ArgumentParser) -> None:
    """Add the option that gives the answer on the command line."""
    parser.add_argument("--yes", action="store_true", help="do not ask")


def require(screen: terminal.Terminal, question: str, *, given: bool, option: str = "--yes") -> None:
    """Ask whether to go on, unless the command line has said so. Only `y` and `yes` go on.

    Args:
        screen: shows the question.
        question: without the choice of answers, which is added here.
        given: the command line has said so.
        option: the option that says so.

    Raises:
        NotConfirmed: the answer is something else, or stdin is no terminal.
        EnrolmentFailed: the input has ended.
    """
    if given:
        return
    if not terminal.person_is_there():
        raise NotConfirmed("there is no terminal to ask on; nothing was changed", hint=f"add {option}")
    if not agreed(screen, question):
        raise NotConfirmed("not confirmed; nothing was changed", hint=f"answer y, or add {option}")


def agreed(screen: terminal.Terminal, question: str) -> bool:
    """Ask a question on the terminal. Return whether the answer is `y` or `yes`.

    Raises:
        EnrolmentFailed: the input has ended.
    """
    return screen.ask(f"{question} [y/N]").strip().lower() in ("y", "yes")


def require_whole_word(screen: terminal.Terminal, question: str) -> None:
    """Ask whether to do something that no habit may answer. Only the whole word `yes` goes on.

    Raises:
        NotConfirmed: the answer is something else.
        EnrolmentFailed: the input has ended.
    """
    if screen.ask(f"{question} Type yes to go on, anything else changes nothing:").strip().lower() != "yes":
        raise NotConfirmed("not confirmed; nothing was changed", hint="to confirm, type the whole word: yes")
