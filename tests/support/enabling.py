"""`softtoken-admin enable` and the rest on a private host, with an sshd that uses Debian's configuration."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess

import pexpect

from tests.support.hosts import SSH
from tests.support.installation import Installation
from tests.support.private_mounts import PrivateMounts
from tests.support.process import processes, wait_until

LONG, SHORT = "--for=5m", "--for=2s"
WHOEVER = "--force"
"""Most users of these hosts are not enrolled. Other tests check which users are locked out."""
PATIENCE_S = 120
CHANGES = "/var/lib/softtoken/changes"
ASKED = "asks for a code now"


class DebianSSH(SSH):
    """An sshd that uses /etc/ssh, with Debian's configuration, on a port of its own."""

    def _start_on(self, port: int) -> subprocess.Popen[bytes] | None:
        (self.mounts.directory / "ssh" / "sshd_config").write_text(
            "Include /etc/ssh/sshd_config.d/*.conf\nKbdInteractiveAuthentication no\nUsePAM yes\n"
            f"ListenAddress 127.0.0.1:{port}\nHostKey {self.host_key}\nPidFile /run/sshd.pid\nLogLevel VERBOSE\n"
        )
        words = ["setpriv", "--pdeathsig", "TERM", "/usr/sbin/sshd", "-D", "-e"]
        with self._log.open("wb") as log:
            server = subprocess.Popen(self.mounts.command(*words), stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(lambda: "Server listening" in self._log.read_text() or server.poll() is not None, "sshd to listen")
        return server if server.poll() is None else None

    @property
    def times_told(self) -> int:
        """How often it has started to listen again. Between the old and the new configuration nobody can connect."""
        return self._log.read_text().count("Server listening") - 1


class Admin:
    """Root at a terminal of a host.

    Args:
        mounts: the host's private directories.
        installed: the installation of the program.
    """

    def __init__(self, mounts: PrivateMounts, installed: Installation) -> None:
        self.mounts = mounts
        self.installed = installed
        self._program = str(installed.root / "scripts" / "softtoken-admin")

    def run(self, *words: str, around: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
        """Run a command without a terminal."""
        return subprocess.run(
            self.mounts.command(*around, self._program, *words),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=PATIENCE_S,
        )  # fmt: skip

    def start(self, *words: str) -> pexpect.spawn[str]:
        """Run a command at a terminal."""
        command = self.mounts.command(self._program, *words)
        terminal = pexpect.spawn(command[0], command[1:], encoding="utf-8", timeout=PATIENCE_S, dimensions=(24, 250))
        terminal.delaybeforesend = None
        terminal.logfile_read = io.StringIO()
        return terminal

    def pam(self) -> dict[str, bytes]:
        """Return all files in /etc/pam.d and in sshd's directory of settings."""
        directories = (self.mounts.directory / "pam.d", self.mounts.directory / "ssh" / "sshd_config.d")
        return {str(path): path.read_bytes() for each in directories for path in each.iterdir()}

    def inside(self, *words: str) -> str:
        """Run any command inside."""
        return subprocess.run(self.mounts.command(*words), check=True, capture_output=True, text=True).stdout

    def watchdogs(self) -> list[int]:
        """Return the processes that would undo the change: those of our program without a parent."""
        return [each.pid for each in processes() if each.parent == 1 and self._program in each.command]

    def kill_watchdogs(self) -> None:
        for pid in self.watchdogs():
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not self.watchdogs(), "the end of the watchdogs")

    def let_time_pass(self, service: str) -> None:
        """End the time to confirm a change, by a deadline in the past."""
        path = self.mounts.path(f"{CHANGES}/{service}/pending")
        record = {**json.loads(path.read_text()), "deadline_s": 0}
        path.with_name("later").write_text(json.dumps(record))
        path.with_name("later").chmod(0o600)
        path.with_name("later").rename(path)

    def leave_unwatched(self) -> None:
        """Enable sudo, and kill the program and every process that would undo the change."""
        screen = self.start("enable", "sudo", "--yes", LONG)
        screen.expect(ASKED)
        self.kill_watchdogs()
        assert screen.pid is not None
        os.kill(screen.pid, signal.SIGKILL)
