"""Debian's own programs that do not run as root ask root's service: a screen locker, and a database for its users."""

from __future__ import annotations

import contextlib
import pwd
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.account import Person
from tests.support.leak import keep_answer
from tests.support.pam_scene import wait_until
from tests.support.relay import RelayHost, identity_of
from tests.support.tools import needs

POSTGRES = next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)), Path("/nonexistent"))
SERVER = "postgres"
REST = "account required pam_permit.so\nsession required pam_permit.so\n"


def _as(name: str, *words: str) -> list[str]:
    identity = ["setpriv", f"--reuid={name}", f"--regid={pwd.getpwnam(name).pw_gid}", "--clear-groups"]
    return [*identity, "env", "-i", "PATH=/usr/bin:/bin", *words]


# ---- i3lock


@contextlib.contextmanager
def _display(host: RelayHost) -> Iterator[str]:
    """Return the name of a screen without a monitor."""
    # Without -noreset, the end of the only program there can end the next one, which is just connecting.
    options = ("-displayfd", "1", "-screen", "0", "640x480x24", "-nolisten", "tcp", "-ac", "-noreset")
    command = host.mounts.command("Xvfb", *options)
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        yield f":{server.stdout.readline().strip()}"
    finally:
        server.terminate()
        server.communicate()


@needs("i3lock", "Xvfb", "xdotool")
def test_i3lock__unlocks_with_password_and_code_once(relay_host: RelayHost, alice: Person) -> None:
    host = relay_host
    phone = host.enrol(alice, "--type=hotp")
    ours = f"auth required {host.installed.bridge} forward_pass\nauth required pam_unix.so use_first_pass\n"
    host.mounts.set_service("i3lock", ours + REST)
    text = f"{alice.password}{phone.hotp()}"
    keep_answer(text)
    with _display(host) as display:
        command = host.mounts.command(*identity_of(alice), "env", f"DISPLAY={display}", "i3lock", "--nofork")
        for judged, reason in enumerate(("accepted", "replayed"), 1):
            locker = subprocess.Popen(command, stdout=subprocess.DEVNULL)
            try:
                _type(host, display, locker, text)
                wait_until(partial(_has_judged, host, judged), "the code was judged")
                assert host.log.reasons()[-1] == reason
                if reason == "accepted":
                    assert locker.wait(60) == 0
                else:
                    assert locker.poll() is None
            finally:
                locker.kill()
                locker.wait()
    assert all("(relay/i3lock:auth)" in line for line in host.log.ours())


def _has_judged(host: RelayHost, answers: int) -> bool:
    return len(host.log.outcomes()) == answers


def _type(host: RelayHost, display: str, locker: subprocess.Popen[bytes], text: str) -> None:
    """Type at the locker, once it covers the screen."""
    words = ("env", f"DISPLAY={display}", "xdotool")

    def covers() -> bool:
        assert locker.poll() is None
        found = subprocess.run(
            host.mounts.command(*words, "search", "--name", "i3lock"), check=False, capture_output=True
        )
        return bool(found.stdout.strip())

    wait_until(covers, "i3lock covers the screen")
    host.run(*words, "type", "--delay", "20", text)
    host.run(*words, "key", "Return")


# ---- PostgreSQL


@contextlib.contextmanager
def _database(host: RelayHost, place: Path, users: list[str]) -> Iterator[list[str]]:
    """Return the words that run psql against a server of its own, which asks PAM for each login."""
    shutil.chown(place, SERVER, SERVER)
    data = place / "data"

    def run(*words: str) -> None:
        subprocess.run(host.mounts.command(*_as(SERVER, *words)), check=True, capture_output=True, timeout=120)

    run(str(POSTGRES / "initdb"), "-D", str(data), "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C.UTF-8")
    settings = f"-c listen_addresses='' -c unix_socket_directories={place} -c fsync=off"
    control = [str(POSTGRES / "pg_ctl"), "-D", str(data), "-w", "-o", settings, "-l", str(place / "log")]
    run(*control, "start")
    try:
        for user in users:
            run("psql", "-h", str(place), "-d", "postgres", "-c", f'create role "{user}" login')
        (data / "pg_hba.conf").write_text("local all all pam pamservice=postgresql\n")
        run(*control, "reload")
        yield ["psql", "-h", str(place), "-d", "postgres", "-Atc", "select current_user"]
    finally:
        run(*control, "stop", "-m", "immediate")


@needs("psql")
@pytest.mark.skipif(not (POSTGRES / "initdb").exists(), reason="needs postgresql")
def test_postgresql__that_relay_for_names_takes_each_code_once(
    relay_host: RelayHost, alice: Person, outside: Path
) -> None:
    host = relay_host
    phone = host.enrol(alice, "--type=hotp")
    host.mounts.set_service("postgresql", f"auth required {host.installed.bridge}\n{REST}")
    server = pwd.getpwnam(SERVER)

    def log_in(words: list[str], code: str) -> subprocess.CompletedProcess[str]:
        keep_answer(code)
        command = host.mounts.command(*_as("nobody", f"PGPASSWORD={code}", *words, "-U", alice.name))
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)

    with _database(host, outside, [alice.name]) as words:
        code = phone.hotp()
        assert "PAM authentication failed" in log_in(words, code).stderr
        host.set_conf(f"relay_for = {SERVER}\n")
        assert log_in(words, code).stdout == f"{alice.name}\n"
        assert "PAM authentication failed" in log_in(words, code).stderr
    assert host.log.reasons() == ["relay", "accepted", "replayed"]
    assert {fields["uid"] for fields in host.log.outcomes()} == {str(server.pw_uid)}
