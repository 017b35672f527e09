"""Check the order of the bridge's calls for its children. The caller of a set-uid host can act in between."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.support.account import Person
from tests.support.client import Service
from tests.support.installation import Installation


def test_spawn__middle_child_is_roots_before_the_backend_exists(
    installed: Installation, service: Service, alice: Person, tmp_path: Path
) -> None:
    """A user who may signal the middle child could end it while the backend still runs in the host's memory."""
    trace = tmp_path / "trace"
    command = ["strace", "-f", "-o", str(trace), "-e", "trace=clone,setgroups,setresgid,setresuid,execve"]
    subprocess.run([*command, *service.command(alice)], input=b"=000000\n", capture_output=True, check=True, timeout=60)
    calls = [(int(pid), call) for pid, call in re.findall(r"^(\d+) +(\w+)\(", trace.read_text(), re.MULTILINE)]
    host = calls[0][0]
    middle = next(pid for pid, _ in calls if pid != host)
    of_middle = [call for pid, call in calls if pid == middle]
    assert of_middle == ["setgroups", "setresgid", "setresuid", "clone"]
    backend = [call for pid, call in calls if pid not in (host, middle)]
    assert backend[0] == "execve"
