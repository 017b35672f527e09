"""An sshd in its own network and mount namespace, and logins with some proofs and without others."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterable

from tests.support.account import Person, Phone
from tests.support.private_mounts import PrivateMounts
from tests.support.process import wait_until

KEY, PASSWORD, CODE = "key", "password", "code"
PROOFS = (KEY, PASSWORD, CODE)
NEAR, FAR = "10.7.7.7", "192.0.2.1"
"""Two addresses of the machine. A client can connect from each of them."""
_ANSWER = """#!/bin/sh
case $1 in *[Pp]assword*) printf '%s\\n' "$TYPED_PASSWORD" ;; *) printf '%s\\n' "$TYPED_CODE" ;; esac
"""
_PATIENCE_S = 120


class Gate:
    """Debian's sshd with additional settings, and clients that connect to it.

    Args:
        mounts: with its own network.
        settings: lines of sshd_config.
    """

    def __init__(self, mounts: PrivateMounts, settings: str) -> None:
        self.mounts = mounts
        self._directory = mounts.directory / "gate"
        self._directory.mkdir(mode=0o755)
        self._log = self._directory / "sshd.log"
        self._phones: dict[str, Phone] = {}
        self._passwords: dict[str, str] = {}
        for name in ("client_key", "other_key", "host_key"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self._directory / name)]
            subprocess.run(words, check=True)
        (self._directory / "answer").write_text(_ANSWER)
        (self._directory / "answer").chmod(0o755)
        ssh = mounts.directory / "ssh"
        (ssh / "keys").mkdir(mode=0o755)
        (ssh / "sshd_config").write_text(
            f"Include /etc/ssh/sshd_config.d/*.conf\nHostKey {self._directory}/host_key\nPidFile /run/sshd.pid\n"
            "AuthorizedKeysFile .ssh/authorized_keys /etc/ssh/keys/%u\nMaxStartups 100\n"
            f"UsePAM yes\nKbdInteractiveAuthentication no\n{settings}"
        )
        common = mounts.directory / "pam.d" / "common-auth"
        common.write_text(common.read_text().replace("pam_unix.so nullok", "pam_unix.so nullok nodelay"))
        self.server = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        words = ["setpriv", "--pdeathsig", "TERM", "/usr/sbin/sshd", "-D", "-e"]
        with self._log.open("wb") as log:
            server = subprocess.Popen(
                self.mounts.command(*words), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
            )
        wait_until(lambda: "Server listening" in self._log.read_text() or server.poll() is not None, "sshd to listen")
        assert server.poll() is None, self._log.read_text()
        return server

    def close(self) -> None:
        """End the server."""
        self.server.terminate()
        self.server.wait(_PATIENCE_S)

    def give_key(self, user: str) -> None:
        """Allow a user to log in with the client's key."""
        path = self.mounts.directory / "ssh" / "keys" / user
        path.write_bytes((self._directory / "client_key.pub").read_bytes())
        path.chmod(0o644)

    def know(self, person: Person, phone: Phone | None = None) -> None:
        """Store what a user types."""
        self._passwords[person.name] = person.password
        if phone is not None:
            self._phones[person.name] = phone

    def lets_in(self, user: str, proofs: Iterable[str], source: str = FAR) -> bool:
        """Return whether a login succeeds with exactly these proofs, and with wrong ones where others are asked for."""
        given = set(proofs)
        key = "client_key" if KEY in given else "other_key"
        options = {
            "IdentitiesOnly": "yes",
            "IdentityFile": self._directory / key,
            "NumberOfPasswordPrompts": 1,
            "PreferredAuthentications": "publickey,keyboard-interactive,password",
            "StrictHostKeyChecking": "no",
            "UserKnownHostsFile": "/dev/null",
            "ControlPath": "none",
        }
        words = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        client = ["ssh", "-F", "/dev/null", "-q", "-b", source, *words, f"{user}@{FAR}", "echo", "entered"]
        done = subprocess.run(
            self.mounts.command(*client),
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=_PATIENCE_S,
            env=self.typed(user, given),
        )  # fmt: skip
        return done.stdout == "entered\n"

    def typed(self, user: str, proofs: Iterable[str]) -> dict[str, str]:
        """Return the environment of a program whose questions are answered with these proofs, or wrongly."""
        given = set(proofs)
        has_code = CODE in given and user in self._phones
        return {
            "PATH": os.environ["PATH"],
            "DISPLAY": ":",
            "SSH_ASKPASS": str(self._directory / "answer"),
            "SSH_ASKPASS_REQUIRE": "force",
            "TYPED_CODE": self._phones[user].hotp() if has_code else "000000",
            "TYPED_PASSWORD": self._passwords.get(user, "wrong") if PASSWORD in given else "wrong",
        }

    def log(self) -> str:
        """Return what sshd has logged."""
        return self._log.read_text()


class Table:
    """The table that `enable` prints: for each account and source, the ways in today and after the change."""

    def __init__(self, text: str) -> None:
        lines = text.splitlines()
        start = next(number for number, line in enumerate(lines) if line.startswith("Who gets in at "))
        header = lines[start + 1]
        self._claims: list[tuple[list[str], str, str, str]] = []
        for line in lines[start + 2 :]:
            if not line.startswith("  "):
                break
            cells = re.split(r" {2,}", line.strip())
            names, *rest = cells
            label = rest.pop(0) if "  from  " in header else "anywhere"
            self._claims.append((names.split(", "), label, rest[0], rest[1]))

    def ways(self, user: str, label: str, when: str) -> list[set[str]]:
        """Return the ways in of a user, none if the table has no line for them."""
        for names, labels, today, then in self._claims:
            if user in names and (labels == "anywhere" or label in labels.split(", ")):
                text = today if when == "today" else then
                if text == "no way in":
                    return []
                return [set(way.split(" and ")) - {"nothing is asked"} for way in text.split(" or ")]
        return []


def telling_attempts(ways: list[set[str]]) -> list[tuple[set[str], bool]]:
    """Return logins that test whether the ways in are as claimed, with the expected result of each.

    Each way alone succeeds, and is refused with any one proof less. A user without a way in is refused with all proofs.
    """
    attempts = [(way, True) for way in ways]
    everything = set(PROOFS)
    short = [way - {proof} for way in ways for proof in way] or [everything]
    for given in short:
        attempts.append((given, any(way <= given for way in ways)))
    unique: list[tuple[set[str], bool]] = []
    for attempt in attempts:
        if attempt not in unique:
            unique.append(attempt)
    return unique
