"""Measure whole ssh logins for `scripts/bench`: real sshds on loopback ports, without a module, with ours, and with
google-authenticator.

The user and the PAM services exist only in the bench's own copy of /etc.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import own_sshd
from bench_attempts import Sample, in_turn
from bench_setup import BenchError, Service, Workshop, run, running
from bench_users import ETC, add_user

USER = "softtoken-bench"
PLAIN, OURS, GOOGLE = "plain", "ours", "google"
_PASSWORD_LINE = "auth required pam_unix.so\n"
_REST = "account required pam_unix.so\nsession required pam_unix.so\n"
_TIMEOUT_S = 60.0
_ASKPASS = """\
#!/bin/sh
case $1 in
*assword*) echo "$BENCH_PASSWORD" ;;
*) echo "$BENCH_CODE" ;;
esac
"""


@dataclass(frozen=True, slots=True)
class Server:
    """An sshd with a PAM stack of its own.

    Attributes:
        service: its PAM service, and the token of its user.
        port: on 127.0.0.1.
        wants_code: it asks for a code after the password.
    """

    service: Service
    port: int
    wants_code: bool


def measure_logins(shop: Workshop, logins: int, progress: Callable[[int], None]) -> dict[str, Sample]:
    """Log in over ssh with a password, and a code if asked, on each server in turn.

    Returns:
        Wall time of `ssh ... true` in ms, by server.

    Raises:
        BenchError: a login failed.
    """
    password = secrets.token_urlsafe(12)
    add_user(shop, USER, hashed=_hash(password))
    servers = _make_servers(shop)
    environment = {
        "PATH": "/usr/bin:/bin",
        "SSH_ASKPASS": str(_script(shop.path / "askpass", _ASKPASS)),
        "SSH_ASKPASS_REQUIRE": "force",
        "BENCH_PASSWORD": password,
    }
    samples = {name: Sample() for name in servers}
    with _listening(shop, servers):
        for server in servers.values():
            _log_in(shop, server, environment)  # the first login loads what the others find in memory
        for number in range(logins):
            progress(number)
            for name in in_turn(tuple(servers), number):
                samples[name].values.append(_log_in(shop, servers[name], environment))
    return samples


def _hash(password: str) -> str:
    """Hash a password as Debian does, with yescrypt."""
    crypt = ctypes.CDLL("libcrypt.so.1").crypt
    crypt.restype = ctypes.c_char_p
    hashed: bytes | None = crypt(password.encode(), b"$y$j9T$" + secrets.token_hex(8).encode())
    if not hashed or not hashed.startswith(b"$y$"):
        raise BenchError("libcrypt does not know yescrypt")
    return hashed.decode()


def _make_servers(shop: Workshop) -> dict[str, Server]:
    """Enrol the user with both modules in the usual place, the home directory. Write the PAM services."""
    shop.enrol_ours(USER)
    account = pwd.getpwnam(USER)
    secret = Path(account.pw_dir) / ".google_authenticator"
    secret.touch(mode=0o600)
    secret.write_text(shop.google_file())
    os.chown(secret, account.pw_uid, account.pw_gid)
    second = {
        PLAIN: "",
        OURS: shop.line_of_ours(),
        GOOGLE: "auth required pam_google_authenticator.so\n",
    }
    servers = {}
    for name, line in second.items():
        service = Service(f"softtoken-bench-{name}")
        (ETC / "pam.d" / service.name).write_text(_PASSWORD_LINE + line + _REST)
        servers[name] = Server(service, _free_port(), line != "")
    return servers


def _script(path: Path, text: str) -> Path:
    path.write_text(text)
    path.chmod(0o755)
    return path


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _listening(shop: Workshop, servers: dict[str, Server]) -> Iterator[None]:
    """Run the sshds for the length of a block. The kernel ends them if this process is killed."""
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    key = shop.path / "host_key"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    public = key.with_suffix(".pub").read_text()
    hosts = [f"[127.0.0.1]:{server.port} {public}" for server in servers.values()]
    (shop.path / "known_hosts").write_text("".join(hosts))
    commands = []
    for server in servers.values():
        config = shop.path / f"{server.service.name}.conf"
        program, own_service = own_sshd.with_service(server.service.name, shop.path, key)
        config.write_text(_configuration(server, key) + own_service)
        commands.append(("setpriv", "--pdeathsig", "TERM", program, "-D", "-f", config))
    with running(commands, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as processes:
        for server, process in zip(servers.values(), processes, strict=True):
            _wait_for(server.port, process)
        yield


def _configuration(server: Server, key: Path) -> str:
    return (
        f"Port {server.port}\nListenAddress 127.0.0.1\nHostKey {key}\nPidFile none\nUsePAM yes\nUseDNS no\n"
        "KbdInteractiveAuthentication yes\nPasswordAuthentication no\nPubkeyAuthentication no\n"
        f"AllowUsers {USER}\nPrintMotd no\nPrintLastLog no\n"
    )


def _wait_for(port: int, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.02)
    raise BenchError("sshd does not start")


def _log_in(shop: Workshop, server: Server, environment: dict[str, str]) -> float:
    """Log in once. Return the wall time in ms."""
    code = shop.take_codes(server.service, 1)[0] if server.wants_code else ""
    command = ["ssh", "-F", "none", "-p", str(server.port), "-o", f"UserKnownHostsFile={shop.path}/known_hosts"]
    command += ["-o", "GlobalKnownHostsFile=/dev/null", "-o", "PreferredAuthentications=keyboard-interactive"]
    command += ["-o", "NumberOfPasswordPrompts=1", "-T", f"{USER}@127.0.0.1", "echo", "logged", "in"]
    started_s = time.monotonic()
    done = subprocess.run(
        command,
        env={**environment, "BENCH_CODE": code},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    took_s = time.monotonic() - started_s
    if done.returncode != 0 or done.stdout != "logged in\n":
        raise BenchError(f"{server.service.name}: ssh login failed: {done.stderr}\n{shop.log.tail()}")
    return took_s * 1e3
