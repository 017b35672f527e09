"""Other products: files of google-authenticator and pam_oath, made and used by their own programs and modules."""

from __future__ import annotations

import base64
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from pam_softtoken.interchange import reader
from pam_softtoken.interchange.record import Imported
from tests.support.client import Service
from tests.support.leak import keep, keep_code
from tests.support.pam_scene import ROOT

KEY_HEX = b"12345678901234567890".hex()
Stack = Callable[[str], Service]


def oathtool_of(key_hex: str, *options: str) -> str:
    return subprocess.run(["oathtool", *options, key_hex], check=True, capture_output=True, text=True).stdout.strip()


def hotp(key_hex: str, counter: int, digits: int = 6) -> str:
    return keep_code(oathtool_of(key_hex, "--hotp", f"--counter={counter}", f"--digits={digits}"))


def totp(key_hex: str, step: int, digits: int = 6) -> str:
    # The TOTP of second N with steps of one second is the HOTP of counter N (RFC 6238, section 4.2).
    return keep_code(oathtool_of(key_hex, "--totp", "--time-step-size=1s", f"--now=@{step}", f"--digits={digits}"))


class Google:
    """A file that the program google-authenticator made, and a service whose module uses it."""

    def __init__(self, path: Path, stack: Stack, *options: str) -> None:
        command = ["google-authenticator", "--force", "--quiet", f"--secret={path}", *options]
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL)
        self.path = path
        self.service = stack(f"auth required pam_google_authenticator.so secret={path} user=root\n")
        text = keep(path.read_text().splitlines()[0])
        self.key_hex = base64.b32decode(text + "=" * (-len(text) % 8)).hex()
        self.scratch_codes = [line for line in path.read_text().splitlines() if line.isdecimal()]

    def log_in(self, code: str) -> int:
        return self.service.log_in(ROOT, code).result

    def insert(self, option: str) -> None:
        key, _, rest = self.path.read_text().partition("\n")
        self.path.chmod(0o600)
        self.path.write_text(f'{key}\n" {option}\n{rest}')

    def imported(self) -> Imported:
        (record,) = reader.read(self.path.read_bytes(), path=str(self.path), now=int(time.time())).found
        assert record.token.secret.reveal().hex() == self.key_hex
        return record


class Oath:
    """A users file with one line, and a service whose module uses it."""

    def __init__(self, path: Path, stack: Stack, kind: str, *fields: str, options: str = "") -> None:
        path.touch(mode=0o600)
        path.write_text("\t".join((kind, ROOT, "-", KEY_HEX, *fields)) + "\n")
        self.path = path
        self.service = stack(f"auth required pam_oath.so usersfile={path} window=10 {options}\n")

    def log_in(self, code: str) -> int:
        return self.service.log_in(ROOT, code).result

    def imported(self) -> Imported:
        (record,) = reader.read(self.path.read_bytes(), path=str(self.path), now=int(time.time())).found
        assert (record.user, record.token.secret.reveal().hex()) == (ROOT, KEY_HEX)
        return record
