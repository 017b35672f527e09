"""Programs that people log in with: one user with a token that counts, an sshd, an FTP server, an OpenVPN server."""

from __future__ import annotations

import os
import shlex
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect

from tests.support.account import Person
from tests.support.hosts import REST, SSH, STEP_S, UNIX_PASSWORD
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES
from tests.support.private_mounts import PrivateMounts
from tests.support.process import descendants, is_running, wait_until
from tests.support.system_log import SystemLog

LOCAL = "127.0.0.1"
VPN_PORT = 1194

_SETTINGS = """Subsystem sftp internal-sftp
PasswordAuthentication yes
AuthenticationMethods keyboard-interactive:pam password publickey,keyboard-interactive:pam
"""
_TAKES_PASSWORD = "auth required pam_unix.so use_first_pass nodelay\n"
_ASKPASS = """#!/bin/sh
case $1 in
*"Verification code: ") printf '%s\\n' "$CODE" ;;
*"Password: ") printf '%s\\n' "$PASSWORD" ;;
esac
"""
_CERTIFICATE = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=server"
_VPN_SERVER = f"""
openvpn --mode server --tls-server --proto tcp-server --local {LOCAL} --port {VPN_PORT} --dev tun --ifconfig-noexec
--ca vpn.crt --cert vpn.crt --key vpn.key --dh none --verify-client-cert none
--plugin /usr/lib/openvpn/openvpn-plugin-auth-pam.so
"""
_VPN_CLIENT = f"""
openvpn --client --proto tcp-client --remote {LOCAL} {VPN_PORT} --nobind --dev null --ca vpn.crt --auth-user-pass
"""
_VPN_SIGNS = ("Initialization Sequence Completed", "AUTH_FAILED")


