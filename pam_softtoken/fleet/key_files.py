"""The files in which a host keeps what makes it a member of a realm: `ca.crt`, `host.crt`, `host.key`, `seal.key`. Only
root can read them.
"""

from __future__ import annotations

import os

from pam_softtoken.account import file_faults, safe_open
from pam_softtoken.errors import MISSING, UnusableFile

AUTHORITY, CERTIFICATE, KEY, SEAL_KEY = "ca.crt", "host.crt", "host.key", "seal.key"
SEAL_KEY_BYTES = 32
_MAX_BYTES = 64 * 1024


def read_seal_key(directory: str) -> bytes:
    """Check the files, and return the key of the realm's seals.

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
            data = safe_open.read(descriptor, _MAX_BYTES, path=f"{directory}/{SEAL_KEY}")
        finally:
            os.close(descriptor)
    finally:
        os.close(below)
    return _key_from(data, f"{directory}/{SEAL_KEY}")


def text_of(seal_key: bytes) -> bytes:
    """Return the content of `seal.key`."""
    return seal_key.hex().encode() + b"\n"


def _opened(path: str, below: int) -> int:
    try:
        return safe_open.open_file(path, os.O_RDONLY, below=below, owner=os.geteuid())
    except FileNotFoundError as error:
        raise UnusableFile(path, file_faults.words_of(error), kind=MISSING) from None


def _key_from(data: bytes, path: str) -> bytes:
    text = data.removesuffix(b"\n")
    if len(text) != 2 * SEAL_KEY_BYTES or text.strip(b"0123456789abcdef"):
        raise UnusableFile(path, f"is not {2 * SEAL_KEY_BYTES} hexadecimal digits")
    return bytes.fromhex(text.decode("ascii"))
