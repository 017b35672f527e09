"""What sudo and su add: the caller of a set-uid program chooses its environment and working directory.

The traps are those of CVE-2019-16729 (pam-python) and of fingwit issue 54: modules and programs of the caller's that a
root process would run.
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
    """Modules and programs that tell when they are run, and an environment that leads to them.

    Args:
        home: of the caller.
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
        """What was run."""
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


@pytest.mark.parametrize("isolated", [False, True], ids=["not isolated", "isolated"])
def test_traps__catch_an_interpreter_that_is_not_isolated(alice: Person, isolated: bool) -> None:
    traps = Traps(alice.home)
    words = ["/usr/bin/python3", *(["-I", "-S"] if isolated else []), "-c", "import hmac, json"]
    subprocess.run(words, cwd=traps.home, env={"PYTHONPATH": str(traps.home)}, check=False, capture_output=True)
    assert bool(traps.tale) is not isolated


@pytest.mark.parametrize("host", ["sudo with password", "sudo with code only"], indirect=True)
def test_sudo__typing_mistake_is_put_right_at_the_next_prompt(
    host: Host, installed: Installation, alice: Person, system_log: SystemLog
) -> None:
    host.use_stack(installed.line())
    host.mounts.set_sudo_tries(2)
    phone = alice.enrol(installed, SLOW)
    visit = host.log_in(alice, wrong_code(phone), phone.totp())
    assert visit.entered_as == "root", visit
    assert visit.prompts == [*host.first_prompts, "code"] * 2
    assert system_log.reasons() == ["mismatch", "accepted"]
