"""Key URIs (`otpauth://`), the form in which a token travels to an app. No I/O; not on the way of a login.

Source: the Key URI Format of the Google Authenticator project, which all soft tokens read.
"""

from __future__ import annotations

from urllib.parse import quote, urlencode

from pam_softtoken.token import HOTPToken, Token, TOTPToken, encode_base32


def build(token: Token, *, issuer: str, account: str) -> str:
    """Write a token as a Key URI.

    Args:
        token: what the app shall become.
        issuer: who asks for the codes; here the host's name.
        account: whom they are for; here the user's name.

    Returns:
        ASCII text; it holds the key.
    """
    # A colon separates the two in the label, so neither may have one of its own.
    parameters: dict[str, str | int] = {
        "secret": encode_base32(token.secret.reveal()),
        "issuer": issuer.replace(":", " "),
        "algorithm": token.algorithm,
        "digits": token.digits,
    }
    if isinstance(token, HOTPToken):
        parameters["counter"] = token.counter
    elif isinstance(token, TOTPToken):
        parameters["period"] = token.period_s
    label = ":".join(quote(part.replace(":", " "), safe="", errors="surrogateescape") for part in (issuer, account))
    return f"otpauth://{token.kind}/{label}?{urlencode(parameters, quote_via=quote, errors='surrogateescape')}"
