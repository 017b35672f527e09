"""A copy of the product for the tests of one session. Every test user can read it, and nobody can write it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

TREE = Path(__file__).resolve().parents[2]
FULL_COST, LEAST_COST = "SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**14,", "SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**10,"
"""The cost of hashing recovery codes and PINs: the product's, and the one in the copy that is tested, for the sake of
time. Token files say their cost, and tests of the cost write files with the full one.
"""


class Installation:
    """The module, the backend and the programs under one directory owned by root.

    The source tree may be in a place that only root can enter, with any owner. Both would change what is tested.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.bridge = root / "build" / "pam_softtoken.so"
        self.backend = root / "scripts" / "softtoken-backend"
        self.enroll = root / "scripts" / "softtoken-enroll"
        self.client = root / "build" / "client"
        self.package = root / "pam_softtoken"

    @classmethod
    def make(cls, root: Path, *, flags: Iterable[str] = (), around_client: str = "") -> Installation:
        """Copy the sources to `root` and build there.

        Args:
            root: the directory to create.
            flags: additional compiler flags, for the bridge and the client.
            around_client: words before the client's command line, such as a checker's.
        """
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(TREE / "pam_softtoken", root / "pam_softtoken", ignore=ignored)
        shutil.copytree(TREE / "scripts", root / "scripts", ignore=ignored)
        mac = root / "pam_softtoken" / "otp" / "mac.py"
        text = mac.read_text()
        assert text.count(FULL_COST) == 1
        mac.write_text(text.replace(FULL_COST, LEAST_COST))
        made = cls(root)
        subprocess.run([root / "scripts" / "build", *flags], check=True, capture_output=True)
        compile_client(made.client, flags=flags)
        if around_client:
            program = made.client.rename(made.client.with_name("client-itself"))
            made.client.write_text(f'#!/bin/sh\nexec {around_client} {program} "$@"\n')
            made.client.chmod(0o755)
        for path in [root, *root.rglob("*")]:
            os.chown(path, 0, 0)
            path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
        return made

    @classmethod
    def copied(cls, source: Path, root: Path) -> Installation:
        """Copy what `make` made elsewhere. A test may change its copy."""
        shutil.copytree(source, root)  # with the times of files, by which Python trusts what it compiled before
        return cls(root)

    def line(self, *options: str, control: str = "required") -> str:
        """Return a PAM line that runs this copy, with `debug`, so that tests see everything that could be logged."""
        words = [
            option if " " not in option else f"[{option}]" for option in (f"backend={self.backend}", "debug", *options)
        ]
        return f"auth {control} {self.bridge} {' '.join(words)}\n"

    def broken_bridge(
        self, target: Path, *, right: str, wrong: str, file: str = "pam_softtoken.c", flags: Iterable[str] = ()
    ) -> Path:
        """Build a bridge with one fault, to check that a test notices it.

        Args:
            target: `pam_softtoken.so` in its own directory.
            right: text that appears once in the source.
            wrong: its replacement.
            file: the source file of the bridge.
            flags: additional compiler flags.
        """
        copy = target.with_name("broken")
        for part in ("pam_softtoken", "scripts"):
            shutil.copytree(self.root / part, copy / part)
        source = copy / "pam_softtoken" / "bridge" / file
        text = source.read_text()
        assert text.count(right) == 1
        source.write_text(text.replace(right, wrong))
        environment = {**os.environ, "BUILD_DIR": str(target.parent)}
        subprocess.run([copy / "scripts" / "build", *flags], check=True, capture_output=True, env=environment)
        return target


def compile_client(target: Path, *, flags: Iterable[str] = ()) -> None:
    """Build the PAM application that the tests drive."""
    target.parent.mkdir(parents=True, exist_ok=True)
    source = TREE / "tests" / "pam" / "client.c"
    always = ["-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror", "-O2"]
    subprocess.run(["gcc", *always, *flags, "-o", target, source, "-lpam"], check=True, capture_output=True)
