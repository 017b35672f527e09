"""Throw-away users of the machine, and their soft tokens."""

from __future__ import annotations

import json
import pwd
import secrets
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pam_softtoken.account import account_record, signers
from pam_softtoken.fleet import local_record
from tests.support.installation import Installation
from tests.support.leak import keep, keep_code


@contextmanager
def resident_of(homes: Path) -> Iterator[Person]:
    """Return a user that serves many tests, with a home in a new directory. Making one takes longer than most tests."""
    homes.mkdir(mode=0o755)
    homes.chmod(0o755)
    person = Person(homes)
    yield person
    person.remove()


class Phone:
    """A soft token: oathtool, which shares no code with us.

    Args:
        record: the output of `softtoken-enroll --json`.
    """

    def __init__(self, record: dict[str, object]) -> None:
        self.record = record
        self.recovery_codes = [keep(str(code)) for code in record["recovery_codes"]]  # type: ignore[attr-defined]
        keep(str(record["key"]))
        self.counter = int(str(record["counter"] or 0))

    def totp(self, steps: int = 0) -> str:
        """Return the code of the present time step, or of one `steps` later.

        A test that needs two codes first uses that of step 0, then that of step 1. With the default window, both are
        accepted now. They are still accepted if a step ends in between.
        """
        period_s = int(str(self.record["period"]))
        when = int(time.time()) + steps * period_s
        mode = f"--totp={self.record['algorithm']}"
        return self._oathtool(mode, "--time-step-size", f"{period_s}s", "--now", f"@{when}")

    def hotp(self) -> str:
        """Return the next code of a HOTP token."""
        code = self.hotp_at(self.counter)
        self.counter += 1
        return code

    def hotp_at(self, counter: int) -> str:
        """Return the code of any counter."""
        algorithm = str(self.record["algorithm"])
        if algorithm == "SHA1":
            return self._oathtool("--hotp", "--counter", str(counter))
        # oathtool's HOTP is SHA-1 only. The TOTP of second N with steps of 1 s is the HOTP of counter N: RFC 6238, 4.2.
        return self._oathtool(f"--totp={algorithm}", "--time-step-size", "1s", "--now", f"@{counter}")

    def next(self) -> str:
        """Return a code that has not been shown: for HOTP any number of times, for TOTP once."""
        return self.hotp() if self.record["type"] == "hotp" else self.totp(1)

    def _oathtool(self, *options: str) -> str:
        command = ["oathtool", "--base32", "--digits", str(self.record["digits"]), *options, str(self.record["key"])]
        return keep_code(subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip())


REALM = "office"
"""The realm of all tests that have one."""
RECORDS = Path("/run/softtoken")
"""Where uses are kept while a home is read-only."""


class Person:
    """A user of this machine, made for one test.

    Attributes:
        name, password, home, uid: as in the password database.
    """

    def __init__(self, homes: Path) -> None:
        self.name = f"st{secrets.token_hex(4)}"
        self.password = keep(secrets.token_urlsafe(12))
        self.home = homes / self.name
        command = ["useradd", "--create-home", "--home-dir", str(self.home), "--shell", "/bin/bash", self.name]
        subprocess.run(command, check=True, capture_output=True)
        subprocess.run(["chpasswd"], check=True, input=f"{self.name}:{self.password}\n", text=True)
        self.home.chmod(0o755)
        entry = pwd.getpwnam(self.name)
        self.uid, self.gid = entry.pw_uid, entry.pw_gid
        self.forget_on_the_host()  # a killed run may have left files of a user with this uid

    @property
    def identity(self) -> list[str]:
        """Return the words before a command that run it with the user's uid and groups."""
        return ["setpriv", f"--reuid={self.name}", f"--regid={self.gid}", "--init-groups"]

    @property
    def store(self) -> Path:
        """Return the directory of the token file."""
        return self.home / ".softtoken"

    @property
    def _mark(self) -> Path:
        return Path("/var/lib/softtoken/enrolled") / str(self.uid)

    @property
    def revocations(self) -> Path:
        """Return root's records of revoked tokens."""
        return Path("/var/lib/softtoken/revoked") / str(self.uid)

    def forget_on_the_host(self) -> None:
        """Remove what root's files record about this user."""
        self._mark.unlink(missing_ok=True)
        for path in (account_record.record_of(self.name), account_record.record_of_home(str(self.home))):
            Path(path).unlink(missing_ok=True)
        shutil.rmtree(self.revocations, ignore_errors=True)
        shutil.rmtree(signers.uid_mark(self.uid), ignore_errors=True)
        Path(signers.name_mark(self.name)).unlink(missing_ok=True)
        Path(local_record.path_of(REALM, self.name)).unlink(missing_ok=True)
        for record in RECORDS.glob(f"{self.uid}-*"):
            record.unlink()

    def enrol(self, installed: Installation, *options: str) -> Phone:
        """Enrol without questions, as root for this user, and return their token."""
        command = [str(installed.enroll), "--user", self.name, "--no-confirm", "--json", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise AssertionError(f"enrolment failed: {done.stderr}")
        return Phone(json.loads(done.stdout))

    def forget(self) -> None:
        """Remove the token file's directory and the enrolled mark, as if the user had never enrolled."""
        self._mark.unlink(missing_ok=True)
        shutil.rmtree(self.store, ignore_errors=True)

    def remove(self) -> None:
        """Remove the user and their home directory."""
        subprocess.run(["pkill", "-KILL", "-u", self.name], check=False, capture_output=True)
        self.forget_on_the_host()
        subprocess.run(["userdel", "--remove", "--force", self.name], check=True, capture_output=True)
