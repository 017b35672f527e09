"""Libraries that a program under test loads before its own, to meet what otherwise happens once in a thousand runs."""

from __future__ import annotations

import subprocess
from pathlib import Path


def compile_library(target: Path, source: str) -> Path:
    """Build one.

    Args:
        target: where it goes; the source is put beside it.
        source: its text, in C.

    Returns:
        The target, for LD_PRELOAD.
    """
    text = target.with_suffix(".c")
    text.write_text(source)
    flags = ["-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC"]
    subprocess.run(["gcc", *flags, "-o", target, text], check=True, capture_output=True)
    return target
