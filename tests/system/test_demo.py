"""Run the demonstrations that README promises: they work as they are, fail when a copy is broken, and leave nothing."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from xml.etree import ElementTree

from tests.support.fleet_network import needs_networks
from tests.support.process import wait_until

TREE = Path(__file__).resolve().parents[2]
STORE = "pam_softtoken/fleet/store.py"
RIGHT, WRONG = "self._engine.swap(expected, {self._keys[1]: value}, ", "self._engine.swap(expected, {}, "
"""A host that asks the cluster, but records what was used only on itself."""


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


class Realm:
    """The demonstration of a realm. What it starts has a mark in its environment.

    Args:
        tree: the source tree that demonstrates itself.
    """

    def __init__(self, tree: Path) -> None:
        self._mark = f"DEMO_MARK={secrets.token_hex(8)}"
        name, _, value = self._mark.partition("=")
        self.process = subprocess.Popen(
            [tree / "scripts/demo", "--fleet"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, name: value},
            start_new_session=True,
        )

    def shown_until(self, words: str) -> str:
        """Return what it shows up to a line with these words, or to its end."""
        assert self.process.stdout is not None
        shown = ""
        for line in self.process.stdout:
            shown += line
            if words in line:
                break
        return shown

    def end(self) -> tuple[int, str]:
        """Return its exit status, and the rest of what it shows."""
        shown, _ = self.process.communicate(timeout=600)
        return self.process.returncode, shown

    def leaves_nothing(self) -> None:
        """Check that all its processes and files are gone. Its machines vanish with their processes."""
        wait_until(lambda: not self._processes(), "the end of the demonstration's processes")
        assert not [each for each in Path("/tmp").glob("softtoken-demo-*") if self._is_a_realms(each)]
        assert not [entry.pw_name for entry in pwd.getpwall() if entry.pw_name.startswith("demo")]

    @staticmethod
    def _is_a_realms(directory: Path) -> bool:
        return (directory / "a.example").exists()

    def _processes(self) -> list[int]:
        found = []
        for each in Path("/proc").glob("[0-9]*/environ"):
            try:
                if self._mark.encode() in each.read_bytes().split(b"\0"):
                    found.append(int(each.parent.name))
            except OSError:
                continue
        return found


@needs_networks()
def test_demo_of_a_realm__shows_that_a_code_works_once_on_all_hosts() -> None:
    demo = Realm(TREE)
    status, shown = demo.end()
    assert status == 0, shown
    assert [shown.count(f"  ok: {how}") for how in ("let in", "refused")] == [4, 6]
    assert [shown.count(f" reason={why}") for why in ("replayed", "not_enrolled")] == [4, 2]
    demo.leaves_nothing()


@needs_networks()
def test_demo_of_a_realm__fails_when_hosts_record_uses_on_themselves_alone(tmp_path: Path) -> None:
    copy = tmp_path / "tree"
    for part in ("pam_softtoken", "scripts"):
        shutil.copytree(TREE / part, copy / part, ignore=shutil.ignore_patterns("__pycache__"))
    text = (copy / STORE).read_text()
    assert text.count(RIGHT) == 1
    (copy / STORE).write_text(text.replace(RIGHT, WRONG))
    demo = Realm(copy)
    status, shown = demo.end()
    assert status == 1, shown
    assert shown.count("  ok: ") == 1
    assert "The same code on the second host: expected refused, reason replayed; found let in, reason accepted" in shown
    demo.leaves_nothing()


@needs_networks()
def test_demo_of_a_realm__leaves_nothing_when_it_is_interrupted() -> None:
    demo = Realm(TREE)
    shown = demo.shown_until("* Two hosts join it")
    os.killpg(demo.process.pid, signal.SIGINT)  # as a terminal does for Ctrl-C
    status, more = demo.end()
    assert status == 130, shown + more
    assert "is ready" in shown
    demo.leaves_nothing()
