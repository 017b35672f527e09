"""A host with a directory service that accepts several spellings of users' names."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.account import Person, Phone
from tests.support.client import Outcome, Service
from tests.support.enroller import Finished
from tests.support.installation import TREE, Installation
from tests.support.leak import keep_answer
from tests.support.private_mounts import PrivateMounts

_MOUNT = """
mount --bind "$1/nsswitch.conf" /etc/nsswitch.conf
mount --bind "$1/ld.so.cache" /etc/ld.so.cache
mount --bind "$1/security" /etc/security
mount --bind "$1/state" /var/lib/softtoken
"""


class DirectoryService:
    """Such a host, in a mount namespace. The module's data in /var/lib/softtoken and /run is private, too.

    Args:
        mounts: the namespace.
        installed: the installation whose programs run there.

    Attributes:
        directory: for its files.
        state: the stand-in for /var/lib/softtoken.
        marks: the directory of the enrolled marks.
    """

    def __init__(self, mounts: PrivateMounts, installed: Installation) -> None:
        self.mounts = mounts
        self.log = mounts.log
        self._installed = installed
        self.directory = mounts.directory / "directory"
        for name, mode in (("", 0o755), ("lib", 0o755), ("security", 0o755), ("state", 0o711), ("stores", 0o700)):
            (self.directory / name).mkdir()
            (self.directory / name).chmod(mode)
        self.state, self.marks = self.directory / "state", self.directory / "state" / "enrolled"
        self.stores = self.directory / "stores"
        self._people = self.directory / "people"
        self._people.touch()
        library = self.directory / "lib" / "libnss_spellings.so.2"
        flags = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC"]
        source = TREE / "tests" / "support" / "nss_spellings.c"
        people = f'-DPEOPLE="{self._people}"'
        self._do("gcc", *flags, people, "-Wl,-soname,libnss_spellings.so.2", "-o", library, source)
        conf = self.directory / "ld.so.conf"
        conf.write_text(f"include /etc/ld.so.conf.d/*.conf\n{library.parent}\n")
        self._do("ldconfig", "-X", "-f", conf, "-C", self.directory / "ld.so.cache")
        lines = Path("/etc/nsswitch.conf").read_text().splitlines()
        ours = ["passwd: files spellings", "group: files spellings"]
        rest = [line for line in lines if not line.startswith(("passwd:", "group:", "initgroups:"))]
        (self.directory / "nsswitch.conf").write_text("\n".join([*ours, *rest]) + "\n")
        self._do(*mounts.command("sh", "-euc", _MOUNT, "sh", str(self.directory)))

    def set_conf(self, text: str) -> None:
        """Write the module's configuration file."""
        (self.directory / "security" / "softtoken.conf").write_text(text)

    def spellings_of(self, person: Person) -> list[str]:
        """Add two more names of a person to the directory. Return all three."""
        others = [f"CORP\\{person.name}", f"{person.name}@corp.example"]
        for typed in others:
            self.add(typed, person)
        return [person.name, *others]

    def add(self, typed: str, person: Person, *, name: str | None = None) -> None:
        """Add one more name of a person to the directory.

        Args:
            typed: the name in the query.
            person: the answer has their uid and home.
            name: the canonical name in the answer (default: the person's).
        """
        shadow = dict(line.split(":")[:2] for line in Path("/etc/shadow").read_text().splitlines())
        canonical = person.name if name is None else name
        fields = (typed, canonical, person.uid, person.gid, person.home, shadow[person.name])
        with self._people.open("a") as people:
            people.write("\t".join(str(field) for field in fields) + "\n")

    @contextlib.contextmanager
    def hanging(self) -> Iterator[None]:
        """Stop all answers of the directory for as long as the block lasts: it reads what nobody writes."""
        aside = self._people.with_name("people.aside")
        self._people.rename(aside)
        os.mkfifo(self._people)
        yield
        aside.rename(self._people)

    def log_in(self, service: Service, typed: str, *answers: str, options: Sequence[str] = ()) -> Outcome:
        """Run one attempt under a name."""
        for answer in answers:
            keep_answer(answer)
        script = "".join(f"={answer}\n" for answer in answers)
        command = self.mounts.command(*service.command(typed, *options))
        done = subprocess.run(command, input=script, capture_output=True, text=True, check=True, timeout=300)
        return Outcome(done.stdout.splitlines()[-1])

    def run(self, program: str, *words: str | Path, around: Sequence[str] = ()) -> Finished:
        """Run one of the programs as root, without a terminal. `around` are words before it, such as a tracer's."""
        path = str(self._installed.root / "scripts" / program)
        command = self.mounts.command(*around, path, *(str(word) for word in words))
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Finished(done.returncode, done.stdout, done.stderr)

    def enrol(self, typed: str, *options: str) -> Phone:
        """Enrol without questions, as root for the user of a name, and return the token."""
        done = self.run("softtoken-enroll", "--user", typed, "--no-confirm", "--json", "--recovery-codes=0", *options)
        assert done.status == 0, done.stderr
        return Phone(json.loads(done.stdout))

    @staticmethod
    def _do(*command: str | Path) -> None:
        subprocess.run(command, check=True, capture_output=True, timeout=60)
