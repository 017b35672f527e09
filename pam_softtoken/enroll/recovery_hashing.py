"""Hash new recovery codes, several at once. One hash takes some 40 ms, and most accounts get ten codes."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from pam_softtoken.otp.recovery_code import RecoverySet

MOST_AT_ONCE = 4
"""Each takes 16 MiB while it is computed."""


def hashed(codes: list[str], *, at_once: int | None = None) -> RecoverySet:
    """Return the hashes of recovery codes. As many are computed at once as this process has processors.

    Args:
        codes: recovery codes from `recovery.generate`, or scratch codes.
        at_once: another number of hashes at once.
    """
    workers = at_once or min(MOST_AT_ONCE, len(os.sched_getaffinity(0)))
    if workers == 1 or len(codes) < 2:
        return RecoverySet.of(codes)
    # scrypt is OpenSSL's, which releases the interpreter's lock.
    with ThreadPoolExecutor(workers) as pool:
        return RecoverySet.of(codes, mapped=pool.map)
