"""Read Key URIs (`otpauth://`) that other programs wrote. `otp.key_uri` writes ours. Does no I/O.

Source: the Key URI Format of the Google Authenticator project, which all soft tokens read.
"""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

from pam_softtoken.errors import Unreadable
from pam_softtoken.interchange.record import (
    Imported,
    hotp_token,
    key_from_base32,
    last_before,
    name_from_label,
    number,
    totp_token,
)
from pam_softtoken.otp.key_uri import DEFAULT_ALGORITHM, DEFAULT_DIGITS, DEFAULT_PERIOD_S, SCHEME
from pam_softtoken.otp.token import MIN_KEY_BYTES

_ALGORITHMS = {"SHA1": "SHA1", "SHA256": "SHA256", "SHA512": "SHA512"}
_OTHER_KINDS = ("steam", "yaotp", "motp", "mobileotp", "yandex")
_MEANINGFUL = ("secret", "issuer", "algorithm", "digits", "period", "counter")
_DECORATION = ("image", "icon", "color", "lock")
_HINT = "a Key URI is like otpauth://totp/host:alice?secret=...&issuer=host"
_MAX_COUNTER = 2**62 - 1


def parse(uri: str, *, now: int, min_key_bytes: int = MIN_KEY_BYTES) -> Imported:
    """Read a Key URI.

    Decoration is ignored. Any other unknown parameter could change the codes and is refused.

    Args:
        uri: the text, without a line end.
        now: Unix seconds.
        min_key_bytes: the fewest bytes of the key.

    Raises:
        Unreadable: it is not a Key URI, is ambiguous, or belongs to a token that is not HOTP or TOTP.
    """
    scheme, found, rest = uri.partition("://")
    kind, slash, rest = rest.partition("/")
    label, question, query = rest.partition("?")
    if scheme.lower() != SCHEME or not (found and slash and question) or not uri.isprintable() or "#" in uri:
        raise Unreadable("not a Key URI", hint=_HINT)
    kind = kind.lower()
    parameters = parameters_of(query, _MEANINGFUL, _DECORATION)
    _refuse_other_kinds(kind, parameters)
    name = name_from_label(parameters.get("issuer", ""), _bytes_of(label).decode("utf-8", "replace"))
    if "secret" not in parameters:
        raise Unreadable("the secret is missing", hint=_HINT)
    key = key_from_base32(parameters["secret"].replace("+", " "))
    algorithm = _ALGORITHMS.get(parameters.get("algorithm", DEFAULT_ALGORITHM).upper())
    if algorithm is None:
        raise Unreadable("the algorithm is none of SHA1, SHA256 and SHA512")
    digits = number(parameters.get("digits", str(DEFAULT_DIGITS)), "digits", lowest=6, highest=8)
    # Some apps write both parameters for either type. The type decides which one counts, but both must be numbers.
    period_s = number(parameters.get("period", str(DEFAULT_PERIOD_S)), "period", lowest=1, highest=300)
    counter = number(parameters.get("counter", "0"), "counter", highest=_MAX_COUNTER)
    if kind == "totp":
        token = totp_token(
            name, key, now=now, algorithm=algorithm, digits=digits, period_s=period_s, min_key_bytes=min_key_bytes
        )
        return Imported(token)
    if "counter" not in parameters:
        raise Unreadable("the counter is missing, which a token that counts must have")
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
    issuer = parameters_of(query, _MEANINGFUL, _DECORATION).get("issuer", "")
    if issuer and text.startswith(f"{issuer}:"):  # the issuer itself has a colon
        return issuer, text[len(issuer) + 1 :].strip()
    prefix, colon, account = text.partition(":")
    return (issuer or prefix.strip(), account.strip()) if colon else (issuer, text.strip())


def parameters_of(query: str, meaningful: tuple[str, ...], decoration: tuple[str, ...] = ()) -> dict[str, str]:
    """Read the part of a URI after the question mark.

    Args:
        query: `name=value` pairs with `&` between them, percent-encoded. A `+` stands for itself.
        meaningful: names that may occur.
        decoration: names that may occur and are ignored.

    Returns:
        The meaningful parameters, decoded.

    Raises:
        Unreadable: an unknown or repeated name, or a value that is not percent-encoded UTF-8.
    """
    result: dict[str, str] = {}
    for pair in query.split("&"):
        name, equals, value = pair.partition("=")
        if name in decoration:
            continue
        if not equals or name not in (*meaningful, "encoder"):
            raise Unreadable("a parameter that is not known here, and could change the codes")
        if name in result:
            raise Unreadable(f"{name} is given twice")
        result[name] = _decoded(value, name)
    return result


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


def _refuse_other_kinds(kind: str, parameters: dict[str, str]) -> None:
    encoder = parameters.get("encoder", "").lower()
    if encoder or kind in _OTHER_KINDS:
        # The message repeats the name only if it is a known one.
        told = next((f'"{name}"' for name in (encoder, kind) if name in _OTHER_KINDS), "of another maker")
        raise Unreadable(f"a token {told} makes its codes in a way of its own, which is neither HOTP nor TOTP")
    if kind not in ("hotp", "totp"):
        raise Unreadable("the type is neither hotp nor totp", hint=_HINT)
