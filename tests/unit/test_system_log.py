"""The way to the system log: what the log does is no reason for the host process to end."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
_HANGS_UP = """
import _socket, signal, sys
sys.path.insert(0, {tree!r})
from pam_softtoken import system_log
signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as in a program of C, under pam_python
system_log.PATH = {path!r}
daemon = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
daemon.bind(system_log.PATH)
daemon.listen(1)
class Caller(_socket.socket):
    def connect(self, path):
        super().connect(path)
        daemon.close()
system_log._socket.socket = Caller
log = system_log.SystemLog("sshd")
log.write(4, "text")
print(log.lost)
"""


def test_system_log__that_hangs_up_loses_a_line_and_ends_nobody(tmp_path: Path) -> None:
    script = _HANGS_UP.format(tree=str(TREE), path=str(tmp_path / "log"))
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
