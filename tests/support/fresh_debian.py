"""A fresh Debian in memory, with its own namespaces. Packages are installed there, and users log in there.

Nothing in it affects this machine. All of it is gone when its holder ends, or when the tests are killed. What
debootstrap makes is kept in an archive under build/, and unpacked for each use: in a tenth of the time.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.account import Person, Phone
from tests.support.hosts import WHO_AND_STAY, Host
from tests.support.installation import TREE
from tests.support.leak import keep
from tests.support.private_mounts import PrivateLog
from tests.support.process import Process, descendants, is_running, wait_until

INCLUDED = "openssh-client,openssh-server,oathtool,python3,python3-pexpect,sudo"
"""What the tests need there, beside what is in every Debian."""
DEPENDENCIES = ("python3-cryptography", "python3-pamela", "python3-prompt-toolkit", "python3-rich", "python3-segno")
"""What our packages depend on. apt-get autoremove removes it."""
ARCHIVES = TREE / "build" / "fresh-debian"
PORT = 2222
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
SLOW_S = 600
BOOT = "/root/boot"
"""A script with which the first process goes on, see `booted_debian`."""
_CONF = "/etc/ssh/sshd_config.d/tests.conf"
_SSHD = "UsePAM yes\nKbdInteractiveAuthentication yes\nPasswordAuthentication no\n"

# $1 is the archive, $2 the release, $3 the mirror, $4 its sources, $5 more packages, $6... those for autoremove.
_BOOTSTRAP = """
mount -t tmpfs -o mode=755 tmpfs /mnt
debootstrap --variant=minbase --include="$5" "$2" /mnt "$3"
printf "%s" "$4" >/mnt/etc/apt/sources.list
rm -rf /mnt/var/lib/apt/lists
cp -a /var/lib/apt/lists /mnt/var/lib/apt/
printf '#!/bin/sh\\nexit 101\\n' >/mnt/usr/sbin/policy-rc.d
chmod 755 /mnt/usr/sbin/policy-rc.d
# su would wait for three seconds after each refusal.
sed -i 's/^FAIL_DELAY.*/FAIL_DELAY 0/' /mnt/etc/login.defs
cp -L /etc/resolv.conf /mnt/etc/
# debootstrap cannot install these: one of them depends on a virtual package.
[ $# -lt 6 ] || {
	archive=$1
	shift 5
	chroot /mnt apt-get install -y -q --no-install-recommends "$@"
	chroot /mnt apt-mark auto "$@"
	set -- "$archive"
}
chroot /mnt apt-get clean
chroot /mnt apt-cache gencaches
rm -rf /mnt/dev /mnt/run
mkdir -m 755 /mnt/dev /mnt/run
tar -C /mnt -cf "$1.new" .
mv "$1.new" "$1"
"""

# $1 is the path of the tree, $2 that of our scripts, $3 the archive, $4 a directory for its /tmp, if any, $5 a script
# in the tree, with which the first process goes on at a line of its input.
_MAKE = """
mount -t tmpfs -o mode=755 tmpfs "$1"
tar -C "$1" -xpf "$3"
cp -L /etc/resolv.conf "$1/etc/"
# As the installer does. Without its own name, sudo complains before each command.
printf '127.0.0.1 localhost\\n127.0.1.1 %s\\n' "$(uname -n)" >"$1/etc/hosts"
[ -z "$4" ] || mount --bind "$4" "$1/tmp"
mount -t tmpfs -o mode=755 tmpfs "$1/run"
mkdir -m 755 "$1/run/sshd" "$1/run/lock"
mount -t tmpfs -o mode=755 tmpfs "$1/dev"
. "$2/lib/dev.sh"
make_dev "$1/dev"
exec unshare --net --pid --fork --kill-child=KILL sh -euc '
mount -t proc proc "$1/proc"
ip link set lo up
mkdir "$1/.old"
cd "$1"
pivot_root . .old  # after a chroot, nsenter to a mount namespace made inside would lead outside
cd /
umount -l /.old
rmdir /.old
exec /bin/bash -c "echo made; read -r _ && exec /bin/sh $2"
' sh "$1" "$5"
"""
_UNSHARE = ("unshare", "--mount", "--propagation", "private", "sh", "-euc")


class FreshDebian:
    """A Debian as its installer leaves it, with an sshd on demand.

    Args:
        directory: an empty one.
        release: another one than this machine's.
        included: packages that are installed from the beginning.
        dependencies: the same, but apt-get autoremove removes them.
        disk: an empty directory that becomes its /tmp. Without one, everything in it is on a tmpfs.

    Attributes:
        log: its system log.
    """

    def __init__(
        self,
        directory: Path,
        *,
        release: str = "",
        included: str = INCLUDED,
        dependencies: Sequence[str] = DEPENDENCIES,
        disk: Path | None = None,
    ) -> None:
        record = directory.with_suffix(".log")
        archive = _archive_of(release, included, dependencies, record)
        arguments = [str(directory), str(TREE / "scripts"), str(archive), str(disk or ""), BOOT]
        with record.open("wb") as log:
            self._holder = subprocess.Popen(
                [*_UNSHARE, _MAKE, "sh", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"made\n":
            self._holder.wait(SLOW_S)
            raise AssertionError(f"the tree could not be made: {record.read_text()[-4000:]}")
        (inside,) = descendants(self._holder.pid)
        self._pid = inside.pid
        if self.path(_CONF).parent.exists():
            self.write(_CONF, _SSHD)
        self.log = PrivateLog(self.path("/dev/log"))
        self._sshd: subprocess.Popen[bytes] | None = None

    @staticmethod
    def why_not() -> str:
        """Return why this machine does not allow it, "" if it does."""
        if os.geteuid() != 0 or shutil.which("debootstrap") is None:
            return "needs root and debootstrap, for a fresh Debian"
        command = ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--net", "true"]
        if subprocess.run(command, check=False, capture_output=True).returncode != 0:
            return "needs CAP_SYS_ADMIN, for a fresh Debian with namespaces of its own"
        return ""

    def path(self, name: str) -> Path:
        """Return the outside path of a path inside. A link inside may lead elsewhere."""
        return Path(f"/proc/{self._pid}/root{name}")

    def write(self, name: str, text: str, mode: int = 0o644) -> None:
        """Write a file."""
        self.path(name).write_text(text)
        self.path(name).chmod(mode)

    def command(self, *words: str, online: bool = False) -> list[str]:
        """Return the command line that runs a command inside.

        Args:
            online: use this machine's network, to fetch packages. Otherwise, use a private loopback.
        """
        kinds = ["--mount", "--pid", "--root", "--wd", *([] if online else ["--net"])]
        return ["nsenter", f"--target={self._pid}", *kinds, "--", *words]

    def try_to_run(
        self, *words: str, online: bool = False, typed: str = "", environment: Mapping[str, str] = ENVIRONMENT
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside, as root, and return the result."""
        return subprocess.run(
            self.command(*words, online=online),
            input=typed,
            capture_output=True,
            text=True,
            check=False,
            env=dict(environment),
            cwd="/",
            timeout=SLOW_S,
        )

    def run(self, *words: str, online: bool = False, typed: str = "") -> str:
        """Run a command inside, as root, and return its stdout.

        Raises:
            AssertionError: it failed.
        """
        done = self.try_to_run(*words, online=online, typed=typed)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout

    def apt(self, *words: str, **environment: str) -> tuple[bool, str]:
        """Run apt-get as an administrator that accepts every default.

        Returns:
            Whether it succeeded, and all its output.
        """
        variables = {**ENVIRONMENT, "DEBIAN_FRONTEND": "noninteractive", **environment}
        done = self.try_to_run("apt-get", "-y", "-q", *words, online=True, environment=variables)
        return done.returncode == 0, (done.stdout + done.stderr).replace("\r\n", "\n")

    def install(self, *packages: Path | str) -> None:
        """Install packages with their dependencies, as an administrator does: files of this machine, or names."""
        names = [self._copied(package) if isinstance(package, Path) else package for package in packages]
        worked, said = self.apt("install", "--no-install-recommends", "--allow-downgrades", *names)
        assert worked, said

    def unpack_and_configure(self, *packages: Path) -> None:
        """Install files of this machine whose dependencies are there already, in half the time."""
        self.run("dpkg", "--install", *(self._copied(package) for package in packages))

    def purge(self, *names: str) -> None:
        """Remove packages, whatever they say, and whether or not they are installed."""
        environment = {**ENVIRONMENT, "DEBIAN_FRONTEND": "noninteractive", "PAM_SOFTTOKEN_REMOVE_IN_USE": "yes"}
        done = self.try_to_run("dpkg", "--force-depends", "--purge", *names, environment=environment)
        assert done.returncode == 0, done.stderr

    def _copied(self, package: Path) -> str:
        shutil.copy(package, self.path("/root"))
        return f"/root/{package.name}"

    def start_sshd(self) -> None:
        """Start an sshd with its own configuration for password and code, unless one runs."""
        if self._sshd is not None:
            return
        words = self.command("/usr/sbin/sshd", "-D", "-e", "-p", str(PORT), "-o", "ListenAddress=127.0.0.1")
        record = self.path("/run/sshd.log")
        with record.open("wb") as log:
            self._sshd = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        server = self._sshd
        wait_until(lambda: "Server listening" in record.read_text() or server.poll() is not None, "sshd to listen")
        assert server.poll() is None, record.read_text()

    def go_on_with_boot(self) -> None:
        """Replace the first process with the script `BOOT`."""
        assert self._holder.stdin is not None
        self._holder.stdin.write(b"\n")
        self._holder.stdin.flush()

    @property
    def first_pid(self) -> int:
        """Return the outside pid of its first process."""
        return self._pid

    def close(self) -> None:
        """End its first process. All its other processes end with that one."""
        self.log.close()
        self._holder.communicate(timeout=SLOW_S)
        if self._sshd is not None:
            self._sshd.wait(SLOW_S)
        assert not is_running(self._pid)


