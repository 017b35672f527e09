"""Where the host's seal key is kept: in a file of root's, or in a credential that only this machine's TPM decrypts.

systemd-creds does the work with the TPM. The key reaches it through a pipe, never as an argument. By default the TPM
asks for no state of the machine (PCR): after a new firmware or kernel it would keep everybody out.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from pam_softtoken.account import entries, host_key, places, replace, roots_files, safe_open
from pam_softtoken.account.host_key import HostKeys
from pam_softtoken.admin.common import child
from pam_softtoken.errors import LockTimeout, PathError
from pam_softtoken.program_errors import AdministrationFailed

UNIT = "softtoken-key.service"
CREDENTIAL = "softtoken-host-key"
"""The name inside the credential. The unit has the same."""
_SYSTEMD_CREDS, _SYSTEMCTL = "/usr/bin/systemd-creds", "/usr/bin/systemctl"
_LIMIT_S = 60.0
_UNUSED_PCR = "16"
"""The PCR for tests of programs, which no firmware uses. systemd 252 does not decrypt what asks for no PCR at all."""
_NOT_IN_PLACE = re.compile(r"\.host\.key(\.tpm)?\.[0-9a-f]{16}")
_RECOVER = "softtoken-admin seal --recover"


class Custody(NamedTuple):
    """What is kept on the disk, and where.

    Args:
        keys: the keys; None if sealing is off.
        with_tpm: they are in the TPM's credential, not in a file.
    """

    keys: HostKeys | None
    with_tpm: bool

    def in_words(self) -> str:
        """Return where the key is, as a sentence."""
        if not self.with_tpm:
            return f"The key is in {places.SEAL_KEY}."
        pcrs = self.keys.pcrs if self.keys is not None else ""
        asked = f", for PCR {pcrs}" if pcrs else ""
        return f"The key is in {places.SEAL_CREDENTIAL}, which only the TPM of this machine opens{asked}."


def path_of(custody: Custody) -> str:
    """Return the path of what is kept."""
    return places.SEAL_CREDENTIAL if custody.with_tpm else places.SEAL_KEY


def load(*, asking_tpm: bool = True) -> Custody:
    """Return what this host keeps. A file goes before a credential, as it does in a login.

    Args:
        asking_tpm: decrypt the credential; otherwise take what the start of the machine has decrypted.

    Raises:
        AdministrationFailed: it cannot be read.
    """
    try:
        keys = host_key.read(places.SEAL_KEY)
        if keys is not None:
            return Custody(keys, with_tpm=False)
        if not os.path.lexists(places.SEAL_CREDENTIAL):
            return Custody(None, with_tpm=False)
        if asking_tpm:
            return Custody(_decrypted(_read_credential()), with_tpm=True)
        keys = host_key.read(places.LOADED_SEAL_KEY)
    except PathError as error:
        raise AdministrationFailed(str(error), hint="let only root own and read it: chown root, chmod 400") from None
    except ValueError as error:
        raise AdministrationFailed(str(error), hint=_RECOVER) from None
    if keys is None:
        raise AdministrationFailed(f"{places.LOADED_SEAL_KEY} is missing", hint=f"systemctl restart {UNIT}")
    return Custody(keys, with_tpm=True)


def store(custody: Custody) -> None:
    """Keep other keys, or the same in another place. It is durable on return, and logins use them.

    Raises:
        AdministrationFailed: everything is as before, or the keys are kept in both places.
        PathError: the same.
    """
    keys = custody.keys
    if keys is None:
        raise ValueError("there is no key to keep")
    _make_directory(os.path.dirname(places.SEAL_KEY), 0o755)
    if not custody.with_tpm:
        replace.write_for_root(places.SEAL_KEY, host_key.serialise(keys), mode=0o400)
        _remove(places.SEAL_CREDENTIAL, places.LOADED_SEAL_KEY, *_left_behind())
        return
    data = host_key.serialise(keys)
    replace.write_for_root(places.SEAL_CREDENTIAL, _encrypted(data, keys.pcrs), mode=0o600)
    _make_directory(os.path.dirname(places.LOADED_SEAL_KEY), 0o700)
    replace.write_for_root(places.LOADED_SEAL_KEY, data, mode=0o400)
    _remove(places.SEAL_KEY, *_left_behind())


def mark() -> None:
    """Write that token files are to be sealed from now on, also if the key gets lost. The key is kept already."""
    if not os.path.lexists(places.SEALED_MARK):
        roots_files.make_directory(places.DATA)
        replace.write_for_root(places.SEALED_MARK, b"", mode=0o600)


def remove() -> None:
    """Forget the key. No file may need it any more."""
    _remove(places.SEALED_MARK)
    _remove(places.SEAL_KEY, places.SEAL_CREDENTIAL, places.LOADED_SEAL_KEY, *_left_behind())


def _left_behind() -> list[str]:
    """Return the files with keys that killed commands have not put in place."""
    directory = os.path.dirname(places.SEAL_KEY)
    return [f"{directory}/{name}" for name in entries.names_in(directory) if _NOT_IN_PLACE.fullmatch(name)]


def _remove(*paths: str) -> None:
    for path in paths:
        if os.path.lexists(path):
            directory = safe_open.open_directory(os.path.dirname(path), below=None, owner=os.geteuid())
            try:
                replace.remove(path, below=directory)
            finally:
                os.close(directory)


def _make_directory(path: str, mode: int) -> None:
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return
    except OSError as error:
        raise AdministrationFailed(f"{path}: {os.strerror(error.errno or 0)}", hint="make it writable") from None
    os.chmod(path, mode)  # whatever the umask
    replace.sync_directory(os.path.dirname(path))


@contextmanager
def locked() -> Iterator[None]:
    """Hold the lock that only one change of the key can have. Never hold it while somebody types.

    Raises:
        AdministrationFailed: another process has it.
    """
    path = os.path.dirname(places.SEAL_KEY)
    _make_directory(path, 0o755)
    directory = safe_open.open_directory(path, below=None, owner=os.geteuid())
    try:
        safe_open.lock(directory, 0.0, path=path)
        yield
    except LockTimeout as error:
        if error.path != path:
            raise
        raise AdministrationFailed(
            "another softtoken-admin seal is at work; nothing was changed", hint="start again when it is done"
        ) from None
    finally:
        os.close(directory)


def require_tpm(pcrs: str) -> None:
    """Check that a TPM keeps a key, and that the next start of the machine decrypts it.

    Args:
        pcrs: the state of the machine that the TPM asks for.

    Raises:
        AdministrationFailed: it would not, and nobody would get in.
    """
    _encrypted(b"trial", pcrs)
    try:
        done = child.run(_SYSTEMCTL, "enable", "--quiet", UNIT, limit_s=_LIMIT_S)
        why = done.stderr.strip() if done.returncode else ""
    except OSError as error:
        why = str(error)
    if why:
        raise AdministrationFailed(f"{UNIT} cannot be enabled: {why}", hint="without --tpm the key is in a file")


def unit_is_enabled() -> bool:
    """Return whether the next start of the machine decrypts the key."""
    try:
        return child.run(_SYSTEMCTL, "is-enabled", "--quiet", UNIT, limit_s=_LIMIT_S).returncode == 0
    except (OSError, ValueError):
        return False


def _read_credential() -> bytes:
    path = places.SEAL_CREDENTIAL
    directory = safe_open.open_directory(os.path.dirname(path), below=None, owner=os.geteuid())
    try:
        descriptor = safe_open.open_file(path, os.O_RDONLY, below=directory, owner=os.geteuid())
    except FileNotFoundError:
        raise ValueError(f"{path} is missing") from None
    finally:
        os.close(directory)
    try:
        return safe_open.read(descriptor, child.MAX_BYTES, path=path)
    finally:
        os.close(descriptor)


def _encrypted(data: bytes, pcrs: str) -> bytes:
    """Encrypt the keys, and decrypt them once, so that what is written can be opened.

    Raises:
        AdministrationFailed: there is no usable TPM.
    """
    why = ""
    for asked in (pcrs,) if pcrs else ("", _UNUSED_PCR):
        words = ("--with-key=tpm2", f"--tpm2-pcrs={asked}", f"--name={CREDENTIAL}", "-", "-")
        text, why = _ask("encrypt", *words, given=data)
        if why:
            continue
        opened, why = _ask("decrypt", f"--name={CREDENTIAL}", "-", "-", given=text)
        if not why and opened == data:
            return text
        why = why or "what it encrypts, it does not decrypt"
    raise AdministrationFailed(f"the TPM cannot be used: {why}", hint="without --tpm the key is in a file")


def _decrypted(text: bytes) -> HostKeys:
    data, why = _ask("decrypt", f"--name={CREDENTIAL}", "-", "-", given=text)
    if why:
        raise AdministrationFailed(
            f"{places.SEAL_CREDENTIAL} cannot be decrypted: {why}",
            hint=f"{_RECOVER}, with the recovery key; add --tpm for this machine's TPM",
        )
    try:
        return host_key.parse(data)
    except ValueError as error:
        raise ValueError(f"{places.SEAL_CREDENTIAL} {error}") from None


def _ask(*words: str, given: bytes) -> tuple[bytes, str]:
    """Run systemd-creds. Return what it prints, and why it failed; the second is empty if it did not."""
    try:
        done = child.run(_SYSTEMD_CREDS, *words, limit_s=_LIMIT_S, given=given)
    except (OSError, ValueError) as error:
        return b"", f"{_SYSTEMD_CREDS}: {error}"
    if done.returncode:
        return b"", (done.stderr.strip().splitlines() or ["it gives no reason"])[-1]
    return done.stdout.encode("utf-8", "surrogateescape"), ""
