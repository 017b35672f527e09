"""The host's seal key, and the token files of root's that are sealed with it. `seal` has the cryptography.

A login loads this only for a sealed token file. Writing loads it always. The key is in one of two places: a file of
root's, or a credential that only this machine's TPM decrypts, once at each start, to a file in /run. So the key that is
read may be exchanged at any time. Two rules keep every file readable, with a kill at any moment:

1. A key that has sealed anything stays among the keys that open until no file of that key is left.
2. Writers read the key under the user's lock. A change of the key writes it first, then takes each user's lock.
"""

from __future__ import annotations

import os

from pam_softtoken.account import places, safe_open, seal
from pam_softtoken.errors import NO_KEY, NOT_LOADED, WRONG_KEY, PathError, Sealed

HEADER = "softtoken-seal-key 1"
MAX_BYTES = 1024
MAX_KEYS = 4
PLACE: seal.Place = ("host", "tokens", "")
"""Root's token files name their account inside, under the seal, and every reader checks that. So the place need not
name it, and `rebind` or mv can rename a user's directory.
"""
_SEAL, _OPEN, _PCRS = "seal", "open", "pcrs"


class HostKeys:
    """The keys of this host, or of a realm.

    Args:
        sealing: the key that seals what is written; None while sealing is being turned off.
        others: keys that only open.
        pcrs: the state of the machine that the TPM asks for, as in `7+11`; empty for none, and for a key in a file.
    """

    __slots__ = ("others", "pcrs", "sealing")

    def __init__(self, sealing: bytes | None, others: tuple[bytes, ...] = (), *, pcrs: str = "") -> None:
        self.sealing = sealing
        self.others = others
        self.pcrs = pcrs

    def by_id(self) -> dict[str, bytes]:
        """Return all keys by their ids."""
        return {seal.key_id(key): key for key in (*((self.sealing,) if self.sealing else ()), *self.others)}


def parse(text: bytes) -> HostKeys:
    """Read the text of a key file. Raises `ValueError`, which never has a key."""
    first, *lines = text.decode("ascii", "replace").split("\n")
    if first != HEADER or len(text) > MAX_BYTES or len(lines) < 2 or lines.pop():
        raise ValueError("is no key file")
    sealing: list[bytes] = []
    others: list[bytes] = []
    pcrs = ""
    if lines and lines[-1].startswith(f"{_PCRS} "):
        pcrs = lines.pop()[len(_PCRS) + 1 :]
        if not pcrs or pcrs.strip("0123456789+"):
            raise ValueError("is no key file")
    for line in lines:
        word, _, digits = line.partition(" ")
        if word not in (_SEAL, _OPEN) or len(digits) != 2 * seal.KEY_BYTES or digits.strip("0123456789abcdef"):
            raise ValueError("is no key file")
        (sealing if word == _SEAL else others).append(bytes.fromhex(digits))
    if len(sealing) > 1 or not 1 <= len(lines) <= MAX_KEYS or len({*sealing, *others}) < len(lines):
        raise ValueError("is no key file")
    return HostKeys(sealing[0] if sealing else None, tuple(others), pcrs=pcrs)


def serialise(keys: HostKeys) -> bytes:
    """Return the text of a key file."""
    lines = [f"{_SEAL} {keys.sealing.hex()}"] if keys.sealing else []
    lines += [f"{_OPEN} {key.hex()}" for key in keys.others]
    lines += [f"{_PCRS} {keys.pcrs}"] if keys.pcrs else []
    return "\n".join((HEADER, *lines, "")).encode("ascii")


def read(path: str) -> HostKeys | None:
    """Read a key file. None if there is none.

    Raises:
        InsecureFile, UnusableFile: others could have read or written it, or the system would not read it.
        ValueError: it is no key file.
    """
    try:
        directory = safe_open.open_directory(os.path.dirname(path), below=None, owner=os.geteuid())
    except FileNotFoundError:
        return None
    try:
        descriptor = safe_open.open_file(path, os.O_RDONLY, below=directory, owner=os.geteuid())
    except FileNotFoundError:
        return None
    finally:
        os.close(directory)
    try:
        return parse(safe_open.read(descriptor, MAX_BYTES, path=path))
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None
    finally:
        os.close(descriptor)


def in_use() -> HostKeys | None:
    """Return the keys that logins use now. None if there are none.

    Raises:
        InsecureFile, UnusableFile, ValueError: as for `read`.
    """
    return read(places.SEAL_KEY) or read(places.LOADED_SEAL_KEY)


def present(*, path: str) -> HostKeys | None:
    """Return the keys of this host. None if sealing is off.

    Args:
        path: the token file that needs them, for the error.

    Raises:
        Sealed: sealing is on, and there is no key.
    """
    try:
        keys = in_use()
    except (PathError, ValueError) as error:
        raise Sealed(path, f"the seal key cannot be used: {error}", kind=NO_KEY) from None
    if keys is not None:
        return keys
    if os.path.lexists(places.SEAL_CREDENTIAL):
        raise Sealed(path, f"the seal key {places.LOADED_SEAL_KEY} is missing", kind=NOT_LOADED)
    if os.path.lexists(places.SEALED_MARK):
        raise Sealed(path, f"the seal key {places.SEAL_KEY} is missing", kind=NO_KEY)
    return None


def unsealed(data: bytes, *, path: str) -> bytes:
    """Return the text of a sealed token file of root's.

    Raises:
        Sealed: there is no key, it is another key, or the file was changed.
    """
    keys = present(path=path)
    if keys is None:
        raise Sealed(path, f"is sealed, and {places.SEAL_KEY} is missing", kind=NO_KEY)
    try:
        name = seal.key_id_of(data)
        key = keys.by_id().get(name)
        if key is not None:
            return seal.unseal(key, data, PLACE)
    except ValueError as error:
        raise Sealed(path, f"is sealed, and {error}") from None
    raise Sealed(path, f"is sealed with another key ({name!a})", kind=WRONG_KEY)


def sealed(text: bytes, *, path: str) -> bytes:
    """Return what to write into a token file: sealed if this host seals, and the file is in the store for that.

    Args:
        text: of the token file.
        path: of the token file.

    Raises:
        Sealed: it has to be sealed, and there is no key.
    """
    if os.path.dirname(os.path.dirname(path)) != places.DATA:
        return text
    keys = present(path=path)
    return text if keys is None else sealed_with(keys, text)


def sealed_with(keys: HostKeys, text: bytes) -> bytes:
    """Return the text of a token file as these keys want it: sealed, or plain if none of them seals."""
    if keys.sealing is None:
        return text
    return seal.seal(keys.sealing, text, PLACE, nonce=os.urandom(seal.NONCE_BYTES))
