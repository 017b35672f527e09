"""Find the kept inputs, and compile the harness for the bridge's frames. Imports nothing of the product."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.support.installation import TREE

CORPUS = TREE / "tests" / "fuzz" / "corpus"
SOURCE = TREE / "tests" / "fuzz" / "bridge_frames.c"
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O1", "-g", "-fno-sanitize-recover=all"]


def compile_harness(target: Path, *, source: Path = SOURCE) -> Path:
    """Build the bridge, with a fake libpam and a fake backend around it, for libFuzzer."""
    target.parent.mkdir(parents=True, exist_ok=True)
    command = ["clang", *FLAGS, "-fsanitize=fuzzer,address,undefined", "-o", str(target), str(source)]
    subprocess.run(command, check=True)
    return target


def without_randomised_addresses() -> list[str]:
    """Return the words before a sanitised program's command line.

    If the kernel spreads mappings over more bits than ASan's shadow expects, the program sometimes dies at start.
    """
    return ["setarch", "--addr-no-randomize"]
