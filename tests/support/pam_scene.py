"""Parts of the scenarios of `tests/pam`: lines of a stack, backends that misbehave, clocks that stand still."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from pam_softtoken.account import state, state_format
from tests.support.account import Person, Phone
from tests.support.client import ECHO_OFF, PERMIT, Service
from tests.support.installation import Installation
from tests.support.leak import keep
from tests.support.system_log import SystemLog

STEADY_S = 30
"""More than a test needs between looking at the clock and the last login that depends on the time step."""


OURS = "pam_softtoken(softtoken-test:auth)"
NO_CODES = "--recovery-codes=0"
"""Recovery codes take half a second to hash; most tests need none."""
PROMPT = [(ECHO_OFF, "Verification code: ")]
NOBODY = "nobody-of-that-name-here"
ROOT = "root"
"""The user where it does not matter who logs in."""
ALERT, ERR, NOTICE, INFO, DEBUG = 1, 3, 5, 6, 7
_AUTHPRIV = 10 << 3


def severities(log: SystemLog) -> list[int]:
    """Return the syslog severities of our lines, without debugging. All must go to the private facility."""
    log.ours()
    numbers = [int(line[1 : line.index(">")]) for line in log.lines if "pam_softtoken(" in line]
    assert all(number & ~7 == _AUTHPRIV for number in numbers)
    return [number & 7 for number in numbers if number & 7 != DEBUG]


class Pam:
    """Stacks in private directories.

    Attributes:
        installed: the module's copy that they run.
        stack: makes a service from the text of its stack.
    """

    def __init__(self, installed: Installation, stack: Callable[[str], Service]) -> None:
        self.installed = installed
        self.stack = stack

    def service(self, *options: str) -> Service:
        """Return a service with only our module."""
        return self.stack(self.line(f"backend={self.installed.backend}", *options))

    def only_ignore(self, *options: str) -> Service:
        """Return a service that accepts a user if our module returns `PAM_IGNORE`, but not for `PAM_SUCCESS`."""
        ours = self.line(f"backend={self.installed.backend}", *options, control="[ignore=1 default=die]")
        return self.stack(ours + "auth requisite pam_deny.so\n" + PERMIT)

    def with_backend(self, backend: Path | str, *options: str) -> Service:
        """Return a service whose module runs another backend."""
        return self.stack(self.line(f"backend={backend}", *options))

    def line(self, *options: str, control: str = "required") -> str:
        """Return a PAM line with only these options. Those with spaces get their brackets."""
        words = [option if " " not in option else "[" + option.replace("]", "\\]") + "]" for option in options]
        return f"auth {control} {self.installed.bridge} {' '.join(words)}\n"


def wait_until(condition: Callable[[], bool], what: str, *, patience_s: float = 60) -> None:
    """Wait for a condition of the outside world. Check it every few milliseconds."""
    deadline = time.monotonic() + patience_s
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain until {what}")
        time.sleep(0.002)


TICK_S = 0.05
"""More than time(2), which other modules use, can lag behind the clock: one tick of the kernel."""


def steady_step(period_s: int) -> int:
    """Return the present time step, once it lasts long enough for all logins of the test."""
    margin_s = min(STEADY_S, period_s // 2)
    wait_until(
        lambda: TICK_S <= time.time() % period_s < period_s - margin_s, "a new time step began", patience_s=margin_s + 2
    )
    return int(time.time()) // period_s


def oathtool(phone: Phone, first: int, count: int = 1) -> list[str]:
    """Run oathtool to compute the codes of some consecutive counters or time steps.

    The TOTP of second N with steps of one second is the HOTP of counter N (RFC 6238, section 4.2). oathtool's own HOTP
    supports only SHA-1.
    """
    record = phone.record
    command = ["oathtool", "--base32", f"--digits={record['digits']}", f"--window={count - 1}"]
    if record["type"] == "hotp" and record["algorithm"] == "SHA1":
        command += ["--hotp", f"--counter={first}"]
    else:
        command += [f"--totp={record['algorithm']}", "--time-step-size=1s", f"--now=@{first}"]
    done = subprocess.run([*command, str(record["key"])], check=True, capture_output=True, text=True)
    return done.stdout.split()


def wrong_code(phone: Phone) -> str:
    """Return a code that is right neither now, nor for a long time around now, nor for the first thousand counters."""
    if phone.record["type"] == "hotp":
        near = set(oathtool(phone, 0, 1000))
    else:
        near = set(oathtool(phone, int(time.time()) // int(str(phone.record["period"])) - 500, 1000))
    digits = int(str(phone.record["digits"]))
    return next(code for code in (str(number).zfill(digits) for number in range(2000)) if code not in near)


def hash_anew(tokens: Path, codes: list[str], cost: int) -> None:
    """Write other hashes of the same codes to a token file: scrypt (RFC 7914) of the 12 characters."""
    document = json.loads(tokens.read_text())
    salt = bytes.fromhex(document["recovery"]["salt"])
    hashes = [hashlib.scrypt(code.replace("-", "").encode(), salt=salt, n=cost, r=8, p=1, dklen=16) for code in codes]
    document["recovery"].update(scrypt=[cost, 8, 1], hashes=[entry.hex() for entry in hashes])
    tokens.write_text(json.dumps(document))


def set_pin(tokens: Path, pin: str, *, cost: int = 1024) -> None:
    """Write a PIN to a token file: its scrypt (RFC 7914), at the lowest cost that is allowed, and its length."""
    document = json.loads(tokens.read_text())
    digest = hashlib.scrypt(
        (pin if pin.isdecimal() else keep(pin)).encode(), salt=bytes(16), n=cost, r=8, p=1, dklen=16
    ).hex()
    document["pin"] = {"scrypt": [cost, 8, 1], "salt": "00" * 16, "hash": digest, "length": len(pin)}
    tokens.write_text(json.dumps(document))


class Backends:
    """Backends of our own, each in a directory owned by root.

    Args:
        parent: a directory that everybody can enter.
    """

    def __init__(self, parent: Path) -> None:
        self._parent = parent

    def make(self, *, script: str, mode: int = 0o644) -> Path:
        """Write a backend that reads the bridge's first frame and then runs `script`.

        The script can use `send(type, number, text)` and `receive()`, and the bytes of the first frame as `start`.
        """
        directory = Path(tempfile.mkdtemp(prefix="backend-", dir=self._parent))
        directory.chmod(0o755)
        path = directory / "backend.py"
        path.write_text(_PREAMBLE + script + "\n")
        path.chmod(mode)
        return path


_PREAMBLE = """\
import os, signal, time
def send(kind, number, text=b"", version=1):
    os.write(0, bytes((version,)) + kind + bytes((number,)) + text)
