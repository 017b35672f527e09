"""Key URIs of tokens that sign: `otpauth://ocra/HOST:USER?secret=...&suite=...&name=NAME&issuer=HOST`. The name is
the token's, so that host and device call it the same. The issuer comes last, so that a line that was cut off is
noticed. Only our own programs write and read them. Does no I/O. A login never loads this module.
"""

from __future__ import annotations

from urllib.parse import parse_qsl, quote, unquote, urlencode

from pam_softtoken.otp.key_uri import SCHEME
from pam_softtoken.otp.ocra import OCRAToken, Suite
from pam_softtoken.otp.token import Secret, decode_base32, encode_base32
from pam_softtoken.program_errors import BadSuite, Unreadable

START = f"{SCHEME}://{OCRAToken.kind}/"
MAX_CHARACTERS = 2048
_HINT = "copy all of the line that the host shows when you enrol a token that signs"


def build(token: OCRAToken, *, issuer: str, account: str) -> str:
    """Write a token as a Key URI.

    Args:
        token: the token that the device gets.
        issuer: the host.
        account: the user.

    Returns:
        ASCII text. It contains the key.
    """
    issuer, account = issuer.replace(":", " "), account.replace(":", " ")
    label = ":".join(quote(part, safe="", errors="surrogateescape") for part in (issuer, account))
    parameters = {
        "secret": encode_base32(token.secret.reveal()), "suite": token.suite.text, "name": token.name, "issuer": issuer,
    }  # fmt: skip
    return f"{START}{label}?{urlencode(parameters, quote_via=quote, errors='surrogateescape')}"


def parse(uri: str, *, now: int) -> tuple[OCRAToken, str, str]:
    """Read a Key URI in the one spelling of `build`.

    Args:
        uri: the text, without a line end.
        now: Unix seconds.

    Returns:
        The token, the issuer and the account.

    Raises:
        Unreadable: it has another spelling, another suite than those of RFC 6287, or a key that is too short.
    """
    label, _, query = uri.removeprefix(START).partition("?")
    issuer, _, account = (unquote(part, errors="surrogateescape") for part in label.partition(":"))
    try:
        if len(uri) > MAX_CHARACTERS:
            raise ValueError("too long")
        fields = dict(parse_qsl(query, strict_parsing=True, keep_blank_values=True, max_num_fields=4))
        secret, suite = Secret(decode_base32(fields["secret"])), Suite.parse(fields["suite"])
        token = OCRAToken(fields["name"], secret, suite=suite, created=now)
        is_canonical = build(token, issuer=issuer, account=account) == uri
    except (ValueError, KeyError, BadSuite):
        is_canonical = False
    if not is_canonical:
        raise Unreadable("this is not a complete Key URI of a token that signs", hint=_HINT)
    return token, issuer, account
