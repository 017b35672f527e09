"""Run the demonstration that README promises: it works as it is, and leaves nothing behind."""

from __future__ import annotations

import pwd
import subprocess
from pathlib import Path
from xml.etree import ElementTree

TREE = Path(__file__).resolve().parents[2]


# Other tests record their own users at the same time; the demonstration gets a directory to itself.
APART = "mkdir -p /var/lib/softtoken && mount -t tmpfs none /var/lib/softtoken && chmod 755 /var/lib/softtoken || exit"
THEN_LIST = "find /var/lib/softtoken -type f >"


def test_demo__shows_that_a_code_works_once_and_removes_its_user(tmp_path: Path) -> None:
    picture, recorded = tmp_path / "session.svg", tmp_path / "recorded"
    script = f'{APART}; "$1" --picture "$2"; code=$?; {THEN_LIST}"$3"; exit $code'
    command = ["unshare", "--mount", "sh", "-c", script, "sh", str(TREE / "scripts/demo"), str(picture), str(recorded)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    endings = [line for line in done.stdout.splitlines() if line.startswith("  ok: ")]
    assert [endings.count(f"  ok: {how}") for how in ("let in", "refused", "it ran")] == [3, 5, 2]
    shown = [element.text or "" for element in ElementTree.parse(picture).iter() if element.tag.endswith("text")]
    assert [line.startswith("laptop$") for line in shown].count(True) == 2
    assert shown[3] == "alice"
    assert "Permission denied" in shown[-2]
    assert [path for path in recorded.read_text().splitlines() if not path.endswith(".lock")] == []
    assert not [entry.pw_name for entry in pwd.getpwall() if entry.pw_dir.startswith("/tmp/softtoken-demo-")]
