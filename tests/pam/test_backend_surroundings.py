"""Check the surroundings of the backend while it waits for an answer: it inherits nothing from its host."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path

import pytest

from tests.support.account import Person, Phone
from tests.support.client import PAM_SUCCESS, Service
from tests.support.fault import HOST_IDS, HOSTS
from tests.support.installation import Installation
from tests.support.pam_waiting import Waiting
from tests.support.process import processes, wait_until

IGNORED_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}
LIMITS = [
    *("Max cpu time", "Max file size", "Max data size"),
    *("Max stack size", "Max address space", "Max realtime timeout"),
]
STACK_BYTES = "8388608"
CHANGES = """
cd "$0"
umask 0777
prlimit --pid=$$ --cpu=1000: --fsize=0: --data=1073741824: --as=1073741824: --rttime=1000000: --stack=131072:
ulimit -S -c hard
exec 7</dev/null 200</dev/null
exec env --ignore-signal --block-signal PYTHONPATH="$0" LD_DEBUG_OUTPUT="$0" TZ="$0" "$@"
"""


def _table(file: Path) -> dict[str, str]:
    return dict(line.split(":\t", 1) for line in file.read_text().splitlines())


def _signals(mask: str) -> set[int]:
    return {number for number in range(1, 65) if int(mask, 16) >> (number - 1) & 1}


def _environment(process: Path) -> set[bytes]:
    return {entry.split(b"=")[0] for entry in (process / "environ").read_bytes().split(b"\0")[:-1]}


def _soft_limits(process: Path) -> dict[str, str]:
    """Read the soft limits that keep a program from computing or writing."""
    rows = (re.split(r"  +", line) for line in (process / "limits").read_text().splitlines())
    return {row[0]: row[1] for row in rows if row[0] in LIMITS}


def _is_for_writing(fdinfo: Path) -> bool:
    return int(_table(fdinfo)["flags"], 8) & os.O_ACCMODE == os.O_WRONLY


def _descriptors(process: Path) -> dict[str, str]:
    return {entry.name: str(entry.readlink()) for entry in (process / "fd").iterdir()}


@pytest.mark.parametrize("options", HOSTS, ids=HOST_IDS)
def test_backend__has_nothing_of_its_hosts(
    installed: Installation, service: Service, alice: Person, phone: Phone, outside: Path, options: tuple[str, ...]
) -> None:
    """The host ignores and blocks all signals, and has its own directory, descriptors and environment."""
    around = ["bash", "-euc", CHANGES, str(outside)]
    with Waiting(service, alice, options=options, around=around) as waiting:
        waiting.wait_for_prompt()
        host = Path(f"/proc/{waiting.pid}")
        (found,) = [process for process in processes() if str(installed.backend) in process.command]
        backend = Path(f"/proc/{found.pid}")

        # The control: the host has everything that the backend must not have.
        status = _table(host / "status")
        assert {signal.SIGALRM, signal.SIGCHLD} <= _signals(status["SigIgn"]) & _signals(status["SigBlk"])
        assert (status["Umask"], (host / "cwd").readlink()) == ("0777", outside)
        assert {"7", "200"} <= set(_descriptors(host))
        assert b"PYTHONPATH" in _environment(host)
        assert "unlimited" not in _soft_limits(host).values()

        status = _table(backend / "status")
        assert _signals(status["SigIgn"]) == IGNORED_BY_PYTHON
        assert _signals(status["SigBlk"]) == set()
        assert (status["Umask"], (backend / "cwd").readlink()) == ("0077", Path("/"))
        assert os.getsid(found.pid) == os.getpgid(found.pid) == found.pid
        assert _environment(backend) == {b"LC_ALL", b"PATH"}
        assert _soft_limits(backend) == {**dict.fromkeys(LIMITS, "unlimited"), "Max stack size": STACK_BYTES}
        descriptors = _descriptors(backend)
        assert descriptors.pop("0").startswith("socket:")
        (nowhere,) = {descriptors.pop(name) for name in ("1", "2")}
        assert nowhere.startswith("pipe:")
        assert _is_for_writing(backend / "fdinfo" / "1"), "with a reader it would fill up"
        assert {Path(place) for place in descriptors.values()} == {alice.store, *alice.store.iterdir()}
        if options:
            keeper = Path(f"/proc/{found.parent}")
            assert f"PPid:\t{waiting.pid}\n" in (keeper / "status").read_text()
            wait_until(lambda: not _descriptors(keeper), "the process between them to have no descriptor")
        assert waiting.answer(phone.totp()).result == PAM_SUCCESS
