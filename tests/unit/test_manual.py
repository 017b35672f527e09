"""The man pages against the code: the lists are complete, and the examples work."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import pytest

from pam_softtoken import config, log, option_table
from pam_softtoken.admin import enable
from pam_softtoken.admin import program as admin
from pam_softtoken.device import program as device
from pam_softtoken.enroll import permission, token_list
from pam_softtoken.enroll import program as enroll
from pam_softtoken.login import outcome
from pam_softtoken.ui import command_line
from tests.support import claims
from tests.support.tools import needs

TREE = Path(__file__).resolve().parents[2]
NAMES = tuple(
    sorted(f"man{name[-1]}/{name}" for name in (path.stem for path in (TREE / "pam_softtoken/man").glob("*.in")))
)


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that is made from the code for a directory like /usr/share."""
    made = tmp_path_factory.mktemp("share")
    subprocess.run([TREE / "scripts/document", made], check=True)
    return made


@pytest.fixture(scope="module")
def pages(share: Path) -> dict[str, str]:
    """The source of each page."""
    return {path.name: path.read_text() for path in (share / "man").glob("*/*")}


def shown(share: Path, name: str) -> str:
    """Return a page as a person reads it, without line ends."""
    done = subprocess.run(["mandoc", "-Tascii", share / "man" / name], check=True, capture_output=True, text=True)
    return re.sub(r"\s+", " ", re.sub(".\b", "", done.stdout))


def meaning(action: argparse.Action) -> str:
    """Return the help text of an option."""
    return argparse.HelpFormatter("")._expand_help(action)


def blocks(text: str) -> list[str]:
    """Return the examples of a page that are shown as file content."""
    return re.findall(r"^\.Bd -literal.*\n((?s:.*?))\.Ed$", text, re.MULTILINE)


def section(text: str, title: str) -> str:
    return text.split(f".Sh {title}\n")[1].partition("\n.Sh ")[0]


