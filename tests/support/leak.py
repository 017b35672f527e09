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


def keep_answer(answer: str) -> None:
    """Remember what is typed at a prompt, if it has the form of a code, right or wrong."""
    digits = answer.replace(" ", "")
    if digits.isascii() and digits.isdecimal() and 6 <= len(digits) <= 8:
        _codes.add(digits)
        if digits != answer.strip():
            _secrets.add(answer.strip())


def refuse(lines: Iterable[str]) -> None:
    """Look through log lines, whoever wrote them.

    Raises:
        AssertionError: there is a secret in one.
    """
    for line in lines:
        # The program's process id in front of the text, and digits that are part of a word or a number, are no code.
        text = re.sub(r"\[\d+\]: ", ": ", line, count=1)
        words = set(re.findall(r"(?<![\w.])\d{6,8}(?!\w|\.\d)", text))
        found = [secret for secret in _secrets if secret in line] + sorted(words & _codes)
        if found:
            raise AssertionError(f"a secret has been logged: {line!r}")