class Resident(Person):
    """A user of the fresh Debian."""

    def __init__(self, tree: FreshDebian) -> None:
        self.tree = tree
        self.name = f"st{secrets.token_hex(4)}"
        self.password = keep(secrets.token_urlsafe(12))
        self.home = Path("/home", self.name)
        tree.run("useradd", "--create-home", "--shell", "/bin/bash", self.name)
        tree.run("chpasswd", typed=f"{self.name}:{self.password}\n")
        self.uid, self.gid = (int(tree.run("id", option, self.name)) for option in ("-u", "-g"))

    def link(self, *options: str) -> Phone:
        """Enrol with the installed program, as root for this user, and return their token."""
        words = ("softtoken-enroll", "--user", self.name, "--no-confirm", "--json", *options)
        return Phone(json.loads(self.tree.run(*words)))

    def remove(self) -> None:
        """Remove the user and their home directory."""
        self.tree.try_to_run("pkill", "-KILL", "-u", self.name)
        self.tree.run("userdel", "--remove", "--force", self.name)


class InsideHost(Host):
    """A program of the fresh Debian that asks through PAM, with the installed services."""

    def __init__(self, tree: FreshDebian) -> None:
        self.tree = tree
        self.environment = {}
        self.around = []
        self.first_prompts = ["password"]

    def use_stack(self, ours: str, *, first: str = "") -> None:
        """Raise: the installed stack is the one that counts."""
        raise NotImplementedError

    def becomes(self, person: Person) -> str:
        return person.name


