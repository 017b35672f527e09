"""Log in with the clients that softtoken-clients(7) lists. Each gets in with a code, and not with the same code again."""

from __future__ import annotations

import asyncio
import ftplib
import os
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import asyncssh
import paramiko
import pexpect
import pytest

from tests.support.account import Person, Phone, resident_of
from tests.support.hosts import REST, SSH, STEP_S, UNIX_PASSWORD, free_port
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES
from tests.support.private_mounts import PrivateMounts
from tests.support.process import descendants, is_running, wait_until
from tests.support.system_log import SystemLog

SETTINGS = """Subsystem sftp internal-sftp
PasswordAuthentication yes
AuthenticationMethods keyboard-interactive:pam password publickey,keyboard-interactive:pam
"""
TAKES_PASSWORD = "auth required pam_unix.so use_first_pass nodelay\n"
WITH_KEY = ("-o", "PreferredAuthentications=publickey,keyboard-interactive")
LOCAL = "127.0.0.1"
ASKPASS = """#!/bin/sh
case $1 in
*[Vv]"erification code: ") printf '%s\\n' "$CODE" ;;
*"Password: ") printf '%s\\n' "$PASSWORD" ;;
esac
"""


class Clients:
    """One user with a token that counts, one sshd, and the programs of people who log in.

    Args:
        mounts: the namespace with the services.
        installed: the copy of the module.
        person: the user.
        directory: of the clients, who are root here.
    """

    def __init__(self, mounts: PrivateMounts, installed: Installation, person: Person, directory: Path) -> None:
        self.mounts = mounts
        self.installed = installed
        self.person = person
        self.directory = directory
        self.sshd = SSH(mounts, password=True, settings=SETTINGS)
        self.sshd.knows_key = True
        self.options = self.sshd.client_options(person)
        self.place = f"{person.name}@{LOCAL}"
        self.phone: Phone = person.enrol(installed, "--type=hotp", NO_CODES)
        self._askpass = directory / "askpass"
        self._askpass.write_text(ASKPASS)
        self._askpass.chmod(0o755)

    def asks_for_password_and_code(self) -> None:
        """Let sshd ask two questions."""
        self.sshd.use_stack(self.installed.line())

    def asks_for_code(self) -> None:
        """Let sshd ask for the code alone, after a public key."""
        self.sshd.use_stack(self.installed.line(), first="")

    def asks_once(self, service: str = "sshd") -> None:
        """Let a service ask for password and code in one answer."""
        self.mounts.set_service(service, one_answer(self.installed))

    def run(self, *command: str | Path, code: str = "") -> subprocess.CompletedProcess[str]:
        """Run a client without a terminal. The programs of OpenSSH then ask a helper program."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "LC_ALL": "C.UTF-8",
            "SSH_ASKPASS": str(self._askpass),
            "SSH_ASKPASS_REQUIRE": "force",
            "PASSWORD": self.person.password,
            "CODE": code,
        }
        return subprocess.run(
            command,
            check=False,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            text=True,
            env=environment,
            timeout=STEP_S,
            start_new_session=True,
        )

    def gets_in_once(self, attempt: Callable[[str], bool], log: SystemLog | None = None) -> None:
        """Check that a client gets in with a code, that the same code is refused, and that our module decided both."""
        log = log or self.mounts.log
        log.clear()
        code = self.phone.hotp()
        assert attempt(code)
        assert log.reasons() == ["accepted"]
        assert not attempt(code)
        assert log.reasons() == ["accepted", "replayed"]


def one_answer(installed: Installation) -> str:
    """Return the stack for clients with one field: the password, with the code behind it."""
    return installed.line("forward_pass") + TAKES_PASSWORD + REST


@pytest.fixture(scope="module")
def clients(world: Path, installed: Installation) -> Iterator[Clients]:
    """The same user and sshd for all tests."""
    if not PrivateMounts.possible():
        pytest.skip("needs CAP_SYS_ADMIN: the hosts see PAM services of their own in a private mount namespace")
    directory = world / "clients"
    directory.mkdir(mode=0o755)
    with resident_of(world / "homes-clients") as person:
        mounts = PrivateMounts(directory / "mounts")
        made = Clients(mounts, installed, person, directory)
        yield made
        made.sshd.close()
        mounts.close()
    shutil.rmtree(directory)


def copying(program: str, clients: Clients) -> list[str]:
    """Return the command that fetches a file of the user's with one of these programs."""
    fetched = str(clients.directory / "fetched")
    if program == "rsync":
        return ["rsync", "-e", shlex.join(["ssh", *clients.options]), f"{clients.place}:.bashrc", fetched]
    return [program, "-q", *clients.options, f"{clients.place}:.bashrc", fetched]


