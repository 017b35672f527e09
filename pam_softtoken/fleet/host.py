"""The name of this machine in the records of a realm."""

from __future__ import annotations

import os

from pam_softtoken.otp.mac import sha256

MACHINE_ID = "/etc/machine-id"


def name() -> str:
    """Return 16 hexadecimal digits, different for each machine. A user's uid on one host is another user's elsewhere.

    Source:
        machine-id(5): the id itself must not leave the machine.
    """
    try:
        descriptor = os.open(MACHINE_ID, os.O_RDONLY | os.O_CLOEXEC)
        try:
            identity = os.read(descriptor, 64).strip()
        finally:
            os.close(descriptor)
    except OSError:
        identity = b""
    identity = identity or os.uname().nodename.encode()
    return sha256(b"softtoken host " + identity).hexdigest()[:16]
