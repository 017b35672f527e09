"""HOTP and TOTP arithmetic (RFC 4226, RFC 6238). Does no I/O and reads no clock: `now` is an argument."""

from __future__ import annotations

from pam_softtoken.otp import mac

ALGORITHMS = mac.ALGORITHMS
MIN_DIGITS, MAX_DIGITS = 6, 8
MIN_PERIOD_S, MAX_PERIOD_S = 1, 300
MAX_COUNTER = 2**64 - 1
RELEASED = 1_795_392_000
"""Unix seconds of the day of this version, 2026-11-23 (UTC). A clock that is before it is wrong."""


def dynamic_truncate(digest: bytes) -> int:
    """Return the 31 bits of a MAC that its own last nibble points at.

    Args:
        digest: 20, 32 or 64 bytes.

    Returns:
        0 to 2**31 - 1.

    Source:
        RFC 4226, section 5.3. For longer MACs the last byte counts, as in RFC 6238, appendix A.
    """
    offset = digest[-1] & 0x0F
    return int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFFFFFF


def hotp(key: bytes, counter: int, *, algorithm: str = "SHA1", digits: int = 6) -> str:
    """Compute the one-time password of a counter.

    >>> hotp(b"12345678901234567890", 1)  # RFC 4226, appendix D
    '287082'

    Args:
        key: the shared secret, any length.
        counter: 0 to 2**64 - 1.
        algorithm: one of `ALGORITHMS`.
        digits: 6 to 8.

    Returns:
        `digits` decimal digits, zeros kept.

    Raises:
        ValueError: an argument is out of its range.

    Source:
        RFC 4226, section 5.3.
    """
    if algorithm not in ALGORITHMS or not MIN_DIGITS <= digits <= MAX_DIGITS or not 0 <= counter <= MAX_COUNTER:
        raise ValueError("algorithm, digits or counter out of range")
    digest = mac.hmac_digest(key, counter.to_bytes(8, "big"), algorithm)
    return str(dynamic_truncate(digest) % 10**digits).zfill(digits)


def time_step(now: int, period_s: int) -> int:
    """Compute the number of periods since the Unix epoch.

    >>> time_step(59, 30)
    1

    Args:
        now: Unix seconds, not negative.
        period_s: length of a period in seconds, 1 to 300.

    Returns:
        The time step, not negative.

    Raises:
        ValueError: an argument is out of its range.

    Source:
        RFC 6238, section 4.2, with T0 = 0.
    """
    if now < 0 or not MIN_PERIOD_S <= period_s <= MAX_PERIOD_S:
        raise ValueError("time or period out of range")
    return now // period_s
