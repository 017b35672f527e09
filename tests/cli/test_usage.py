"""Check the command line of `softtoken-enroll`: accepted and refused options, and the help text."""

from __future__ import annotations

import json
import re
import shlex

import pytest

from pam_softtoken.enroll.program import EPILOG
from tests.support.account import Person, Phone
from tests.support.client import PAM_SUCCESS, Service
from tests.support.enroller import (
    CHECK_PROMPT,
    CODE_PROMPT,
    ENTER_PROMPT,
    ENVIRONMENT,
    OTHERS_CODE_PROMPT,
    TOKEN_PROMPT,
    Dialogue,
    Enroller,
)
from tests.support.installation import Installation
from tests.support.listing import listing
from tests.support.signing_device import enrol_device

PIN_PROMPT, AGAIN_PROMPT, PIN = "New PIN", "The same again:", "4711"
SCRIPT = ("--no-confirm", "--json", "--recovery-codes=0")
TOKEN_OPTIONS = (
    "--name",
    "--type",
    "--algorithm",
    "--digits",
    "--period",
    "--key-file",
    "--recovery-codes",
    "--recovery-hashes",
)
OTHER_OPTIONS = (
    "--user",
    "--no-confirm",
    "--qr",
    "--force",
    "--store",
    "--json",
    "--png",
    "--svg",
    "--sheet",
    "--here",
    "--self",
    "--version",
    "--if-absent",
)
TOOLS = (
    "--check",
    "--list",
    "--remove",
    "--new-recovery-codes",
    "--pin",
    "--no-pin",
    "--print-recovery-codes",
    "--sign",
)
IMPORT = ("--import", "--dry-run", "--skip-unusable", "--passphrase-file")

MISUSES: dict[str, list[str]] = {
    "digits 5": ["--digits=5"],
    "digits 9": ["--digits=9"],
    "digits in words": ["--digits=six"],
    "period 0": ["--period=0"],
    "period 301": ["--period=301"],
    "period -30": ["--period=-30"],
    "period 1.5": ["--period=1.5"],
    "recovery codes -1": ["--recovery-codes=-1"],
    "recovery codes 25": ["--recovery-codes=25"],
    "recovery codes in words": ["--recovery-codes=many"],
    "unknown option": ["--frobnicate"],
    "unknown short option": ["-x"],
    "abbreviated option": ["--forc"],
    "argument that is no option": ["alice"],
    "option without its value": ["--name"],
    "value for a flag": ["--force=yes"],
    "unknown type": ["--type=steam"],
    "unknown algorithm": ["--algorithm=MD5"],
    "algorithm in lower case": ["--algorithm=sha1"],
    "unknown drawing": ["--qr=png"],
    "HOTP with a period": ["--type=hotp", "--period=30"],
    "empty name": ["--name="],
    "blank name": ["--name= "],
    "name with a control character": ["--name=a\x07b"],
    "name with a newline": ["--name=a\nb"],
    "name with an escape sequence": ["--name=\x1b[2J"],
    "name of 65 characters": ["--name=" + "n" * 65],
    "name that is no text": ["--name=\udcff"],
    "list and check": ["--list", "--check"],
    "list and remove": ["--list", "--remove=phone"],
    "list and a name": ["--list", "--name=spare"],
    "import and a type": ["--import=file", "--type=hotp"],
    "dry run of nothing": ["--dry-run"],
    "passphrase of nothing": ["--passphrase-file=file"],
    "PIN and no PIN": ["--pin", "--no-pin"],
    "PIN and a name": ["--pin", "--name=spare"],
    "list by force": ["--list", "--force"],
    "remove without a name": ["--remove"],
    "remove for a program": ["--remove=phone", "--json"],
    "remove with a type": ["--remove=phone", "--type=hotp"],
    "new recovery codes and a type": ["--new-recovery-codes", "--type=hotp"],
    "new recovery codes and list": ["--new-recovery-codes", "--list"],
    "if absent, and by force": ["--if-absent", "--force"],
    "if absent and list": ["--if-absent", "--list"],
    "recovery codes twice": ["--recovery-codes=5", "--recovery-hashes=file"],
    "key and hashes from one stdin": ["--key-file=-", "--recovery-hashes=-"],
    "hashes of new recovery codes": ["--new-recovery-codes", "--recovery-hashes=file"],
    "recovery codes for nobody, and a type": ["--print-recovery-codes", "--type=hotp"],
    "too many new recovery codes": ["--new-recovery-codes", "--recovery-codes=25"],
}


@pytest.mark.parametrize("misuse", MISUSES)
def test_usage__mistake_is_one_error_one_hint_and_status_2(enroller: Enroller, alice: Person, misuse: str) -> None:
    before = listing(alice.home)
    mistake = enroller.run("--no-confirm", *MISUSES[misuse], person=alice).refused(2)
    assert mistake.hint
    assert listing(alice.home) == before


