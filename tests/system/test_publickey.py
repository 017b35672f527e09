"""Enable sshd with key and code: PAM does without the password only while sshd asks for a key."""

from __future__ import annotations

import io
import select
import socket
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pexpect
import pytest

from tests.support.account import Person, Phone
from tests.support.enabling import ASKED, LONG, PATIENCE_S, SHORT, WHOEVER, Admin, DebianSSH
from tests.support.process import wait_until
from tests.support.sampling import sampled


@pytest.mark.claim("PAM does without the password only while sshd asks for a key.")
def test_publickey__sshd_that_cannot_be_reloaded_is_refused(
    admin: Admin, phone: Phone, sshd: Callable[[bool], DebianSSH]
) -> None:
    sshd(False)
    config = admin.mounts.directory / "ssh" / "sshd_config"
    config.write_text(config.read_text().replace("PidFile /run/sshd.pid", "PidFile none"))
    before = admin.pam()
    done = admin.run("enable", "sshd", "--with=publickey", WHOEVER, SHORT)
    assert done.returncode == 1
    assert "cannot be told to reload its configuration" in done.stderr
    assert admin.pam() == before
    assert ASKED in admin.run("enable", "sshd", SHORT).stderr


@pytest.mark.parametrize("text", ["@include sshd\n", "auth substack sshd\n", ""])
def test_publickey__other_service_with_the_same_file_keeps_its_password(
    text: str, admin: Admin, phone: Phone, sshd: Callable[[bool], DebianSSH]
) -> None:
    sshd(False)
    other = admin.mounts.directory / "pam.d" / "remote-desktop"
    if text:
        other.write_text(text)
    else:
        other.symlink_to("sshd")
    before = admin.pam()
    done = admin.run("enable", "sshd", "--with=publickey", "--enrol-later", WHOEVER, SHORT)
    assert done.returncode == 1
    assert '"remote-desktop" uses /etc/pam.d/sshd, too' in done.stderr
    assert admin.pam() == before


def test_publickey__second_sshd_with_another_configuration_is_refused(
    admin: Admin, phone: Phone, sshd: Callable[[bool], DebianSSH]
) -> None:
    host = sshd(False)
    other = admin.mounts.directory / "other"
    other.write_text(f"ListenAddress 127.0.0.2:{host.port}\nHostKey {host.host_key}\nPidFile none\nUsePAM yes\n")
    command = admin.mounts.command("setpriv", "--pdeathsig", "TERM", "/usr/sbin/sshd", "-D", "-f", str(other))
    before = admin.pam()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: b"[listener]" in Path(f"/proc/{server.pid}/cmdline").read_bytes(), "sshd to listen")
            done = admin.run("enable", "sshd", "--with=publickey", WHOEVER, SHORT)
        finally:
            server.terminate()
    assert done.returncode == 1
    assert f"another sshd runs (process {server.pid})" in done.stderr
    assert admin.pam() == before


def test_sshd__reloads_at_once_after_a_change_that_failed(
    admin: Admin, alice: Person, phone: Phone, sshd: Callable[[bool], DebianSSH]
) -> None:
    host = sshd(True)
    before = admin.pam()
    server = admin.inside("cat", "/run/sshd.pid").strip()
    # It needs some time to read its configuration again.
    slow = ["strace", "-p", server, "-o", "/dev/null", "-e", "inject=execve:delay_enter=1000000"]
    # The record, sshd's file, and then the PAM service.
    failing = ("strace", "-o", "/dev/null", "-e", "inject=rename:error=ENOSPC:when=3")
    with subprocess.Popen(slow, stderr=subprocess.DEVNULL) as tracer:
        wait_until(
            lambda: f"TracerPid:\t{tracer.pid}" in Path(f"/proc/{server}/status").read_text(), "strace to attach"
        )
        try:
            done = admin.run("enable", "sshd", SHORT, around=failing)
        finally:
            tracer.terminate()
    assert done.returncode == 1
    assert "/etc/pam.d/sshd: cannot be written: No space left on device" in done.stderr
    assert done.stderr.count("sshd reloaded its configuration.") == 2
    assert host.times_told == 2
    assert admin.pam() == before


@pytest.mark.parametrize("number", sampled(range(1, 7), 0.25, always=(2, 3)))
@pytest.mark.parametrize("doing", ["enable", "disable"])
@pytest.mark.claim("PAM does without the password only while sshd asks for a key.")
def test_publickey__pam_omits_the_password_only_while_sshd_asks_for_a_key(
    doing: str, number: int, admin: Admin, phone: Phone, sshd: Callable[[bool], DebianSSH]
) -> None:
    sshd(False)
    enable = ("enable", "sshd", "--with=publickey", "--yes", WHOEVER, LONG)
    if doing == "disable":
        admin.start(*enable).expect(ASKED)
        assert admin.run("confirm").returncode == 0
    words = (*enable[:-1], "--for=1s") if doing == "enable" else ("disable", "sshd")
    admin.run(*words, around=("strace", "-o", "/dev/null", "-e", f"inject=rename,unlink:signal=KILL:when={number}"))
    admin.kill_watchdogs()
    stack = (admin.mounts.directory / "pam.d" / "sshd").read_text()
    drop_in = admin.mounts.directory / "ssh" / "sshd_config.d" / "00-softtoken.conf"
    if "#softtoken-admin: " in stack:
        assert "AuthenticationMethods publickey" in drop_in.read_text()


class EarlyConnection:
    """A connection to an sshd that a client takes over later.

    Args:
        port: the port of the sshd.
    """

    def __init__(self, port: int) -> None:
        self._server = socket.create_connection(("127.0.0.1", port))
        self._server.recv(1, socket.MSG_PEEK)  # the process for this connection has its configuration
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._relay, daemon=True).start()

    def _relay(self) -> None:
        client = self._listener.accept()[0]
        others = {client: self._server, self._server: client}
        with suppress(OSError):
            while True:
                for each in select.select(others, [], [])[0]:
                    data = each.recv(65536)
                    if not data:
                        client.close()
                        return
                    others[each].sendall(data)

    def close(self) -> None:
        for each in (self._listener, self._server):
            each.close()


def test_publickey__earlier_connection_no_longer_gets_in_without_a_key(
    admin: Admin, phone: Phone, sshd: Callable[[bool], DebianSSH], make_person: Callable[[], Person]
) -> None:
    host = sshd(True)
    early = EarlyConnection(host.port)
    screen = admin.start("enable", "sshd", "--with=publickey", "--yes", WHOEVER, LONG, "--enrol-later")
    screen.expect(ASKED)
    words = [word.replace("keyboard-interactive", "password") for word in host.command(make_person())]
    words[1:1] = ["-o", f"Port={early.port}", "-o", f"HostKeyAlias=[127.0.0.1]:{host.port}"]
    client = pexpect.spawn(words[0], words[1:], encoding="utf-8", timeout=PATIENCE_S)
    client.logfile_read = io.StringIO()
    if client.expect(["password: ", pexpect.EOF]) == 0:
        client.sendline("anything")
        client.expect(["denied", pexpect.EOF, r"[$#] "])
    client.close(force=True)
    early.close()
    assert "$ " not in client.logfile_read.getvalue(), client.logfile_read.getvalue()
