"""`scripts/bench --signatures` measures real commands at sudo, and leaves the machine as it was."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.support.installation import TREE
from tests.support.private_mounts import PrivateMounts

TOUCHED = ("sudo.conf", "sudoers", "pam.d/sudo", "passwd", "shadow", "group")
"""Files of /etc that the bench replaces in its own copy."""
FIGURE = re.compile(
    r"^(?P<what>\S.*?|  from .*?)  +(?P<median>\d+\.\d\d)  +\d+\.\d\d(?:  +[+-]\d+\.\d\d)?$", re.MULTILINE
)


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [TREE / "scripts" / "bench", *words], check=False, capture_output=True, text=True, timeout=600
    )


def contents() -> dict[str, bytes]:
    paths = [Path("/etc") / name for name in TOUCHED]
    return {str(path): path.read_bytes() for path in paths if path.exists()}


def test_bench__measures_signed_commands(world: Path) -> None:
    if not PrivateMounts.possible():
        pytest.skip("needs CAP_SYS_ADMIN: the bench has a sudo.conf of its own in a private mount namespace")
    before = contents()
    place = world / "bench"
    place.mkdir()
    done = bench("--signatures", "--quick", "--directory", str(place))
    assert done.returncode == 0, done.stderr
    bare, unmarked, prompt, output = (float(found["median"]) for found in FIGURE.finditer(done.stdout))
    assert min(bare, unmarked, prompt, output) > 0
    more = re.findall(r"([+-]\d+\.\d\d)$", done.stdout, re.MULTILINE)
    assert [float(each) for each in more] == pytest.approx([unmarked - bare, prompt - bare], abs=0.011)
    assert len(re.findall(r" (?:not )?met$", done.stdout, re.MULTILINE)) == 3
    assert "Each median is of 25 runs" in done.stdout
    assert re.search(r"The load\s+was \d", done.stdout)
    assert (contents(), list(place.iterdir())) == (before, [])


@pytest.mark.parametrize("words", [("--signatures", "--refusals"), ("--signatures", "--against", "/")])
def test_bench__refuses_what_it_cannot_do_together(words: tuple[str, ...]) -> None:
    assert bench(*words).returncode == 2
