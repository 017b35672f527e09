"""Statements for tests: one ordinary command, of which a test changes what it is about."""

from __future__ import annotations

from typing import Any

from pam_softtoken.otp import signing
from pam_softtoken.otp.statement import Statement

KEY = b"12345678901234567890123456789012"


def made(**changed: Any) -> Statement:
    """Return the statement of an ordinary command, with some fields changed."""
    usual = {
        "host": "server",
        "user": "alice",
        "as_user": "root",
        "cwd": "/home/alice",
        "tty": "pts/3",
        "run": ("/usr/bin/systemctl", "restart", "nginx"),
        "time": 1790000000,
        "nonce": "00112233445566778899aabbccddeeff",
        "key": signing.key_id(KEY),
    }
    return Statement(**{**usual, **changed})