@pytest.mark.parametrize("option", ["--frobnicate=\x1b[31mred", "--type=\x1b[31mred", "--digits=\x1b[31mred", "a\nb"])
def test_usage__mistake_does_not_play_with_the_terminal(enroller: Enroller, alice: Person, option: str) -> None:
    done = enroller.run("--no-confirm", option, person=alice)
    done.refused(2)
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["--digits=6"], ["--digits=8"], ["--period=1"], ["--period=300"], ["--recovery-codes=0"],
        ["--recovery-codes=24"], ["--name=n"], ["--name=" + "n" * 64], ["--name=" + "é" * 64], ["--type=hotp"],
        ["--algorithm=SHA512"], ["--digits", "7"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_usage__edges_of_every_range_are_taken(enroller: Enroller, alice: Person, options: list[str]) -> None:
    done = enroller.run(*SCRIPT, *options, person=alice)
    assert (done.status, done.stderr) == (0, "")
    record = json.loads(done.stdout)
    if options[0].startswith("--name="):
        assert record["name"] == options[0].removeprefix("--name=")


@pytest.mark.parametrize("columns", [None, "80", "200"])
def test_help__is_on_stdout_and_fits_into_80_columns(enroller: Enroller, alice: Person, columns: str | None) -> None:
    environment = {**ENVIRONMENT, **({"COLUMNS": columns} if columns else {})}
    done = enroller.run("--help", person=alice, environment=environment)
    assert (done.status, done.stderr) == (0, "")
    assert [line for line in done.stdout.splitlines() if len(line) > 80] == [] or columns == "200"
    assert done.stdout.endswith("\n")
    assert done.stdout.isascii()
    assert not alice.store.exists()


def test_help__fits_into_a_terminal_of_80_columns(enroller: Enroller, alice: Person) -> None:
    with enroller.start("--help", person=alice) as dialogue:
        assert dialogue.finish() == 0
        assert [line for line in dialogue.transcript.splitlines() if len(line) > 80] == []


def test_help__fits_into_40_columns_but_for_commands_that_are_to_be_copied(enroller: Enroller) -> None:
    lines = enroller.run("--help", environment={**ENVIRONMENT, "COLUMNS": "40"}).stdout.splitlines()
    commands = [line for line in EPILOG.splitlines() if line.startswith("  softtoken-enroll")]
    assert {line for line in lines if len(line) > 40} <= set(commands) <= set(lines)


def test_help__lists_every_designed_option_and_no_other(enroller: Enroller) -> None:
    text = enroller.run("--help").stdout
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) == {
        *TOKEN_OPTIONS,
        *OTHER_OPTIONS,
        *TOOLS,
        *IMPORT,
        "--help",
    }


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help__wins_over_a_home_that_cannot_be_used(enroller: Enroller, alice: Person, flag: str) -> None:
    alice.home.chmod(0o777)
    assert enroller.run(flag, person=alice).status == 0


def examples(text: str) -> list[list[str]]:
    """Return the commands in the last part of the help: each starts in column 3, words after a wide gap explain it."""
    lines = text.partition("examples:\n")[2].splitlines()
    commands = [re.split(r" {3,}", line.strip())[0] for line in lines if re.match(r" {2}\S", line)]
    return [shlex.split(command) for command in commands]


def test_help__examples_are_there(enroller: Enroller) -> None:
    commands = examples(enroller.run("--help").stdout)
    assert len(commands) >= 5
    assert [" ".join(command) for command in commands] == re.findall(r"^ +(softtoken-enroll.*)$", EPILOG, re.MULTILINE)


def play(dialogue: Dialogue, old: Phone) -> None:
    """Answer every question correctly, in any order: with codes of the old token, or of the new one."""
    others = OTHERS_CODE_PROMPT.partition("{")[0]
    prompts = (CODE_PROMPT, others, ENTER_PROMPT, TOKEN_PROMPT, CHECK_PROMPT, PIN_PROMPT, AGAIN_PROMPT)
    while prompt := dialogue.expect_any(*prompts):
        if prompt == ENTER_PROMPT:
            dialogue.type("")
        elif prompt in (CODE_PROMPT, others):
            new = dialogue.phone()
            dialogue.type(new.hotp() if new.record["type"] == "hotp" else new.totp())
        elif prompt in (PIN_PROMPT, AGAIN_PROMPT):
            dialogue.type(PIN)
        else:
            dialogue.type(old.hotp())


OLD_ONES_WORK = {"--name", "--list", "--remove", "--check", "--new-recovery-codes", "--pin", "--sign"}


def test_help__every_example_does_what_it_says(
    enroller: Enroller, installed: Installation, alice: Person, service: Service
) -> None:
    (alice.home / "key.txt").write_text("GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n")
    (alice.home / ".google_authenticator").write_text('GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n" TOTP_AUTH\n')
    for command in examples(enroller.run("--help").stdout):
        words = [alice.name if word == "alice" else word.replace("~", str(alice.home)) for word in command[1:]]
        words += ["--user", alice.name] if "--sign" in words else []  # without it, sudo runs the installed program
        runner = None if "--user" in words else alice
        for file in alice.store.glob("*"):
            file.unlink()
        old = alice.enrol(installed, "--type=hotp", "--recovery-codes=1")
        old_ones_work = {"--name", "--list", "--remove", "--check", "--new-recovery-codes", "--pin", "--sign"} & set(
            words
        )
        if "--remove" in words:
            alice.enrol(installed, "--name=spare", "--recovery-codes=0")
        elif not old_ones_work and "--force" not in words:
            (alice.store / "tokens").unlink()
        if "--if-absent" in words:
            alice.forget_on_the_host()
        if "--no-confirm" in words:
            assert enroller.run(*words, person=runner, cwd=alice.home).status == 0, command
            continue
        with enroller.start(*words, person=runner, cwd=alice.home) as dialogue:
            if "--sign" in words:
                enrol_device(dialogue)
            play(dialogue, old)
            assert dialogue.finish() == 0, command
        front = PIN if "--pin" in words else ""
        assert (service.log_in(alice, front + old.hotp()).result == PAM_SUCCESS) == bool(old_ones_work), command
        if "URI:" in dialogue.transcript:
            new = dialogue.phone()
            new.counter += 1
            assert service.log_in(alice, new.next()).result == PAM_SUCCESS, command
