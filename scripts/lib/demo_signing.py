"""The end of the demonstration: sudo asks for a signature over one command, and refuses it for another.

It happens in a mount namespace with its own /etc/sudo.conf and its own records. The machine's stay as they are.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pexpect

SUDO_CONF = Path("/etc/sudo.conf")
_INSIDE = """
mkdir -p /var/lib/softtoken
mount -t tmpfs -o mode=711 tmpfs /var/lib/softtoken
mkdir -m 711 /var/lib/softtoken/sign
mount --bind "$1" "$2"
echo ready
exec cat
"""
REQUEST = re.compile(r"^(stq1\.\S+)\r?$", re.MULTILINE)
URI = re.compile(r"^(otpauth://ocra/\S+)\r?$", re.MULTILINE)
CODE = re.compile(r"^(\d{4} \d{4})\r?$", re.MULTILINE)
SHOWN_CHARACTERS = 60
"""Of a request. The whole line says nothing more to a reader."""


class Host:
    """The namespace in which sudo asks for signatures.

    Args:
        product: the files of a login, in a place that only root can write.
        directory: for its files.
    """

    def __init__(self, product: Path, directory: Path) -> None:
        self._product = product
        conf = directory / "sudo.conf"
        before = SUDO_CONF.read_text() if SUDO_CONF.exists() else ""
        plugin, approver = product / "build/softtoken_approval.so", product / "scripts/softtoken-approver"
        conf.write_text(f"{before}\nPlugin softtoken_approval {plugin} approver={approver}\n")
        self._made = not SUDO_CONF.exists()
        SUDO_CONF.touch()  # to have something to cover
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-euc", _INSIDE, "sh", str(conf), str(SUDO_CONF)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            raise OSError("no mount namespace can be made here")

    def command(self, command: str) -> str:
        """Return the command line that runs a command there."""
        return f"nsenter --mount=/proc/{self._holder.pid}/ns/mnt -- {command}"

    def close(self) -> None:
        """Release the namespace, and all its files with it."""
        self._holder.communicate()
        if self._made:
            SUDO_CONF.unlink(missing_ok=True)


def enrol(spawn: Any, program: str, user: str, laptop: Any) -> str:
    """Enrol a token that signs, and confirm it with the laptop. Return what was shown."""
    screen = spawn(f"{program} --sign --user {user}")
    screen.expect_exact("Press Enter when it is in your soft token: ")
    shown = _shortened(screen.before)
    (uri,) = URI.findall(screen.before)
    laptop.add(uri)
    screen.sendline("")
    screen.expect_exact("Code: ")
    asked = screen.before
    code, _ = laptop.sign(REQUEST.findall(asked)[-1])
    screen.sendline(code)
    screen.expect(pexpect.EOF)
    screen.close()
    if screen.exitstatus != 0:
        raise pexpect.ExceptionPexpect(f"the enrolment of a token that signs failed:\n{shown}{asked}{screen.before}")
    return f"{shown}{_shortened(asked)}Code: {screen.before}"


def _shortened(text: str) -> str:
    """Return a text without most of a request and of a Key URI, which has the key."""
    text = URI.sub("otpauth://ocra/...", text)
    return REQUEST.sub(lambda found: f"{found[1][:SHOWN_CHARACTERS]}...", text)


def ask(spawn: Any, command: str) -> tuple[Any, str, str]:
    """Run a command through sudo up to its question. Return the terminal, what it shows, and the request."""
    screen = spawn(command)
    screen.expect_exact("Code: ")
    (request,) = REQUEST.findall(screen.before)
    return screen, _shortened(screen.before), request
