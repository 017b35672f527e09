"""A fresh Debian whose first process is systemd, in a control group of its own.

systemd writes into control groups, and in a container it may not. All it may write here is one new group, which goes
with the tree. It has its own host name, and reads the kernel's settings only.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support import leak
from tests.support.client import Outcome
from tests.support.fresh_debian import BOOT, ENVIRONMENT, SLOW_S, FreshDebian, Resident
from tests.support.installation import Installation
from tests.support.packages import CONF, Packages
from tests.support.process import is_running, wait_until
from tests.support.system_log import fields_of

SOCKET, SERVICE = "softtoken-login.socket", "softtoken-login.service"
CLIENT = "/usr/local/bin/client"
LOCKER = "locker"
STORE = "/var/lib/softtoken/%U"
# $at is a directory, and $name the name of the group.
_OWN_GROUP = """
fail() { echo "needs $1"; exit 1; }
mount -t cgroup2 cgroup2 "$at" || fail "a cgroup2 that can be mounted"
group="$at$(sed -n s/^0:://p /proc/self/cgroup)/softtoken-$name"
mkdir "$group" || fail "the right to make a control group"
"""
_BOOT = """
mount -t sysfs sysfs /sys
at=/sys/fs/cgroup
"""
_GO_ON = """
echo $$ >"$group/cgroup.procs"
umount "$at"
export container=tests
exec unshare --cgroup --uts --ipc sh -euc '
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount -o remount,bind,ro /sys
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
exec /lib/systemd/systemd --unit=basic.target
'
"""
# $1 is the pid of the first process. The line, or the end of the tests, ends it.
_REMOVE = """
read -r _ || true
kill -KILL "$1" 2>/dev/null || true
while kill -0 "$1" 2>/dev/null; do sleep 0.05; done
exec unshare --mount --propagation private sh -euc '
mount -t cgroup2 cgroup2 /mnt
group="/mnt$(sed -n s/^0:://p /proc/self/cgroup)/softtoken-$1"
[ ! -d "$group" ] || find "$group" -depth -type d -exec rmdir {} +
' sh "$2"
"""
_TRY = """
rmdir "$group"
unshare --cgroup --uts --ipc true || fail "namespaces for control groups"
"""
_MASKED = (
    # They would change devices that are this machine's, or mount its kernel's file systems, or fetch packages.
    "systemd-tmpfiles-setup-dev.service", "systemd-remount-fs.service", "systemd-modules-load.service",
    "systemd-udevd.service", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-kernel-config.mount",
    "sys-fs-fuse-connections.mount", "dev-hugepages.mount", "dev-mqueue.mount", "apt-daily.timer",
    "apt-daily-upgrade.timer", "e2scrub_all.timer", "dpkg-db-backup.timer", "systemd-tmpfiles-clean.timer",
)  # fmt: skip


class BootedDebian(FreshDebian):
    """Such a Debian.

    Args:
        directory: as for `FreshDebian`.
        packages: more of Debian's packages, installed before it starts.
    """

    def __init__(self, directory: Path, *packages: str) -> None:
        super().__init__(directory)
        self._name = str(self.first_pid)
        command = ["sh", "-euc", _REMOVE, "sh", str(self.first_pid), self._name]
        # Its own process, so that it also ends systemd when the tests are killed.
        self._remover = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
        self.install("systemd", *packages)
        self.path("/usr/sbin/policy-rc.d").unlink()
        self.log.close()  # systemd's journal has the place
        for unit in _MASKED:
            self.path(f"/etc/systemd/system/{unit}").symlink_to("/dev/null")
        begin = "set -eu\nexec </dev/null >/run/boot.log 2>&1\n"
        self.write(BOOT, f"{begin}name={self._name}{_BOOT}{_OWN_GROUP}{_GO_ON}")
        self.go_on_with_boot()
        wait_until(lambda: self._has_started() or not is_running(self.first_pid), "systemd to start")
        assert is_running(self.first_pid), self.path("/run/boot.log").read_text()

    @staticmethod
    def why_not() -> str:
        """Return why this machine does not allow it, "" if it does."""
        if why_not := FreshDebian.why_not():
            return why_not
        script = f"at=/mnt name=trial{os.getpid()}{_OWN_GROUP}{_TRY}"
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", script]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        return "" if done.returncode == 0 else f"{done.stdout.strip()}, to start systemd in a tree"

    def _has_started(self) -> bool:
        return self.try_to_run("systemctl", "is-system-running").stdout.strip() in {"running", "degraded"}

    @contextlib.contextmanager
    def its_network(self) -> Iterator[None]:
        """Use its loopback in this thread, and in what it starts, for the length of a `with` block."""
        libc = ctypes.CDLL(None, use_errno=True)
        with open("/proc/thread-self/ns/net") as ours, open(f"/proc/{self.first_pid}/ns/net") as its:
            assert libc.setns(its.fileno(), 0) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert libc.setns(ours.fileno(), 0) == 0, os.strerror(ctypes.get_errno())

    def outcomes(self, *words: str) -> list[dict[str, str]]:
        """Return the fields of our `result=` lines in the journal, with the PAM service as "service".

        Args:
            words: matches of journalctl.
        """
        self.run("journalctl", "--sync")
        lines = self.run("journalctl", "--quiet", "--output=cat", *words).splitlines()
        leak.refuse(lines)
        ours = [line for line in lines if line.startswith("pam_softtoken(") and "result=" in line]
        services = [line.partition("(")[2].rpartition(":auth)")[0] for line in ours]
        return [{"service": service, **fields} for service, fields in zip(services, fields_of(ours), strict=True)]

    def close(self) -> None:
        """End systemd, and remove its control group."""
        self._remover.communicate(b"\n", timeout=SLOW_S)
        self._holder.communicate(timeout=SLOW_S)
        assert not is_running(self.first_pid)


class BootedHost:
    """A Debian that systemd has started, with a program that runs as its user.

    Args:
        debian: without our packages.
        installed: has the program.
        packages: ours, of the older version.
    """

    def __init__(self, debian: BootedDebian, installed: Installation, packages: Packages) -> None:
        self.debian = debian
        shutil.copy(installed.client, debian.path(CLIENT))
        debian.unpack_and_configure(packages["softtoken-common"], packages["libpam-softtoken"])
        debian.write(f"/etc/pam.d/{LOCKER}", "auth required pam_softtoken.so\n")
        self.set_conf("")

    def set_conf(self, text: str) -> None:
        """Write the host's settings, besides the store."""
        self.debian.write(CONF, f"store = {STORE}\n{text}")

    def set_service(self, name: str, stack: str) -> None:
        """Write a PAM service."""
        self.debian.write(f"/etc/pam.d/{name}", stack)

    def command(self, caller: Resident, user: Resident, *options: str) -> list[str]:
        return self.as_user(caller, CLIENT, *options, LOCKER, user.name)

    def as_user(self, caller: Resident, *words: str) -> list[str]:
        # nsenter waits for the program; without it, the program would stay.
        identity = ("setpriv", f"--reuid={caller.uid}", f"--regid={caller.gid}", "--clear-groups", "--pdeathsig=KILL")
        return self.debian.command(*identity, *words)

    def ask(self, caller: Resident, user: Resident, code: str = "") -> Outcome:
        """Run the program as a user, and return the outcome."""
        leak.keep_answer(code)
        command = self.command(caller, user)
        done = subprocess.run(command, input=f"={code}\n", check=True, capture_output=True, text=True, timeout=300)
        return Outcome(done.stdout.splitlines()[-1])

    def hold(self, person: Resident) -> subprocess.Popen[str]:
        """Start the program, and return it when it has been asked for a code."""
        command = self.command(person, person, "--tell")
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
        assert process.stdout is not None
        assert "Verification code" in process.stdout.readline()
        return process

    def answer(self, process: subprocess.Popen[str], code: str) -> int:
        """Answer that program, and return the result."""
        leak.keep_answer(code)
        said, _ = process.communicate(f"={code}\n", timeout=300)
        return Outcome(said.splitlines()[-1]).result

    def is_active(self, unit: str) -> str:
        return self.debian.try_to_run("systemctl", "is-active", unit).stdout.strip()


class Journal:
    """What the journal says from here on."""

    def __init__(self, debian: BootedDebian) -> None:
        self._debian = debian
        shown = debian.run("journalctl", "--quiet", "--lines=0", "--show-cursor")
        self._cursor = shown.partition("cursor: ")[2].strip()

    def reasons(self, service: str) -> list[str]:
        """Return the reasons that were logged for a PAM service."""
        outcomes = self._debian.outcomes(f"--after-cursor={self._cursor}")
        return [fields["reason"] for fields in outcomes if fields["service"] == service]
