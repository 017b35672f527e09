"""Key URIs (`otpauth://`), the form in which a token travels to an app. No I/O.

Loaded only where a token is shown: `urllib` is slow to import. `interchange.key_uri_reader` reads those of others.

Source: the Key URI Format of the Google Authenticator project, which all soft tokens read.
"""

from __future__ import annotations

from urllib.parse import quote, urlencode

from pam_softtoken.otp.token import HOTPToken, Token, TOTPToken, encode_base32

SCHEME = "otpauth"
DEFAULT_ALGORITHM, DEFAULT_DIGITS, DEFAULT_PERIOD_S = "SHA1", 6, 30
"""What a Key URI means where it says nothing; the counter of a HOTP token has no default and is always there."""


def build(token: Token, *, issuer: str, account: str) -> str:
    """Write a token as a Key URI, without parameters that have the format's default.

    Args:
        token: what the app shall become.
        issuer: who asks for the codes; here the host's name. "" leaves it out.
        account: whom they are for; here the user's name.

    Returns:
        ASCII text; it holds the key.
    """
    # A colon separates the two in the label, so neither may have one of its own.
    parameters: dict[str, str | int] = {
        "secret": encode_base32(token.secret.reveal()),
        "issuer": issuer.replace(":", " "),
    }
    # What every app takes for granted is left out: the QR code gets smaller, and a small one is easier to scan.
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