class Clients:
    """One user, one sshd, and the programs of people who log in. They run as root.

    Args:
        mounts: the namespace with the services.
        installed: the copy of the module.
        person: the user.
        directory: for files of the programs.

    Attributes:
        options: what the programs of OpenSSH need to reach the sshd.
        place: user and host, as most programs take them.
    """

    def __init__(self, mounts: PrivateMounts, installed: Installation, person: Person, directory: Path) -> None:
        self.mounts = mounts
        self.installed = installed
        self.person = person
        self.directory = directory
        self.sshd = SSH(mounts, password=True, settings=_SETTINGS)
        self.sshd.knows_key = True
        self.options = self.sshd.client_options(person)
        self.place = f"{person.name}@{LOCAL}"
        self.phone = person.enrol(installed, "--type=hotp", NO_CODES)
        self.fetched = directory / "fetched"
        self._askpass = directory / "askpass"
        self._askpass.write_text(_ASKPASS)
        self._askpass.chmod(0o755)

    @property
    def known_hosts(self) -> Path:
        """Return the file with the host key of the sshd."""
        return self.sshd.configuration.with_name("known_hosts")

    def asks_for_password_and_code(self) -> None:
        """Configure sshd to ask two questions."""
        self.sshd.use_stack(self.installed.line())

    def asks_for_code(self) -> None:
        """Configure sshd to ask for the code alone, after a public key."""
        self.sshd.use_stack(self.installed.line(), first="")

    def asks_once(self) -> None:
        """Configure sshd to ask for password and code in one answer."""
        self.mounts.set_service("sshd", one_answer(self.installed))

    def run(self, *command: str | Path, code: str = "", askpass: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a program without a terminal. Those of OpenSSH then ask a helper program for password and code."""
        helper = {"SSH_ASKPASS": str(self._askpass), "SSH_ASKPASS_REQUIRE": "force"} if askpass else {}
        secrets = {"PASSWORD": self.person.password, "CODE": code}
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            env={"PATH": os.environ["PATH"], "HOME": str(self.directory), "LC_ALL": "C.UTF-8", **helper, **secrets},
            timeout=STEP_S,
            start_new_session=True,
        )

    def copying(self, program: str, *options: str) -> list[str]:
        """Return the command that fetches a file of the user's with `scp`, `sftp` or `rsync`."""
        words = [*options, *self.options]
        files = [f"{self.place}:.bashrc", str(self.fetched)]
        return [program, *(["-e", shlex.join(["ssh", *words])] if program == "rsync" else ["-q", *words]), *files]

    def putty(self, program: str, *options: str) -> list[str]:
        """Return the command with which a program of PuTTY runs `id`, fetches a file, or opens a session."""
        fingerprint = self.run("ssh-keygen", "-lf", self.sshd.host_key).stdout.split()[1]
        actions = {
            "plink": [self.place, "id", "-un"],
            "pscp": [f"{self.place}:.bashrc", str(self.fetched)],
            "psftp": [self.place],
        }
        return [program, "-P", str(self.sshd.port), "-hostkey", fingerprint, *options, *actions[program]]

    def gets_in_once(self, attempt: Callable[[str], bool], log: SystemLog | None = None) -> None:
        """Check that a code lets in, that the same code is refused, and that our module decided both.

        Args:
            attempt: returns whether a program got in with this code.
            log: of the service. The default is the log of `mounts`.
        """
        log = log or self.mounts.log
        log.clear()
        code = self.phone.hotp()
        assert attempt(code)
        assert log.reasons() == ["accepted"]
        assert not attempt(code)
        assert log.reasons() == ["accepted", "replayed"]


def two_questions(installed: Installation) -> str:
    """Return the usual stack: a question for the password, and then one for the code."""
    return UNIX_PASSWORD + installed.line() + REST


def one_answer(installed: Installation) -> str:
    """Return the stack for programs with one field: the password, with the code behind it."""
    return installed.line("forward_pass") + _TAKES_PASSWORD + REST


@contextmanager
def running(mounts: PrivateMounts, port: int, *command: str) -> Iterator[None]:
    """Run a server inside, which listens on a TCP port, for the length of a `with` block."""
    log = mounts.directory / "server.log"
    with log.open("wb") as file:
        words = mounts.command("setpriv", "--pdeathsig", "TERM", *command)
        server = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    listening = f" 0100007F:{port:04X} 00000000:0000 0A "

    def started_or_ended() -> bool:
        return server.poll() is not None or listening in Path(f"/proc/{server.pid}/net/tcp").read_text()

    try:
        wait_until(started_or_ended, f"{command[0]} to listen")
        assert server.poll() is None, log.read_text()
        yield
    finally:
        below = descendants(server.pid)
        server.terminate()
        server.wait(STEP_S)
        wait_until(lambda: not any(is_running(each.pid) for each in below), f"the end of {below}")


class PrivateNetwork(PrivateMounts):
    """A namespace with its own network, for OpenVPN.

    Args:
        directory: as for `PrivateMounts`.

    Raises:
        PermissionError: this process may not make a tunnel's device file.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, ("192.0.2.1",))
        files = ("-keyout", directory / "vpn.key", "-out", directory / "vpn.crt")
        subprocess.run([*shlex.split(_CERTIFICATE), *files], check=True, capture_output=True, timeout=STEP_S)
        device = self.path("/dev/net/tun")
        device.parent.mkdir()
        try:
            os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(10, 200))
            device.open("rb").close()
        except PermissionError:
            self.close()
            raise

    def server(self, parameters: str) -> list[str]:
        """Return the command of an OpenVPN server that asks through PAM.

        Args:
            parameters: of OpenVPN's PAM plugin.
        """
        return [*shlex.split(_VPN_SERVER), parameters, "--cd", str(self.directory)]

    def connects(
        self, person: Person, password: str, *options: str, response: str = "", interrupted: bool = False
    ) -> bool:
        """Connect with the OpenVPN client at a terminal, and answer its questions.

        Args:
            person: the user.
            password: typed where it is asked for.
            options: of the client.
            response: typed at the challenge.
            interrupted: the connection breaks, and the result is that of the second one.
        """
        words = self.command(*shlex.split(_VPN_CLIENT), "--cd", str(self.directory), *options)
        terminal = pexpect.spawn(words[0], words[1:], encoding="utf-8", timeout=STEP_S)
        terminal.delaybeforesend = None
        answers = {"Auth Username:": person.name, "Auth Password:": password, "CHALLENGE: Code": response}
        awaited = [*answers, *_VPN_SIGNS]
        try:
            while (seen := awaited[terminal.expect_exact(awaited)]) in answers:
                # It turns the echo off after the question, and drops what was typed before that.
                if seen != "Auth Username:":
                    terminal.waitnoecho(timeout=STEP_S)
                terminal.sendline(answers[seen])
            if interrupted and seen == _VPN_SIGNS[0]:
                terminal.kill(signal.SIGUSR1)
                seen = awaited[terminal.expect_exact(awaited)]
            return seen == _VPN_SIGNS[0]
        finally:
            terminal.close(force=True)

    def answers_challenge(self, person: Person, code: str, *, interrupted: bool = False) -> bool:
        """Connect with password and static challenge."""
        challenge = ("--static-challenge", "Code", "0")
        return self.connects(person, person.password, *challenge, response=code, interrupted=interrupted)
