"""A host on which the real sudo asks for signatures, and a laptop that signs them."""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import socket
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pexpect

from pam_softtoken.account import places, signers
from pam_softtoken.otp import ocra, signing
from pam_softtoken.otp.ocra import OCRAToken, Suite
from pam_softtoken.otp.statement import Statement
from pam_softtoken.otp.token import Secret
from tests.support.account import Person
from tests.support.installation import TREE
from tests.support.private_mounts import PrivateMounts

PLUGIN = TREE / "build" / "softtoken_approval.so"
APPROVER = TREE / "scripts" / "softtoken-approver"
PROMPT = "Code: "
STEP_S = 60
SUDOERS = """
Defaults env_reset
Defaults secure_path="/usr/sbin:/usr/bin:/sbin:/bin"
Defaults lecture=never
root ALL=(ALL:ALL) ALL
"""
_INSIDE = """
mount -t tmpfs -o mode=711 tmpfs /var/lib/softtoken
mkdir -m 711 /var/lib/softtoken/sign
touch "$1/sudo.conf"
mkdir -p "$1/plugins"
[ -e /etc/sudo.conf ] || touch /etc/sudo.conf
mount --bind "$1/sudo.conf" /etc/sudo.conf
"""


class Result(NamedTuple):
    """What a command at sudo showed, without the carriage returns of a terminal, and how it ended."""

    text: str
    status: int

    @property
    def ran(self) -> bool:
        """Whether the command itself ran: all commands of these tests say so, in words that no command line has."""
        return "it_ran" in self.text


class Laptop:
    """A key that signs. It knows nothing but the requests that it is given."""

    def __init__(self, name: str = "laptop") -> None:
        self.token = OCRAToken(
            name, Secret(secrets.token_bytes(32)), suite=Suite.parse(ocra.SIGNING_SUITE), created=1_795_000_000
        )

    def read(self, text: str) -> Statement:
        """Return the statement of the request in a text that is for this key."""
        for request in re.findall(r"stq1\.\S+", text):
            if signing.request_key_id(request) == signing.key_id(self.token.secret.reveal()):
                return signing.read_request(self.token.secret.reveal(), request)
        raise AssertionError(f"no request for this laptop: {text}")

    def sign(self, text: str) -> str:
        """Return the code that signs the request in a text."""
        return signing.sign(self.token.secret.reveal(), self.read(text))


class Asking:
    """A sudo that waits for a code."""

    def __init__(self, terminal: pexpect.spawn[str]) -> None:
        self._terminal = terminal
        found = terminal.expect_exact([PROMPT, pexpect.EOF])
        self.text = str(terminal.before).replace("\r", "")
        self.asks = found == 0

    def answer(self, code: str) -> Result:
        """Type a code, and wait for the end."""
        assert self.asks, self.text
        self._terminal.sendline(code)
        return self.end()

    def answer_and_ask(self, code: str) -> Asking:
        """Type a code, and wait for the next question."""
        assert self.asks, self.text
        self._terminal.sendline(code)
        return Asking(self._terminal)

    def interrupt(self) -> Result:
        """Press Ctrl-C."""
        self._terminal.sendintr()
        return self.end()

    def end(self) -> Result:
        """Wait for the end."""
        self._terminal.expect(pexpect.EOF)
        text = self.text + str(self._terminal.before).replace("\r", "")
        self._terminal.close()
        status = self._terminal.exitstatus
        return Result(text, status if status is not None else -1)


