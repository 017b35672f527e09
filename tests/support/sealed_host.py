"""A host whose token files are root's, in a mount namespace, with a place for the seal key and, if asked, a TPM."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.support.account import Person, Phone
from tests.support.client import PERMIT
from tests.support.directory_service import DirectoryService
from tests.support.enroller import ENVIRONMENT, Dialogue, Finished
from tests.support.installation import TREE
from tests.support.leak import keep
from tests.support.pam_scene import Pam
from tests.support.process import wait_until

TEMPLATE = "/var/lib/softtoken/%U"
TYPE_IT, RECOVERY_KEY = "Type it to go on:", "Recovery key:"
_INSIDE = """
mkdir -p /etc/softtoken
mount --bind "$1/keys" /etc/softtoken
cp -a /etc/systemd/system "$1/units"
mount --bind "$1/units" /etc/systemd/system
cp "$2" /etc/systemd/system/softtoken-key.service
"""
_WRAPPER = """#!/usr/bin/python3 -IS
import os, socket, sys
try:
    with socket.create_connection(("127.0.0.1", {port})) as channel:
        # TPM2_FlushContext of all that a process has left, as the kernel does behind /dev/tpmrm0.
        for handle in (kind + number for kind in (0x02000000, 0x03000000, 0x80000000) for number in range(4)):
            channel.sendall(bytes.fromhex(f"80010000000e00000165{{handle:08x}}"))
            channel.recv(4096)
except OSError:
    pass
os.environ["SYSTEMD_TPM2_DEVICE"] = "swtpm:host=127.0.0.1,port={port}"
os.execv({real!r}, sys.argv)
"""
_UNIT = TREE / "debian" / "libpam-softtoken.softtoken-key.service"


class SealedHost:
    """Such a host. Nothing is sealed at first.

    Args:
        directory: the namespace.
        pam: makes its services.

    Attributes:
        keys: the stand-in for /etc/softtoken.
        loaded: the stand-in for the file in /run.
        store: the stand-in for /var/lib/softtoken.
    """

    def __init__(self, directory: DirectoryService, pam: Pam) -> None:
        self.directory = directory
        self.log = directory.log
        self.store = directory.state
        self.keys = directory.directory / "keys"
        self.keys.mkdir(0o755)
        directory.set_conf(f"store = {TEMPLATE}\n")
        inside = directory.mounts.command("sh", "-euc", _INSIDE, "sh", str(directory.directory), str(_UNIT))
        subprocess.run(inside, check=True, capture_output=True, timeout=60)
        self.loaded = directory.mounts.path("/run/softtoken-key/host.key")
        self.program = pam.installed.root / "scripts" / "softtoken-admin"
        self._service = pam.stack(pam.installed.line(f"store={TEMPLATE}", "nullok") + PERMIT)

    @property
    def key_file(self) -> Path:
        return self.keys / "host.key"

    def tokens_of(self, person: Person) -> Path:
        """Return the path of a user's token file."""
        return self.store / str(person.uid) / "tokens"

    def enrol(self, person: Person, *options: str) -> Phone:
        return self.directory.enrol(person.name, "--type=hotp", *options)

    def log_in(self, person: Person, answer: str) -> tuple[int, int, str]:
        """Run one attempt. Return the PAM code, the number of prompts, and the logged reason."""
        outcome = self.directory.log_in(self._service, person.name, answer)
        return outcome.result, len(outcome.prompts), self.log.reasons()[-1]

    def run(self, *words: str, around: Sequence[str] = ()) -> Finished:
        """Run `softtoken-admin seal` without a terminal."""
        return self.directory.run("softtoken-admin", "seal", *words, around=around)

    def start(self, *words: str, program: Sequence[str] = ()) -> Dialogue:
        """Start `softtoken-admin seal` in a terminal."""
        admin = program or (str(self.program),)
        command = self.directory.mounts.command(*admin, "seal", *words)
        return Dialogue(command, person=None, environment=ENVIRONMENT, columns=100)

    def seal(self, *words: str, program: Sequence[str] = ()) -> str:
        """Run a command that makes a key, and type the recovery key back. Return it."""
        with self.start(*words, program=program) as dialogue:
            text = shown_key(dialogue.expect(TYPE_IT))
            dialogue.type(text)
            assert dialogue.finish() == 0, dialogue.transcript
        return text

    def recover(self, *typed: str, options: Sequence[str] = ()) -> tuple[int, str]:
        """Run `--recover`, and type recovery keys. Return the exit status and what the terminal showed."""
        with self.start("--recover", *options) as dialogue:
            for line in typed:
                dialogue.expect("ecovery key")
                dialogue.type(line)
            return dialogue.finish(), dialogue.transcript

    def status(self) -> dict[str, object]:
        """Return what `--status` says."""
        done = self.run("--status", "--json")
        assert done.status == 0, done.stderr
        found = json.loads(done.stdout)
        assert isinstance(found, dict)
        return found

    def unit_status(self) -> int:
        """Run the commands of softtoken-key.service, as the start of the machine does. Return the first failure."""
        lines = re.findall(r"^ExecStart=(.+)$", _UNIT.read_text(), re.MULTILINE)
        script = "\n".join(("umask 0277", "mkdir -p -m 700 /run/softtoken-key", *lines))
        command = self.directory.mounts.command("sh", "-euc", script)
        return subprocess.run(command, check=False, capture_output=True, timeout=60).returncode

    def start_unit(self) -> None:
        """Run the same. It must succeed."""
        assert self.unit_status() == 0

    def findings(self) -> list[tuple[str, str, str]]:
        """Return what `doctor` says about the seal: severity, place, cure."""
        done = self.directory.run("softtoken-admin", "doctor", "--json")
        found = [each for each in json.loads(done.stdout)["findings"] if each["family"] == "seal"]
        return [(each["severity"], each["what"], each["mend"]) for each in found]


