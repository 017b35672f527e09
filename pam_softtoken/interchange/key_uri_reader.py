"""Read Key URIs (`otpauth://`) that other programs wrote. `otp.key_uri` writes ours. Does no I/O.

Source: the Key URI Format of the Google Authenticator project, which all soft tokens read.
"""

from __future__ import annotations

from collections.abc import Set
from urllib.parse import unquote_to_bytes

from pam_softtoken.interchange import app_document
from pam_softtoken.interchange.record import (
    Imported,
    PassedOver,
    algorithm_from,
    hotp_token,
    key_from_base32,
    last_before,
    name_from_label,
    number,
    shown,
    totp_token,
)
from pam_softtoken.otp.key_uri import DEFAULT_ALGORITHM, DEFAULT_DIGITS, DEFAULT_PERIOD_S, SCHEME
from pam_softtoken.otp.token import MIN_KEY_BYTES
from pam_softtoken.program_errors import Unreadable

_OTHER_KINDS = ("steam", "yaotp", "motp", "mobileotp", "yandex")
_MEANINGFUL = frozenset({"secret", "issuer", "algorithm", "digits", "period", "counter", "encoder"})
_DESCRIPTIVE = frozenset(
    {
        "account", "category", "codedisplay", "color", "colour", "created", "creator", "description", "favorite",
        "favourite", "folder", "group", "icon", "id", "image", "imageurl", "label", "lock", "logo", "name", "note",
        "notes", "order", "pinned", "position", "serial", "tag", "tags", "thumbnail", "updated", "username", "uuid",
    }
)  # fmt: skip
"""Parameters that only describe a token, in lower case. `codeDisplay` is of Ente Auth; `creator` and `serial` are of
privacyIDEA; `image`, `color` and `lock` are of FreeOTP; `tags` and `thumbnail` are of andOTP; `icon` is of Stratum.
"""
_TRASHED = "trashed"
_HINT = "a Key URI is like otpauth://totp/host:alice?secret=...&issuer=host"
_MAX_COUNTER = 2**62 - 1


def parse(uri: str, *, now: int, min_key_bytes: int = MIN_KEY_BYTES) -> Imported:
    """Read a Key URI.

    Parameters that only describe the token are passed over. Any other unknown one could change the codes, so it is
    refused. Names count in any case, as in a URI of capital letters, which makes a smaller QR code.

    Args:
        uri: the text, without a line end.
        now: Unix seconds.
        min_key_bytes: the fewest bytes of the key.

    Raises:
        PassedOver: its app has marked it as deleted.
        Unreadable: it is not a Key URI, is ambiguous, or belongs to a token that is not HOTP or TOTP.
    """
    scheme, found, rest = uri.partition("://")
    kind, slash, rest = rest.partition("/")
    label, question, query = rest.partition("?")
    if scheme.lower() != SCHEME or not (found and slash and question) or not uri.isprintable() or "#" in uri:
        raise Unreadable("not a Key URI", hint=_HINT)
    kind = kind.lower()
    if kind == "ocra":
        raise Unreadable("a token of type ocra signs requests, and has no one-time passwords to import")
    _refuse_deleted(query)
    parameters = parameters_of(query, _MEANINGFUL, _DESCRIPTIVE | {_TRASHED})
    _refuse_other_kinds(kind, parameters)
    name = name_from_label(parameters.get("issuer", ""), _bytes_of(label).decode("utf-8", "replace"))
    if "secret" not in parameters:
        raise Unreadable("the secret is missing", hint=_HINT)
    key = key_from_base32(parameters["secret"].replace("+", " "))
    algorithm = algorithm_from(parameters.get("algorithm", DEFAULT_ALGORITHM))
    digits = number(parameters.get("digits", str(DEFAULT_DIGITS)), "digits", lowest=6, highest=8)
    # Some apps write both parameters for either type. The type decides which one counts. The other one is nothing.
    if kind == "totp":
        period_s = number(parameters.get("period", str(DEFAULT_PERIOD_S)), "period", lowest=1, highest=300)
        token = totp_token(
            name, key, now=now, algorithm=algorithm, digits=digits, period_s=period_s, min_key_bytes=min_key_bytes
        )
        return Imported(token)
    if "counter" not in parameters:
        raise Unreadable("the counter is missing, which a token that counts must have")
    counter = number(parameters["counter"], "counter", highest=_MAX_COUNTER)
    token = hotp_token(
        name, key, now=now, algorithm=algorithm, digits=digits, counter=counter, min_key_bytes=min_key_bytes
    )
    return Imported(token, last=last_before(counter))


