"""Press Tab in real shells: bash, zsh and fish find the completions where a package puts them.

A stand-in for the program shows its arguments, so a wrongly completed line does no harm.
"""

from __future__ import annotations

import argparse
import os
import pwd
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import pytest

from pam_softtoken.admin import program as admin
from pam_softtoken.device import program as device
from pam_softtoken.enroll import program as enroll
from pam_softtoken.enroll.run_context import PROGRAM
from tests.support.installation import TREE

TIMEOUT_S = 60
PROMPT = "ready: "
ENDS = {
    "--ty": "--type",
    "--no-c": "--no-confirm",
    "--type h": "--type hotp",
    "--type=h": "--type=hotp",
    "--algorithm SHA5": "--algorithm SHA512",
    "--algorithm=SHA5": "--algorithm=SHA512",
    "--qr u": "--qr utf8",
    "--qr=n": "--qr=none",
    "--force --type t": "--force --type totp",
    "--key-file the-k": "--key-file the-key.txt",
    "--key-file=the-k": "--key-file=the-key.txt",
    "--png pict": "--png pictures",
    "--svg pict": "--svg pictures",
    "--sheet pict": "--sheet pictures",
    "--import the-k": "--import the-key.txt",
    "--user USE": "--user USER",
    "--user=USE": "--user=USER",
    "--name the-k": "--name the-k",
    "--remove the-k": "--remove the-k",
    "--store the-k": "--store the-k",
    "--period 3": "--period 3",
    "the-k": "the-k",
}
"""The typed text, and the text after Tab. `USER` is a user of this machine, `USE` is the beginning of that name."""
SUBCOMMANDS = {
    program.PROGRAM: {
        name: [each for action in own._actions for each in action.option_strings if len(each) > 2]
        for action in program.build_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
        for name, own in action.choices.items()
    }
    for program in (admin, device)
}
"""The subcommands of each program, and the options of each subcommand."""
OPTIONS = [name for action in enroll.build_parser()._actions for name in action.option_strings if len(name) > 2]


