"""Compare codes with those of other programs. A code of a counter-based token is never shown twice."""

from __future__ import annotations

import hashlib
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyotp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pam_softtoken.device import entry, sealing
from pam_softtoken.device.entry import Entry
from pam_softtoken.otp import hotp as otp
from pam_softtoken.otp.token import HOTPToken, Secret, Token, TOTPToken, encode_base32
from tests.support import sampling
from tests.support.device import CHEAP, RFC_HOTP, RFC_KEY_BASE32, Device, Mistake, hotp, totp

PYOTP_KEY_BYTES, PYOTP_PERIOD_S = 14, 120
"""The shortest key and the longest period that pyotp accepts. oathtool has no such limits."""
KEYS = st.binary(min_size=1, max_size=128)


def _round_trip(token: Token) -> Token:
    """Seal a token in a vault, open the vault again and return the token."""
    key = sealing.SealingKey.new(b"x", CHEAP)
    _, content = sealing.unseal(key.seal(entry.write([Entry(token)])), b"x", path="vault")
    return entry.read(content, path="vault")[0].otp_token


@settings(max_examples=sampling.amount(60, full=600))
@given(KEYS, st.sampled_from(otp.ALGORITHMS), st.integers(6, 8), st.integers(1, 300), st.integers(0, 2**33))
def test_totp__codes_equal_those_of_oathtool_and_pyotp(
    key: bytes, algorithm: str, digits: int, period_s: int, now: int
) -> None:
    secret = Secret(key, min_bytes=1)
    token = TOTPToken("phone", secret, algorithm=algorithm, digits=digits, created=0, period_s=period_s)
    code = _round_trip(token).otp_at(otp.time_step(now, period_s))
    options = [f"--totp={algorithm}", f"--digits={digits}", f"--time-step-size={period_s}s", f"--now=@{now}"]
    done = subprocess.run(["oathtool", *options, key.hex()], capture_output=True, text=True, check=True)
    assert done.stdout == code + "\n"
    digest = getattr(hashlib, algorithm.lower())
    if len(key) >= PYOTP_KEY_BYTES and period_s <= PYOTP_PERIOD_S:
        other = pyotp.TOTP(encode_base32(key), digits=digits, digest=digest, interval=period_s)
        assert other.at(now) == code


@settings(max_examples=sampling.amount(40, full=400))
@given(KEYS, st.integers(6, 8), st.integers(0, 2**62 - 1))
def test_hotp__codes_equal_those_of_oathtool_and_pyotp(key: bytes, digits: int, counter: int) -> None:
    secret = Secret(key, min_bytes=1)
    token = HOTPToken("phone", secret, algorithm="SHA1", digits=digits, created=0, counter=counter)
    again = _round_trip(token)
    assert isinstance(again, HOTPToken)
    code = again.otp_at(again.counter)
    options = ["--hotp", f"--digits={digits}", f"--counter={counter}"]
    done = subprocess.run(["oathtool", *options, key.hex()], capture_output=True, text=True, check=True)
    assert done.stdout == code + "\n"
    if len(key) >= PYOTP_KEY_BYTES:
        assert pyotp.HOTP(encode_base32(key), digits=digits).at(counter) == code


def _oathtool(moment: float) -> str:
    command = ["oathtool", "-b", "--totp", f"--now=@{int(moment)}", RFC_KEY_BASE32]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_code__only_the_present_code_is_on_stdout(device: Device) -> None:
    device.hold(totp("alice"))
    before = time.time()
    done = device.run("code", "alice")
    assert done.stdout in {_oathtool(before), _oathtool(time.time())}
    assert done.stderr == ""


def test_hotp__codes_are_those_of_rfc_4226_one_after_the_other(device: Device) -> None:
    device.hold(hotp("alice"))
    assert [device.did("code") for _ in range(4)] == [f"{code}\n" for code in RFC_HOTP[:4]]


def test_hotp__programs_that_run_at_once_give_different_codes(device: Device) -> None:
    device.hold(hotp("alice"))
    with ThreadPoolExecutor(4) as pool:
        codes = list(pool.map(lambda _: device.did("code").strip(), range(8)))
    assert sorted(codes) == sorted(RFC_HOTP[:8])


def test_hotp__closed_stdout_uses_no_code_up(device: Device) -> None:
    device.hold(hotp("alice"))
    shell = ["sh", "-c", 'exec "$@" >&-', "sh"]
    done = device.run("code", before=shell)
    assert done.status == 1
    assert "cannot write the result: it is closed; nothing was changed" in Mistake(done.stderr).error
    assert device.did("code") == "755224\n"


def test_hotp__code_that_could_not_be_shown_is_reported_as_used(device: Device) -> None:
    device.hold(hotp("alice"))
    shell = ["sh", "-c", 'exec "$@" >/dev/full', "sh"]
    done = device.run("code", before=shell)
    assert done.status == 1
    assert "the code was not shown and counts as used" in Mistake(done.stderr).error
    assert device.did("code") == "287082\n"


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("Zoë", "Zoë"), ("zoË", "Zoë"), ("BANK", "日本 bank"), ("mail", "work"), ("work m", "work")],
)
def test_code__name_can_be_a_part_in_either_case_or_the_issuer(wanted: str, found: str) -> None:
    entries = [totp("Zoë"), totp("日本 bank"), totp("work", issuer="Mail"), totp("home")]
    assert entries[entry.find(entries, wanted)].name == found


def test_code__whole_name_wins_over_longer_names() -> None:
    assert entry.find([totp("alice 2"), totp("alice")], "alice") == 1


def test_code__ambiguous_or_unknown_name_is_an_error(device: Device) -> None:
    device.hold(totp("alice@a"), totp("alice@b"), totp("bob"))
    assert device.refused("code", "alice").error == '"alice" matches "alice@a", "alice@b"'
    assert device.refused("code", "carol").error == 'there is no entry "carol"'
    assert device.refused("code", status=2).hint == "softtoken code NAME; softtoken list shows the names"


def test_code__without_a_vault_or_an_entry_is_an_error(device: Device) -> None:
    assert "there is no vault" in device.refused("code").error
    assert not device.data.exists()
    device.hold()
    assert device.refused("code").error == "the vault is empty"


def test_name__ambiguous_one_changes_nothing(device: Device, tmp_path: Path) -> None:
    device.hold(hotp("alice one"), hotp("alice two", b"another key of it"))
    device.refused("code", "alice")
    device.refused("remove", "alice", "--yes")
    device.refused("rename", "alice", "bob")