@pytest.mark.parametrize("program", ["scp", "sftp", "rsync"])
def test_copying__asks_for_password_and_code_as_ssh_does(clients: Clients, program: str) -> None:
    clients.asks_for_password_and_code()
    fetched = clients.directory / "fetched"

    def attempt(code: str) -> bool:
        fetched.unlink(missing_ok=True)
        done = clients.run(*copying(program, clients), code=code)
        assert fetched.exists() == (done.returncode == 0), done
        return fetched.exists()

    clients.gets_in_once(attempt)


def id_by_ssh(clients: Clients, *options: str, code: str = "") -> str:
    """Run `id` on the host with ssh, and return its output."""
    return clients.run("ssh", *options, *clients.options, clients.place, "id", "-un", code=code).stdout.strip()


@pytest.mark.parametrize("key", [False, True], ids=["password and code", "key and code"])
def test_ssh__asks_a_helper_program_where_there_is_no_terminal(clients: Clients, key: bool) -> None:
    clients.asks_for_code() if key else clients.asks_for_password_and_code()
    clients.gets_in_once(lambda code: id_by_ssh(clients, *(WITH_KEY if key else ()), code=code) == clients.person.name)


def test_control_master__lets_rsync_and_ansible_in_without_another_code(clients: Clients) -> None:
    clients.asks_for_password_and_code()
    master = ("-o", f"ControlPath={clients.directory}/master")
    inventory = clients.directory / "inventory"
    inventory.write_text(f"server ansible_host={LOCAL} ansible_user={clients.person.name}\n")
    ansible = [Path(sys.executable).with_name("ansible"), "server", "-i", inventory, "-m", "raw", "-a", "id -un"]
    ansible += ["--ssh-common-args", shlex.join([*clients.options, *master])]

    def attempt(code: str) -> bool:
        started = clients.run("ssh", "-o", "ControlMaster=yes", *master, *clients.options, "-fN", clients.place, code=code)
        return started.returncode == 0

    clients.gets_in_once(attempt)
    clients.mounts.log.clear()
    copied = copying("rsync", clients)
    copied[2] += f" {shlex.join(master)}"
    try:
        assert clients.run(*copied).returncode == 0
        done = clients.run(*ansible)
        assert (done.returncode, clients.person.name in done.stdout.split()) == (0, True), done
    finally:
        clients.run("ssh", *master, *clients.options, "-O", "exit", clients.place)
    done = clients.run(*ansible)
    assert "UNREACHABLE" in done.stdout, done
    assert clients.mounts.log.reasons() == []


def putty(clients: Clients, program: str, *words: str) -> list[str]:
    """Return the command with which a program of PuTTY's runs `id`, fetches a file, or opens a session."""
    fingerprint = clients.run("ssh-keygen", "-lf", clients.sshd.host_key).stdout.split()[1]
    actions = {
        "plink": [clients.place, "id", "-un"],
        "pscp": [f"{clients.place}:.bashrc", str(clients.directory / "fetched-by-putty")],
        "psftp": [clients.place],
    }
    return [program, "-P", str(clients.sshd.port), "-hostkey", fingerprint, *words, *actions[program]]


@pytest.mark.parametrize(
    ("program", "sign"), [("plink", "Access granted"), ("pscp", "100%"), ("psftp", "psftp> ")]
)
def test_putty__asks_for_password_and_code_at_the_terminal(clients: Clients, program: str, sign: str) -> None:
    clients.asks_for_password_and_code()
    command, *words = putty(clients, program)
    environment = {"PATH": os.environ["PATH"], "HOME": str(clients.directory)}

    def attempt(code: str) -> bool:
        terminal = pexpect.spawn(command, words, env=environment, encoding="utf-8", timeout=STEP_S)
        terminal.delaybeforesend = None
        try:
            for prompt, answer in (("Password: ", clients.person.password), ("Verification code: ", code)):
                terminal.expect(prompt)
                terminal.sendline(answer)
            return terminal.expect([sign, "Password: "]) == 0
        finally:
            terminal.close(force=True)

    clients.gets_in_once(attempt)


def test_plink__with_a_given_password_needs_forward_pass(clients: Clients) -> None:
    def attempt(code: str) -> bool:
        done = clients.run(*putty(clients, "plink", "-batch", "-pw", clients.person.password + code))
        return done.stdout.strip() == clients.person.name

    clients.asks_for_password_and_code()
    assert not attempt("")
    clients.asks_once()
    clients.gets_in_once(attempt)


