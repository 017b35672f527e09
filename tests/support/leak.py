"""Collect every secret that a test makes, and search the log for it."""

from __future__ import annotations

import re
from collections.abc import Iterable

_secrets: set[str] = set()
_codes: set[str] = set()


def keep(secret: str) -> str:
    """Record a key, password or recovery code of a test. No log may contain it."""
    if secret:
        _secrets.add(secret)
        _secrets.add(secret.replace("-", ""))
    return secret


def keep_code(code: str) -> str:
    """Record a code that was or could have been typed."""
    _codes.add(code)
    return code


def keep_answer(answer: str) -> None:
    """Record what is typed at a prompt, if it has the form of a code, right or wrong."""
    digits = answer.replace(" ", "")
    if digits.isascii() and digits.isdecimal() and 6 <= len(digits) <= 8:
        _codes.add(digits)
        if digits != answer.strip():
            _secrets.add(answer.strip())


def refuse(lines: Iterable[str]) -> None:
    """Check log lines from any program for secrets.

    Raises:
        AssertionError: a line contains a secret.
    """
    for line in lines:
        # The process id before the text is no code. Digits that are part of a word or a number are no code either.
        text = re.sub(r"\[\d+\]: ", ": ", line, count=1)
        words = set(re.findall(r"(?<![\w.])\d{6,8}(?!\w|\.\d)", text))
        found = [secret for secret in _secrets if secret in line] + sorted(words & _codes)
        if found:
            raise AssertionError(f"a secret has been logged: {line!r}")
