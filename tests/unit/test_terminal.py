"""The programs' output reaches a pipe in the order in which it was written, on both streams."""

from __future__ import annotations

import subprocess
import sys

from tests.support.installation import TREE

_SAYS = """
from pam_softtoken.ui import command_line as command, terminal
from pam_softtoken.program_errors import CheckFailed

def body(screen):
    screen.show("1 result")
    screen.tell("2 message")
    screen.show("3 result")
    assert screen.ask("4 question") == "answer"
    screen.show("\\n5 result")
    screen.tell("6 message")
    screen.show("7 result")
    raise CheckFailed("8 wrong", hint="9 help")

raise SystemExit(terminal.run("program", body))
"""


_STOPPED = """
from pam_softtoken.ui import terminal

def body(screen):
    raise KeyboardInterrupt

raise SystemExit(terminal.run("program", body, ["add", "--name", "my phone"]))
"""


def test_terminal__interrupted_program_is_started_again_with_the_same_words() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _STOPPED], check=False, cwd=TREE, env={}, text=True, capture_output=True
    )
    assert done.stderr.splitlines()[-1] == "program: hint: start again with program add --name 'my phone'"


def test_terminal__results_messages_questions_and_errors_keep_their_order_in_a_pipe() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _SAYS],
        check=False, cwd=TREE, env={}, text=True, input="answer\n", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "1 result", "2 message", "3 result", "4 question ", "5 result", "6 message", "7 result",
        "program: error: 8 wrong", "program: hint: 9 help",
    ]  # fmt: skip