def by_name(clients: Clients, code: str) -> Callable[[str], str]:
    """Return the function that answers a prompt for a password or for a code."""
    return lambda prompt: code if prompt == "Verification code: " else clients.person.password


def test_paramiko__handler_answers_both_questions(clients: Clients) -> None:
    clients.asks_for_password_and_code()

    def attempt(code: str) -> bool:
        answer = by_name(clients, code)
        with paramiko.Transport((LOCAL, clients.sshd.port)) as transport:
            transport.start_client(timeout=STEP_S)
            try:
                transport.auth_interactive(
                    clients.person.name, lambda title, text, prompts: [answer(prompt) for prompt, _ in prompts]
                )
            except paramiko.AuthenticationException:
                return False
            return transport.is_authenticated()

    clients.gets_in_once(attempt)


def test_paramiko__client_with_one_field_needs_forward_pass(clients: Clients) -> None:
    def attempt(code: str) -> bool:
        with paramiko.SSHClient() as client:
            client.load_host_keys(str(clients.sshd.configuration.with_name("known_hosts")))
            try:
                client.connect(
                    LOCAL, clients.sshd.port, clients.person.name, clients.person.password + code,
                    look_for_keys=False, allow_agent=False, timeout=STEP_S,
                )  # fmt: skip
            except paramiko.AuthenticationException:
                return False
            return True

    clients.asks_for_password_and_code()
    assert not attempt(clients.phone.hotp())
    clients.asks_once()
    clients.gets_in_once(attempt)


class AnsweringClient(asyncssh.SSHClient):
    """A client of asyncssh's with an answer for each prompt. After a refusal, it does not try again."""

    def __init__(self, answer: Callable[[str], str]) -> None:
        self._answer = answer
        self._tries = iter([""])

    def kbdint_auth_requested(self) -> str | None:
        return next(self._tries, None)

    def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> list[str]:
        return [self._answer(prompt) for prompt, _ in prompts]


def asyncssh_gets_in(clients: Clients, **options: object) -> bool:
    """Log in with asyncssh."""

    async def connect() -> None:
        async with asyncssh.connect(
            LOCAL, clients.sshd.port, username=clients.person.name, config=None, agent_path=None,
            known_hosts=str(clients.sshd.configuration.with_name("known_hosts")), **options,
        ):  # fmt: skip
            pass

    try:
        asyncio.run(connect())
    except asyncssh.PermissionDenied:
        return False
    return True


@pytest.mark.parametrize("key", [False, True], ids=["password and code", "key and code"])
def test_asyncssh__client_answers_the_questions(clients: Clients, key: bool) -> None:
    clients.asks_for_code() if key else clients.asks_for_password_and_code()
    keys = [str(clients.sshd.client_key)] if key else None

    def attempt(code: str) -> bool:
        answer = by_name(clients, code)
        return asyncssh_gets_in(clients, client_keys=keys, client_factory=lambda: AnsweringClient(answer))

    clients.gets_in_once(attempt)


def test_asyncssh__password_alone_needs_forward_pass(clients: Clients) -> None:
    def attempt(code: str) -> bool:
        return asyncssh_gets_in(
            clients, client_keys=None, password=clients.person.password + code, preferred_auth="keyboard-interactive"
        )

    clients.asks_for_password_and_code()
    assert not attempt(clients.phone.hotp())
    clients.asks_once()
    clients.gets_in_once(attempt)


@pytest.mark.parametrize(
    "options", [("-o", "PreferredAuthentications=password"), ("-o", "PreferredAuthentications=keyboard-interactive")]
)
def test_sshpass__needs_forward_pass_and_for_keyboard_interactive_another_prompt(
    clients: Clients, options: tuple[str, str]
) -> None:
    prompt = ["-P", "verification code: "] if "keyboard" in options[1] else []

    def attempt(code: str) -> bool:
        secret = clients.directory / "for-sshpass"
        secret.write_text(clients.person.password + code + "\n")
        command = ["sshpass", "-f", str(secret), *prompt, "ssh", *options, *clients.options, clients.place, "id", "-un"]
        done = clients.run("env", "-u", "SSH_ASKPASS", "-u", "SSH_ASKPASS_REQUIRE", *command)
        return done.stdout.strip() == clients.person.name

    clients.asks_once()
    clients.gets_in_once(attempt)


