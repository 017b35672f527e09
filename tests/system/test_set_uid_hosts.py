"""Check what sudo and su add: the caller of a set-uid program chooses environment, directory, limits, signals, files.

The traps are those of CVE-2019-16729 (pam-python) and of fingwit issue 54: the caller's modules and programs that a
root
process would run.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.account import Person
from tests.support.hosts import Host, Su
from tests.support.installation import Installation
from tests.support.system_log import SystemLog
from tests.system.scenario import SLOW, wrong_code

MODULES = ("hmac", "hashlib", "json", "os", "pwd", "time", "syslog", "_signal", "sitecustomize", "usercustomize")
PACKAGES = ("encodings", "pam_softtoken")
PROGRAMS = ("python3", "sh", "env")
SET_UID_HOSTS = ["sudo with password", "sudo with code only", "su with password", "su with code only"]


class Traps:
    """Modules and programs that report when they run, and an environment that leads to them.

    Args:
        home: the caller's home.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._tale = home / "tale"
        self._tale.touch()
        self._tale.chmod(0o666)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        user_site = home / ".local" / "lib" / version / "site-packages"
        user_site.mkdir(parents=True)
        for directory in (home, user_site):
            self._plant(directory)
        (user_site / "trap.pth").write_text(self._telling("a .pth file"))
        for name in PROGRAMS:
            (home / name).write_text(f"#!/bin/sh\necho {name} >>{self._tale}\nexit 1\n")
            (home / name).chmod(0o755)
        place = str(home)
        self.environment = {
            **dict.fromkeys(("HOME", "PYTHONPATH", "PYTHONHOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "TMPDIR"), place),
            **dict.fromkeys(("GCONV_PATH", "LOCPATH", "LD_LIBRARY_PATH"), place),
            "PATH": f"{place}:/usr/bin:/bin",
            "PYTHONSTARTUP": f"{place}/hmac.py",
            "PYTHONINSPECT": "1",
            "PYTHONUSERBASE": f"{place}/.local",
            "PYTHONIOENCODING": "utf-16",
            "PYTHONWARNINGS": "error",
            "LC_ALL": "xx_XX",
            "TZ": f":{place}/tale",
        }

    @property
    def tale(self) -> list[str]:
        """The traps that have run."""
        return self._tale.read_text().split("\n")[:-1]

    def _plant(self, directory: Path) -> None:
        for name in MODULES:
            (directory / f"{name}.py").write_text(self._telling(name))
        for name in PACKAGES:
            (directory / name).mkdir()
            (directory / name / "__init__.py").write_text(self._telling(name))

    def _telling(self, what: str) -> str:
        # `posix` is there even before `encodings` is.
        path, line = str(self._tale), what.encode() + b"\n"
        return f"import posix; posix.write(posix.open({path!r}, posix.O_WRONLY | posix.O_APPEND), {line!r})\n"


@pytest.mark.parametrize("host", SET_UID_HOSTS, indirect=True)
@pytest.mark.claim("The caller's environment and directory have no effect, through real sudo and su.")
def test_set_uid_host__runs_nothing_of_its_callers(
    host: Host, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    host.use_stack(installed.line())
    phone = alice.enrol(installed, SLOW)
    traps = Traps(host.caller.home if isinstance(host, Su) else alice.home)
    host.environment = traps.environment
    code = phone.totp()
    assert host.log_in(alice, code).entered_as == host.becomes(alice)
    assert not host.log_in(alice, code).entered_as
    assert not host.log_in(alice, wrong_code(phone)).entered_as
    assert traps.tale == []
    assert system_log.reasons() == ["accepted", "replayed", "mismatch"]


def after(change: str) -> list[str]:
    """Return a command that runs a program after a change that a shell can make."""
    return ["/bin/bash", "-c", f'{change}; exec "$@"', "bash"]


WITH_197_DESCRIPTORS = ["/usr/bin/python3", "-I", "-c", """
import os, sys
while os.open("/dev/null", os.O_RDONLY) < 199:
    pass
for descriptor in range(3, 200):
    os.set_inheritable(descriptor, True)
os.execv(sys.argv[1], sys.argv[1:])
"""]  # fmt: skip
SOFT_LIMITS = ["--fsize=0:", "--data=8388608:", "--as=67108864:", "--stack=131072:", "--cpu=5:"]
HARD_LIMITS = ["--nofile=24:24", "--locks=0:0", "--sigpending=0:0", "--msgqueue=0:0", "--memlock=0:0"]

SURROUNDINGS = {
    "ignored signals, umask 0777, no directory, many descriptors": [
        *after("mkdir gone && cd gone && rmdir ../gone && umask 0777"),
        *WITH_197_DESCRIPTORS,
        "/usr/bin/env",
        "--ignore-signal",
    ],
    "blocked signals, low priority, low limits": [
        *("nice", "-n", "19", "env", "--block-signal", "prlimit", *SOFT_LIMITS, *HARD_LIMITS, "--")
    ],
    "no file may be written": ["prlimit", "--fsize=0:0", "--"],
    "no stdin": after("exec 0<&-"),
    "no stderr": after("exec 2>&-"),
}
SUDO, SU = "sudo with code only", "su with code only"
ONCE = ["accepted", "replayed", "mismatch"]
NOT_STORED = 3 * ["not_stored"]
UNASKED = 3 * ["conversation"]


@pytest.mark.parametrize(
    ("host", "around", "expected"),
    [
        (SUDO, "ignored signals, umask 0777, no directory, many descriptors", [ONCE]),
        (SU, "ignored signals, umask 0777, no directory, many descriptors", [ONCE]),
        (SUDO, "blocked signals, low priority, low limits", [ONCE]),
        (SU, "blocked signals, low priority, low limits", [ONCE]),
        # With CAP_SYS_RESOURCE root corrects this.
        (SUDO, "no file may be written", [ONCE, NOT_STORED]),
        (SU, "no file may be written", [ONCE, NOT_STORED]),
        (SUDO, "no stdin", [ONCE]),
        (SUDO, "no stderr", [ONCE]),
        # From this descriptor su would read the answer.
        (SU, "no stdin", [UNASKED]),
    ],
    indirect=["host"],
)
def test_set_uid_host__decides_alike_in_any_surroundings_of_its_caller(
    host: Host, installed: Installation, alice: Person, system_log: SystemLog, around: str, expected: list[list[str]]
) -> None:
    host.use_stack(installed.line())
    phone = alice.enrol(installed, SLOW, "--recovery-codes=0")
    host.around = SURROUNDINGS[around]
    code = phone.totp()
    visits = [host.log_in(alice, answer) for answer in (code, code, wrong_code(phone))]
    assert system_log.reasons() in expected, visits
    entered = [host.becomes(alice) if reason == "accepted" else "" for reason in system_log.reasons()]
    assert [visit.entered_as for visit in visits] == entered
    host.around = []
    assert host.log_in(alice, phone.totp(1)).entered_as == host.becomes(alice)


@pytest.mark.parametrize("isolated", [False, True], ids=["not isolated", "isolated"])
def test_traps__catch_an_interpreter_that_is_not_isolated(alice: Person, isolated: bool) -> None:
    traps = Traps(alice.home)
    words = ["/usr/bin/python3", *(["-I", "-S"] if isolated else []), "-c", "import hmac, json"]
    subprocess.run(words, cwd=traps.home, env={"PYTHONPATH": str(traps.home)}, check=False, capture_output=True)
    assert bool(traps.tale) is not isolated


@pytest.mark.parametrize("host", ["sudo with password", "sudo with code only"], indirect=True)
def test_sudo__mistyped_code_is_corrected_at_the_next_prompt(
    host: Host, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    host.use_stack(installed.line())
    host.mounts.set_sudo_tries(2)
    phone = alice.enrol(installed, SLOW)
    visit = host.log_in(alice, wrong_code(phone), phone.totp())
    assert visit.entered_as == "root", visit
    assert visit.prompts == [*host.first_prompts, "code"] * 2
    assert system_log.reasons() == ["mismatch", "accepted"]


@pytest.mark.parametrize("host", ["sudo with password", "su with code only"], indirect=True)
def test_set_uid_host__grants_a_time_of_grace_to_one_session(
    host: Host, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    host.use_stack(installed.line("grace=1h"))
    phone = alice.enrol(installed, SLOW)
    program = "/usr/bin/sudo -- true" if host.service == "sudo" else f"/bin/su {alice.name} -c true"
    host.around = ["sh", "-c", f'{program}; exec "$@"', "sh"]
    twice = host.log_in(alice, phone.totp())
    assert twice.entered_as == host.becomes(alice), twice
    assert twice.prompts == [*host.first_prompts, "code", *host.first_prompts]
    assert system_log.ours() == [
        host.log_line(alice, "accepted", "accepted", token="phone"),
        host.log_line(alice, "accepted", "grace"),
    ]
    host.around = []
    assert host.log_in(alice).prompts == [*host.first_prompts, "code"]
