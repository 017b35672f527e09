"""Log in with the programs that softtoken-clients(7) lists. Each gets in with a code, and not with it a second time."""

from __future__ import annotations

import asyncio
import ftplib
import os
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncssh
import paramiko
import pexpect
import pytest

from tests.support.account import resident_of
from tests.support.clients import LOCAL, VPN_PORT, Clients, PrivateNetwork, one_answer, running, two_questions
from tests.support.hosts import STEP_S, free_port
from tests.support.installation import Installation
from tests.support.private_mounts import PrivateMounts

PASSWORD_AND_CODE, KEY_AND_CODE = FACTORS = ("password and code", "key and code")
WITH_KEY = ("-o", "PreferredAuthentications=publickey,keyboard-interactive")


@pytest.fixture(scope="module")
def clients(world: Path, installed: Installation) -> Iterator[Clients]:
    """The same user and the same sshd for all tests."""
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


@pytest.fixture(scope="module")
def network(clients: Clients) -> Iterator[PrivateNetwork]:
    """The network of OpenVPN's tests."""
    try:
        made = PrivateNetwork(clients.directory / "network")
    except PermissionError:
        pytest.skip("needs CAP_MKNOD, and control groups that allow /dev/net/tun")
    yield made
    made.close()


def by_prompt(clients: Clients, code: str) -> Callable[[str], str]:
    """Return the function that answers each of two questions."""
    return {"Password: ": clients.person.password, "Verification code: ": code}.__getitem__


@pytest.mark.parametrize("factors", FACTORS)
def test_ssh__asks_a_helper_program_where_there_is_no_terminal(clients: Clients, factors: str) -> None:
    if factors == KEY_AND_CODE:
        clients.asks_for_code()
    else:
        clients.asks_for_password_and_code()
    command = ["ssh", *(WITH_KEY if factors == KEY_AND_CODE else ()), *clients.options, clients.place, "id", "-un"]
    clients.gets_in_once(lambda code: clients.run(*command, code=code).stdout == f"{clients.person.name}\n")


@pytest.mark.parametrize("program", ["scp", "sftp", "rsync"])
def test_copying__asks_for_password_and_code_as_ssh_does(clients: Clients, program: str) -> None:
    clients.asks_for_password_and_code()

    def attempt(code: str) -> bool:
        clients.fetched.unlink(missing_ok=True)
        done = clients.run(*clients.copying(program), code=code)
        assert clients.fetched.exists() == (done.returncode == 0), done
        return clients.fetched.exists()

    clients.gets_in_once(attempt)


def test_ssh__open_master_lets_rsync_and_ansible_in_without_another_code(clients: Clients) -> None:
    clients.asks_for_password_and_code()
    master = ("-o", f"ControlPath={clients.directory}/master")
    inventory = clients.directory / "inventory"
    inventory.write_text(f"server ansible_host={LOCAL} ansible_user={clients.person.name}\n")
    ansible = [str(Path(sys.executable).with_name("ansible")), "server", "-i", str(inventory), "-m", "raw"]
    ansible += ["-a", "id -un", "--ssh-common-args", shlex.join([*clients.options, *master])]
    start = ["ssh", "-o", "ControlMaster=yes", "-o", "ControlPersist=60", *master, *clients.options, clients.place]
    try:
        clients.gets_in_once(lambda code: clients.run(*start, "true", code=code).returncode == 0)
        clients.mounts.log.clear()
        assert clients.run(*clients.copying("rsync", *master)).returncode == 0
        done = clients.run(*ansible)
        assert clients.person.name in done.stdout.split(), done
    finally:
        clients.run("ssh", *master, *clients.options, "-O", "exit", clients.place)
    done = clients.run(*ansible)
    assert "UNREACHABLE" in done.stdout, done
    assert clients.mounts.log.reasons() == []


@pytest.mark.parametrize(
    ("program", "sign"), [("plink", "Access granted"), ("pscp", "100%"), ("psftp", "psftp> ")], ids=lambda each: each
)
def test_putty__asks_for_password_and_code_at_the_terminal(clients: Clients, program: str, sign: str) -> None:
    clients.asks_for_password_and_code()
    command, *words = clients.putty(program)
    environment = {"PATH": os.environ["PATH"], "HOME": str(clients.directory)}

    def attempt(code: str) -> bool:
        terminal = pexpect.spawn(command, words, env=environment, encoding="utf-8", timeout=STEP_S)
        terminal.delaybeforesend = None
        try:
            for prompt, answer in (("Password: ", clients.person.password), ("Verification code: ", code)):
                terminal.expect_exact(prompt)
                terminal.sendline(answer)
            return terminal.expect_exact([sign, "Password: "]) == 0
        finally:
            terminal.close(force=True)

    clients.gets_in_once(attempt)


def test_plink__with_a_given_password_needs_forward_pass(clients: Clients) -> None:
    given = clients.directory / "for-plink"
    command = clients.putty("plink", "-batch", "-pwfile", str(given))

    def attempt(code: str) -> bool:
        given.write_text(f"{clients.person.password}{code}\n")
        return clients.run(*command).stdout == f"{clients.person.name}\n"

    clients.asks_for_password_and_code()
    given.write_text(f"{clients.person.password}\n")
    assert "Configured password was not accepted" in clients.run(*command).stderr
    clients.asks_once()
    clients.gets_in_once(attempt)


def test_paramiko__handler_answers_both_questions(clients: Clients) -> None:
    clients.asks_for_password_and_code()

    def attempt(code: str) -> bool:
        answer = by_prompt(clients, code)
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


