"""The room that a change needs is tried without the change's secrets."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pam_softtoken.account import replace, token_file
from pam_softtoken.account.editor import Editor
from pam_softtoken.account.location import Location
from pam_softtoken.account.safe_open import Account
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.otp.pin import PIN
from pam_softtoken.otp.recovery_code import RecoverySet
from pam_softtoken.otp.token import Secret, TOTPToken, encode_base32


def test_room__is_tested_with_a_file_of_the_same_size_without_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file stays, as after a kill before its removal, and holds no part of the content."""
    monkeypatch.setattr(replace.Replacement, "discard", lambda self: None)
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    key = os.urandom(20)
    phone = TOTPToken("phone", Secret(key), algorithm="SHA1", digits=6, created=0)
    content = TokenFile((phone,), RecoverySet.unknown(10), PIN.of("73219"))
    editor = Editor(Location("%h/.softtoken", Account("me", os.getuid(), os.getgid(), home=str(home))))
    try:
        editor.open_for_enrolment()
        editor.require_room(content)
    finally:
        editor.close()
    (left,) = (home / ".softtoken").iterdir()
    found, whole = left.read_bytes(), token_file.serialise(content)
    assert len(found) == len(whole)
    assert encode_base32(key).encode() not in found
    assert not {line for line in whole.splitlines() if len(line) > 8} & set(found.splitlines())


@pytest.mark.parametrize("count", [0, 1, 10, 24])
def test_recovery_set__without_its_hashes_needs_the_same_room(count: int) -> None:
    real = RecoverySet(os.urandom(16), tuple(os.urandom(16) for _ in range(count)))
    sizes = {len(str(token_file.recovery_object(each))) for each in (real, RecoverySet.unknown(count))}
    assert len(sizes) == 1
