"""README against the code: its lists are complete and true."""

from __future__ import annotations

import re
from pathlib import Path

from pam_softtoken import log
from pam_softtoken.admin import enable
from pam_softtoken.config import OPTIONS
from pam_softtoken.enroll import permission, program, token_list

TREE = Path(__file__).resolve().parents[2]
README = (TREE / "README.md").read_text()
INDEX = (TREE / "tests/INDEX.md").read_text()

DEFAULTS_IN_WORDS = {"backend": "where it is installed", "required_from": "no such day"}


def option_rows() -> list[str]:
    """Write README's table of options from the option table."""
    rows = []
    for option in OPTIONS:
        shown = {True: "on", False: "off"}[option.default] if isinstance(option.default, bool) else option.default
        default = f"`{shown}`" if shown != "" else DEFAULTS_IN_WORDS[option.name]
        name = f"`{option.name}={option.value}`" if option.value else f"`{option.name}`"
        rows.append(f"| {name} | {default} | {option.meaning} |")
    return rows


def test_readme__has_the_table_of_options() -> None:
    between = README.split("<!-- options:")[1].split("<!-- end of options -->")[0]
    assert between.splitlines()[3:] == option_rows()


def test_readme__explains_every_reason() -> None:
    section = README.split("## What is in the log")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    assert {name for cell in cells for name in re.findall(r"`(\w+)`", cell)} == log.REASONS


def test_readme__names_only_tests_that_exist() -> None:
    tests = "\n".join(path.read_text() for path in (TREE / "tests").rglob("test_*.py"))
    for name in re.findall(r"`(test_\w+__\w+)`", README + INDEX):
        assert f"def {name}(" in tests, name
    for path in re.findall(r"`(tests/[\w/.]+)`", README):
        assert (TREE / path).exists(), path


def test_readme__names_only_options_of_softtoken_enroll_that_exist() -> None:
    known = set(program.build_parser()._option_string_actions)
    for words in re.findall(r"softtoken-enroll((?: [^`\n]*)?)[`\n]", README):
        options = set(re.findall(r"(?<![\w-])--[a-z-]+", words))
        assert options <= known, words


def test_readme__transcript_of_your_tokens_says_what_the_programs_say() -> None:
    section = README.split("## Your tokens")[1].split("\n## ")[0]
    assert f"\n{permission.QUESTION} " in section
    listed = section.split("--list\n")[1].splitlines()[0]
    assert tuple(re.split(r" {2,}", listed)) == token_list.HEADER


def test_readme__quick_starts_take_three_commands_and_say_what_the_programs_say() -> None:
    section = README.split("## Quick starts")[1].split("\n## ")[0]
    _, *starts = section.split("\n### ")
    logins = (("sshd", "ssh alice@server"), ("sshd", "ssh alice@server"), ("sudo", "sudo -k true"))
    for start, (service, log_in) in zip(starts, logins, strict=True):
        typed = re.findall(r"(?m)^alice@\w+\$ (?!exit)(.+)$", start)
        assert list(dict.fromkeys(typed)) == ["softtoken-enroll", f"sudo softtoken-admin enable {service}", log_in]
        advice = enable._second_terminal(service, "alice").split(": ")[0]
        assert f'\n"{service}" asks for a code now. {advice}: {log_in}\n' in start
        assert start.count("\n```console\n") == 2
        shown = [line for block in start.split("```console\n")[1:] for line in block.split("```")[0].splitlines()]
        assert len(shown) <= 28


def test_readme__names_only_programs_that_exist() -> None:
    for name in re.findall(r"scripts/(\w[\w-]*)", README):
        assert (TREE / "scripts" / name).exists(), name
