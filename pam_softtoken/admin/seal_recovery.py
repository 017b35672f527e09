"""Show the host's seal key as a recovery key, and read it back: what people keep on paper, away from the machine."""

from __future__ import annotations

import base64
import os

from pam_softtoken.account import seal
from pam_softtoken.account.host_key import HostKeys
from pam_softtoken.admin.common import person, seal_custody, sealed_files
from pam_softtoken.admin.common.seal_custody import Custody
from pam_softtoken.errors import PathError
from pam_softtoken.program_errors import AdministrationFailed, NotConfirmed
from pam_softtoken.ui import terminal

_GROUP = 4
_CHECK_BYTES = 3


def recovery_text(key: bytes) -> str:
    """Return a seal key in the form that people keep on paper: base32 in groups, the last digits a checksum."""
    digits = base64.b32encode(key + bytes.fromhex(seal.key_id(key))[:_CHECK_BYTES]).decode()
    return "-".join(digits[place : place + _GROUP] for place in range(0, len(digits), _GROUP))


def key_of(text: str) -> bytes:
    """Read a recovery key as people type it. Raises `ValueError` if it is none."""
    digits = "".join(text.upper().replace("0", "O").replace("1", "I").replace("8", "B").split()).replace("-", "")
    data = base64.b32decode(digits)
    key = data[: seal.KEY_BYTES]
    if len(key) < seal.KEY_BYTES or data[seal.KEY_BYTES :] != bytes.fromhex(seal.key_id(key))[:_CHECK_BYTES]:
        raise ValueError("is no recovery key")
    return key


def new_key(screen: terminal.Terminal) -> bytes:
    """Return a new key after it was shown once, as a recovery key, and typed back.

    Raises:
        NotConfirmed: it was not, or there is no terminal to show it on.
    """
    if not terminal.person_is_there() or not terminal.person_sees_messages():
        raise NotConfirmed(
            "the recovery key can only be shown on a terminal; nothing was changed",
            hint="run the same command at a terminal",
        )
    key = os.urandom(seal.KEY_BYTES)
    text = recovery_text(key)
    screen.tell(
        "This recovery key opens all sealed tokens if the key of this host is lost: a new disk, a new mainboard, "
        "a TPM that refuses. Without it, everybody has to enrol again. It is shown only now. Write it down, and keep "
        "it away from this machine and its backups."
    )
    screen.tell(f"\n    {text}\n")
    typed = screen.ask("Type it to go on:")
    try:
        is_right = key_of(typed) == key
    except ValueError:
        is_right = False
    if not is_right:
        raise NotConfirmed(
            "that is not the recovery key; nothing was changed", hint="start again; another key will be shown"
        )
    return key


def recovered(screen: terminal.Terminal, *, with_tpm: bool, pcrs: str) -> Custody:
    """Ask for the recovery keys of the files that are sealed. Return what this host has to keep.

    Args:
        with_tpm: keep the keys with the TPM.
        pcrs: the state of the machine that the TPM asks for.

    Raises:
        AdministrationFailed: nothing is sealed, or what was typed opens nothing.
    """
    needed = {seen.key_id for seen in sealed_files.look(None) if seen.needs_key}
    if not needed:
        raise AdministrationFailed("no token file is sealed", hint=f"{person.PROGRAM} seal --on seals them")
    keys = _typed_keys(screen, needed)
    missing = needed - {seal.key_id(key) for key in keys}
    keys += [key for name, key in _kept_keys().items() if name in missing]
    return Custody(HostKeys(keys[0], tuple(keys[1:]), pcrs=pcrs), with_tpm)


def _typed_keys(screen: terminal.Terminal, needed: set[str]) -> list[bytes]:
    keys: list[bytes] = []
    while missing := needed - {seal.key_id(key) for key in keys}:
        question = "Recovery key:" if not keys else "Some files have another key. Its recovery key, or nothing:"
        typed = screen.ask(question)
        if keys and not typed.strip():
            break
        try:
            key = key_of(typed)
        except ValueError:
            raise AdministrationFailed(
                "that is no recovery key; nothing was changed", hint="compare it with the paper, digit by digit"
            ) from None
        if seal.key_id(key) not in missing:
            raise AdministrationFailed(
                f"no token file is sealed with that key, which is {seal.key_id(key)}; nothing was changed",
                hint=f"{person.PROGRAM} seal --status shows the keys that are needed",
            )
        keys.append(key)
    return keys


def _kept_keys() -> dict[str, bytes]:
    """Return the keys that this host has in spite of all. What cannot be read is why they are recovered."""
    try:
        found = seal_custody.load(asking_tpm=False)
    except (AdministrationFailed, PathError):
        return {}
    return found.keys.by_id() if found.keys is not None else {}