@contextmanager
def running(mounts: PrivateMounts, port: int, *command: str) -> Iterator[None]:
    """Run a server inside, which listens on a TCP port, for the length of a `with` block."""
    log = mounts.directory / "server.log"
    with log.open("wb") as file:
        words = mounts.command("setpriv", "--pdeathsig", "TERM", *command)
        server = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
    listening = f" 0100007F:{port:04X} 00000000:0000 0A "
    try:
        wait_until(
            lambda: listening in Path(f"/proc/{server.pid}/net/tcp").read_text() or server.poll() is not None,
            f"{command[0]} to listen",
        )
        assert server.poll() is None, log.read_text()
        yield
    finally:
        below = descendants(server.pid)
        server.terminate()
        server.wait(STEP_S)
        wait_until(lambda: not any(is_running(each.pid) for each in below), f"the end of {below}")


def test_vsftpd__needs_forward_pass(clients: Clients) -> None:
    port = free_port()
    configuration = clients.directory / "vsftpd.conf"
    configuration.write_text(
        f"listen=YES\nlisten_address={LOCAL}\nlisten_port={port}\nbackground=NO\nlocal_enable=YES\n"
        f"anonymous_enable=NO\npam_service_name=vsftpd\nsecure_chroot_dir={clients.directory}\n"
    )

    def attempt(code: str) -> bool:
        with ftplib.FTP() as ftp:
            ftp.connect(LOCAL, port, timeout=STEP_S)
            try:
                ftp.login(clients.person.name, clients.person.password + code)
            except ftplib.error_perm as error:
                assert "530" in str(error), error
                return False
            return ftp.pwd() == str(clients.person.home)

    clients.asks_once("vsftpd")
    with running(clients.mounts, port, "vsftpd", str(configuration)):
        clients.gets_in_once(attempt)


VPN_PORT = 1194
CERTIFICATE = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=server"
VPN_SERVER = f"""
openvpn --mode server --tls-server --proto tcp-server --local {LOCAL} --port {VPN_PORT} --dev tun --ifconfig-noexec
--ca vpn.crt --cert vpn.crt --key vpn.key --dh none --verify-client-cert none --cd
"""
VPN_CLIENT = f"openvpn --client --proto tcp-client --remote {LOCAL} {VPN_PORT} --nobind --dev null --auth-user-pass --ca"
PLUGIN = "/usr/lib/openvpn/openvpn-plugin-auth-pam.so"


class Network(PrivateMounts):
    """A namespace with its own network, and what an OpenVPN server needs."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, ("192.0.2.1",))
        self.certificate = directory / "vpn.crt"
        files = ["-keyout", str(directory / "vpn.key"), "-out", str(self.certificate)]
        subprocess.run([*shlex.split(CERTIFICATE), *files], check=True, capture_output=True)
        device = self.path("/dev/net/tun")
        device.parent.mkdir()
        os.mknod(device, stat.S_IFCHR | 0o600, os.makedev(10, 200))

    def connects(self, person: Person, password: str, *options: str, code: str = "") -> bool:
        """Connect with the OpenVPN client at a terminal, and answer what it asks."""
        words = self.command(*shlex.split(VPN_CLIENT), str(self.certificate), *options)
        terminal = pexpect.spawn(words[0], words[1:], encoding="utf-8", timeout=STEP_S)
        terminal.delaybeforesend = None
        asked = {"Auth Username:": person.name, "Auth Password:": password, "Response:": code}
        expected = [*asked, "Initialization Sequence Completed", "AUTH_FAILED"]
        try:
            while (seen := terminal.expect(expected)) < len(asked):
                terminal.sendline(asked[expected[seen]])
            return expected[seen] != "AUTH_FAILED"
        finally:
            terminal.close(force=True)


@pytest.fixture(scope="module")
def network(clients: Clients) -> Iterator[Network]:
    """The network of OpenVPN's tests."""
    made = Network(clients.directory / "network")
    yield made
    made.close()


@pytest.mark.parametrize("challenge", [True, False], ids=["static challenge", "one field"])
def test_openvpn__static_challenge_answers_the_second_question_and_one_field_needs_forward_pass(
    clients: Clients, network: Network, challenge: bool
) -> None:
    password = clients.person.password
    if challenge:
        network.set_service("openvpn", UNIX_PASSWORD + clients.installed.line() + REST)
        words = "openvpn Password PASSWORD Verification OTP"
    else:
        network.set_service("openvpn", one_answer(clients.installed))
        words = "openvpn"

    def attempt(code: str) -> bool:
        if challenge:
            return network.connects(clients.person, password, "--static-challenge", "Code", "0", code=code)
        return network.connects(clients.person, password + code)

    server = [*shlex.split(VPN_SERVER), str(network.directory), "--plugin", PLUGIN, words]
    with running(network, VPN_PORT, *server):
        clients.gets_in_once(attempt, network.log)
