"""Everything secret that a test makes, and a look for it in what was logged."""

from __future__ import annotations

import re
from collections.abc import Iterable

_secrets: set[str] = set()
_codes: set[str] = set()


def keep(secret: str) -> str:
    """Remember a key, password or recovery code of a test, which no log may hold."""
    if secret:
        _secrets.add(secret)
        _secrets.add(secret.replace("-", ""))
    return secret


def keep_code(code: str) -> str:
    """Remember a code that was or could have been typed."""
    _codes.add(code)
    return code


def refuse(lines: Iterable[str]) -> None:
    """Look through log lines, whoever wrote them.

    Raises:
        AssertionError: there is a secret in one.
    """
    for line in lines:
        # Digits that are part of a longer number, such as a time or a process id, are no code.
        words = set(re.findall(r"(?<![\w.:/\[-])\d{6,8}(?![\w.:/\]-])", line))
        found = [secret for secret in _secrets if secret in line] + sorted(words & _codes)
        if found:
            raise AssertionError(f"a secret has been logged: {line!r}")
