"""HOTP and TOTP against the RFCs' own vectors, and against oathtool on random input."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor

import pytest

from pam_softtoken.otp import hotp
from tests.support import sampling
from tests.support.tools import needs

# RFC 4226, appendix D: the key and the ten HOTP values.
RFC4226_KEY = b"12345678901234567890"
RFC4226_OTPS = ["755224", "287082", "359152", "969429", "338314", "254676", "287922", "162583", "399871", "520489"]

# RFC 6238, appendix B, with the keys of its reference code (erratum 2866): 20, 32 and 64 bytes.
RFC6238_KEYS = {
    "SHA1": b"12345678901234567890",
    "SHA256": b"12345678901234567890123456789012",
    "SHA512": b"1234567890123456789012345678901234567890123456789012345678901234",
}
RFC6238_VECTORS = [
    (59, "SHA1", "94287082"),
    (59, "SHA256", "46119246"),
    (59, "SHA512", "90693936"),
    (1111111109, "SHA1", "07081804"),
    (1111111109, "SHA256", "68084774"),
    (1111111109, "SHA512", "25091201"),
    (1111111111, "SHA1", "14050471"),
    (1111111111, "SHA256", "67062674"),
    (1111111111, "SHA512", "99943326"),
    (1234567890, "SHA1", "89005924"),
    (1234567890, "SHA256", "91819424"),
    (1234567890, "SHA512", "93441116"),
    (2000000000, "SHA1", "69279037"),
    (2000000000, "SHA256", "90698825"),
    (2000000000, "SHA512", "38618901"),
    (20000000000, "SHA1", "65353130"),
    (20000000000, "SHA256", "77737706"),
    (20000000000, "SHA512", "47863826"),
]

PROCESSES = 2


@pytest.mark.parametrize(("counter", "expected"), list(enumerate(RFC4226_OTPS)))
def test_hotp__gives_the_values_of_rfc_4226(counter: int, expected: str) -> None:
    assert hotp.hotp(RFC4226_KEY, counter) == expected


@pytest.mark.parametrize(("now", "algorithm", "expected"), RFC6238_VECTORS)
def test_totp__gives_the_values_of_rfc_6238(now: int, algorithm: str, expected: str) -> None:
    step = hotp.time_step(now, 30)
    assert hotp.hotp(RFC6238_KEYS[algorithm], step, algorithm=algorithm, digits=8) == expected


def test_truncate__gives_the_example_of_rfc_4226() -> None:
    # RFC 4226, section 5.4.
    mac = bytes.fromhex("1f8698690e02ca16618550ef7f19da8e945b555a")
    assert hotp.dynamic_truncate(mac) == 0x50EF7F19


@needs("oathtool")
def test_otp__agrees_with_oathtool_on_random_tokens() -> None:
    chosen = sampling.source("oathtool")
    commands, ours = [], []
    for _ in range(sampling.amount(1_000, full=10_000)):
        key = chosen.randbytes(chosen.randint(10, 80))
        digits = chosen.choice((6, 7, 8))
        if chosen.random() < 0.25:
            counter = chosen.choice((chosen.randrange(100), chosen.randrange(2**31), chosen.randrange(2**63)))
            commands.append(f"oathtool --hotp -c {counter} -d {digits} {key.hex()}")
            ours.append(hotp.hotp(key, counter, digits=digits))
        else:
            algorithm, period_s = chosen.choice(hotp.ALGORITHMS), chosen.randint(hotp.MIN_PERIOD_S, hotp.MAX_PERIOD_S)
            now = chosen.randrange(2 ** chosen.randint(1, 33))
            commands.append(f"oathtool --totp={algorithm} -s {period_s}s -N @{now} -d {digits} {key.hex()}")
            ours.append(hotp.hotp(key, hotp.time_step(now, period_s), algorithm=algorithm, digits=digits))
    assert ours == _run_all(commands)


def _run_all(commands: list[str]) -> list[str]:
    """Run shell commands in order, both halves in parallel, and return their output's words."""
    share = -(-len(commands) // PROCESSES)
    shares = ["\n".join(commands[start : start + share]) for start in range(0, len(commands), share)]
    with ThreadPoolExecutor(PROCESSES) as threads:
        outputs = threads.map(_run_script, shares)
    return "".join(outputs).split()


def _run_script(script: str) -> str:
    return subprocess.run(["sh", "-e"], input=script, check=True, capture_output=True, text=True, timeout=300).stdout


@pytest.mark.parametrize(
    ("counter", "algorithm", "digits"),
    [(-1, "SHA1", 6), (2**64, "SHA1", 6), (0, "MD5", 6), (0, "sha1", 6), (0, "SHA1", 5), (0, "SHA1", 9)],
)
def test_hotp__out_of_range_is_a_bug_of_the_caller(counter: int, algorithm: str, digits: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        hotp.hotp(RFC4226_KEY, counter, algorithm=algorithm, digits=digits)


@pytest.mark.parametrize(("now", "period_s"), [(-1, 30), (0, 0), (0, 301)])
def test_time_step__out_of_range_is_a_bug_of_the_caller(now: int, period_s: int) -> None:
    with pytest.raises(ValueError, match="out of range"):
        hotp.time_step(now, period_s)


def test_time_step__changes_at_the_second() -> None:
    assert [hotp.time_step(now, 30) for now in (0, 29, 30, 59, 60)] == [0, 0, 1, 1, 2]