def shown_key(text: str) -> str:
    """Return the recovery key in a text. It is kept, so that it is looked for in everything that is left behind."""
    (found,) = re.findall(r"\b(?:[A-Z2-7]{4}-){13}[A-Z2-7]{4}\b", text)
    return keep(found)


def _two_free_ports() -> int:
    """Return a free TCP port. The next one is free, too."""
    while True:
        with socket.socket() as first, socket.socket() as second, contextlib.suppress(OSError, OverflowError):
            first.bind(("127.0.0.1", 0))
            port = int(first.getsockname()[1])
            second.bind(("127.0.0.1", port + 1))
            return port


class TPM:
    """A software TPM (swtpm), which systemd-creds on a host uses in place of a device.

    Args:
        host: the host.
        state: a directory for the TPM's memory.
    """

    def __init__(self, host: SealedHost, state: Path) -> None:
        self._state = state
        state.mkdir(exist_ok=True)
        self._port = _two_free_ports()
        self._control = self._port + 1  # systemd-creds expects it there
        wrapper = host.directory.directory / "systemd-creds"
        real = host.directory.directory / "systemd-creds.real"
        real.write_bytes(Path("/usr/bin/systemd-creds").read_bytes())
        real.chmod(0o755)
        wrapper.write_text(_WRAPPER.format(port=self._port, real=str(real)))
        wrapper.chmod(0o755)
        mount = host.directory.mounts.command("mount", "--bind", str(wrapper), "/usr/bin/systemd-creds")
        subprocess.run(mount, check=True, timeout=60)
        self._process: subprocess.Popen[bytes] | None = None
        self.turn_on()

    def turn_on(self) -> None:
        """Start it, as the machine starts."""
        words = [
            "swtpm",
            "socket",
            "--tpm2",
            "--tpmstate",
            f"dir={self._state}",
            "--flags",
            "not-need-init,startup-clear",
        ]
        words += ["--server", f"type=tcp,port={self._port},bindaddr=127.0.0.1"]
        words += ["--ctrl", f"type=tcp,port={self._control},bindaddr=127.0.0.1"]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._answers, "the TPM to answer")

    def _answers(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._control)) == 0

    def turn_off(self) -> None:
        """Shut it down as the kernel does, or it would take the next start for an attack."""
        if self._process is None:
            return
        self.command("8001 0000000c 00000145 0000")  # TPM2_Shutdown(CLEAR)
        self._process.kill()
        self._process.wait(60)
        self._process = None

    def command(self, digits: str) -> bytes:
        """Send one command of the TPM's own protocol."""
        with socket.create_connection(("127.0.0.1", self._port), timeout=60) as channel:
            channel.sendall(bytes.fromhex(digits))
            return channel.recv(4096)

    def extend(self, pcr: int) -> None:
        """Measure something into a PCR."""
        session = "00000009 40000009 0000 00 0000"
        self.command(f"8002 00000041 00000182 {pcr:08x} {session} 00000001 000b {'ab' * 32}")

    def forget_everything(self) -> None:
        """Start again as another TPM, as on another mainboard."""
        self.turn_off()
        for path in self._state.iterdir():
            path.unlink()
        self.turn_on()
