"""A host whose services, settings and state are a test's own, and what `softtoken-admin doctor` finds there."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.account import Person, Phone
from tests.support.installation import Installation

_MOUNT = """
mount --bind "$1/pam.d" /etc/pam.d
mount --bind "$1/ssh" /etc/ssh
mount --bind "$1/security" /etc/security
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -m 755 /run/sshd
mkdir -p /var/lib/softtoken
mount --bind "$1/state" /var/lib/softtoken
mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf
shift
exec "$@"
"""
_SSHD = """\
Include /etc/ssh/sshd_config.d/*.conf
UsePAM yes
KbdInteractiveAuthentication yes
PasswordAuthentication no
AuthenticationMethods keyboard-interactive
"""
REST = "account required pam_unix.so\nsession required pam_unix.so\npassword required pam_deny.so\n"
COMMON = "@include common-auth\n"
MOST_S = 120
_OTHER_MOUNTS = """
import sys
sys.path.insert(0, {root!r})
from pam_softtoken.admin import program
from pam_softtoken.admin.doctor import store_check
store_check.MOUNTS = {path!r}
sys.exit(program.main(["doctor", "--json"]))
"""


class Found(NamedTuple):
    """What was found, and how the program ended.

    Attributes:
        findings: but for those of clock and kernel log, which are the machine's, not this host's.
    """

    findings: list[dict[str, Any]]
    looked_at: list[str]
    not_looked_at: list[str]
    status: int
    stderr: str

    def only(self, place: str, words: str) -> dict[str, Any]:
        """Give the one finding there that says this."""
        found = [each for each in self.findings if each["place"] == place and words in each["what"]]
        assert len(found) == 1, self
        return found[0]

    def worse_than_notes(self) -> list[dict[str, Any]]:
        """Give the errors and warnings."""
        return [each for each in self.findings if each["severity"] != "note"]


class PatientHost:
    """A sound host, until a test makes it ill: sshd asks for password and code.

    Args:
        directory: for its files; must not exist.
        installed: whose module it runs.
    """

    def __init__(self, directory: Path, installed: Installation) -> None:
        self.directory = directory
        self.installed = installed
        directory.mkdir(mode=0o755)
        for name in ("pam.d", "ssh", "security"):
            shutil.copytree(Path("/etc", name), directory / name, ignore_dangling_symlinks=True)
        shutil.copy("/etc/nsswitch.conf", directory)
        (directory / "state").mkdir(mode=0o711)
        (directory / "state").chmod(0o711)
        shutil.rmtree(directory / "ssh" / "sshd_config.d", ignore_errors=True)
        (directory / "ssh" / "sshd_config.d").mkdir()
        self.set_sshd(_SSHD)
        self.set_service("sshd", COMMON + self.line())

    def line(self, *options: str, control: str = "required") -> str:
        """Write a PAM line of ours."""
        words = [option if " " not in option else f"[{option}]" for option in options]
        return " ".join([f"auth {control} {self.installed.bridge} backend={self.installed.backend}", *words]) + "\n"

    def set_service(self, name: str, auth: str) -> None:
        """Replace a PAM service."""
        (self.directory / "pam.d" / name).write_text(auth + REST)

    def set_sshd(self, text: str, name: str = "sshd_config") -> None:
        """Replace a file of sshd's."""
        (self.directory / "ssh" / name).write_text(text)

    def set_conf(self, text: str) -> None:
        """Write the module's configuration file."""
        (self.directory / "security" / "softtoken.conf").write_text(text)

    def set_nsswitch(self, text: str) -> None:
        """Write where the host has its users from."""
        (self.directory / "nsswitch.conf").write_text(text)

    def enrol(self, person: Person) -> Phone:
        """Enrol somebody with the settings of this host, with a token that counts."""
        done = self.run(self.installed.enroll, "--user", person.name, "--no-confirm", "--json", "--type=hotp")
        assert done.returncode == 0, done.stderr
        return Phone(json.loads(done.stdout))

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run a command there."""
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-euc", _MOUNT, "sh", str(self.directory)]
        path = f"{self.installed.root}/scripts:/usr/sbin:/usr/bin:/sbin:/bin"
        environment = {"PATH": path, "LC_ALL": "C.UTF-8"}
        return subprocess.run(
            [*command, *map(str, words)],
            capture_output=True,
            text=True,
            check=False,
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            timeout=MOST_S,
        )

    def examine(self) -> Found:
        """Have the doctor look at it."""
        done = self.run(self.installed.root / "scripts" / "softtoken-admin", "doctor", "--json")
        assert "Traceback" not in done.stderr, done.stderr
        return found_in(done)

    def examine_with_mounts(self, table: str) -> Found:
        """Have the doctor look at it, with another table of mounts than the kernel's: no test can mount a far home."""
        path = self.directory / "mountinfo"
        path.write_text(table)
        script = _OTHER_MOUNTS.format(root=str(self.installed.root), path=str(path))
        return found_in(self.run("/usr/bin/python3", "-I", "-c", script))

    def mend(self, finding: dict[str, Any]) -> Found:
        """Do what the finding says; it must be gone then, and nothing new have come."""
        before = self.examine().findings
        assert "editor" not in finding["mend"], finding
        done = self.run("sh", "-c", finding["mend"])
        assert done.returncode == 0, (finding, done.stderr)
        after = self.examine()
        kinds = {_kind(each) for each in before}
        assert (finding["place"], finding["what"]) not in {(each["place"], each["what"]) for each in after.findings}
        assert {_kind(each) for each in after.worse_than_notes()} <= kinds
        return after


def _kind(finding: dict[str, Any]) -> tuple[str, str]:
    """Return what is wrong, without what it would cost to mend it, which changes with all else."""
    return finding["severity"], finding["what"].partition("; the command below")[0]


def found_in(done: subprocess.CompletedProcess[str]) -> Found:
    """Read what the program has printed."""
    document = json.loads(done.stdout)
    mine = [each for each in document["findings"] if each["family"] not in ("clock", "denials")]
    return Found(mine, document["looked_at"], document["not_looked_at"], done.returncode, done.stderr)
