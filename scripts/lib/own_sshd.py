"""Start an sshd that asks for a PAM service of its own, so that the machine's stays as it is. For demo and bench."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

SSHD = "/usr/sbin/sshd"


def with_service(service: str, directory: Path, host_key: Path) -> tuple[Path, str]:
    """Return the program to start, and what its configuration has to say.

    OpenSSH 9.8 and later have an option for it. Before, sshd asks for the service that has the name of its own file.

    Args:
        service: the name of a file in /etc/pam.d.
        directory: a directory that only root can write, for a copy.
        host_key: any host key, to ask sshd about its options.

    Returns:
        A path, and lines of sshd_config, each with its line end.
    """
    option = f"PAMServiceName={service}"
    words = [SSHD, "-T", "-f", "/dev/null", "-h", str(host_key), "-o", "UsePAM=yes", "-o", option]
    known = subprocess.run(words, check=False, capture_output=True, text=True)
    if service in known.stdout.split():
        return Path(SSHD), f"PAMServiceName {service}\n"
    program = directory / service
    shutil.copy2(SSHD, program)
    return program, ""
