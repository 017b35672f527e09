"""A mount namespace with its own PAM services, sshd files, sudoers, /run and system log. The machine's are safe."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

from tests.support.installation import TREE
from tests.support.process import wait_until
from tests.support.system_log import SystemLog

# What a host writes besides (time stamps, utmp, wtmp, lectures) goes to places that vanish with the namespace.
_MOUNT = """
mount --bind "$1/pam.d" /etc/pam.d
mount --bind "$1/sudoers" /etc/sudoers
mount --bind "$1/login.defs" /etc/login.defs
cp -a /etc/ssh "$1/ssh"
mount --bind "$1/ssh" /etc/ssh
install -d -m 711 /var/lib/softtoken
mkdir -p /var/lib/softtoken/changes
mount -t tmpfs -o mode=700 tmpfs /var/lib/softtoken/changes
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -m 755 /run/sshd
: >/run/utmp
mount -t tmpfs -o mode=755 tmpfs /var/log
touch /var/log/wtmp /var/log/btmp /var/log/lastlog
mount -t tmpfs -o mode=700 tmpfs /var/lib/sudo
mkdir "$1/dev"
mount -t tmpfs -o mode=755 tmpfs "$1/dev"
. "$2"
make_dev "$1/dev"
touch "$1/dev/log"
mount --bind "$1/log" "$1/dev/log"
mount --rbind "$1/dev" /dev
[ $# -lt 3 ] || {
	shift 2
	ip link set lo up
	for address; do ip address add "$address/32" dev lo; done
}
echo mounted
exec cat
"""

_MAKE_DEV = TREE / "scripts" / "lib" / "dev.sh"
NOT_USUAL = shutil.ignore_patterns("i3lock")
"""The service of a program that is there for one test, and would be a screen locker on every host."""
_UNSHARE = ("unshare", "--mount", "--propagation", "private")

_SUDOERS = """
Defaults env_reset
Defaults secure_path="/usr/sbin:/usr/bin:/sbin:/bin"
Defaults use_pty
Defaults lecture=never
Defaults timestamp_timeout=0
Defaults passwd_tries={tries}
ALL ALL=(ALL:ALL) ALL
"""


class PrivateLog(SystemLog):
    """The messages that arrive at /dev/log inside. Other programs of this machine do not appear in it.

    Args:
        path: of the socket; must not exist.
    """

    def __init__(self, path: Path) -> None:
        self.lines = []
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        path.chmod(0o666)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._send("")
        self._thread.join(5)
        try:
            self._lines_seen()
        finally:
            self._socket.close()
            self._path.unlink()

    def _settle(self) -> None:
        mark = f"mark {time.monotonic_ns()}"
        self._send(mark)
        wait_until(lambda: mark in self.lines, "the log to answer")
        self.lines.remove(mark)

    def _send(self, text: str) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(text.encode(), str(self._path))


class PrivateMounts:
    """Holds the namespace until `close`, or until this process dies.

    Args:
        directory: for the files that replace the machine's; must not exist.
        addresses: of its own network. Without any, the network is the machine's.

    Attributes:
        directory: the same.
        log: the system log inside.
    """

    def __init__(self, directory: Path, addresses: tuple[str, ...] = ()) -> None:
        self.directory = directory
        self._kinds = ["mount", "net"] if addresses else ["mount"]
        directory.mkdir(mode=0o755)
        # Including the targets of links, so that nothing is written through them.
        services = directory / "pam.d"
        shutil.copytree("/etc/pam.d", services, ignore=NOT_USUAL, ignore_dangling_symlinks=True)
        self.set_sudo_tries(1)
        self.add_login_definition("")
        self.log = PrivateLog(directory / "log")
        network = ["--net"] if addresses else []
        words = ["sh", "-euc", _MOUNT, "sh", str(directory), str(_MAKE_DEV), *addresses]
        self._holder = subprocess.Popen(
            [*_UNSHARE, *network, *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"mounted\n":
            raise AssertionError("the private mounts could not be made")

    @staticmethod
    def possible() -> bool:
        """Return whether this process may make a mount namespace. In many containers it may not."""
        return subprocess.run([*_UNSHARE, "true"], check=False, capture_output=True).returncode == 0

    def set_service(self, name: str, stack: str) -> None:
        """Replace one PAM service, for processes inside."""
        self._write(f"pam.d/{name}", stack)

    def add_login_definition(self, line: str) -> None:
        """Add a line to the machine's login.defs."""
        self._write("login.defs", Path("/etc/login.defs").read_text() + f"\n{line}\n")

    def set_sudo_tries(self, tries: int) -> None:
        """Set how often sudo asks before it gives up."""
        self._write("sudoers", _SUDOERS.format(tries=tries), mode=0o440)

    def command(self, *words: str) -> list[str]:
        """Return the command line that runs a command inside."""
        place = {"mount": "mnt", "net": "net"}
        kinds = [f"--{kind}=/proc/{self._holder.pid}/ns/{place[kind]}" for kind in self._kinds]
        return ["nsenter", *kinds, "--", *words]

    def path(self, name: str) -> Path:
        """Return the outside path of a path inside."""
        return Path(f"/proc/{self._holder.pid}/root{name}")

    def close(self) -> None:
        """Release the namespace, and all its mounts with it."""
        try:
            self._holder.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self._holder.kill()
            raise
        finally:
            self.log.close()

    def _write(self, name: str, text: str, mode: int = 0o644) -> None:
        path = self.directory / name
        path.write_text(text)
        path.chmod(mode)
