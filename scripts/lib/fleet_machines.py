"""Machines that are namespaces of this one: each has its own network card, processes, /etc, /run, /home and log. All
vanish when this process ends, however it ends. A demonstration, a bench and tests run a realm on them.

A network that is split carries nothing between its two parts, and nobody is told, as when a cable is cut.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from pathlib import Path

_DEV = Path(__file__).with_name("dev.sh")
_PREFIX = "192.0.2."  # for documentation: no real network has it
WAIT_S = 60.0
_UNSHARE = ("setpriv", "--pdeathsig", "KILL", "unshare", "--net", "--fork", "--kill-child=KILL")
_ALL_ITS_OWN = ("--mount", "--propagation=private", "--pid", "--mount-proc", "--uts")
_HOLD = """
umask 022
name=$1 address=$2 directory=$3
hostname "$name"
. "$4"
mkdir "$directory/etc" "$directory/dev"
mount -t tmpfs -o mode=755 tmpfs "$directory/etc"
cp -a /etc/. "$directory/etc" 2>/dev/null || [ -s "$directory/etc/passwd" ] # others' temporary files may vanish
rm -f "$directory/etc/.pwd.lock" "$directory"/etc/*.lock
mount --bind "$directory/etc" /etc
rm -rf /etc/softtoken /etc/softtoken-etcd /etc/security/softtoken.conf
rm -f /etc/resolv.conf /etc/machine-id
echo "$address" | sha256sum | cut -c-32 >/etc/machine-id
mount -t tmpfs -o mode=755 tmpfs "$directory/dev"
make_dev "$directory/dev"
touch "$directory/dev/log"
mount --bind "$directory/log" "$directory/dev/log"
mount --rbind "$directory/dev" /dev
for place in /home /run /var/lib /var/log; do
	mount -t tmpfs -o mode=755 tmpfs "$place"
done
mkdir -m 755 /run/sshd "$directory/data" /var/lib/etcd
mount --bind "$directory/data" /var/lib/etcd # etcd's files are large, and their disk counts
[ ! -d /var/mail ] || mount -t tmpfs tmpfs /var/mail
ip link set lo up
echo ready
exec cat
"""


class MachineError(Exception):
    """A machine cannot be made, or a command on it failed."""


class Log:
    """The system log of a machine.

    Args:
        path: of the socket that its programs write to.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lines: list[str] = []
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        path.chmod(0o666)
        threading.Thread(target=self._read, daemon=True).start()

    def take(self) -> list[str]:
        """Return what was logged since the last call."""
        mark = f"mark {time.monotonic_ns()}"
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(mark.encode(), str(self._path))
        deadline_s = time.monotonic() + WAIT_S
        while mark not in self._lines:
            if time.monotonic() > deadline_s:
                raise MachineError("the log does not answer")
            time.sleep(0.002)
        place = self._lines.index(mark)
        taken, self._lines[: place + 1] = self._lines[:place], []
        return taken

    def _read(self) -> None:
        while data := self._socket.recv(65536):
            self._lines.append(data.decode("utf-8", "replace"))


class Machine:
    """One machine.

    Args:
        name: up to 11 characters; its host name.
        address: of its network card.
        directory: a new one, for what it has.
    """

    def __init__(self, name: str, address: str, directory: Path) -> None:
        directory.mkdir(mode=0o755)
        self.name, self.address = name, address
        self.log = Log(directory / "log")
        words = ["sh", "-euc", _HOLD, "sh", name, address, str(directory), str(_DEV)]
        self._holder = _hold([*_UNSHARE, *_ALL_ITS_OWN, *words])
        self._directory = directory

    @property
    def pid(self) -> int:
        """A process whose network is the machine's."""
        return self._holder.pid

    def command(self, *words: str | Path) -> list[str]:
        """Return the command line that runs a command on the machine."""
        place = f"/proc/{self.pid}/ns"
        spaces = [f"--net={place}/net", f"--mount={place}/mnt", f"--uts={place}/uts"]
        return ["nsenter", *spaces, f"--pid={place}/pid_for_children", "--", *map(str, words)]

    def run(self, *words: str | Path, text: str = "") -> str:
        """Run a command and return what it printed.

        Raises:
            MachineError: it failed.
        """
        process = subprocess.Popen(
            self.command(*words), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        shown = process.communicate(text.encode())[0].decode("utf-8", "replace")
        if process.returncode != 0:
            raise MachineError(f"{self.name}: {' '.join(map(str, words))}: {shown.strip()}")
        return shown

    def path(self, name: str) -> Path:
        """Return the outside path of a path of the machine."""
        return Path(f"/proc/{self.pid}/root{name}")

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        """Write a file, and make the directories above it."""
        path = self.path(name)
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def close(self) -> None:
        """End the machine, and all processes on it."""
        _release(self._holder)


class Network:
    """The machines of a network, each with one address.

    Args:
        directory: a directory that everybody can enter, for what the machines have.

    Raises:
        MachineError: the kernel does not let us make networks.
    """

    def __init__(self, directory: Path) -> None:
        self.machines: list[Machine] = []
        self._directory = directory
        self._switch = _hold([*_UNSHARE, "sh", "-euc", "echo ready; exec cat"])
        try:
            for bridge in ("whole", "part"):
                self._ip("link", "add", bridge, "type", "bridge")
                self._ip("link", "set", bridge, "up")
        except MachineError:
            _release(self._switch)
            raise

    def add(self, name: str) -> Machine:
        """Add a machine. Those that are there know it by its name, too.

        Raises:
            MachineError: it cannot be made.
        """
        address = f"{_PREFIX}{len(self.machines) + 1}"
        machine = Machine(name, address, self._directory / name)
        self.machines.append(machine)
        card = ("link", "add", f"to-{name}", "type", "veth", "peer", "name", "eth0", "netns", str(machine.pid))
        self._ip(*card)
        self._plug(machine, "whole")
        machine.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
        machine.run("ip", "link", "set", "eth0", "up")
        hosts = "".join(f"{each.address} {each.name}\n" for each in self.machines)
        for each in self.machines:
            each.write("/etc/hosts", f"127.0.0.1 localhost\n::1 localhost\n{hosts}")
        return machine

    def split(self, *cut_off: Machine) -> None:
        """Cut some machines off from the others. They reach each other."""
        for machine in cut_off:
            self._plug(machine, "part")

    def heal(self) -> None:
        """Connect all machines again."""
        for machine in self.machines:
            self._plug(machine, "whole")

    def close(self) -> None:
        """End all machines."""
        for machine in self.machines:
            machine.close()
        _release(self._switch)

    def _plug(self, machine: Machine, bridge: str) -> None:
        self._ip("link", "set", f"to-{machine.name}", "master", bridge, "up")

    def _ip(self, *words: str) -> None:
        command = ["nsenter", f"--net=/proc/{self._switch.pid}/ns/net", "ip", *words]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise MachineError(f"no network can be made here: ip {' '.join(words)}: {done.stderr.strip()}")


def _hold(command: list[str]) -> subprocess.Popen[bytes]:
    """Start a process that holds namespaces until it is released."""
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert holder.stdout is not None
    assert holder.stderr is not None
    if holder.stdout.readline() != b"ready\n":
        words = holder.stderr.read().decode("utf-8", "replace").strip()
        _release(holder)
        raise MachineError(f"no machine of namespaces can be made here: {words}")
    return holder


def _release(holder: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        holder.kill()
    holder.communicate()
