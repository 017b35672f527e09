"""Import: turn another program's record of a soft token into ours. Reads bytes, and writes nothing anywhere. One
function serves all formats. The content of the file shows the format. Each format has its own module.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pam_softtoken.interchange import google_export, google_file, key_uri_reader, oath_file, pskc_file, qr_picture
from pam_softtoken.interchange.record import Harvest, Imported, Mistakes
from pam_softtoken.otp.token import MIN_KEY_BYTES
from pam_softtoken.program_errors import ImportFailed, Unreadable

MAX_BYTES = 4 * 2**20
"""A users file of pam_oath has some 130 bytes for each user, and so room for 30 000."""
MAX_PICTURE_BYTES = 2**20
GOOGLE, OATH, URI, PSKC, PICTURE = "google-authenticator", "pam_oath", "uri", "pskc", "picture"
KINDS = (GOOGLE, OATH, URI, PSKC, PICTURE)
"""`URI` covers Key URIs and exports of Google Authenticator, one or more lines of them."""
_BASE32 = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_HINT = (
    "known are: the files of google-authenticator and pam_oath, Key URIs (otpauth://), exports of Google Authenticator "
    "(otpauth-migration://), PSKC, and PNG or JPEG pictures of QR codes"
)
_HINTS = {OATH: oath_file.HINT, PSKC: pskc_file.HINT}


def is_text_of_ours(data: bytes) -> bool:
    """Check whether this package alone reads the data, line by line. Pictures, XML and encryption need a library."""
    try:
        return kind_of(data) in (GOOGLE, OATH, URI)
    except Unreadable:
        return True


def read(
    data: bytes,
    *,
    path: str,
    now: int,
    kind: str | None = None,
    passphrase: str | None = None,
    min_key_bytes: int = MIN_KEY_BYTES,
    skipping: bool = False,
    is_login: Callable[[str], bool] = lambda _word: False,
) -> Harvest:
    """Read a file of another program.

    Args:
        data: the content of the file.
        path: its name, for the error.
        now: Unix seconds.
        kind: one of `KINDS`; None to detect it.
        passphrase: opens an encrypted PSKC file. With a pre-shared key, it is that key in hexadecimal.
        min_key_bytes: the fewest bytes of a key in a Key URI, an export or a QR code. In the files of hosts and of
            makers of tokens, a key must always be as long as a host's own.
        skipping: return the entries that can be read even if others cannot.
        is_login: checks whether a word is a login name. The mistakes then name more users.

    Returns:
        At least one token, what the file itself marks as deleted, and with `skipping` the entries with mistakes.

    Raises:
        ImportFailed: with all mistakes, and nothing that could be a key, a code or a PIN.
        ValueError: there is no such kind.
    """
    if kind is not None and kind not in KINDS:
        raise ValueError("no such kind")
    mistakes = Mistakes(path, is_login=is_login)
    found: list[Imported] = []
    with mistakes.at(""):
        _require_size(data)
        if not data.strip():
            raise Unreadable("the file is empty")
        kind = kind or kind_of(data)
        if kind in (URI, PICTURE):
            found = read_uris(data, kind=kind, mistakes=mistakes, now=now, min_key_bytes=min_key_bytes)
        else:
            found = _read_file(data, kind, passphrase, mistakes, now)
        hint = _HINTS.get(kind, _HINT)
        if found and skipping:
            mistakes.raise_whole(hint=hint)
            return Harvest(tuple(found), mistakes.passed_over, mistakes.unusable)
        mistakes.raise_any(hint=hint)
        if not found:
            deleted = f" that is not marked as deleted, {len(mistakes.passed_over)} are" if mistakes.passed_over else ""
            raise Unreadable(f"there is no token in the file{deleted}")
    mistakes.raise_any(hint=_HINT)
    return Harvest(tuple(found), mistakes.passed_over)


def _require_size(data: bytes) -> None:
    if _is_picture(data):
        if len(data) > MAX_PICTURE_BYTES:
            hint = "cut the QR code out of the picture"
            raise Unreadable(f"larger than {MAX_PICTURE_BYTES} bytes", hint=hint)
    elif len(data) > MAX_BYTES:
        raise Unreadable(f"larger than {MAX_BYTES} bytes", hint=_HINT)


def _read_file(data: bytes, kind: str, passphrase: str | None, mistakes: Mistakes, now: int) -> list[Imported]:
    if kind == PSKC:
        return pskc_file.read(data, passphrase=passphrase, mistakes=mistakes, now=now)
    if kind == GOOGLE:
        return google_file.read(_lines(data), mistakes=mistakes, now=now)
    return oath_file.read(_lines(data), mistakes=mistakes, now=now)


def read_uris(
    data: bytes, *, kind: str, mistakes: Mistakes, now: int, min_key_bytes: int = MIN_KEY_BYTES
) -> list[Imported]:
    """Read Key URIs and exports of Google Authenticator: lines of them, or QR codes in a picture.

    Args:
        data: no more than `MAX_BYTES`.
        kind: `URI` or `PICTURE`.
        mistakes: records each URI that cannot be read. The others are returned.
        now: Unix seconds.
        min_key_bytes: the fewest bytes of a key.

    Raises:
        Unreadable: the whole file cannot be read.
    """
    if kind == PICTURE:
        texts = [(f"QR code {n}", text) for n, text in enumerate(qr_picture.read(data), 1)]
    else:
        texts = [(f"line {n}", line) for n, line in enumerate(_lines(data), 1) if line.strip()]
    found: list[Imported] = []
    for place, text in texts:
        if text.lower().startswith(f"{google_export.SCHEME}:"):
            found += google_export.read(
                text.strip(), place=place, mistakes=mistakes, now=now, min_key_bytes=min_key_bytes
            )
        else:
            with mistakes.at(place):
                record = key_uri_reader.parse(text.strip(), now=now, min_key_bytes=min_key_bytes)
                found.append(replace(record, place=place))
    return found


def _lines(data: bytes) -> list[str]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        count = data.count(b"\n", 0, error.start) + 1
        raise Unreadable(f"line {count}: not UTF-8 text") from None
    # Only these end a line. `splitlines` knows many more, and some of them may occur in a name.
    return [line.removesuffix("\r") for line in text.removeprefix("\ufeff").split("\n")]


def _is_picture(data: bytes) -> bool:
    return data.startswith((qr_picture.PNG, qr_picture.JPEG))


def kind_of(data: bytes) -> str:
    """Return the kind, by the first line that is neither empty nor a comment.

    Raises:
        Unreadable: the kind is unknown.
    """
    if _is_picture(data):
        return PICTURE
    first = next((line for line in _lines(data) if line.strip() and not line.lstrip().startswith("#")), "").strip()
    if first.startswith("<"):
        return PSKC
    if "://" in first:
        return URI
    if first.split("/")[0].split(maxsplit=1)[:1] == ["HOTP"] and len(first.split()) > 1:
        return OATH
    if first and not first.upper().strip(_BASE32 + "0189="):
        return GOOGLE
    raise Unreadable("no format that is known here")


__all__ = ["KINDS", "Harvest", "ImportFailed", "Imported", "read"]
