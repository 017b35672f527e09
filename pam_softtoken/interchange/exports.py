"""Turn exports of other apps into tokens. Reads bytes, and writes nothing anywhere. One function serves all formats.
The content of the file shows the format. Each app has its own module.
"""

from __future__ import annotations

from collections.abc import Callable

from pam_softtoken.errors import ImportFailed, Unreadable
from pam_softtoken.interchange import aegis, andotp, app_document, freeotp_plus, reader, twofas
from pam_softtoken.interchange.record import SHORTEST_KEY_BYTES, Harvest, Mistakes

MAX_BYTES = app_document.MAX_BYTES
_HINT = (
    "known are: exports of Aegis, andOTP, 2FAS, FreeOTP+ and Google Authenticator (otpauth-migration://), files of Key "
    "URIs (otpauth://), and PNG or JPEG pictures of QR codes"
)
_PGP = b"-----BEGIN PGP MESSAGE-----"


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
    if andotp.is_encrypted_one(data):
        return andotp.read_encrypted(data, ask_passphrase=ask_passphrase, now=now)
    first = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    if first.startswith((b"{", b"[")):
        return _read_document(app_document.parse(data), ask_passphrase, now)
    if first.startswith(_PGP):
        raise Unreadable("the file is encrypted with OpenPGP", hint="decrypt it with gpg first")
    return _read_uris(data, now, path)


def _read_document(document: object, ask_passphrase: Callable[[], str], now: int) -> Harvest:
    if aegis.is_one(document):
        return aegis.read(document, ask_passphrase=ask_passphrase, now=now)
    if twofas.is_one(document):
        return twofas.read(document, ask_passphrase=ask_passphrase, now=now)
    if freeotp_plus.is_one(document):
        return freeotp_plus.read(document, now=now)
    if andotp.is_one(document):
        return andotp.read(document, now=now)
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
