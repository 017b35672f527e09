"""Key URIs: pyotp, which shares no code with us, reads ours, and we read those of pyotp."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import quote

import pyotp
import pytest

from pam_softtoken.interchange import key_uri_reader, reader
from pam_softtoken.interchange.record import SHORTEST_KEY_BYTES
from pam_softtoken.otp import key_uri
from pam_softtoken.otp.token import HOTPToken, Secret, Token, TOTPToken
from pam_softtoken.program_errors import ImportFailed, Unreadable

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


NOW = 1_700_000_000
SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"


@pytest.mark.parametrize("digest", [hashlib.sha1, hashlib.sha256, hashlib.sha512])
@pytest.mark.parametrize("digits", [6, 7, 8])
@pytest.mark.parametrize("interval", [30, 60])
def test_key_uri__of_pyotp_is_read(digest: Any, digits: int, interval: int) -> None:
    theirs = pyotp.TOTP(SECRET, digits=digits, digest=digest, interval=interval)
    ours = key_uri_reader.parse(theirs.provisioning_uri(name="alice@example.com", issuer_name="Big & Co: £"), now=NOW)
    assert isinstance(ours.token, TOTPToken)
    assert ours.token.period_s == interval
    assert ours.token.otp_at(NOW // interval) == theirs.at(NOW)
    assert ours.token.name == "Big & Co: £ alice@example.com"
    assert ours.last is None


def test_key_uri__of_pyotp_with_a_counter_is_read() -> None:
    theirs = pyotp.HOTP(SECRET, initial_count=5)
    ours = key_uri_reader.parse(theirs.provisioning_uri(name="alice", initial_count=5), now=NOW)
    assert isinstance(ours.token, HOTPToken)
    assert (ours.token.counter, ours.last) == (5, 4)
    assert ours.token.otp_at(5) == theirs.at(0)


@pytest.mark.parametrize("issuer", ["my host", "a/b?c&d=e%", "älice"])
def test_key_uri__of_our_own_is_read(issuer: str) -> None:
    token = TOTPToken("phone", Secret(KEY), algorithm="SHA512", digits=8, created=0, period_s=45)
    ours = key_uri_reader.parse(key_uri.build(token, issuer=issuer, account="alice"), now=NOW).token
    assert ours.fingerprint() == token.fingerprint()
    assert (ours.algorithm, ours.digits, ours.name) == ("SHA512", 8, f"{issuer} alice")


def test_key_uri__leaves_out_default_values() -> None:
    usual = TOTPToken("phone", Secret(KEY), algorithm="SHA1", digits=6, created=0)
    assert (
        key_uri.build(usual, issuer="host", account="alice") == f"otpauth://totp/host:alice?secret={SECRET}&issuer=host"
    )
    odd = TOTPToken("phone", Secret(KEY), algorithm="SHA256", digits=8, created=0, period_s=60)
    assert key_uri.build(odd, issuer="", account="alice").endswith("&algorithm=SHA256&digits=8&period=60")
    counting = HOTPToken("button", Secret(KEY), algorithm="SHA1", digits=6, created=0)
    assert key_uri.build(counting, issuer="", account="alice") == f"otpauth://hotp/alice?secret={SECRET}&counter=0"


@pytest.mark.parametrize("algorithm", ["SHA1", "SHA256", "SHA512"])
@pytest.mark.parametrize("digits", [6, 7, 8])
@pytest.mark.parametrize("period_s", [1, 30, 60])
def test_key_uri__omitted_values_mean_the_same_to_pyotp_and_to_us(algorithm: str, digits: int, period_s: int) -> None:
    token = TOTPToken("phone", Secret(KEY), algorithm=algorithm, digits=digits, created=0, period_s=period_s)
    uri = key_uri.build(token, issuer="host", account="alice")
    theirs, ours = pyotp.parse_uri(uri), key_uri_reader.parse(uri, now=NOW).token
    assert isinstance(theirs, pyotp.TOTP)
    assert isinstance(ours, TOTPToken)
    assert (ours.algorithm, ours.digits, ours.period_s) == (algorithm, digits, period_s)
    assert theirs.at(NOW) == ours.otp_at(NOW // period_s) == token.otp_at(NOW // period_s)


@pytest.mark.parametrize(
    "secret",
    [
        SECRET,
        SECRET.lower(),
        "gezd gnbv gy3t qojq gezd gnbv gy3t qojq".replace(" ", "%20"),
        "gezd gnbv gy3t qojq gezd gnbv gy3t qojq".replace(" ", "+"),
        "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ".replace("G", "%47"),
    ],
)
def test_key_uri__secret_is_read_as_apps_write_it(secret: str) -> None:
    assert key_uri_reader.parse(f"otpauth://totp/x?secret={secret}", now=NOW).token.secret.reveal() == KEY


@pytest.mark.parametrize("padding", ["", "======", "%3D%3D%3D%3D%3D%3D"])
def test_key_uri__complete_padding_is_accepted(padding: str) -> None:
    text = "GEZDGNBVGY3TQOJQGEZDGNBVGY"  # 16 bytes, 26 characters
    uri = f"otpauth://totp/x?secret={text}{padding}"
    assert key_uri_reader.parse(uri, now=NOW).token.secret.reveal() == KEY[:16]


@pytest.mark.parametrize(
    ("label", "issuer", "name"),
    [
        ("host:alice", "host", "host alice"),
        ("host%3A%20alice", "", "host alice"),
        ("alice", "host", "host alice"),
        ("alice", "", "alice"),
        ("", "", "phone"),
        ("%00%0A", "", "phone"),
        ("%FF", "", "\ufffd"),
        ("a" * 100, "", "a" * 64),
        ("a" * 63 + "%20b", "", "a" * 63),
    ],
)
def test_key_uri__name_is_made_from_issuer_and_label(label: str, issuer: str, name: str) -> None:
    uri = f"otpauth://totp/{label}?secret={SECRET}" + (f"&issuer={issuer}" if issuer else "")
    assert key_uri_reader.parse(uri, now=NOW).token.name == name


ENTE = quote('{"pinned":false,"trashed":FLAG,"lastUsedAt":0,"tapCount":3,"tags":[]}')


@pytest.mark.parametrize(
    "parameters",
    [
        "image=https%3A%2F%2Fexample.com&icon=1&color=ff0000&lock=true",
        "codeDisplay=" + ENTE.replace("FLAG", "false"),
        "codeDisplay=%7B",
        "creator=privacyidea&serial=TOTP0001A2B3",
        "tags=work%2Chome&thumbnail=Default",
        "counter=&algorithm=sha1",
        "counter=0",
        "counter=null&issuer=null&period=null&digits=NULL&algorithm=null",
        "tags&",
        "trashed=false",
    ],
)
def test_key_uri__descriptive_parameters_are_ignored(parameters: str) -> None:
    token = key_uri_reader.parse(f"otpauth://totp/x?secret={SECRET}&{parameters}", now=NOW).token
    usual = TOTPToken("x", Secret(KEY), algorithm="SHA1", digits=6, created=NOW)
    assert token.fingerprint() == usual.fingerprint()
    assert (token.name, token.otp_at(NOW // 30)) == ("x", usual.otp_at(NOW // 30))


def test_key_uri__may_be_of_capital_letters() -> None:
    uri = pyotp.TOTP(SECRET, digits=8, digest=hashlib.sha256, interval=60).provisioning_uri(
        name="ALICE", issuer_name="HOST"
    )
    token = key_uri_reader.parse(uri.upper(), now=NOW).token
    assert isinstance(token, TOTPToken)
    assert (token.name, token.algorithm, token.digits, token.period_s) == ("HOST ALICE", "SHA256", 8, 60)


@pytest.mark.parametrize("name", ["codeDisplay", "CODEDISPLAY"])
def test_key_uri__deleted_one_is_skipped_and_reported(name: str) -> None:
    lines = f"otpauth://totp/old?secret={SECRET}&{name}={ENTE.replace('FLAG', 'true')}\notpauth://totp/new?secret={SECRET}\n"
    found, skipped, _ = reader.read(lines.encode(), path="codes.txt", now=NOW)
    assert [each.token.name for each in found] == ["new"]
    assert skipped == ("line 1: its app has marked it as deleted",)
    with pytest.raises(ImportFailed, match="no token in the file that is not marked as deleted, 1 are"):
        reader.read(lines.splitlines()[0].encode(), path="codes.txt", now=NOW)


@pytest.mark.parametrize("spelling", ["{}", "{}-{}", "HMAC{}", "Hmac-{}-{}", "hmac_{}_{}", "{} {}", "{}-HMAC"])
@pytest.mark.parametrize("size", ["1", "256", "512"])
def test_key_uri__algorithm_is_known_by_its_meaning(spelling: str, size: str) -> None:
    written = spelling.format(*(["sha", size] if spelling.count("{}") == 2 else [f"Sha{size}"])).replace(" ", "%20")
    token = key_uri_reader.parse(f"otpauth://totp/x?secret={SECRET}&algorithm={written}", now=NOW).token
    assert token.algorithm == f"SHA{size}"


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        ("otpauth://totp/x", "not a Key URI"),
        (f"otpauth:totp/x?secret={SECRET}", "not a Key URI"),
        (f"https://totp/x?secret={SECRET}", "not a Key URI"),
        (f"otpauth://totp/x?secret={SECRET}#&digits=8", "not a Key URI"),
        (f"otpauth://totp/x\x00?secret={SECRET}", "not a Key URI"),
        ("otpauth://totp/x?issuer=y", "the secret is missing"),
        ("otpauth://totp/x?secret=", "the key is empty"),
        ("otpauth://totp/x?secret=JBSWY3DPEHPK3PXP", "the key has 80 bits"),
        (f"otpauth://totp/x?secret={SECRET[:-1]}0", "0, 1, 8 or 9"),
        (f"otpauth://totp/x?secret={SECRET[:-2]}", "not Base32 of whole bytes"),
        (f"otpauth://totp/x?secret={SECRET[:-1]}-", "the key is not Base32"),
        (f"otpauth://totp/x?secret={SECRET}%C4%B1", "the key is not Base32"),
        (f"otpauth://totp/x?secret={SECRET}%FF", "secret is not UTF-8"),
        (f"otpauth://totp/x?secret={SECRET}%", "a % without"),
        (f"otpauth://totp/x%4?secret={SECRET}", "a % without"),
        (f"otpauth://totp/x?secret={SECRET}=", "the key has too many or too few ="),
        (f"otpauth://totp/x?secret={SECRET}&secret={SECRET}", "secret is given twice"),
        (f"otpauth://totp/x?secret={SECRET}&digits=6&digits=8", "digits is given twice"),
        (f"otpauth://totp/x?secret={SECRET}&digits", "digits has no value"),
        (f"otpauth://totp/x?secret={SECRET}&offset=5", 'the parameter "offset" is not known here'),
        (f"otpauth://totp/x?secret={SECRET}&2step_salt=8", 'the parameter "2step_salt" is not known here'),
        (f"otpauth://totp/x?secret={SECRET}&{SECRET}=x", "the parameter is not known here"),
        (f"otpauth://totp/x?secret={SECRET}&Secret={SECRET}", "secret is given twice"),
        ("otpauth://totp/x?secret=null", "the secret is missing"),
        (f"otpauth://hotp/x?secret={SECRET}&counter=null", "the counter is missing"),
        (f"otpauth://totp/x?secret={SECRET}&trashed=true", "marked it as deleted"),
        (f"otpauth://totp/x?secret={SECRET}&digits=5", "digits is not a number from 6 to 8"),
        (f"otpauth://totp/x?secret={SECRET}&digits=06", "digits is not a number"),
        (f"otpauth://totp/x?secret={SECRET}&digits=%D9%A6", "digits is not a number"),
        (f"otpauth://totp/x?secret={SECRET}&period=0", "period is not a number from 1 to 300"),
        (f"otpauth://totp/x?secret={SECRET}&period=30.0", "period is not a number"),
        (f"otpauth://totp/x?secret={SECRET}&algorithm=MD5", 'the algorithm "MD5" is none of'),
        (f"otpauth://totp/x?secret={SECRET}&algorithm=HMAC-SHA3-256", 'the algorithm "HMAC-SHA3-256" is none of'),
        (f"otpauth://totp/x?secret={SECRET}&algorithm={SECRET}", "the algorithm is none of"),
        (f"otpauth://totp/x?secret={SECRET}&algorithm=%C5%BFha1", "the algorithm is none of"),
        (f"otpauth://totp/x?secret={SECRET}&algorithm=", "the algorithm is none of"),
        (f"otpauth://hotp/x?secret={SECRET}", "the counter is missing"),
        (f"otpauth://hotp/x?secret={SECRET}&counter=-1", "counter is not a number"),
        (f"otpauth://hotp/x?secret={SECRET}&counter=9999999999999999999", "counter is not a number"),
        (f"otpauth://totp/x?secret={SECRET}&encoder=steam", '"steam"'),
        (f"otpauth://totp/x?secret={SECRET}&encoder={SECRET}", "of another maker"),
        (f"otpauth://steam/x?secret={SECRET}", '"steam"'),
        (f"otpauth://yaotp/x?secret={SECRET}", '"yaotp"'),
        (f"otpauth://motp/x?secret={SECRET}", '"motp"'),
        (f"otpauth://{SECRET}/x?secret={SECRET}", "the type is neither hotp nor totp"),
    ],
)
def test_key_uri__ambiguous_one_is_refused(uri: str, problem: str) -> None:
    with pytest.raises(Unreadable) as caught:
        key_uri_reader.parse(uri, now=NOW)
    assert problem in caught.value.message
    assert SECRET[:12] not in f"{caught.value!r} {caught.value.hint}".upper()


def test_key_uri__a_device_takes_a_key_of_80_bits() -> None:
    # The codes are what `oathtool --totp -b -N @1111111109 JBSWY3DPEHPK3PXP` and `oathtool -b -c 7 ...` print.
    for kind, counter, otp in (("totp", 1111111109 // 30, "071271"), ("hotp", 7, "449891")):
        uri = f"otpauth://{kind}/x?secret=JBSWY3DPEHPK3PXP&counter=7"
        token = key_uri_reader.parse(uri, now=NOW, min_key_bytes=SHORTEST_KEY_BYTES).token
        assert token.otp_at(counter) == otp
