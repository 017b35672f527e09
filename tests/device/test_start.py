"""Start where softtoken cannot run: the answer is one error and one hint, and no traceback."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.support.device import Device, Mistake
from tests.support.installation import TREE

UNIX = ("fcntl", "grp", "posix", "pty", "pwd", "resource", "syslog", "termios", "tty")
"""Modules that Python has on Unix only."""
START = "from pam_softtoken.device.start import main"


def start(device: Device, *words: str, without: tuple[str, ...], platform: str) -> subprocess.CompletedProcess[str]:
    """Start the program on a system whose Python lacks modules."""
    script = (
        f"import sys\nsys.modules.update(dict.fromkeys({without!r}))\nsys.platform = {platform!r}\n"
        f"sys.path.insert(0, {str(TREE)!r})\n{START}\nsys.exit(main())\n"
    )
    command = [sys.executable, "-I", "-c", script, *words]
    return subprocess.run(command, env=device.environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", [(), ("--help",), ("--version",), ("code", "work")], ids=" ".join)
def test_windows__is_refused_with_plain_words(device: Device, words: tuple[str, ...]) -> None:
    done = start(device, *words, without=UNIX, platform="win32")
    assert (done.returncode, done.stdout) == (1, "")
    mistake = Mistake(done.stderr)
    assert mistake.error == "Windows is not supported"
    assert "Linux" in mistake.hint
    assert not mistake.before
    assert not device.directory.exists()


@pytest.mark.parametrize("name", ["fcntl", "pwd", "resource", "termios"])
def test_system__without_a_part_of_unix_is_refused_by_its_name(device: Device, name: str) -> None:
    done = start(device, "--version", without=(name,), platform="emscripten")
    assert (done.returncode, done.stdout) == (1, "")
    assert Mistake(done.stderr).error == f"this Python has no module {name}, so softtoken cannot run here"


def test_start__needs_no_other_part_of_unix_before_the_program_runs(device: Device) -> None:
    """What the program imports at its start is in the list that is checked first."""
    checked = ("fcntl", "pwd", "resource", "termios")
    others = tuple(name for name in UNIX if name not in (*checked, "posix"))
    done = start(device, "--version", without=others, platform="linux")
    assert (done.returncode, done.stderr) == (0, "")


def test_start__is_what_every_way_of_starting_uses() -> None:
    assert START in (TREE / "scripts/softtoken").read_text()
    assert '\nsofttoken = "pam_softtoken.device.start:main"\n' in (TREE / "pyproject.toml").read_text()
