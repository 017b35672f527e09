"""Run the demonstration that README promises: it works as it is, and leaves nothing behind."""

from __future__ import annotations

import pwd
import subprocess
from pathlib import Path
from xml.etree import ElementTree

TREE = Path(__file__).resolve().parents[2]


def test_demo__shows_that_a_code_works_once_and_leaves_no_user_behind(tmp_path: Path) -> None:
    picture = tmp_path / "session.svg"
    command = [str(TREE / "scripts/demo"), "--picture", str(picture)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    assert done.stdout.count("ok: let in") == done.stdout.count("ok: refused") - 1 == 3
    shown = [element.text or "" for element in ElementTree.parse(picture).iter() if element.tag.endswith("text")]
    assert [line.startswith("laptop$") for line in shown].count(True) == 2
    assert shown[3] == "alice"
    assert "Permission denied" in shown[-2]
    assert not [entry.pw_name for entry in pwd.getpwall() if entry.pw_dir.startswith("/tmp/softtoken-demo-")]
