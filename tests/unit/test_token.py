"""Keys that are never printed, Base32 in one spelling, fingerprints that follow the key."""

from __future__ import annotations

import base64
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_softtoken.otp.token import HOTPToken, Secret, TOTPToken, decode_base32, encode_base32

KEY = b"12345678901234567890"


def _totp(name: str = "phone", key: bytes = KEY, *, period_s: int = 30, digits: int = 6) -> TOTPToken:
    return TOTPToken(name, Secret(key), algorithm="SHA1", digits=digits, created=0, period_s=period_s)


@given(st.binary(min_size=1, max_size=80))
def test_base32__agrees_with_the_standard_library(data: bytes) -> None:
    text = base64.b32encode(data).decode().rstrip("=")
    assert encode_base32(data) == text
    assert decode_base32(text) == data


@given(st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ234567abcz018=- _\u0661", max_size=12))
def test_base32__only_the_canonical_spelling_is_read(text: str) -> None:
    try:
        data = decode_base32(text)
    except ValueError:
        return
    assert encode_base32(data) == text


@pytest.mark.parametrize("text", ["", "A", "ABC", "AB======", "ab", "MZ", "A B", "AAAAAAA1", "AA_A", "\u0391\u0391"])
def test_base32__other_spellings_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="canonical"):
        decode_base32(text)


def test_secret__never_shows_the_key() -> None:
    secret = Secret(KEY)
    assert repr(secret) == "Secret(20 bytes)"
    with pytest.raises(TypeError):
        str(secret)
    with pytest.raises(TypeError):
        f"{secret}"
    with pytest.raises(TypeError):
        pickle.dumps(secret)


@pytest.mark.parametrize("length", [0, 15, 129])
def test_secret__too_short_or_long_a_key_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match="16 to 128 bytes"):
        Secret(bytes(length))


def test_secret__minimum_length_can_be_lowered() -> None:
    assert Secret(b"k", min_bytes=1).reveal() == b"k"
    for key in (b"", b"k" * 129):
        with pytest.raises(ValueError, match="1 to 128 bytes"):
            Secret(key, min_bytes=1)


def test_fingerprint__follows_the_key_and_not_the_name() -> None:
    assert _totp("phone").fingerprint() == _totp("spare").fingerprint()
    assert _totp(key=KEY).fingerprint() != _totp(key=KEY[::-1]).fingerprint()
    assert len(_totp().fingerprint()) == 32


def test_fingerprint__tells_counters_of_different_scales_apart() -> None:
    hotp = HOTPToken("phone", Secret(KEY), algorithm="SHA1", digits=6, created=0)
    assert len({_totp().fingerprint(), _totp(period_s=60).fingerprint(), hotp.fingerprint()}) == 3


@pytest.mark.parametrize("name", ["", " phone", "a\nb", "a\x1bb", "x" * 65])
def test_token__a_name_is_visible_text(name: str) -> None:
    with pytest.raises(ValueError, match="visible characters"):
        _totp(name)


@pytest.mark.parametrize(("digits", "period_s"), [(5, 30), (9, 30), (6, 0), (6, 301)])
def test_token__digits_and_period_have_a_range(digits: int, period_s: int) -> None:
    with pytest.raises(ValueError, match=r"digits|seconds"):
        _totp(digits=digits, period_s=period_s)
