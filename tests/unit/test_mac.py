"""HMAC against the standard library's. Every interpreter uses its built-in modules."""

from __future__ import annotations

import hmac
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_softtoken.otp import mac


@given(st.binary(max_size=300), st.binary(max_size=300), st.sampled_from(mac.ALGORITHMS))
def test_hmac__agrees_with_the_standard_library(key: bytes, message: bytes, algorithm: str) -> None:
    assert mac.hmac_digest(key, message, algorithm) == hmac.digest(key, message, algorithm)


def test_compare_digest__is_the_interpreters_own() -> None:
    assert mac.compare_digest(b"123456", b"123456")
    assert not mac.compare_digest(b"123456", b"123457")
    assert not mac.compare_digest(b"123456", b"12345")


def _interpreters() -> list[str]:
    """Return the interpreters of this machine: Debian's, and others that are on PATH or of pyenv."""
    found = {"/usr/bin/python3"}
    for version in ("3.11", "3.12", "3.13", "3.14"):
        found.update(map(str, Path("~/.pyenv/versions").expanduser().glob(f"{version}.*/bin/python{version}")))
        on_path = shutil.which(f"python{version}")
        if on_path and "/shims/" not in on_path:
            found.add(str(Path(on_path).resolve()))
    return sorted(found)


def _printed_by(interpreter: str, script: str) -> list[str]:
    start = "import sys; sys.path.insert(0, sys.argv[1])"
    command = [interpreter, "-I", "-S", "-c", f"{start}\n{script}", str(Path(__file__).resolve().parents[2])]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


@pytest.mark.parametrize("interpreter", _interpreters())
def test_login__loads_no_openssl_under_any_interpreter(interpreter: str) -> None:
    loaded = _printed_by(interpreter, "import pam_softtoken.bridge.backend; print(*sys.modules)")
    assert "pam_softtoken.otp.mac" in loaded
    assert not {"hashlib", "_hashlib", "hmac"} & set(loaded)


@pytest.mark.parametrize("interpreter", _interpreters())
@pytest.mark.parametrize("missing", [(), ("_sha1",), ("_sha2", "_sha256"), ("_sha512",), ("_operator",)])
def test_mac__agrees_where_built_in_modules_are_missing(interpreter: str, missing: tuple[str, ...]) -> None:
    script = (
        f"for name in {missing}: sys.modules[name] = None\n"
        "from pam_softtoken.otp import mac\n"
        "for name in mac.ALGORITHMS: print(mac.hmac_digest(b'k' * 200, b'm', name).hex())\n"
        "print(mac.compare_digest(b'1', b'1'))"
    )
    expected = [hmac.digest(b"k" * 200, b"m", name).hex() for name in mac.ALGORITHMS]
    assert _printed_by(interpreter, script) == [*expected, "True"]