@needs("mandoc")
@pytest.mark.parametrize("name", NAMES)
def test_page__has_no_mistake_that_mandoc_sees(share: Path, name: str) -> None:
    done = subprocess.run(
        ["mandoc", "-Tlint", "-W", "warning", share / "man" / name], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@needs("groff")
@pytest.mark.parametrize("name", NAMES)
def test_page__is_shown_by_groff_without_a_warning(share: Path, name: str) -> None:
    command = ["groff", "-ww", "-mdoc", "-Tascii", str(share / "man" / name)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_pages__leave_nothing_to_be_filled_in(pages: dict[str, str]) -> None:
    for name, text in pages.items():
        assert re.findall(r"@[A-Za-z_.]+@|\b1 (?:days|minutes|seconds)", text) == [], name


def test_documents__leave_nothing_for_argparse_to_fill_in(share: Path) -> None:
    documents = [path for path in share.rglob("*") if path.is_file()]
    assert len(documents) >= len(NAMES) + 3 * 3
    for path in documents:
        assert "%(" not in path.read_text(), path.name


def test_pages__name_only_pages_that_exist(pages: dict[str, str]) -> None:
    for text in pages.values():
        for name, number in re.findall(r"^\.Xr (\S*softtoken\S*) (\d)", text, re.MULTILINE):
            assert f"{name}.{number}" in pages


@needs("mandoc")
def test_module_page__has_every_option_with_its_meaning(share: Path) -> None:
    text = shown(share, "man8/pam_softtoken.8").replace("'", "`")
    for option in (each for each in option_table.OPTIONS if not each.file_only):
        name = f"{option.name}={option.value}" if option.value else option.name
        assert f" {name} {option.meaning}".replace("'", "`") in text


def test_conf_page__has_every_option_that_may_stand_in_the_file(pages: dict[str, str]) -> None:
    listed = re.findall(r"^\.It Cm (\w+)", pages["softtoken.conf.5"], re.MULTILINE)
    assert listed == [option.name for option in option_table.OPTIONS if not option.argument_only]


@needs("mandoc")
def test_enroll_page__has_every_option_in_the_synopsis_and_with_its_meaning(share: Path) -> None:
    text = shown(share, "man1/softtoken-enroll.1").replace("'", "`")
    synopsis = text.split("SYNOPSIS")[1].split("DESCRIPTION")[0]
    for action in enroll.build_parser()._actions:
        assert f"{action.option_strings[-1]}" in re.findall(r"--[\w-]+", synopsis)
        assert meaning(action).replace("'", "`")[1:] in text


@needs("mandoc")
@pytest.mark.parametrize(
    ("name", "parser"),
    [("man8/softtoken-admin.8", admin.build_parser()), ("man1/softtoken.1", device.build_parser())],
)
def test_page__has_every_subcommand_with_its_options(share: Path, name: str, parser: command_line.Parser) -> None:
    text = shown(share, name).replace("'", "`")
    subcommands = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    assert subcommands.choices
    for word, own in subcommands.choices.items():
        assert f"{parser.prog} {word}" in text
        for action in own._actions:
            if action.dest != "help":
                assert action.help
                assert meaning(action).replace("'", "`")[1:] in text


def test_module_page__explains_every_reason(pages: dict[str, str]) -> None:
    items = re.findall(r"^\.It Cm (.*)", section(pages["pam_softtoken.8"], "DIAGNOSTICS"), re.MULTILINE)
    assert items == list(log.REASONS)


@needs("mandoc")
def test_security_page__has_every_claim(share: Path, pages: dict[str, str]) -> None:
    text = shown(share, "man7/softtoken-security.7").replace("'", "`")
    for claim in claims.read():
        assert claim.replace("'", "`") in text
    assert section(pages["softtoken-security.7"], "CLAIMS").count("\n.It\n") == len(claims.read())


def test_module_page__describes_each_folder(pages: dict[str, str]) -> None:
    listed = re.findall(r"^\.It Pa (.*)/$", section(pages["pam_softtoken.8"], "HOW IT WORKS"), re.MULTILINE)
    assert listed == sorted(path.parent.name for path in (TREE / "pam_softtoken").glob("*/__init__.py"))


def test_module_page__explains_every_code_that_is_returned(pages: dict[str, str]) -> None:
    items = re.findall(r"^\.It Dv (\w+)", section(pages["pam_softtoken.8"], "PAM RETURN VALUES"), re.MULTILINE)
    assert set(items) == {code for code, _, _ in outcome.OUTCOMES.values()} | {"PAM_SUCCESS", "PAM_IGNORE"}


def test_module_page__lines_for_pam_have_right_options(pages: dict[str, str]) -> None:
    lines = [line for block in blocks(pages["pam_softtoken.8"]) for line in block.splitlines() if ".so" in line]
    ours = [line.split(None, 3) for line in lines if re.match(r"(auth|account)\b.*pam_softtoken\.so", line)]
    assert len(ours) >= 6
    for management, control, module, *options in ours:
        assert (control, module) == ("required", "pam_softtoken.so")
        assert management == "auth" or (management, options) == ("account", ["enrol"])
        arguments = re.findall(r"\[([^]]*)\]|(\S+)", options[0]) if options else []
        config.load([bracketed or plain for bracketed, plain in arguments], lambda path, required: "")


def test_module_page__services_ask_for_the_code_behind_the_password(pages: dict[str, str]) -> None:
    services = [block for block in blocks(pages["pam_softtoken.8"]) if "@include" in block]
    assert len(services) == 3
    for service in services:
        assert re.search(r"^@include common-auth\nauth +required +pam_softtoken\.so ", service, re.MULTILINE)
        assert "@include common-account\n" in service


def test_conf_page__examples_are_taken(pages: dict[str, str]) -> None:
    files = blocks(pages["softtoken.conf.5"])
    assert len(files) >= 2
    for text in files:
        config.load([], partial(_given, text))


def _given(text: str, path: str, required: bool) -> str:
    return text


def test_pages__commands_are_taken(pages: dict[str, str]) -> None:
    text = "\n".join(pages.values()).replace("\\&", "")
    commands = re.findall(r"^(?:\.Dl|\.Ql|.*:) (softtoken(?:-enroll|-admin)?(?: \S+)*)", text, re.MULTILINE)
    assert len(commands) >= 8
    assert_taken(line.rstrip(" .,").partition(" | ")[0].partition(" < ")[0] for line in commands)


def test_pages__commands_in_transcripts_and_scripts_are_taken(pages: dict[str, str]) -> None:
    text = "\n".join(block for page in pages.values() for block in blocks(page)).replace("\\e\n", "")
    typed = re.findall(
        r"^(?:[a-z]+@[a-z]+[$#] (?:sudo )?)?(softtoken(?:-enroll|-admin)?(?: [^<>#\n]+?)?)(?: +(?:#|\d?[<>]).*)?$",
        text,
        re.MULTILINE,
    )
    commands = [line for line in typed if " error: " not in line and " hint: " not in line]
    assert len(commands) >= 20
    assert_taken(commands)


def assert_taken(commands: Iterable[str]) -> None:
    """Check that each program parses its commands."""
    parsers = {program.PROGRAM: program.build_parser() for program in (enroll, admin, device)}
    for line in commands:
        program, *arguments = shlex.split(line)
        parsers[program].parse_args(arguments)


def test_enroll_page__transcript_equals_the_output_of_the_program(pages: dict[str, str]) -> None:
    shown_lines = section(pages["softtoken-enroll.1"], "YOUR TOKENS").splitlines()
    assert any(line.startswith(f"{permission.QUESTION} ") for line in shown_lines)
    header = shown_lines[shown_lines.index("alice@server$ softtoken-enroll --list") + 1]
    assert tuple(re.split(r" {2,}", header)) == token_list.HEADER


def test_admin_page__transcript_equals_the_output_of_the_program(pages: dict[str, str]) -> None:
    advice = enable._second_terminal("sshd", "alice").split(": ")[0]
    run = section(pages["softtoken-admin.8"], "TURNING IT ON")
    assert f'\n"sshd" asks for a code now. {advice}: ssh alice@server\n' in run


def test_migration_page__names_only_options_that_exist(pages: dict[str, str]) -> None:
    ours = re.findall(r"^\.Cm (\w+)", pages["softtoken-migration.7"], re.MULTILINE)
    assert len(ours) >= 8
    assert set(ours) <= {option.name for option in option_table.OPTIONS}


def test_clients_page__says_tried_only_of_what_a_test_logs_in_with(pages: dict[str, str]) -> None:
    page, _, without_root = pages["softtoken-clients.7"].partition(".Sh PROGRAMS THAT DO NOT RUN AS ROOT")
    form = re.compile(r"^\.It (.+) Ta (.+) Ta (.+) Ta (tried|not tried)$", re.MULTILINE)

    def untried(rows: list[tuple[str, str, str, str]], *files: str) -> list[str]:
        words = set(re.findall(r"[a-z0-9]+", " ".join((TREE / "tests" / file).read_text() for file in files).lower()))
        named = {row[0]: re.findall(r"[a-z0-9]+", row[0].replace(" with Fl ", " ").lower()) for row in rows}
        return [row[0] for row in rows if row[3] == "tried" and not set(named[row[0]]) <= words]

    rows, more = form.findall(page), form.findall(without_root)
    assert (len(rows) >= 15, len(more) >= 10) == (True, True)
    assert untried(rows, "system/test_clients.py") == []
    own = ("system/test_booted.py", "system/servers.py", "pam/test_relay_programs.py", "system/test_clients.py")
    assert untried(more, *own) == []
    source = (TREE / "tests/system/test_clients.py").read_text()
    for client, _, module, _ in rows:
        if module == "Cm forward_pass":
            named = client.split()[0].strip(",").lower()
            assert re.search(rf"^def test_{named}__\w*needs_forward_pass", source, re.MULTILINE), client


def test_document__into_a_place_that_takes_no_file_says_so(tmp_path: Path) -> None:
    (tmp_path / "share").touch()
    command = [str(TREE / "scripts/document"), str(tmp_path / "share")]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    error, hint = done.stderr.splitlines()
    assert f"error: {tmp_path}/share/" in error
    assert "hint: " in hint


def test_document__needs_a_directory() -> None:
    for arguments in ([], ["--help"], ["a", "b"]):
        command = [str(TREE / "scripts/document"), *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, "")
        assert "error: one argument is needed: the directory" in done.stderr
