"""Tokens that sign: their file, which is read strictly, their marks, and the files as sudo opens them."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pam_softtoken.account import places, revoking, signers
from pam_softtoken.account.safe_open import Account
from pam_softtoken.account.signers import SignerStore
from pam_softtoken.account.state import State
from pam_softtoken.errors import BadTokenFile, InsecureFile, NotEnrolled, OtherAccount, UnusableFile
from pam_softtoken.otp.ocra import SIGNING_SUITE, OCRAToken, Suite
from pam_softtoken.otp.token import Secret, encode_base32

ALICE = Account("alice", 1001, 1001, home="/home/alice")
OWNER = ("alice", 1001)


def _token(name: str = "laptop", *, suite: str = SIGNING_SUITE, key: bytes = b"") -> OCRAToken:
    return OCRAToken(name, Secret(key or name.encode().ljust(32, b".")), suite=Suite.parse(suite), created=7)


def _document() -> Any:
    return json.loads(signers.serialise((_token(), _token("tablet")), owner=OWNER))


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "sign"
    directory.mkdir(mode=0o711)
    monkeypatch.setattr(places, "SIGNERS", str(directory))
    monkeypatch.setattr(places, "SIGN_STORE", f"{directory}/%U")
    monkeypatch.setattr(places, "DATA", str(tmp_path))
    monkeypatch.setattr(places, "REVOKED", str(tmp_path / "revoked"))
    return directory


def _enrol(place: Path, *tokens: OCRAToken, owner: tuple[str, int] = OWNER) -> Path:
    own = place / str(ALICE.uid)
    own.mkdir(mode=0o700, exist_ok=True)
    new = own / "new"
    new.write_bytes(signers.serialise(tokens, owner=owner))
    new.chmod(0o600)
    new.rename(own / "tokens")
    return own / "tokens"


@pytest.mark.parametrize("names", [(), ("laptop",), ("laptop", "tablet", "phone", "Schlüssel")])
@pytest.mark.parametrize("owner", [OWNER, ("CORP\\carol", 2**32 - 1), ("\udce4", 0)])
def test_signers__written_file_is_read_back(names: tuple[str, ...], owner: tuple[str, int]) -> None:
    tokens = tuple(_token(name) for name in names)
    data = signers.serialise(tokens, owner=owner)
    found = signers.parse(data, path="tokens", owner=owner)
    assert [(token.name, token.secret.reveal(), token.suite.text, token.created) for token in found] == [
        (token.name, token.secret.reveal(), SIGNING_SUITE, 7) for token in tokens
    ]
    assert signers.serialise(found, owner=owner) == data


@pytest.mark.parametrize("owner", [("alice", 1002), ("bob", 1001), ("bob", 1002)])
def test_signers__file_of_another_account_is_refused(owner: tuple[str, int]) -> None:
    data = signers.serialise((_token(),), owner=OWNER)
    with pytest.raises(OtherAccount, match=r"sign for alice \(uid 1001\)"):
        signers.parse(data, path="tokens", owner=owner)


def _set(*steps: str | int, value: object) -> Callable[[Any], None]:
    def change(document: Any) -> None:
        for step in steps[:-1]:
            document = document[step]
        document[steps[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("version", value=2),
        _set("version", value=True),
        _set("account", value=None),
        _set("account", "uid", value=-1),
        _set("account", "uid", value="1001"),
        _set("account", "name", value=""),
        _set("more", value=1),
        _set("signers", value={}),
        _set("signers", 0, value=[]),
        _set("signers", 0, "type", value="totp"),
        _set("signers", 0, "suite", value="OCRA-1:HOTP-SHA256-8:QH40"),
        _set("signers", 0, "suite", value="OCRA-1:HOTP-SHA256-4:QH64"),
        _set("signers", 0, "suite", value=SIGNING_SUITE.lower()),
        _set("signers", 0, "key", value="MFRGG"),
        _set("signers", 0, "key", value=encode_base32(b"k" * 32).lower()),
        _set("signers", 0, "created", value=-1),
        _set("signers", 0, "created", value=7.0),
        _set("signers", 0, "name", value=""),
        _set("signers", 0, "name", value="a\nb"),
        _set("signers", 0, "name", value="tablet"),
        _set("signers", 0, "key", value=encode_base32(b"tablet".ljust(32, b"."))),
        _set("signers", 0, "digits", value=8),
        lambda document: document["signers"][0].pop("created"),
        lambda document: document.pop("account"),
        lambda document: document["signers"].extend(
            [{**document["signers"][0], "name": f"n{n}", "key": encode_base32(bytes([n]) * 32)} for n in range(3)]
        ),
    ],
)
def test_signers__any_other_file_is_refused(change: Callable[[Any], None]) -> None:
    document = _document()
    change(document)
    with pytest.raises(BadTokenFile) as error:
        signers.parse(json.dumps(document).encode(), path="tokens", owner=OWNER)
    assert not isinstance(error.value, OtherAccount)
    assert encode_base32(_token().secret.reveal()) not in str(error.value)


def test_signers__what_could_not_be_read_again_is_not_written() -> None:
    for tokens in (
        tuple(_token(f"n{number}") for number in range(signers.MAX_SIGNERS + 1)),
        (_token("a"), _token("a", key=b"k" * 32)),
        (_token("a", key=b"k" * 32), _token("b", key=b"k" * 32)),
        (_token(suite="OCRA-1:HOTP-SHA256-8:QH40"),),
    ):
        with pytest.raises(ValueError, match=r"token|suite"):
            signers.serialise(tokens, owner=OWNER)


def test_mark__is_the_name_in_hexadecimal(place: Path) -> None:
    assert signers.name_mark("alice") == f"{place}/name-616c696365"
    assert signers.name_mark("a/../é\udcff") == f"{place}/name-612f2e2e2fc3a9ff"
    assert len(os.path.basename(signers.name_mark("x" * 100))) <= 255
    with pytest.raises(ValueError, match="more than 100 bytes"):
        signers.name_mark("é" * 51)


def test_mark__either_one_counts_and_a_dangling_link_too(place: Path) -> None:
    assert not signers.is_marked(ALICE)
    for mark in (place / "1001", place / "name-616c696365"):
        for make in (mark.touch, lambda mark=mark: mark.symlink_to("/nowhere")):
            make()
            assert signers.is_marked(ALICE)
            mark.unlink()
    assert not signers.is_marked(ALICE)


def test_mark__is_not_known_where_it_cannot_be_looked_up(place: Path) -> None:
    place.rmdir()
    assert not signers.is_marked(ALICE)
    place.touch()
    with pytest.raises(UnusableFile, match="Not a directory"):
        signers.is_marked(ALICE)


def test_store__absence_is_proven_only_without_a_mark(place: Path) -> None:
    with pytest.raises(NotEnrolled) as error:
        SignerStore(ALICE).open_signers()
    assert error.value.proven
    Path(signers.name_mark("alice")).touch()
    with pytest.raises(NotEnrolled) as error:
        SignerStore(ALICE).open_signers()
    assert not error.value.proven
    (place / "1001").mkdir(mode=0o700)
    with pytest.raises(NotEnrolled) as error:
        SignerStore(ALICE).open_signers()
    assert not error.value.proven


def test_store__reads_tokens_and_keeps_a_state(place: Path) -> None:
    _enrol(place, _token())
    store = SignerStore(ALICE)
    assert [token.name for token in store.open_signers()] == ["laptop"]
    store.lock(1)
    assert store.reread_signers() is None
    assert store.read_state() is None
    store.write_state(State.new().with_wrong("local", 1, 5))
    store.close()
    again = SignerStore(ALICE)
    again.open_signers()
    state = again.read_state()
    again.close()
    assert state is not None
    assert state.wrong == {"local": (1, 5)}


def test_store__sees_a_change_under_the_lock(place: Path) -> None:
    path = _enrol(place, _token())
    store = SignerStore(ALICE)
    store.open_signers()
    store.lock(1)
    _enrol(place)
    assert store.reread_signers() == ()
    path.unlink()
    with pytest.raises(NotEnrolled) as error:
        store.reread_signers()
    assert not error.value.proven
    store.close()


def test_store__revoked_otp_tokens_change_nothing_here(place: Path) -> None:
    _enrol(place, _token())
    store = SignerStore(ALICE)
    store.open_signers()
    store.lock(1)
    store.read_state()
    revoking.revoke(ALICE.uid, fingerprints=(), everything=True, now=5)
    store.write_state(State.new())
    store.close()
    assert [token.name for token in SignerStore(ALICE).open_signers()] == ["laptop"]


def test_store__file_of_another_account_or_open_to_others_is_refused(place: Path) -> None:
    path = _enrol(place, _token(), owner=("alice", 1002))
    with pytest.raises(OtherAccount):
        SignerStore(ALICE).open_signers()
    path = _enrol(place, _token())
    path.chmod(0o640)
    with pytest.raises(InsecureFile):
        SignerStore(ALICE).open_signers()
    path.chmod(0o600)
    path.parent.chmod(0o777)
    with pytest.raises(InsecureFile):
        SignerStore(ALICE).open_signers()


def test_store__of_tokens_that_sign_has_no_one_time_passwords(place: Path) -> None:
    _enrol(place, _token())
    for opened in (SignerStore(ALICE).open, SignerStore(ALICE).reread_tokens):
        with pytest.raises(TypeError):
            opened()
