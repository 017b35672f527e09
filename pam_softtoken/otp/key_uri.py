"""Write Key URIs (`otpauth://`), the form in which a token travels to an app. Does no I/O. `urllib` is slow to import,
so this module is loaded only where a token is shown. `interchange.key_uri_reader` reads the URIs of other programs.
Source: the Key URI Format of the Google Authenticator project, which all soft tokens read.
"""

from __future__ import annotations

from urllib.parse import quote, urlencode

from pam_softtoken.otp.token import HOTPToken, Token, TOTPToken, encode_base32

SCHEME = "otpauth"
DEFAULT_ALGORITHM, DEFAULT_DIGITS, DEFAULT_PERIOD_S = "SHA1", 6, 30
"""The defaults of a Key URI. The counter of a HOTP token has no default and is always there."""


def build(token: Token, *, issuer: str, account: str) -> str:
    """Write a token as a Key URI, without parameters that have the format's default.

    Args:
        token: the token that the app gets.
        issuer: the service that asks for the codes; here the host's name. "" leaves it out.
        account: the account that the codes are for; here the user's name.

    Returns:
        ASCII text. It contains the key.
    """
    # A colon separates the two in the label, so neither may have one of its own.
    parameters: dict[str, str | int] = {
        "secret": encode_base32(token.secret.reveal()),
        "issuer": issuer.replace(":", " "),
    }
    # Defaults are left out, because every app knows them. A smaller QR code is easier to scan.
    if token.algorithm != DEFAULT_ALGORITHM:
        parameters["algorithm"] = token.algorithm
    if token.digits != DEFAULT_DIGITS:
        parameters["digits"] = token.digits
    if isinstance(token, HOTPToken):
        parameters["counter"] = token.counter
    elif isinstance(token, TOTPToken) and token.period_s != DEFAULT_PERIOD_S:
        parameters["period"] = token.period_s
    if not issuer:
        del parameters["issuer"]
    parts = (issuer, account) if issuer else (account,)
    label = ":".join(quote(part.replace(":", " "), safe="", errors="surrogateescape") for part in parts)
    return f"otpauth://{token.kind}/{label}?{urlencode(parameters, quote_via=quote, errors='surrogateescape')}"