class InsideSu(InsideHost):
    """`su` on a terminal, as another user."""

    service = "su"

    def __init__(self, tree: FreshDebian, caller: Person) -> None:
        super().__init__(tree)
        self._caller = caller

    def command(self, person: Person) -> list[str]:
        identity = [f"--reuid={self._caller.uid}", f"--regid={self._caller.gid}", "--clear-groups"]
        return self.tree.command("setpriv", *identity, "/bin/su", person.name, "-c", WHO_AND_STAY)


class InsideSSH(InsideHost):
    """The fresh Debian's own sshd, and its ssh client on a terminal."""

    service = "sshd"
    rhost = "127.0.0.1"
    shell_has_prompt = True

    def __init__(self, tree: FreshDebian) -> None:
        super().__init__(tree)
        tree.start_sshd()

    def command(self, person: Person) -> list[str]:
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "NumberOfPasswordPrompts=1"]
        words = [word for option in options for word in ("-o", option)]
        return self.tree.command("ssh", "-q", "-tt", "-p", str(PORT), *words, f"{person.name}@127.0.0.1")

    def processes_of(self, visit: object) -> list[Process]:
        raise NotImplementedError


def pam_files(debian: FreshDebian) -> dict[str, bytes]:
    """Return everything in /etc/pam.d."""
    return {path.name: path.read_bytes() for path in debian.path("/etc/pam.d").iterdir()}


def _archive_of(release: str, included: str, dependencies: Sequence[str], record: Path) -> Path:
    """Return a tar archive of a new Debian. Make it if it was made from other package lists, or not at all."""
    ours, mirror, sources = _sources()
    if release in ("", ours):
        release = ours
    else:
        sources = f"deb {mirror} {release} main\n"
    lists = sorted((path.name, path.stat().st_mtime) for path in Path("/var/lib/apt/lists").glob("*Packages*"))
    arguments = [release, mirror, sources, included, *dependencies]
    key = hashlib.sha256(repr([_BOOTSTRAP, arguments, lists]).encode()).hexdigest()[:16]
    ARCHIVES.mkdir(parents=True, exist_ok=True)
    archive = ARCHIVES / f"{release}-{key}.tar"
    with (ARCHIVES / f"{release}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the processes that share the tests make it only once
        if not archive.exists():
            for older in ARCHIVES.glob(f"{release}-*"):
                older.unlink()
            with record.open("wb") as log:
                done = subprocess.run(
                    [*_UNSHARE, _BOOTSTRAP, "sh", str(archive), *arguments], check=False, stdout=log, stderr=log
                )
            assert done.returncode == 0, f"debootstrap failed: {record.read_text()[-4000:]}"
    return archive


def _sources() -> tuple[str, str, str]:
    """Return this machine's release, the source of its packages, and its sources of that release."""
    release = next(
        line.partition("=")[2]
        for line in Path("/etc/os-release").read_text().splitlines()
        if line.startswith("VERSION_CODENAME=")
    )
    form = "$(REPO_URI) $(CODENAME) $(COMPONENT)"
    command = ["apt-get", "indextargets", "--format", form, "Identifier: Packages"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    targets = [line.split() for line in dict.fromkeys(listed)]
    ours = [target for target in targets if target[1].startswith(release)]
    mirror = next(uri for uri, suite, _ in ours if suite == release)
    return release, mirror, "".join(f"deb {' '.join(target)}\n" for target in ours)
