"""The host's seal key, and what is sealed with it while the key changes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_softtoken.account import host_key, places, seal, store
from pam_softtoken.account.editor import Editor
from pam_softtoken.account.host_key import HostKeys
from pam_softtoken.account.location import Location
from pam_softtoken.account.safe_open import Account
from pam_softtoken.account.store import Store
from pam_softtoken.account.token_file import MAX_BYTES, TokenFile, parse, serialise
from pam_softtoken.errors import BadTokenFile, Sealed
from pam_softtoken.otp.recovery_code import RecoverySet
from pam_softtoken.otp.token import Secret, TOTPToken

ONE, TWO = bytes([1]) * 32, bytes([2]) * 32
TOKEN = TOTPToken("phone", Secret(b"12345678901234567890"), algorithm="SHA1", digits=6, created=0)
CONTENT = TokenFile((TOKEN,), RecoverySet(bytes(16), ()))
ME = Account("me", os.getuid(), os.getgid(), home="/nonexistent")
OWNER = (ME.name, ME.uid)

_keys = st.binary(min_size=32, max_size=32)


class Host:
    """A host of this test's own, with the token file of one user.

    Args:
        directory: for all files.
    """

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.key = directory / "etc" / "host.key"
        self.credential = directory / "etc" / "host.key.tpm"
        for name, path in (("SEAL_KEY", self.key), ("SEAL_CREDENTIAL", self.credential)):
            monkeypatch.setattr(places, name, str(path))
        monkeypatch.setattr(places, "LOADED_SEAL_KEY", str(directory / "run" / "host.key"))
        monkeypatch.setattr(places, "DATA", str(directory / "data"))
        for name in ("etc", "run", "data"):
            (directory / name).mkdir(mode=0o700)
        self.location = Location(f"{directory}/data/%U", ME)
        Path(self.location.path).mkdir(mode=0o700)
        self.tokens = Path(self.location.path) / "tokens"

    def set_keys(self, keys: HostKeys | None) -> None:
        self.key.unlink(missing_ok=True)
        if keys is not None:
            self.key.write_bytes(host_key.serialise(keys))
            self.key.chmod(0o400)

    def set_tokens(self, data: bytes) -> None:
        new = self.tokens.with_name("new")
        new.write_bytes(data)
        new.chmod(0o600)
        new.rename(self.tokens)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    return Host(tmp_path, monkeypatch)


def sealed_with(key: bytes) -> bytes:
    return host_key.sealed_with(HostKeys(key), serialise(CONTENT, owner=OWNER))


@given(st.none() | _keys, st.lists(_keys, max_size=3, unique=True), st.sampled_from(["", "7", "0+7+11"]))
def test_key_file__is_read_as_it_was_written(sealing: bytes | None, others: list[bytes], pcrs: str) -> None:
    rest = tuple(key for key in others if key != sealing)
    keys = HostKeys(sealing, rest, pcrs=pcrs)
    if sealing is None and not rest:
        return
    read = host_key.parse(host_key.serialise(keys))
    assert (read.sealing, read.others, read.pcrs) == (sealing, rest, pcrs)


@pytest.mark.parametrize(
    "text",
    [
        "", "softtoken-seal-key 1\n", "softtoken-seal-key 2\nseal {one}\n", "softtoken-seal-key 1\nseal {one}",
        "softtoken-seal-key 1\nseal {one}\n\n", "softtoken-seal-key 1\nseal {one} \n",
        "softtoken-seal-key 1\nseal {one}0\n",
        "softtoken-seal-key 1\nseal {upper}\n", "softtoken-seal-key 1\nseal {one}\nseal {two}\n",
        "softtoken-seal-key 1\nseal {one}\nopen {one}\n", "softtoken-seal-key 1\nother {one}\n",
        "softtoken-seal-key 1\nseal {one}\npcrs \n", "softtoken-seal-key 1\nseal {one}\npcrs x\n",
        "softtoken-seal-key 1\npcrs 7\n", "softtoken-seal-key 1\npcrs 7\nseal {one}\n", "\0" * 1025,
    ],
)  # fmt: skip
def test_key_file__that_nobody_wrote_is_refused_and_not_quoted(text: str) -> None:
    upper = (b"\xaa" * 32).hex().upper()
    with pytest.raises(ValueError, match="is no key file") as caught:
        host_key.parse(text.format(one=ONE.hex(), two=TWO.hex(), upper=upper).encode())
    assert ONE.hex() not in str(caught.value)


def test_store__opens_plain_and_sealed_files_with_any_key_of_the_host(host: Host) -> None:
    host.set_keys(HostKeys(ONE, (TWO,)))
    for data in (serialise(CONTENT, owner=OWNER), sealed_with(ONE), sealed_with(TWO)):
        host.set_tokens(data)
        assert Store(host.location).open().tokens[0].name == "phone"


def test_store__that_is_not_sealed_needs_no_key_and_no_module(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_key, "unsealed", None)
    host.set_tokens(serialise(CONTENT, owner=OWNER))
    assert Store(host.location).open().tokens[0].name == "phone"


def _rotate(host: Host) -> None:
    host.set_keys(HostKeys(TWO))
    host.set_tokens(sealed_with(TWO))


def _turn_off(host: Host) -> None:
    host.set_tokens(serialise(CONTENT, owner=OWNER))
    host.set_keys(None)


@pytest.mark.parametrize("change", [_rotate, _turn_off])
def test_store__whose_key_and_file_change_while_it_reads_reads_again(
    host: Host, monkeypatch: pytest.MonkeyPatch, change: Callable[[Host], None]
) -> None:
    """The login has read the old file, and would look for its key only after the key is gone."""
    host.set_keys(HostKeys(ONE))
    host.set_tokens(sealed_with(ONE))
    true_text_of, changes = store.text_of, [change]

    def text_of(data: bytes, *, path: str, is_roots: bool) -> bytes:
        if changes:
            changes.pop()(host)
        return true_text_of(data, path=path, is_roots=is_roots)

    monkeypatch.setattr(store, "text_of", text_of)
    assert Store(host.location).open().tokens[0].name == "phone"


def test_store__takes_the_largest_text_sealed_and_nothing_larger(host: Host) -> None:
    host.set_keys(HostKeys(ONE))
    text = serialise(CONTENT, owner=OWNER)
    host.set_tokens(host_key.sealed_with(HostKeys(ONE), text.ljust(MAX_BYTES)))
    assert Store(host.location).open().tokens[0].name == "phone"
    host.set_tokens(host_key.sealed_with(HostKeys(ONE), text.ljust(MAX_BYTES + 1)))
    with pytest.raises(BadTokenFile, match="larger than"):
        Store(host.location).open()


@pytest.mark.parametrize("kind", ["file", "directory", "link"])
def test_store__with_an_odd_thing_in_place_of_the_key_is_refused_as_sealed(host: Host, kind: str) -> None:
    host.set_tokens(sealed_with(ONE))
    if kind == "file":
        host.key.write_bytes(b"")
    elif kind == "directory":
        host.key.mkdir()
    else:
        other = host.key.with_name("other")
        other.write_bytes(host_key.serialise(HostKeys(ONE)))
        other.chmod(0o400)
        host.key.symlink_to(other)
    with pytest.raises(Sealed):
        Store(host.location).open()


def _written(host: Host) -> bytes:
    editor = Editor(host.location)
    try:
        editor.open_for_enrolment()
        editor.begin_state()
        editor.exchange(lambda content, state: (CONTENT, state), lambda: None, anew=True)
    finally:
        editor.close()
    return host.tokens.read_bytes()


@pytest.fixture
def no_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pam_softtoken.account.enrolled_mark.set_for", lambda account: None)


@pytest.mark.usefixtures("no_marks")
def test_editor__writes_as_the_key_says(host: Host) -> None:
    text = serialise(CONTENT, owner=OWNER)
    assert _written(host) == text
    host.set_keys(HostKeys(ONE, (TWO,)))
    first, second = _written(host), _written(host)
    assert [seal.unseal(ONE, each, host_key.PLACE) for each in (first, second)] == [text, text]
    assert first != second
    host.set_keys(HostKeys(None, (ONE,)))
    assert _written(host) == text


@pytest.mark.usefixtures("no_marks")
def test_editor__without_the_key_of_a_host_that_seals_writes_nothing(host: Host) -> None:
    host.set_tokens(serialise(CONTENT, owner=OWNER))
    host.credential.touch()
    with pytest.raises(Sealed, match="is missing"):
        _written(host)
    assert parse(host.tokens.read_bytes(), path="", owner=OWNER).tokens[0].name == "phone"
    assert sorted(path.name for path in host.tokens.parent.iterdir()) == ["state", "tokens"]


@pytest.mark.usefixtures("no_marks")
def test_editor__seals_only_what_is_directly_in_roots_directory(host: Host) -> None:
    host.set_keys(HostKeys(ONE))
    for path, is_sealed in (("1000", True), ("sign/1000", False), ("../other/1000", False)):
        data = host_key.sealed(b"{}", path=f"{places.DATA}/{path}/tokens")
        assert data.startswith(seal.MAGIC) is is_sealed, path
