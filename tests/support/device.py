"""Run `softtoken` as a user or a script does, with its own vault."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pam_softtoken.device.entry import Entry
from pam_softtoken.device.sealing import Cost
from pam_softtoken.device.vault import Vault
from pam_softtoken.interchange.record import SHORTEST_KEY_BYTES
from pam_softtoken.otp.token import HOTPToken, Secret, TOTPToken
from tests.support.enroller import Dialogue, Finished
from tests.support.installation import TREE

TIMEOUT_S = 120
PASSPHRASE = "correct horse"
CHEAP = Cost(10, 1, 1)
"""The cost of vaults in tests, in the tested program too, unless the cost matters. Users have `sealing.COST`."""
RFC_KEY = b"12345678901234567890"
RFC_KEY_BASE32 = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
RFC_HOTP = ("755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489")
"""RFC 4226, appendix D."""
REAL_PROGRAM = (sys.executable, "-I", str(TREE / "scripts" / "softtoken"))
PROGRAM = (sys.executable, "-I", str(TREE / "tests" / "support" / "cheap_softtoken.py"))


def totp(name: str, key: bytes = RFC_KEY, *, issuer: str = "", digits: int = 6, period_s: int = 30) -> Entry:
    """Return a time-based entry."""
    secret = Secret(key, min_bytes=SHORTEST_KEY_BYTES)
    return Entry(TOTPToken(name, secret, algorithm="SHA1", digits=digits, created=0, period_s=period_s), issuer)


def hotp(name: str, key: bytes = RFC_KEY, *, counter: int = 0) -> Entry:
    """Return a counter-based entry."""
    return Entry(HOTPToken(name, Secret(key), algorithm="SHA1", digits=6, created=0, counter=counter))


def write_vault(path: Path, entries: Iterable[Entry], *, cost: Cost = CHEAP, passphrase: str = PASSPHRASE) -> Vault:
    """Write a vault to a path where there is none."""
    vault = Vault(str(path), cost=cost)
    vault.create(passphrase.encode())
    with vault.changing() as content:
        content.extend(entries)
    return vault


class Mistake:
    """The program's output for a failure: one `error:` line and one `hint:` line, and no more.

    Args:
        said: everything that it wrote to stderr.
    """

    def __init__(self, said: str) -> None:
        *before, error, hint = said.replace("\r\n", "\n").rstrip("\n").split("\n")
        self.before = "\n".join(before)
        assert error.startswith("softtoken: error: "), said
        assert hint.startswith("softtoken: hint: "), said
        assert "Traceback" not in said, said
        self.error, self.hint = error.removeprefix("softtoken: error: "), hint.removeprefix("softtoken: hint: ")
        for text in (self.error, self.hint):
            assert text, said
            assert not text.endswith("."), said


class Device:
    """A user's device.

    Args:
        data: its $XDG_DATA_HOME.
    """

    def __init__(self, data: Path) -> None:
        self.data = data
        self.directory = data / "softtoken"
        self.path = self.directory / "vault"
        self.environment = {
            "PATH": "/usr/bin:/bin",
            "LC_ALL": "C.UTF-8",
            "TERM": "xterm-256color",
            "HOME": str(data),
            "XDG_DATA_HOME": str(data),
        }

    def run(
        self,
        *words: str | Path,
        passphrase: str | None = PASSPHRASE,
        typed: bytes = b"",
        environment: Mapping[str, str] | None = None,
        before: Sequence[str] = (),
    ) -> Finished:
        """Run it with pipes and without a terminal.

        Args:
            passphrase: sent through a descriptor. None: the option is left out.
            typed: its standard input.
            environment: additional variables.
            before: words before the program's own, such as a tracer's.
        """
        source, end = os.pipe()
        with os.fdopen(end, "w") as file:
            file.write(f"{passphrase}\n")
        command = [*before, *PROGRAM, *map(str, words)]
        if passphrase is not None:
            command += ["--passphrase-fd", str(source)]
        try:
            done = subprocess.run(
                command,
                input=typed,
                capture_output=True,
                check=False,
                env={**self.environment, **(environment or {})},
                pass_fds=(source,),
                timeout=TIMEOUT_S,
                start_new_session=True,
            )
        finally:
            os.close(source)
        return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())

    def did(self, *words: str | Path, typed: bytes = b"") -> str:
        """Run it, check that it succeeds, and return its stdout."""
        done = self.run(*words, typed=typed)
        assert done.status == 0, done.stderr
        return done.stdout

    def refused(self, *words: str | Path, status: int = 1, passphrase: str = PASSPHRASE, typed: bytes = b"") -> Mistake:
        """Run it. Check that it refuses and leaves the vault unchanged."""
        held = self.path.read_bytes() if self.path.exists() else None
        done = self.run(*words, passphrase=passphrase, typed=typed)
        assert done.status == status, done.stderr
        assert done.stdout == ""
        assert (self.path.read_bytes() if self.path.exists() else None) == held
        mistake = Mistake(done.stderr)
        assert not mistake.before
        return mistake

    def start(self, *words: str | Path, columns: int = 80) -> Dialogue:
        """Start it in a terminal."""
        return Dialogue((*PROGRAM, *words), person=None, environment=self.environment, columns=columns)

    def hold(self, *entries: Entry) -> Vault:
        """Create its vault with some entries."""
        return write_vault(self.path, entries)

    def content(self, passphrase: str = PASSPHRASE) -> list[Entry]:
        """Return the content of the vault."""
        return Vault(str(self.path)).open(passphrase.encode())
