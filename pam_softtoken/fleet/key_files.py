"""The files in which a host keeps what makes it a member of a realm: `ca.crt`, `host.crt`, `host.key`, `seal.key`. Only
root can read them.
"""

from __future__ import annotations

import os

from pam_softtoken.account import file_faults, host_key, safe_open
from pam_softtoken.account.host_key import HostKeys
from pam_softtoken.errors import MISSING, UnusableFile

AUTHORITY, CERTIFICATE, KEY, SEAL_KEY = "ca.crt", "host.crt", "host.key", "seal.key"


def read_seal_keys(directory: str) -> HostKeys:
    """Check the files, and return the keys of the realm's seals. One of them seals.

    Args:
        directory: absolute path, the `fleet_keys` option.

    Raises:
        InsecureFile, UnusableFile: as their names say.
    """
    try:
        below = safe_open.open_directory(directory, below=None, owner=os.geteuid())
    except FileNotFoundError:
        raise UnusableFile(directory, "this host has not joined the realm", kind=MISSING) from None
    try:
        for name in (AUTHORITY, CERTIFICATE, KEY):  # TLS reads them by their names
            os.close(_opened(f"{directory}/{name}", below))
        descriptor = _opened(f"{directory}/{SEAL_KEY}", below)
        try:
            data = safe_open.read(descriptor, host_key.MAX_BYTES, path=f"{directory}/{SEAL_KEY}")
        finally:
            os.close(descriptor)
    finally:
        os.close(below)
    return seal_keys_from(data, f"{directory}/{SEAL_KEY}")


def seal_keys_from(data: bytes, path: str) -> HostKeys:
    """Return the keys of the realm's seals from the content of `seal.key`. One of them seals.

    Raises:
        UnusableFile: it is no such content.
    """
    try:
        keys = host_key.parse(data)
    except ValueError as error:
        raise UnusableFile(path, str(error)) from None
    if keys.sealing is None:
        raise UnusableFile(path, "has no key that seals")
    return keys


def _opened(path: str, below: int) -> int:
    try:
        return safe_open.open_file(path, os.O_RDONLY, below=below, owner=os.geteuid())
    except FileNotFoundError as error:
        raise UnusableFile(path, file_faults.words_of(error), kind=MISSING) from None
