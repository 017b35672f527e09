"""Programs and libraries of Debian that some tests compare with. A run of the unit part can lack them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PAM_PYTHON = "pam_python.so"
"""Without a directory, as Debian's libpam finds it in each release."""


def needs(*programs: str) -> pytest.MarkDecorator:
    """Return a mark that leaves a test out if programs are missing. Where scripts/test installed them, it runs."""
    missing = [program for program in programs if shutil.which(program) is None]
    return _left_out(missing)


def needs_debians_python(*modules: str) -> pytest.MarkDecorator:
    """Return a mark that leaves a test out if the system's Python lacks modules of Debian packages."""
    command = ["/usr/bin/python3", "-I", "-c", f"import {', '.join(modules)}"]
    found = shutil.which(command[0]) and subprocess.run(command, check=False, capture_output=True).returncode == 0
    return _left_out([] if found else [f"{command[0]} with {', '.join(modules)}"])


def needs_pam_python() -> pytest.MarkDecorator:
    """Return a mark that leaves a test out without Debian's libpam-python. Debian 12 has it in /lib/security."""
    directories = (Path("/lib/security"), *Path("/lib").glob("*/security"))
    return _left_out([] if any((each / PAM_PYTHON).exists() for each in directories) else ["libpam-python"])


def needs_package_lists() -> pytest.MarkDecorator:
    """Return a mark that leaves a test out if apt-cache knows no packages."""
    return _left_out([] if any(Path("/var/lib/apt/lists").glob("*_Packages*")) else ["the package lists of apt"])


def _left_out(missing: list[str]) -> pytest.MarkDecorator:
    installed = os.environ.get("TEST_TOOLS") == "yes"
    return pytest.mark.skipif(bool(missing) and not installed, reason=f"needs {', '.join(missing)}")
