"""Key URIs, read back by pyotp, which shares no code with us."""

from __future__ import annotations

import pyotp
import pytest

from pam_softtoken import key_uri
from pam_softtoken.token import HOTPToken, Secret, Token, TOTPToken

KEY = b"12345678901234567890"


@pytest.mark.parametrize(
    "account", ["alice", "alice smith", "a:b", "a/b?c&d=e", "\u00e4lice", "%41", "alice@example.com", "\udcff"]
)
def test_key_uri__names_survive_the_way(account: str) -> None:
    token = TOTPToken("phone", Secret(KEY), algorithm="SHA1", digits=6, created=0)
    read = pyotp.parse_uri(key_uri.build(token, issuer="my host", account=account))
    told = account.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    assert (read.issuer, read.name) == ("my host", told.replace(":", " "))


@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256", "SHA512"])
@pytest.mark.parametrize("digits", [6, 7, 8])
def test_key_uri__gives_an_app_the_same_codes(algorithm: str, digits: int) -> None:
    totp = TOTPToken("phone", Secret(KEY), algorithm=algorithm, digits=digits, created=0, period_s=60)
    read = pyotp.parse_uri(key_uri.build(totp, issuer="host", account="alice"))
    assert isinstance(read, pyotp.TOTP)
    assert read.at(1_700_000_000) == totp.otp_at(1_700_000_000 // 60)


def test_key_uri__gives_a_hotp_app_its_counter() -> None:
    hotp: Token = HOTPToken("button", Secret(KEY), algorithm="SHA1", digits=6, created=0, counter=7)
    read = pyotp.parse_uri(key_uri.build(hotp, issuer="host", account="alice"))
    assert isinstance(read, pyotp.HOTP)
    assert read.at(0) == hotp.otp_at(7)
