"""Check that the module and its backend start and answer: try a nonexistent user in a separate PAM service."""

from __future__ import annotations

import tempfile
from pathlib import Path

from pam_softtoken import platform_facts
from pam_softtoken.admin.common import bounded
from pam_softtoken.admin.common.finding import ERROR, Finding, Report, shown
from pam_softtoken.admin.services.option_check import arguments_of, our_lines, settings_of
from pam_softtoken.admin.services.stack_check import Services
from pam_softtoken.pam import client, installed_libpam, known_modules
from pam_softtoken.pam.stack import Line
from pam_softtoken.program_errors import CheckFailed

NOBODY = "no-such-user.softtoken"
_SERVICE, _PLACE = "softtoken-doctor", "/run"
_WRONG = "000000"
_OURS = ("backend", "timeout")
"""The arguments that a trial keeps; all others can change whether it asks."""
_AS_USUAL = "try_first_pass=no use_first_pass=no forward_pass=no"


def check(services: Services) -> Report:
    """Try each different module and backend that the services name."""
    answer = bounded.ask(platform_facts.INTERPRETER, "-I", "-S", "-c", "print(6 * 7)")
    if answer is None or answer.stdout.strip() != "42":
        what = "the interpreter does not start, so that every login is refused"
        mend = platform_facts.reinstall_interpreter()
        return Report((Finding(ERROR, platform_facts.INTERPRETER, "", what, mend),), ("interpreter",))
    findings, doubts = [], []
    lines = {_line_of(line): line for stack in services.ours for line in our_lines(stack) if _can_be_tried(line)}
    for text, line in lines.items():
        try:
            asked, result = _try(text)
        except (CheckFailed, OSError) as error:
            doubts.append(f"backend: it cannot be tried: {error}")
            continue
        if result == client.PAM_SUCCESS:
            what = "the module lets in a user who does not exist"
            findings.append(Finding(ERROR, str(line.place), shown(line), what, platform_facts.reinstall()))
        elif not asked:
            what = "the module does not ask for a code, but refuses everybody; the log says why"
            findings.append(Finding(ERROR, str(line.place), shown(line), what, platform_facts.reinstall()))
    tried = ("interpreter", f"module and backend, tried with an unknown user in {len(lines) - len(doubts)} ways")
    return Report(tuple(findings), tried, tuple(doubts))


def _can_be_tried(line: Line) -> bool:
    """Return whether a line can be tried. Wrong options and missing modules have been reported already."""
    there = installed_libpam.module_file(line.module) != ""
    return line.kind == "auth" and line.name != known_modules.PYTHON and there and settings_of(line) is not None


def _line_of(line: Line) -> str:
    kept = [word for word in arguments_of(line) if word.partition("=")[0] in _OURS]
    return " ".join((f"auth required [{line.module}]", *(f"[{word}]" for word in kept), _AS_USUAL)) + "\n"


def _try(text: str) -> tuple[bool, int]:
    """Try to log in; return whether a code was asked for, and the result."""
    questions = []

    def answer(question: str, echoed: bool) -> str:
        questions.append(question)
        return _WRONG

    # Not in TMPDIR: its owner could put in another module.
    with tempfile.TemporaryDirectory(prefix="softtoken-doctor-", dir=_PLACE) as directory:
        (Path(directory) / _SERVICE).write_text(text)
        result = client.authenticate(_SERVICE, NOBODY, answer, directory=directory, is_trial=True)
        return bool(questions), result
