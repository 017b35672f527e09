"""systemd's own journal daemon, in a mount namespace where it is the system log. Nobody else writes to it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.support.client import Service
from tests.support.installation import TREE
from tests.support.private_mounts import PrivateMounts
from tests.support.process import wait_until

DAEMON = Path("/lib/systemd/systemd-journald")
_UNSHARE = ("unshare", "--mount", "--propagation", "private")
_MACHINE_ID = """
echo 0123456789abcdef0123456789abcdef >"$1/machine-id"
[ -e /etc/machine-id ] || : >/etc/machine-id
mount --bind "$1/machine-id" /etc/machine-id
"""
_MOUNT = f"""
for place in /run /var/log; do
	mount -t tmpfs -o mode=755 tmpfs $place
done
mkdir -p /run/systemd/journal /run/log/journal
mkdir "$1/dev"
mount -t tmpfs -o mode=755 tmpfs "$1/dev"
. "$2"
make_dev "$1/dev"
ln -s "$3" "$1/dev/log"
mount --rbind "$1/dev" /dev
{_MACHINE_ID}
cd /
echo mounted
exec cat
"""
_REPLACE_LOG = f"""
mkdir -p /run/systemd/journal /run/log/journal
umount /dev/log "$1/dev/log"
rm /dev/log
ln -s /run/systemd/journal/dev-log /dev/log
{_MACHINE_ID}
"""
_FLOOD = """
from socket import *
for name, line in ("socket", b"MESSAGE=flood\\n"), ("dev-log", b"<86>flood"):
	sender = socket(AF_UNIX, SOCK_DGRAM)
	sender.setblocking(False)
	sender.connect(f"/run/systemd/journal/{name}")
	try:
		while True: sender.send(line)
	except BlockingIOError: pass
"""
_MAKE_DEV = TREE / "scripts" / "lib" / "dev.sh"


class Journal:
    """A journal daemon, from `start` to the end of the `with` block.

    Args:
        inside: the start of a command line that runs a command in the journal's namespace.
    """

    def __init__(self, inside: list[str]) -> None:
        self.inside = inside
        self.daemon = subprocess.Popen(
            [*inside, str(DAEMON)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(lambda: self.run("test", "-S", "/run/systemd/journal/socket").returncode == 0, "the journal")

    def run(self, *command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        words = [*self.inside, *map(str, command)]
        return subprocess.run(words, check=False, capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload, no-any-return]

    def log_in(self, service: Service, user: str, *answers: str, options: Iterable[str] = ()) -> int:
        """Run one attempt inside, and return its result."""
        script = "".join(f"={answer}\n" for answer in answers)
        done = self.run(*service.command(user, *options), input=script)
        assert done.returncode == 0, done.stderr
        return int(json.loads(done.stdout.splitlines()[-1])["result"])

    def fill_queues(self) -> None:
        """Send to all sockets of a stopped daemon until they accept no more."""
        done = self.run("/usr/bin/python3", "-c", _FLOOD)
        assert done.returncode == 0, done.stderr

    def entries(self, *matches: str) -> list[dict[str, object]]:
        """Return the entries that have been written so far."""
        self.run("journalctl", "--sync")
        done = self.run("journalctl", "--output=json", "--no-pager", *matches)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.daemon.send_signal(signal.SIGCONT)
        self.daemon.terminate()
        self.daemon.wait(60)


class OwnJournal(Journal):
    """A journal with its own mount namespace.

    Args:
        directory: for its files; must not exist.
        system_log: the target of /dev/log.
    """

    def __init__(self, directory: Path, *, system_log: str = "/run/systemd/journal/dev-log") -> None:
        directory.mkdir(mode=0o755)
        directory.chmod(0o755)
        self._holder = subprocess.Popen(
            [*_UNSHARE, "sh", "-euc", _MOUNT, "sh", str(directory), str(_MAKE_DEV), system_log],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"mounted\n":
            raise AssertionError("the private mounts could not be made")
        super().__init__(["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "--"])

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._holder.communicate(timeout=60)


class HostJournal(Journal):
    """The journal as the system log of hosts that have a mount namespace.

    Args:
        mounts: the namespace of those hosts.
    """

    def __init__(self, mounts: PrivateMounts) -> None:
        command = mounts.command("sh", "-euc", _REPLACE_LOG, "sh", str(mounts.directory))
        subprocess.run(command, check=True, timeout=60)
        super().__init__(mounts.command())
