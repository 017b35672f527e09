"""sudo with a private sudo.conf and a private directory of plugins, and with plugins that always answer the same."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pexpect

from pam_softtoken.account import signers
from tests.support.account import Person
from tests.support.installation import TREE
from tests.support.private_mounts import PrivateMounts
from tests.support.signed_sudo import APPROVER, Asking, Laptop

PLUGINS = "/usr/libexec/sudo"
CONF = "/etc/sudo.conf"
OURS = f"{PLUGINS}/softtoken_approval.so"
SIGNERS = "/var/lib/softtoken/sign"
YES, NO, ERROR = 1, 0, -1
# All of /etc, because a program replaces a file by renaming another one.
_MOUNT = """
cp -a /etc "$1/etc"
mount --bind "$1/etc" /etc
for each in pam.d sudoers login.defs ssh; do mount --bind "$1/$each" "/etc/$each"; done
cp -a "$2" "$1/plugins"
mount --bind "$1/plugins" "$2"
mount -t tmpfs -o mode=711 tmpfs /var/lib/softtoken
mkdir -m 700 /var/lib/softtoken/changes
"""
_OWN_SOURCES = ("softtoken_approval", "frames", "journal", "script", "spawn")
_SOURCE = Path(__file__).with_name("approval_plugin.c")


def build_plugin(path: Path, answer: int, *, asks: bool = False) -> None:
    """Build an approval plugin that gives one answer to everybody, or to everybody whom our own plugin would ask."""
    settings = [f"-DANSWER={answer}", *(["-DASKS"] if asks else [])]
    command = ["gcc", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", *settings, "-o", str(path), str(_SOURCE)]
    subprocess.run(command, check=True, timeout=60)
    path.chmod(0o644)


def build_own_plugin(path: Path) -> None:
    """Build our own plugin, with the approver of this tree."""
    sources = [str(TREE / "pam_softtoken" / "bridge" / f"{name}.c") for name in _OWN_SOURCES]
    settings = ["-std=c11", "-D_GNU_SOURCE", "-DMAX_FRAME_BYTES=65536", f'-DPAM_SOFTTOKEN_APPROVER="{APPROVER}"']
    subprocess.run(["gcc", *settings, "-shared", "-fPIC", "-o", str(path), *sources], check=True, timeout=60)
    path.chmod(0o644)


class SigningSudo:
    """A host's sudo.

    Args:
        mounts: the host. All its users must exist.
    """

    def __init__(self, mounts: PrivateMounts) -> None:
        self.mounts = mounts
        subprocess.run(mounts.command("sh", "-euc", _MOUNT, "sh", str(mounts.directory), PLUGINS), check=True)

    @property
    def conf(self) -> Path:
        """The outside path of sudo.conf."""
        return self.mounts.directory / "etc" / "sudo.conf"

    @property
    def plugin(self) -> Path:
        """The outside path of the file of our plugin."""
        return self.mounts.directory / "plugins" / Path(OURS).name

    def allow(self, *rules: str) -> None:
        """Write the rules of sudoers, beside root's."""
        (self.mounts.directory / "sudoers").write_text("\n".join(["root ALL=(ALL:ALL) ALL", *rules]) + "\n")

    def run(self, *words: str, user: str = "root") -> subprocess.CompletedProcess[str]:
        """Run sudo as a user, with no terminal."""
        command = self.mounts.command("setpriv", f"--reuid={user}", "--init-groups", "--", "/usr/bin/sudo", *words)
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60, cwd="/"
        )

    def works(self, user: str = "root") -> bool:
        """Return whether sudo runs a command for a user without a question."""
        return self.run("-n", "true", user=user).returncode == 0

    def ask(self, person: Person, *words: str) -> Asking:
        """Start sudo as a user on a terminal, and wait until it asks or ends."""
        command = self.mounts.command(*person.identity, "sudo", *words)
        return Asking(pexpect.spawn(command[0], command[1:], encoding="utf-8", timeout=60, dimensions=(24, 400)))

    def enrol(self, person: Person, *names: str) -> list[Laptop]:
        """Write a user's marks and signing tokens. Without names there are none left, as after a revocation."""
        laptops = [Laptop(name) for name in names]
        for directory, mode in ((SIGNERS, 0o711), (signers.uid_mark(person.uid), 0o700)):
            self.mounts.path(directory).mkdir(exist_ok=True)
            self.mounts.path(directory).chmod(mode)
        self.mounts.path(signers.name_mark(person.name)).touch()
        path = self.mounts.path(f"{signers.uid_mark(person.uid)}/tokens")
        tokens = tuple(laptop.token for laptop in laptops)
        path.write_bytes(signers.serialise(tokens, owner=(person.name, person.uid)))
        path.chmod(0o600)
        return laptops
