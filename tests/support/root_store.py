"""A host that keeps tokens out of its users' reach, with the real sudo and the package's sudo rule."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.account import Person
from tests.support.enroller import ENVIRONMENT, Dialogue
from tests.support.installation import TREE, Installation
from tests.support.private_mounts import PrivateMounts

RULE = TREE / "debian" / "softtoken.sudoers"
SUDOERS = """
Defaults env_reset
Defaults secure_path="/usr/sbin:/usr/bin:/sbin:/bin"
Defaults use_pty
Defaults lecture=never
Defaults passwd_tries=1
root ALL=(ALL:ALL) ALL
"""
_INSIDE = """
mount -t overlay -o lowerdir="$1/bin:/usr/bin" overlay /usr/bin
mount --bind "$1/security" /etc/security
"""


class RootStore:
    """Such a host, in a mount namespace.

    Args:
        mounts: the namespace.
        installed: the installation whose program is /usr/bin/softtoken-enroll there.
        conf: additional lines of softtoken.conf.

    Attributes:
        template: the `store` option of the host.
    """

    def __init__(self, mounts: PrivateMounts, installed: Installation, *, conf: str = "") -> None:
        self._mounts = mounts
        self._installed = installed
        self._directory = mounts.directory
        (self._directory / "bin").mkdir()
        (self._directory / "bin" / "softtoken-enroll").symlink_to(installed.enroll)
        self.template = f"{self._directory}/tokens/%U"
        (self._directory / "tokens").mkdir(0o700)
        (self._directory / "security").mkdir()
        (self._directory / "security" / "softtoken.conf").write_text(f"store = {self.template}\n{conf}")
        self.set_rule(RULE.read_text())
        rest = "account required pam_unix.so\nsession required pam_permit.so\n"
        mounts.set_service("sudo", "auth required pam_unix.so nodelay\n" + rest)
        self.run("sh", "-euc", _INSIDE, "sh", str(self._directory))

    def store_of(self, person: Person) -> Path:
        """Return the directory of a user's token file."""
        return self._directory / "tokens" / str(person.uid)

    def set_rule(self, rule: str) -> None:
        """Replace the package's rule for sudo."""
        path = self._directory / "sudoers"
        path.write_text(SUDOERS + rule)

    def run(self, *words: str) -> None:
        """Run a command there as root."""
        subprocess.run(self._mounts.command(*words), check=True, timeout=60)

    def command(self, person: Person, *words: str | Path, around: Sequence[str] = ()) -> list[str]:
        """Return the command line that runs a command there as a person, in their home directory."""
        place = ["env", f"--chdir={person.home}"]
        return self._mounts.command(*person.identity, *place, *around, *(str(word) for word in words))

    def start(
        self,
        person: Person,
        *options: str | Path,
        program: Sequence[str] = ("/usr/bin/softtoken-enroll",),
        environment: Mapping[str, str] = ENVIRONMENT,
        around: Sequence[str] = (),
        password: bool = True,
        piped: Sequence[int] = (),
    ) -> Dialogue:
        """Start the program in a terminal, as a person.

        Args:
            program: another command instead.
            around: a command of the person's that runs it.
            password: type the right one for sudo.
        """
        command = self.command(person, *program, *options, around=around)
        dialogue = Dialogue(command, person=None, environment=environment, piped=piped)
        if password:
            dialogue.expect("[sudo] password")
            dialogue.type(person.password)
        return dialogue