def receive():
    return os.read(0, 65536)
def wait_for_the_end():
    while receive():
        pass
start = receive()
"""


class Clock:
    """A clock that a real backend reads instead of the machine's. Everything else about the login is real.

    Args:
        directory: a new directory owned by root that everybody can enter.
        installed: the installation with the backend.
        patient: refusals come with their usual delay. Tests that do not time them can do without it.
    """

    def __init__(self, directory: Path, installed: Installation, *, patient: bool = True) -> None:
        directory.mkdir(mode=0o755)
        directory.chmod(0o755)
        self.path = directory / "now"
        self._boot = directory / "boot"
        self.backend = directory / "softtoken-backend"
        self.backend.write_text(
            "import sys, types\n"
            f"sys.path.insert(0, {str(installed.root)!r})\n"
            "from pam_softtoken.login import login\n"
            "real = login.time\n"
            f"login.time = types.SimpleNamespace(time=lambda: float(open({str(self.path)!r}).read()),\n"
            f"    monotonic=real.monotonic, sleep={'real.sleep' if patient else 'lambda seconds: None'})\n"
            "from pam_softtoken.account import proc as process\n"
            "real_boot, real_id = process.boot, process.boot_id\n"
            f"started, passed_s = open({str(self._boot)!r}).read().split()\n"
            "process.boot_id = lambda: real_id() if started == 'this' else started\n"
            "process.boot = lambda: process.Boot(real_boot().name, real_boot().uptime_s + int(passed_s))\n"
            "from pam_softtoken.bridge.backend import main\n"
            "main(__file__)\n"
        )
        self.set(time.time())
        self.run_for(0)

    def run_for(self, seconds: int, *, started: str = "this") -> None:
        """Set the time since the machine's start, in seconds, independent of its clock. `started` names the start."""
        self._boot.write_text(f"{started} {seconds}")
        self._boot.chmod(0o644)

    def set(self, now: float) -> None:
        """Set the time."""
        self.path.write_text(repr(now))
        self.path.chmod(0o644)


def lock_out(person: Person, store: Path | None = None) -> None:
    """Record so many wrong codes on this host that the longest wait begins. No test outlasts it."""
    rewrite_state(person, lambda present: present.with_wrong("local", 100, int(time.time())), store)


def read_state(person: Person) -> state.State:
    """Return the content of a state file."""
    return state_format.decode((person.store / "state").read_bytes(), path="state")[1]


def rewrite_state(person: Person, change: Callable[[state.State], state.State], store: Path | None = None) -> None:
    """Change the content of a state file, as one of our programs would."""
    file = (store or person.store) / "state"
    sequence, present = state_format.decode(file.read_bytes(), path="state")
    with file.open("r+b") as slots:
        slots.seek(state_format.place_of(sequence + 1))
        slots.write(state_format.encode(change(present), sequence + 1))
