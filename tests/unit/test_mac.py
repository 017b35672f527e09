"""HMAC against the standard library's. Debian's interpreter uses the built-in modules."""

from __future__ import annotations

import hmac
import subprocess
from pathlib import Path

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


def test_mac__works_where_the_built_in_modules_are_missing() -> None:
    script = (
        "import sys; sys.path.insert(0, sys.argv[1]); sys.modules['_sha256'] = None\n"
        "from pam_softtoken.otp import mac; print('hashlib' in sys.modules, mac.hmac_digest(b'k', b'm', 'SHA1').hex())"
    )
    command = ["/usr/bin/python3", "-I", "-S", "-c", script, str(Path(__file__).resolve().parents[2])]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    assert printed == ["True", hmac.digest(b"k", b"m", "sha1").hex()]