class SignedSudo:
    """Such a host, in a mount namespace. The machine's own sudo.conf and sudoers are not touched.

    Args:
        mounts: the namespace.
        options: of the plugin.
    """

    def __init__(self, mounts: PrivateMounts, *options: str) -> None:
        self.mounts = mounts
        self.conf = mounts.directory / "sudo.conf"
        mounts.set_service(
            "sudo", "auth required pam_permit.so\naccount required pam_permit.so\nsession required pam_permit.so\n"
        )
        self.run_as_root("sh", "-euc", _INSIDE, "sh", str(mounts.directory))
        self.set_plugin(PLUGIN, *options)
        self.set_rules("ALL ALL=(ALL:ALL) NOPASSWD: ALL")

    def set_plugin(self, plugin: Path | None, *options: str, more: str = "") -> None:
        """Replace sudo.conf."""
        words = ["Plugin", "softtoken_approval", str(plugin), f"approver={APPROVER}", *options]
        self.conf.write_text((" ".join(words) if plugin else "") + f"\n{more}\n")

    def set_rules(self, *rules: str) -> None:
        """Replace the rules of sudoers."""
        (self.mounts.directory / "sudoers").write_text(SUDOERS + "\n".join(rules) + "\n")

    def run_as_root(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command there as root."""
        command = self.mounts.command(*words)
        return subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=STEP_S, stdin=subprocess.DEVNULL
        )

    def enrol(self, person: Person, *laptops: Laptop) -> None:
        """Write the tokens of a user, as softtoken-enroll does."""
        directory = self.store_of(person)
        directory.mkdir(mode=0o700, exist_ok=True)
        tokens = tuple(laptop.token for laptop in laptops)
        new = directory / "new"
        new.write_bytes(signers.serialise(tokens, owner=(person.name, person.uid)))
        new.chmod(0o600)
        new.rename(directory / "tokens")
        self.mounts.path(signers.name_mark(person.name)).touch()

    def last_line(self) -> str:
        """Return the last line of the log about signatures; empty if there is none."""
        return next((line for line in reversed(self.mounts.log.ours()) if "(sudo:sign)" in line), "")

    def approvers(self) -> list[str]:
        """Return the processes of approvers there."""
        inside = os.readlink(self.mounts.path("").parent / "ns" / "mnt")
        command = ["pgrep", "--full", str(APPROVER)]
        found = subprocess.run(command, check=False, capture_output=True, text=True).stdout.split()
        return [pid for pid in found if _mounts_of(pid) == inside]

    def store_of(self, person: Person) -> Path:
        """Return the directory of a user's tokens that sign."""
        return self.mounts.path(f"{places.SIGNERS}/{person.uid}")

    def command(self, person: Person, *words: str | Path, around: Sequence[str] = ()) -> list[str]:
        """Return the command line that runs sudo there as a person, in their home directory."""
        place = ["env", f"--chdir={person.home}"]
        return self.mounts.command(*person.identity, *place, *around, "sudo", *(str(word) for word in words))

    def ask(self, person: Person, *words: str | Path, around: Sequence[str] = ()) -> Asking:
        """Start sudo on a terminal, and wait until it asks or ends."""
        command = self.command(person, *words, around=around)
        return Asking(pexpect.spawn(command[0], command[1:], encoding="utf-8", timeout=STEP_S, dimensions=(24, 400)))

    def without_terminal(self, person: Person, *words: str, typed: str = "") -> Result:
        """Run sudo without a terminal."""
        done = subprocess.run(
            ["setsid", "--wait", *self.command(person, *words)],
            input=typed,
            capture_output=True,
            text=True,
            timeout=STEP_S,
            check=False,
        )
        return Result(done.stdout + done.stderr, done.returncode)


def _run(command: list[str], typed: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=typed, capture_output=True, text=True, timeout=STEP_S, check=False)


def run_directory(host: SignedSudo, person: Person) -> Path:
    """Create the user's directory below /run/user, and return its outside path."""
    directory = host.mounts.path(f"/run/user/{person.uid}")
    directory.mkdir(parents=True, mode=0o755, exist_ok=True)
    os.chown(directory, person.uid, person.gid)
    return directory


class Listener:
    """What `softtoken sign --listen` is to the host: a socket in the user's directory below /run/user.

    Args:
        host, person: where the socket is, and whose.
        reply: gets the request, and returns what is sent back; None to send nothing and keep the connection.
    """

    def __init__(self, host: SignedSudo, person: Person, reply: Callable[[str], bytes | None]) -> None:
        self.path = run_directory(host, person) / "softtoken-sign"
        self.requests: list[str] = []
        self._reply = reply
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(self.path))
        os.chown(self.path, person.uid, person.gid)
        self._socket.listen(4)
        self._clients: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            self._clients.append(client)
            self.requests.append(client.makefile().readline())
            answer = self._reply(self.requests[-1])
            if answer is not None:
                client.sendall(answer)
                client.close()

    def close(self) -> None:
        """Stop listening. The socket's file stays, as after a lost connection of ssh."""
        with contextlib.suppress(OSError):  # it was closed before
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for client in self._clients:
            client.close()


def _mounts_of(pid: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return ""
