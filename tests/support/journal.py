"""systemd's own journal daemon, in a mount namespace where it is the system log and nobody else writes to it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from tests.support.client import Service
from tests.support.installation import TREE
from tests.support.process import wait_until

DAEMON = Path("/lib/systemd/systemd-journald")
_UNSHARE = ("unshare", "--mount", "--propagation", "private")
_MOUNT = """
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
echo 0123456789abcdef0123456789abcdef >"$1/machine-id"
[ -e /etc/machine-id ] || : >/etc/machine-id
mount --bind "$1/machine-id" /etc/machine-id
cd /
echo mounted
exec cat
"""
_MAKE_DEV = TREE / "scripts" / "lib" / "dev.sh"


class Journal:
    """The journal, while the `with` block lasts.

    Args:
        directory: for what it needs; must not exist.
        system_log: where /dev/log leads to.
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
        self._daemon = subprocess.Popen(
            [*self.inside, str(DAEMON)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        wait_until(lambda: self.run("test", "-S", "/run/systemd/journal/socket").returncode == 0, "the journal")

    @property
    def inside(self) -> list[str]:
        """The start of a command line that runs a command where the journal is."""
        return ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "--"]

    def run(self, *command: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
        """Run a command inside."""
        words = [*self.inside, *map(str, command)]
        return subprocess.run(words, check=False, capture_output=True, text=True, timeout=120, **options)  # type: ignore[call-overload, no-any-return]

    def log_in(self, service: Service, user: str, *answers: str, options: Iterable[str] = ()) -> int:
        """Make one attempt inside, and give its result."""
        script = "".join(f"={answer}\n" for answer in answers)
        done = self.run(*service.command(user, *options), input=script)
        assert done.returncode == 0, done.stderr
        return int(json.loads(done.stdout.splitlines()[-1])["result"])

    def entries(self, *matches: str) -> list[dict[str, object]]:
        """Give what has been written by now."""
        self.run("journalctl", "--sync")
        done = self.run("journalctl", "--output=json", "--no-pager", *matches)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._daemon.terminate()
        self._daemon.wait(60)
        self._holder.communicate(timeout=60)
