"""A host with a test's own services, settings and state, and what `softtoken-admin doctor` finds there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from tests.support.account import Person, Phone
from tests.support.installation import Installation
from tests.support.private_mounts import NOT_USUAL

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
_NEW_LINE = re.compile(r"in (/\S+), (?:at the top|below line (\d+)), insert: (.*)")
_CHANGED_LINE = re.compile(r"in (/\S+), (?:delete )?lines? (\d+)(?: to (\d+))?(?:, write: (.*))?")
_EDITOR = """
import sys
from pathlib import Path
file, first, last, *new = sys.argv[1:]
lines = Path(file).read_text().split("\\n")
lines[int(first) - 1 : int(last)] = new
Path(file).write_text("\\n".join(lines))
"""
"""A person at an editor: puts a line in place of some lines of a file, or deletes them."""
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
    """The findings, and how the program ended.

    Attributes:
        findings: without those of clock and kernel log, which belong to the machine and not to this host.
    """

    findings: list[dict[str, Any]]
    looked_at: list[str]
    not_looked_at: list[str]
    status: int
    stderr: str

    def only(self, place: str, words: str) -> dict[str, Any]:
        """Return the one finding there that has this text."""
        found = [each for each in self.findings if each["place"] == place and words in each["what"]]
        assert len(found) == 1, self
        return found[0]

    def worse_than_notes(self) -> list[dict[str, Any]]:
        """Return the errors and warnings."""
        return [each for each in self.findings if each["severity"] != "note"]


class PatientHost:
    """A sound host, until a test breaks something: sshd asks for password and code.

    Args:
        directory: for its files; must not exist.
        installed: the installation whose module it runs.
    """

    def __init__(self, directory: Path, installed: Installation) -> None:
        self.directory = directory
        self.installed = installed
        self._last: Found | None = None
        directory.mkdir(mode=0o755)
        for name in ("pam.d", "ssh", "security"):
            shutil.copytree(Path("/etc", name), directory / name, ignore=NOT_USUAL, ignore_dangling_symlinks=True)
        shutil.copy("/etc/nsswitch.conf", directory)
        (directory / "state").mkdir(mode=0o711)
        (directory / "state").chmod(0o711)
        shutil.rmtree(directory / "ssh" / "sshd_config.d", ignore_errors=True)
        (directory / "ssh" / "sshd_config.d").mkdir()
        self.set_sshd(_SSHD)
        self.set_service("sshd", COMMON + self.line())

    def line(self, *options: str, control: str = "required") -> str:
        """Return one of our PAM lines."""
        words = [option if " " not in option else f"[{option}]" for option in options]
        return " ".join([f"auth {control} {self.installed.bridge} backend={self.installed.backend}", *words]) + "\n"

    def set_service(self, name: str, auth: str) -> None:
        """Replace a PAM service."""
        (self.directory / "pam.d" / name).write_text(auth + REST)

    def set_sshd(self, text: str, name: str = "sshd_config") -> None:
        """Replace a file of sshd."""
        (self.directory / "ssh" / name).write_text(text)

    def set_conf(self, text: str) -> None:
        """Write the module's configuration file."""
        (self.directory / "security" / "softtoken.conf").write_text(text)

    def set_nsswitch(self, text: str) -> None:
        """Write the host's sources of users."""
        (self.directory / "nsswitch.conf").write_text(text)

    def enrol(self, person: Person) -> Phone:
        """Enrol a user with the settings of this host, with a counter-based token."""
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
        """Run the doctor on it."""
        done = self.run(self.installed.root / "scripts" / "softtoken-admin", "doctor", "--json")
        assert "Traceback" not in done.stderr, done.stderr
        self._last = found_in(done)
        return self._last

    def examine_with_mounts(self, table: str) -> Found:
        """Run the doctor with another table of mounts than the kernel's: no test can mount a remote home."""
        path = self.directory / "mountinfo"
        path.write_text(table)
        script = _OTHER_MOUNTS.format(root=str(self.installed.root), path=str(path))
        return found_in(self.run("/usr/bin/python3", "-I", "-c", script))

    def mend(self, finding: dict[str, Any]) -> Found:
        """Follow the advice of the last examination. Check that the finding is gone and that nothing new has come."""
        assert self._last is not None
        before = self._last.findings
        assert finding in before
        assert "editor" not in finding["mend"], finding
        for step in steps(finding["mend"]):
            done = self.run(*step)
            assert done.returncode == 0, (finding, done.stderr)
        after = self.examine()
        kinds = {_kind(each) for each in before}
        assert (finding["place"], finding["what"]) not in {(each["place"], each["what"]) for each in after.findings}
        assert {_kind(each) for each in after.worse_than_notes()} <= kinds
        return after


def _kind(finding: dict[str, Any]) -> tuple[str, str]:
    """Return what is wrong, without the effects of repairing it, which depend on everything else."""
    return finding["severity"], re.split("; the (?:command|change) below", finding["what"])[0]


def steps(mend: str) -> list[list[str]]:
    """Return the commands that do what a person does who reads this advice: run it, or change the lines it names."""
    if not mend.startswith("in /"):
        return [["sh", "-c", mend]]
    return [["python3", "-c", _EDITOR, *_typed(sentence)] for sentence in mend.split("\n")]


def _typed(sentence: str) -> tuple[str, ...]:
    """Return the file, the first and the last line that go, and the line that comes."""
    if (new := _NEW_LINE.fullmatch(sentence)) is not None:
        file, above, text = new.groups(default="0")
        return file, str(int(above) + 1), above, text
    changed = _CHANGED_LINE.fullmatch(sentence)
    assert changed is not None, sentence
    file, first, last, text = changed.groups()
    return (file, first, last or first) if text is None else (file, first, last or first, text)


def found_in(done: subprocess.CompletedProcess[str]) -> Found:
    """Read the program's output."""
    document = json.loads(done.stdout)
    mine = [each for each in document["findings"] if each["family"] not in ("clock", "denials")]
    return Found(mine, document["looked_at"], document["not_looked_at"], done.returncode, done.stderr)
