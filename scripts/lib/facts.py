"""Write the fixed part of `pam_softtoken/platform_facts.py`.

facts.py FILE NAME=VALUE...     FILE is a copy of the module; NAME is one of its constants, such as MODULES
"""

from __future__ import annotations

import re
import sys
from pathlib import Path


def write(file: Path, values: dict[str, str]) -> None:
    """Set constants of the module. Each must be there once, as a plain text.

    Raises:
        SystemExit: one is not there.
    """
    text = file.read_text(encoding="utf-8")
    for name, value in values.items():
        line = f"{name} = {_quoted(value)}"
        text, times = re.subn(rf'^{re.escape(name)} = ".*"$', line, text, flags=re.MULTILINE)
        if times != 1:
            raise SystemExit(f"facts: error: {file} has {times} lines for {name}")
    file.write_text(text, encoding="utf-8")


def _quoted(value: str) -> str:
    if not value.isprintable() or '"' in value or "\\" in value:
        raise SystemExit(f"facts: error: {value!r} cannot be a value")
    return f'"{value}"'


if __name__ == "__main__":
    write(Path(sys.argv[1]), dict(word.split("=", 1) for word in sys.argv[2:]))