def test_paramiko__password_of_connect_needs_forward_pass(clients: Clients) -> None:
    def attempt(code: str) -> bool:
        with paramiko.SSHClient() as client:
            client.load_host_keys(str(clients.known_hosts))
            name, password = clients.person.name, clients.person.password + code
            try:
                client.connect(LOCAL, clients.sshd.port, name, password, look_for_keys=False, allow_agent=False)
            except paramiko.AuthenticationException:
                return False
            return True

    clients.asks_for_password_and_code()
    assert not attempt(clients.phone.hotp())
    clients.asks_once()
    clients.gets_in_once(attempt)


class AnsweringClient(asyncssh.SSHClient):
    """A client of asyncssh with an answer for each prompt. After a refusal, it does not try again."""

    def __init__(self, answer: Callable[[str], str]) -> None:
        self._answer = answer
        self._tries = iter([""])

    def kbdint_auth_requested(self) -> str | None:
        return next(self._tries, None)

    def kbdint_challenge_received(
        self, name: str, instructions: str, lang: str, prompts: Sequence[tuple[str, bool]]
    ) -> list[str]:
        return [self._answer(prompt) for prompt, _ in prompts]


def asyncssh_gets_in(clients: Clients, **options: Any) -> bool:
    """Return whether asyncssh gets in with these options of `connect`."""
    options |= {"username": clients.person.name, "known_hosts": str(clients.known_hosts)}

    async def connect() -> None:
        async with asyncssh.connect(LOCAL, clients.sshd.port, config=None, agent_path=None, **options):
            pass

    try:
        asyncio.run(connect())
    except asyncssh.PermissionDenied:
        return False
    return True


@pytest.mark.parametrize("factors", FACTORS)
def test_asyncssh__class_of_the_client_answers_the_questions(clients: Clients, factors: str) -> None:
    if factors == KEY_AND_CODE:
        clients.asks_for_code()
    else:
        clients.asks_for_password_and_code()
    keys = [str(clients.sshd.client_key)] if factors == KEY_AND_CODE else None

    def attempt(code: str) -> bool:
        answer = by_prompt(clients, code)
        return asyncssh_gets_in(clients, client_keys=keys, client_factory=lambda: AnsweringClient(answer))

    clients.gets_in_once(attempt)


def test_asyncssh__password_of_connect_needs_forward_pass(clients: Clients) -> None:
    def attempt(code: str) -> bool:
        password = clients.person.password + code
        return asyncssh_gets_in(clients, client_keys=None, password=password, preferred_auth="keyboard-interactive")

    clients.asks_for_password_and_code()
    assert not attempt(clients.phone.hotp())
    clients.asks_once()
    clients.gets_in_once(attempt)


@pytest.mark.parametrize(
    ("method", "prompt"), [("password", ()), ("keyboard-interactive", ("-P", "verification code: "))]
)
def test_sshpass__needs_forward_pass_and_for_keyboard_interactive_the_prompt(
    clients: Clients, method: str, prompt: tuple[str, ...]
) -> None:
    secret = clients.directory / "for-sshpass"
    ssh = ["ssh", "-o", f"PreferredAuthentications={method}", *clients.options, clients.place, "id", "-un"]

    def attempt(code: str) -> bool:
        secret.write_text(f"{clients.person.password}{code}\n")
        done = clients.run("sshpass", "-f", secret, *prompt, *ssh, askpass=False)
        return done.stdout == f"{clients.person.name}\n"

    clients.asks_once()
    clients.gets_in_once(attempt)


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
            except ftplib.error_perm:
                return False
            return ftp.pwd() == str(clients.person.home)

    with running(clients.mounts, port, "vsftpd", str(configuration)):
        clients.mounts.set_service("vsftpd", two_questions(clients.installed))
        assert not attempt(clients.phone.hotp())
        clients.mounts.set_service("vsftpd", one_answer(clients.installed))
        clients.gets_in_once(attempt)


MAPPED = "openvpn login USERNAME Password PASSWORD Verification OTP"


def test_openvpn__static_challenge_answers_the_second_question(clients: Clients, network: PrivateNetwork) -> None:
    network.set_service("openvpn", two_questions(clients.installed))
    with running(network, VPN_PORT, *network.server(MAPPED)):
        clients.gets_in_once(lambda code: network.answers_challenge(clients.person, code), network.log)


def test_openvpn__interrupted_client_needs_auth_gen_token(clients: Clients, network: PrivateNetwork) -> None:
    network.set_service("openvpn", two_questions(clients.installed))
    for options, gets_in, reasons in ((), False, ["accepted", "replayed"]), (("--auth-gen-token",), True, ["accepted"]):
        network.log.clear()
        with running(network, VPN_PORT, *network.server(MAPPED), *options):
            code = clients.phone.hotp()
            assert network.answers_challenge(clients.person, code, interrupted=True) == gets_in
        assert network.log.reasons() == reasons


def test_openvpn__without_a_challenge_needs_forward_pass(clients: Clients, network: PrivateNetwork) -> None:
    def attempt(code: str) -> bool:
        return network.connects(clients.person, clients.person.password + code)

    with running(network, VPN_PORT, *network.server("openvpn")):
        network.set_service("openvpn", two_questions(clients.installed))
        assert not attempt(clients.phone.hotp())
        network.set_service("openvpn", one_answer(clients.installed))
        clients.gets_in_once(attempt, network.log)
