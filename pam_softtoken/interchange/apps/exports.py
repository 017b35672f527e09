"""Turn exports of other apps into tokens. Reads bytes, and writes nothing anywhere. One function serves all formats.
The content of the file shows the format. Each app has its own module.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pam_softtoken.interchange import app_document, reader
from pam_softtoken.interchange.apps import (
    aegis,
    andotp,
    bitwarden,
    ente,
    freeotp_plus,
    keepassxc,
    onepassword,
    proton,
    raivo,
    stratum,
    table,
    twofas,
    twofauth,
)
from pam_softtoken.interchange.record import SHORTEST_KEY_BYTES, Harvest, Mistakes
from pam_softtoken.program_errors import ImportFailed, Unreadable

MAX_BYTES = app_document.MAX_BYTES
_HINT = (
    "known are: exports of Aegis, andOTP, 2FAS, 2FAuth, Bitwarden, Ente Auth, FreeOTP+, Google Authenticator "
    "(otpauth-migration://), KeePassXC, 1Password, Proton Authenticator and Pass, Raivo and Stratum, files of Key URIs "
    "(otpauth://), and PNG or JPEG pictures of QR codes"
)
_PGP = b"-----BEGIN PGP MESSAGE-----"


class _SealedReader(Protocol):
    def __call__(self, document: object, /, *, ask_passphrase: Callable[[], str], now: int) -> Harvest: ...


class _Reader(Protocol):
    def __call__(self, document: object, /, *, now: int) -> Harvest: ...


_IsOne = Callable[[object], bool]
_MAYBE_ENCRYPTED: tuple[tuple[_IsOne, _SealedReader], ...] = (
    (aegis.is_one, aegis.read),
    (twofas.is_one, twofas.read),
    (ente.is_one, ente.read),
)
_IN_CLEAR: tuple[tuple[_IsOne, _Reader], ...] = (
    (freeotp_plus.is_one, freeotp_plus.read),
    (bitwarden.is_one, bitwarden.read),
    (proton.is_one, proton.read),
    (proton.is_pass, proton.read_pass),
    (stratum.is_one, stratum.read),
    (twofauth.is_one, twofauth.read),
    (raivo.is_one, raivo.read),
    (andotp.is_one, andotp.read),
)


def read(data: bytes, *, path: str, now: int, ask_passphrase: Callable[[], str]) -> Harvest:
    """Read an export of an app.

    Args:
        data: the content, up to `MAX_BYTES` and one byte more.
        path: its name, for the error.
        now: Unix seconds.
        ask_passphrase: returns the passphrase. It is called once, and only if the file is encrypted.

    Returns:
        At least one token.

    Raises:
        ImportFailed: no token could be read. It has every reason, and nothing that could be a key.
    """
    try:
        harvest = _read(data, ask_passphrase, now, path)
    except Unreadable as error:
        raise ImportFailed(path, (error.message,), hint=error.hint or _HINT) from None
    if not harvest.found:
        problems = harvest.skipped or ("there is no token in the file",)
        raise ImportFailed(path, problems, hint=_HINT)
    return harvest


def _read(data: bytes, ask_passphrase: Callable[[], str], now: int, path: str) -> Harvest:
    if len(data) > MAX_BYTES:
        raise Unreadable(f"larger than {MAX_BYTES} bytes")
    if not data.strip():
        raise Unreadable("the file is empty")
    if data.startswith(onepassword.ZIP):
        return onepassword.read(data, now=now)
    if data.startswith(stratum.ENCRYPTED):
        raise Unreadable("the backup of Stratum is encrypted", hint="make one without a password")
    if andotp.is_encrypted_one(data):
        return andotp.read_encrypted(data, ask_passphrase=ask_passphrase, now=now)
    first = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    if first.startswith((b"{", b"[")):
        return _read_document(app_document.parse(data), ask_passphrase, now)
    if first.startswith(_PGP):
        raise Unreadable("the file is encrypted with OpenPGP", hint="decrypt it with gpg first")
    if first.startswith(b"<"):
        return keepassxc.read(data, now=now)
    if table.is_one(data):
        return table.read(data, now=now)
    return _read_uris(data, now, path)


def _read_document(document: object, ask_passphrase: Callable[[], str], now: int) -> Harvest:
    """Read JSON. Each app is known by marks of its own, so that no file is taken for that of another app."""
    for is_one, read_sealed in _MAYBE_ENCRYPTED:
        if is_one(document):
            return read_sealed(document, ask_passphrase=ask_passphrase, now=now)
    for is_one, read_clear in _IN_CLEAR:
        if is_one(document):
            return read_clear(document, now=now)
    raise Unreadable("JSON of no app that is known here")


def _read_uris(data: bytes, now: int, path: str) -> Harvest:
    if len(data) > reader.MAX_BYTES:
        raise Unreadable(f"larger than {reader.MAX_BYTES} bytes")
    kind = reader.kind_of(data)
    if kind not in (reader.URI, reader.PICTURE):
        raise Unreadable("not an export of an app")
    mistakes = Mistakes(path)
    found = reader.read_uris(data, kind=kind, mistakes=mistakes, now=now, min_key_bytes=SHORTEST_KEY_BYTES)
    return Harvest(tuple(found), (*mistakes.problems, *mistakes.passed_over))


__all__ = ["MAX_BYTES", "Harvest", "read"]
