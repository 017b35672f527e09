"""A real sshd on a port of its own, which lets people in with a key and without PAM."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.hosts import free_port
from tests.support.process import wait_until


@contextlib.contextmanager
def key_sshd(directory: Path, *, around: Sequence[str] = (), user: str = "root") -> Iterator[list[str]]:
    """Run an sshd, and yield the command line that logs in.

    Args:
        directory: for its keys and its log.
        around: a command that runs it.
        user: who logs in.
    """
    for name in ("host_key", "key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True)
    port = free_port()
    options = [
        f"Port={port}", "ListenAddress=127.0.0.1", f"HostKey={directory}/host_key", "PidFile=none", "UsePAM=no",
        f"AuthorizedKeysFile={directory}/key.pub", "StrictModes=no", "PermitRootLogin=prohibit-password",
    ]  # fmt: skip
    words = [word for option in options for word in ("-o", option)]
    record = directory / "sshd.log"
    with record.open("wb") as log:
        start = ["setpriv", "--pdeathsig", "TERM", "/usr/sbin/sshd", "-D", "-e", "-f", "/dev/null", *words]
        server = subprocess.Popen([*around, *start], stdin=subprocess.DEVNULL, stderr=log)
    try:
        wait_until(lambda: "Server listening" in record.read_text() or server.poll() is not None, "sshd to listen")
        assert server.poll() is None, record.read_text()
        client = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", f"IdentityFile={directory}/key"]
        client += ["IdentitiesOnly=yes", "BatchMode=yes", "ExitOnForwardFailure=yes"]
        yield [
            "ssh", "-F", "none", "-q", "-p", str(port), *(word for o in client for word in ("-o", o)),
            f"{user}@127.0.0.1",
        ]  # fmt: skip
    finally:
        server.terminate()
        server.wait(60)