@pytest.fixture(scope="module")
def user() -> str:
    """A user whose name is the only one with its beginning, with or without its last letter."""
    names = [entry.pw_name for entry in pwd.getpwall()]
    return next(each for each in names if len(each) > 2 and sum(name.startswith(each[:-1]) for name in names) == 1)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with the documents, the stand-in for the program, a file and a directory."""
    home = tmp_path_factory.mktemp("completion")
    subprocess.run([TREE / "scripts/document", home / "share"], check=True)
    (home / "bin").mkdir()
    for name in (PROGRAM, admin.PROGRAM, device.PROGRAM):
        stand_in = home / "bin" / name
        stand_in.write_text("#!/bin/sh\nprintf '<%s>' \"$@\"\necho '<end>'\n")
        stand_in.chmod(0o755)
    (home / "the-key.txt").touch()
    (home / "pictures").mkdir()
    return home


def environment(place: Path) -> dict[str, str]:
    return {
        "HOME": str(place),
        "PATH": f"{place}/bin:/usr/bin:/bin",
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
        "XDG_DATA_DIRS": f"{place}/share:/usr/share",
        "PS1": PROMPT,
    }


class Shell:
    """An interactive shell in a terminal.

    Args:
        command: the command that starts it.
        preparation: the lines in the shell's start file.
        place: its home and directory.
    """

    def __init__(self, command: list[str], preparation: list[str], place: Path) -> None:
        self._terminal = pexpect.spawn(
            command[0], command[1:], env=environment(place), cwd=str(place),
            timeout=TIMEOUT_S, dimensions=(50, 500), encoding="utf-8",
        )  # fmt: skip
        self._terminal.delaybeforesend = None
        for line in [*preparation, "softtoken-enroll begin"]:
            self._terminal.sendline(line)
        self._terminal.expect_exact("<begin><end>")
        self._terminal.expect_exact(PROMPT)

    def arguments_after(self, typed: str, *, program: str = PROGRAM) -> list[str]:
        """Type the beginning of a line, Tab and Enter, and return the arguments that the program got."""
        self._terminal.send(f"{program} {typed}\t\r")
        self._terminal.expect(r"(?:<[^<>\r\n]*>)+<end>")
        *arguments, _ = re.findall("<([^>]*)>", str(self._terminal.after))
        self._terminal.expect_exact(PROMPT)
        return arguments

    def close(self) -> None:
        """End the shell."""
        self._terminal.close(force=True)


def _bash(place: Path) -> Shell:
    return Shell(["bash", "--norc", "-i"], [". /usr/share/bash-completion/bash_completion"], place)


def _zsh(place: Path) -> Shell:
    directory = shlex.quote(str(place / "share/zsh/vendor-completions"))
    lines = [f"fpath=({directory} $fpath)", "autoload -Uz compinit", f"compinit -u -d {place}/zcompdump"]
    return Shell(["zsh", "-f", "-i"], lines, place)


SHELLS: dict[str, Callable[[Path], Shell]] = {"bash": _bash, "zsh": _zsh}


@pytest.fixture(scope="module", params=list(SHELLS))
def shell(request: pytest.FixtureRequest, place: Path) -> Iterator[Shell]:
    """Each shell that completes only in a terminal."""
    if not shutil.which(request.param) or not os.path.exists("/usr/share/bash-completion/bash_completion"):
        pytest.skip("needs bash-completion and zsh")
    started = SHELLS[request.param](place)
    yield started
    started.close()


def after_tab_in_fish(place: Path, typed: str) -> list[str]:
    """Return what Tab offers. fish 4 also suggests words that contain the letters, but Tab first takes beginnings."""
    offered = fish_offers(place, typed)
    begun = [word for word in offered if word.startswith(typed.rsplit(maxsplit=1)[-1])]
    return begun or offered


def fish_offers(place: Path, typed: str, *, program: str = PROGRAM) -> list[str]:
    """Ask fish for its suggestions at the end of a line."""
    fish = shutil.which("fish") or pytest.skip("needs fish")
    command = [fish, "-c", f"complete -C {shlex.quote(program + ' ' + typed)}"]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment(place), cwd=place)
    return [line.partition("\t")[0] for line in done.stdout.splitlines()]


@pytest.mark.parametrize("typed", ENDS)
def test_tab__completes_the_word(shell: Shell, user: str, typed: str) -> None:
    expected = ENDS[typed].replace("USER", user)
    # zsh removes the slash after a directory when nothing follows.
    assert [word.rstrip("/") for word in shell.arguments_after(typed.replace("USE", user[:-1]))] == expected.split()


@pytest.mark.parametrize("name", OPTIONS)
def test_tab__knows_every_option(shell: Shell, name: str) -> None:
    # zsh keeps the sign before a value when no value follows.
    assert shell.arguments_after(name[:-1])[0].rstrip("=") == name


@pytest.mark.parametrize("typed", ENDS)
def test_fish__completes_the_word(place: Path, user: str, typed: str) -> None:
    end = ENDS[typed].replace("USER", user)
    offered = after_tab_in_fish(place, typed.replace("USE", user[:-1]))
    assert [each.rstrip("/") for each in offered] == ([] if end == typed else [end.split()[-1]])


def test_fish__knows_every_option_and_no_other(place: Path) -> None:
    assert sorted(fish_offers(place, "--")) == sorted(OPTIONS)


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("--type ", ["hotp", "totp"]),
        ("--algorithm ", ["SHA1", "SHA256", "SHA512"]),
        ("--digits ", ["6", "7", "8"]),
        ("--qr ", ["ansi", "none", "utf8"]),
    ],
)
def test_fish__offers_every_value(place: Path, typed: str, offered: list[str]) -> None:
    assert sorted(fish_offers(place, typed)) == offered


@pytest.mark.parametrize("program", SUBCOMMANDS)
def test_tab__knows_every_subcommand(shell: Shell, program: str) -> None:
    names = list(SUBCOMMANDS[program])
    for name in names:
        shortest = next(
            name[:end] for end in range(1, len(name) + 1) if sum(n.startswith(name[:end]) for n in names) == 1
        )
        assert shell.arguments_after(shortest, program=program) == [name]


@pytest.mark.parametrize("program", SUBCOMMANDS)
def test_tab__knows_every_option_of_a_subcommand(shell: Shell, program: str) -> None:
    for name, options in SUBCOMMANDS[program].items():
        for option in options:
            # Where two options differ in the last letters only, the shell waits for these.
            is_clear = [each for each in options if each.startswith(option[:-1])] == [option]
            ended = shell.arguments_after(f"{name} {option[:-1] if is_clear else option}", program=program)
            assert [word.rstrip("=") for word in ended] == [name, option]


@pytest.mark.parametrize("program", SUBCOMMANDS)
def test_fish__knows_every_subcommand_and_option(place: Path, program: str) -> None:
    assert sorted(fish_offers(place, "", program=program)) == sorted(SUBCOMMANDS[program])
    for name, options in SUBCOMMANDS[program].items():
        assert sorted(fish_offers(place, f"{name} --", program=program)) == sorted(options)