def label_of(uri: str) -> tuple[str, str]:
    """Read the two parts of a Key URI's label. `parse` makes one name of them.

    Args:
        uri: a URI that `parse` has accepted.

    Returns:
        Issuer and account. Either can be "".
    """
    label, _, query = uri.partition("://")[2].partition("/")[2].partition("?")
    text = _bytes_of(label).decode("utf-8", "replace")
    issuer = parameters_of(query, _MEANINGFUL, _DESCRIPTIVE | {_TRASHED}).get("issuer", "")
    if issuer and text.startswith(f"{issuer}:"):  # the issuer itself has a colon
        return issuer, text[len(issuer) + 1 :].strip()
    prefix, colon, account = text.partition(":")
    return (issuer or prefix.strip(), account.strip()) if colon else (issuer, text.strip())


def parameters_of(query: str, meaningful: Set[str], descriptive: Set[str] = frozenset()) -> dict[str, str]:
    """Read the part of a URI after the question mark.

    Args:
        query: `name=value` pairs with `&` between them, percent-encoded. A `+` stands for itself.
        meaningful: names that may occur, in lower case.
        descriptive: names that may occur and are passed over, in lower case.

    Returns:
        The meaningful parameters, decoded, by their names in lower case. One with the value `null` is not there.

    Raises:
        Unreadable: an unknown or repeated name, or a value that is not percent-encoded UTF-8.
    """
    result: dict[str, str] = {}
    for pair in query.split("&"):
        written, equals, value = pair.partition("=")
        name = written.lower()
        if name in descriptive or not pair:
            continue
        if not equals and name in meaningful:
            raise Unreadable(f"{name} has no value")
        if name not in meaningful:
            raise Unreadable(f"the parameter{shown(written)} is not known here, and could change the codes")
        if name in result:
            raise Unreadable(f"{name} is given twice")
        result[name] = _decoded(value, name)
    return {name: value for name, value in result.items() if value.lower() != "null"}


def _decoded(text: str, name: str) -> str:
    try:
        return _bytes_of(text).decode("utf-8", "replace" if name == "issuer" else "strict")
    except UnicodeDecodeError:
        raise Unreadable(f"{name} is not UTF-8") from None


def _bytes_of(text: str) -> bytes:
    for escape in text.split("%")[1:]:
        if len(escape) < 2 or escape[:2].strip("0123456789ABCDEFabcdef"):
            raise Unreadable("a % without two hexadecimal digits behind it")
    try:
        return unquote_to_bytes(text)
    except UnicodeEncodeError:  # half of a surrogate pair
        raise Unreadable("not UTF-8") from None


def _refuse_deleted(query: str) -> None:
    """Check that no parameter says that the token is deleted. Ente Auth says so in the JSON of `codeDisplay`."""
    for pair in query.split("&"):
        name, _, value = pair.partition("=")
        text = unquote_to_bytes(value.encode("utf-8", "surrogatepass"))
        if name.lower() == "codedisplay":
            try:
                described = app_document.parse(text)
            except Unreadable:  # it only describes
                continue
            is_deleted = isinstance(described, dict) and described.get(_TRASHED) is True
        else:
            is_deleted = name.lower() == _TRASHED and text.lower() == b"true"
        if is_deleted:
            raise PassedOver("its app has marked it as deleted")


def _refuse_other_kinds(kind: str, parameters: dict[str, str]) -> None:
    encoder = parameters.get("encoder", "").lower()
    if encoder or kind in _OTHER_KINDS:
        # The message repeats the name only if it is a known one.
        told = next((f'"{name}"' for name in (encoder, kind) if name in _OTHER_KINDS), "of another maker")
        raise Unreadable(f"a token {told} makes its codes in a way of its own, which is neither HOTP nor TOTP")
    if kind not in ("hotp", "totp"):
        raise Unreadable("the type is neither hotp nor totp", hint=_HINT)
