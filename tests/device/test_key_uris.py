"""Key URIs as apps write them make the codes that oathtool makes from the same key."""

from __future__ import annotations

import subprocess

import pytest

from pam_softtoken.interchange import key_uri_reader
from pam_softtoken.interchange.record import SHORTEST_KEY_BYTES

NOW = 1_700_000_000
LETTERS = "MFRGGZDFMZTWQ2LKNNWG23TPOBYXE43UOV3HO6DZPJAUEQ2E"


@pytest.mark.parametrize("length", [16, 18, 20, 21, 23, 24, 26, 28, 29, 31, 32, 34])
@pytest.mark.parametrize("last", ["A", "7"])
def test_key_uri__key_with_spare_bits_makes_the_codes_of_oathtool(length: int, last: str) -> None:
    key = LETTERS[: length - 1] + last
    uri = f"otpauth://totp/x?secret={key}"
    token = key_uri_reader.parse(uri, now=NOW, min_key_bytes=SHORTEST_KEY_BYTES).token
    assert [token.otp_at(NOW // 30)] == _oathtool("--totp", f"--now=@{NOW}", "--base32", key)


@pytest.mark.parametrize("size", ["1", "256", "512"])
@pytest.mark.parametrize("digits", [6, 8])
def test_key_uri__algorithm_in_the_spelling_of_java_makes_the_codes_of_oathtool(size: str, digits: int) -> None:
    uri = f"otpauth://totp/x?secret={LETTERS[:32]}&algorithm=HmacSHA{size}&digits={digits}&period=60"
    token = key_uri_reader.parse(uri, now=NOW).token
    options = f"--totp=sha{size}", f"--digits={digits}", "--time-step-size=60", f"--now=@{NOW}"
    assert [token.otp_at(NOW // 60)] == _oathtool(*options, "--base32", LETTERS[:32])


def _oathtool(*words: str) -> list[str]:
    done = subprocess.run(["oathtool", *words], check=True, capture_output=True, text=True)
    return done.stdout.split()
