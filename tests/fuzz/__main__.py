"""Fuzz one target for as long as you like: `python -m tests.fuzz TARGET [OPTION OF LIBFUZZER...] [DIRECTORY...]`.

    build/venv/bin/python -m tests.fuzz state_text -max_total_time=3600
    build/venv/bin/python -m tests.fuzz bridge_frames -max_total_time=3600

New inputs and crashes go to build/fuzz/TARGET, or to the first directory. The kept corpus is read, not written.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from tests.fuzz.harness import CORPUS, compile_harness, without_randomised_addresses
from tests.support.installation import TREE

BRIDGE = "bridge_frames"


def _fuzz(name: str, options: list[str]) -> None:
    import atheris  # type: ignore[import-untyped]

    # Only modules loaded inside are watched, so nothing above may have imported the product.
    with atheris.instrument_imports(include=["pam_softtoken"], enable_loader_override=False):
        from tests.fuzz.targets import MAX_INPUT_BYTES, TARGETS
    atheris.Setup([name, f"-max_len={MAX_INPUT_BYTES.get(name, 4200)}", *options], TARGETS[name])
    atheris.Fuzz()


def main(arguments: list[str]) -> None:
    """Start libFuzzer, which ends the process."""
    names = sorted(path.name for path in CORPUS.iterdir())
    if not arguments or arguments[0] not in names:
        sys.exit(
            f"usage: python -m tests.fuzz TARGET [OPTION OF LIBFUZZER...] [DIRECTORY...]\ntargets: {' '.join(names)}"
        )
    name, *given = arguments
    options = [each for each in given if each.startswith("-")]
    directories = [each for each in given if not each.startswith("-")]
    found = Path(directories[0]) if directories else TREE / "build" / "fuzz" / name
    found.mkdir(parents=True, exist_ok=True)
    common = ["-timeout=60", "-rss_limit_mb=1024", f"-artifact_prefix={found}/"]
    options = [*common, *options, *(directories or [str(found)]), str(CORPUS / name)]
    if name == BRIDGE:
        harness = str(compile_harness(TREE / "build" / "bridge-harness"))
        command = [*without_randomised_addresses(), harness, "-max_len=9000", *options]
        os.execvp(command[0], command)
    _fuzz(name, options)


if __name__ == "__main__":
    main(sys.argv[1:])
