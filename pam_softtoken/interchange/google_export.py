"""Read exports of the app Google Authenticator (`otpauth-migration://`): accounts as a protocol-buffer message in
Base64. Does no I/O. The message is simple enough to be decoded here without a library. It is a sequence of fields. Each
field starts with a number for its place and form. A value follows: a number, or a length and as many bytes. This reader
is stricter than the format. If a single field occurs twice, it is refused, because nobody can tell which one was meant.

Source: the fields as published by those who read the exports first; encoding as in Protocol Buffers, "Encoding".
"""

from __future__ import annotations

import base64
import binascii

from pam_softtoken.interchange.key_uri_reader import parameters_of
from pam_softtoken.interchange.record import Imported, Mistakes, hotp_token, last_before, name_from_label, totp_token
from pam_softtoken.otp.token import MIN_KEY_BYTES
from pam_softtoken.program_errors import Unreadable

SCHEME = "otpauth-migration"
_NUMBER, _EIGHT_BYTES, _BYTES, _FOUR_BYTES = 0, 1, 2, 5
_FIXED = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}
_MAX_VARINT_BYTES = 10
_ACCOUNT = 1
_MESSAGE = {1: _BYTES, 2: _NUMBER, 3: _NUMBER, 4: _NUMBER, 5: _NUMBER}
_PARTS, _PART = 3, 4
_ACCOUNT_FIELDS = {1: _BYTES, 2: _BYTES, 3: _BYTES, 4: _NUMBER, 5: _NUMBER, 6: _NUMBER, 7: _NUMBER}
_SECRET, _NAME, _ISSUER, _ALGORITHM, _DIGITS, _KIND, _COUNTER = 1, 2, 3, 4, 5, 6, 7
_ALGORITHMS = {0: "SHA1", 1: "SHA1", 2: "SHA256", 3: "SHA512"}
_DIGIT_COUNTS = {0: 6, 1: 6, 2: 8}
_HOTP, _TOTP = 1, 2
_MAX_PARTS = 1000
_DAMAGED = "see whether all of the export was copied"


def read(uri: str, *, place: str, mistakes: Mistakes, now: int, min_key_bytes: int = MIN_KEY_BYTES) -> list[Imported]:
    """Read one export URI, which is one QR code of the app.

    Args:
        uri: the text, without a line end.
        place: the place of the URI, for the errors.
        mistakes: records what is wrong.
        now: Unix seconds.
        min_key_bytes: the fewest bytes of a key.
    """
    with mistakes.at(place):
        fields = _fields(_data(uri), _MESSAGE, repeated=_ACCOUNT)
        accounts = [value for value in fields.get(_ACCOUNT, []) if isinstance(value, bytes)]
        if not accounts:
            raise Unreadable("an export without accounts")
        notes = _part(_one(fields, _PARTS), _one(fields, _PART))
        found = []
        for count, account in enumerate(accounts, 1):
            here = f"{place}, account {count}"
            with mistakes.at(here):
                found.append(_account(account, place=here, notes=notes, now=now, min_key_bytes=min_key_bytes))
        return found
    return []


def _data(uri: str) -> bytes:
    scheme, _, rest = uri.partition("://")
    host, question, query = rest.partition("?")
    if scheme.lower() != SCHEME or host.lower().rstrip("/") != "offline" or not question or not uri.isprintable():
        raise Unreadable("not an export", hint="an export is like otpauth-migration://offline?data=...")
    text = parameters_of(query, {"data"}).get("data", "").rstrip("=")
    try:
        data = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (ValueError, binascii.Error):
        raise Unreadable("the export is not Base64", hint=_DAMAGED) from None
    if base64.b64encode(data).decode().rstrip("=") != text:
        raise Unreadable("the export is not Base64 of whole bytes", hint=_DAMAGED)
    return data


def _part(parts: int, part: int) -> tuple[str, ...]:
    if parts <= 1:
        return ()
    if parts > _MAX_PARTS or part >= parts:
        raise Unreadable("the number of the part is out of range", hint=_DAMAGED)
    return (f"this is part {part + 1} of {parts} of the export; each part has its own QR code",)


def _account(data: bytes, *, place: str, notes: tuple[str, ...], now: int, min_key_bytes: int) -> Imported:
    fields = _fields(data, _ACCOUNT_FIELDS)
    algorithm = _ALGORITHMS.get(_one(fields, _ALGORITHM))
    digits = _DIGIT_COUNTS.get(_one(fields, _DIGITS))
    if algorithm is None:
        raise Unreadable("the algorithm is none of SHA1, SHA256 and SHA512")
    if digits is None:
        raise Unreadable("a code does not have 6 or 8 digits")
    key, kind = _some_bytes(fields, _SECRET), _one(fields, _KIND)
    issuer, label = (_some_bytes(fields, place).decode("utf-8", "replace") for place in (_ISSUER, _NAME))
    name = name_from_label(issuer, label)
    if kind == _HOTP:
        counter = _one(fields, _COUNTER)
        token = hotp_token(
            name, key, now=now, algorithm=algorithm, digits=digits, counter=counter, min_key_bytes=min_key_bytes
        )
        return Imported(token, last=last_before(counter), place=place, notes=notes)
    if kind != _TOTP:
        raise Unreadable("the type is neither HOTP nor TOTP")
    # The export has no period, because the app only knows 30 seconds.
    token = totp_token(name, key, now=now, algorithm=algorithm, digits=digits, min_key_bytes=min_key_bytes)
    return Imported(token, place=place, notes=notes)


def _one(fields: dict[int, list[int | bytes]], place: int) -> int:
    value = fields.get(place, [0])[0]
    return value if isinstance(value, int) else 0


def _some_bytes(fields: dict[int, list[int | bytes]], place: int) -> bytes:
    value = fields.get(place, [b""])[0]
    return value if isinstance(value, bytes) else b""


def _fields(data: bytes, forms: dict[int, int], *, repeated: int = 0) -> dict[int, list[int | bytes]]:
    """Read a message. Unknown fields are checked and left out, as the format requires."""
    result: dict[int, list[int | bytes]] = {}
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        place, form = tag >> 3, tag & 7
        value: int | bytes
        if form == _NUMBER:
            value, position = _varint(data, position)
        else:
            value, position = _chunk(data, position, form)
        if not place or forms.get(place, form) != form:
            raise Unreadable("the export has a field of another form than it should", hint=_DAMAGED)
        if place in forms:
            result.setdefault(place, []).append(value)
            if len(result[place]) > 1 and place != repeated:
                raise Unreadable("the export has a field twice", hint=_DAMAGED)
    return result


def _chunk(data: bytes, position: int, form: int) -> tuple[bytes, int]:
    if form == _BYTES:
        length, position = _varint(data, position)
    elif form in _FIXED:
        length = _FIXED[form]
    else:
        raise Unreadable("the export has a field of an unknown form", hint=_DAMAGED)
    if length > len(data) - position:
        raise Unreadable("the export is cut off", hint=_DAMAGED)
    return data[position : position + length], position + length


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """Read a number: 7 bits in each byte, the lowest first. The top bit is set in all bytes but the last."""
    value = 0
    for count, byte in enumerate(data[position : position + _MAX_VARINT_BYTES]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            if value >= 2**64 or (byte == 0 and count):
                raise Unreadable("the export has a number that is too large or written too long", hint=_DAMAGED)
            return value, position + count + 1
    raise Unreadable("the export is cut off", hint=_DAMAGED)
