"""The token file: everything that is written can be read, and nothing else can."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_softtoken.account import token_file
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.errors import BadTokenFile, OtherAccount
from pam_softtoken.interchange.record import SHORTEST_KEY_BYTES
from pam_softtoken.otp.pin import PIN
from pam_softtoken.otp.recovery_code import RecoverySet
from pam_softtoken.otp.token import HOTPToken, Secret, TOTPToken, encode_base32

KEY_TEXT = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
PIN_DOCUMENT = {"scrypt": [16384, 8, 1], "salt": "00" * 16, "hash": "11" * 16, "length": 4}


def _document() -> dict[str, Any]:
    return {
        "version": 1,
        "tokens": [
            {
                "name": "phone",
                "type": "totp",
                "key": KEY_TEXT,
                "algorithm": "SHA1",
                "digits": 6,
                "created": 1700000000,
                "period": 30,
            }
        ],
        "recovery": {"scrypt": [16384, 8, 1], "salt": "00" * 16, "hashes": ["11" * 16]},
    }


def _parse(document: object) -> TokenFile:
    return token_file.parse(json.dumps(document).encode(), path="tokens")


@pytest.mark.parametrize("scratch", [False, True])
@pytest.mark.parametrize("pin", [None, PIN(b"p" * 16, b"h" * 16, length=4, scrypt_n=2**10)])
def test_tokenfile__written_file_is_read_back(pin: PIN | None, scratch: bool) -> None:
    tokens = (
        TOTPToken("phone", Secret(b"k" * 20), algorithm="SHA256", digits=8, created=5, period_s=60),
        HOTPToken("spare", Secret(b"h" * 64), algorithm="SHA512", digits=7, created=6, counter=9),
    )
    codes = RecoverySet(b"s" * 16, (b"1" * 16, b"2" * 16), scratch=scratch)
    written = token_file.serialise(TokenFile(tokens, codes, pin))
    read = token_file.parse(written, path="tokens")
    assert token_file.serialise(read) == written
    assert read.recovery.scratch == scratch
    assert (read.pin and read.pin.length) == (pin and 4)
    phone, spare = read.tokens
    assert isinstance(phone, TOTPToken)
    assert isinstance(spare, HOTPToken)
    assert (phone.name, phone.algorithm, phone.digits, phone.period_s) == ("phone", "SHA256", 8, 60)
    assert (spare.secret.reveal(), spare.counter) == (b"h" * 64, 9)


def test_tokenfile__the_example_is_good() -> None:
    assert _parse(_document()).tokens[0].name == "phone"


def test_tokenfile__key_that_only_a_device_accepts_is_refused() -> None:
    document = _document()
    document["tokens"][0]["key"] = encode_base32(Secret(b"k" * 15, min_bytes=SHORTEST_KEY_BYTES).reveal())
    with pytest.raises(BadTokenFile, match="a key has 16 to 128 bytes"):
        _parse(document)


def _set(*path: str | int, value: object) -> Callable[[dict[str, Any]], None]:
    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = value

    return change


def _remove(*path: str | int) -> Callable[[dict[str, Any]], None]:
    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        del document[path[-1]]

    return change


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (_set("version", value=2), "version"),
        (_set("version", value=True), "version"),
        (_set("version", value="1"), "version"),
        (_remove("version"), "version"),
        (_set("extra", value=1), "extra"),
        (_set("tokens", value=[]), "1 to 16 tokens"),
        (_set("tokens", value={}), "tokens"),
        (_set("tokens", value=[_document()["tokens"][0]] * 2), "same name"),
        (_set("tokens", value=[_document()["tokens"][0], {**_document()["tokens"][0], "name": "b"}]), "same key"),
        (_set("tokens", 0, value=7), r"tokens\[0\]"),
        (_set("tokens", 0, "type", value="motp"), r"tokens\[0\].type"),
        (_set("tokens", 0, "type", value="hotp"), "counter, period"),
        (_set("tokens", 0, "digits", value=9), r"tokens\[0\]"),
        (_set("tokens", 0, "digits", value=6.0), r"tokens\[0\].digits"),
        (_set("tokens", 0, "digits", value=True), r"tokens\[0\].digits"),
        (_set("tokens", 0, "period", value=0), r"tokens\[0\]"),
        (_set("tokens", 0, "algorithm", value="sha1"), r"tokens\[0\]"),
        (_set("tokens", 0, "key", value=KEY_TEXT.lower()), r"tokens\[0\]"),
        (_set("tokens", 0, "key", value=KEY_TEXT[:16]), r"tokens\[0\]"),
        (_set("tokens", 0, "name", value="a\tb"), r"tokens\[0\]"),
        (_set("tokens", 0, "created", value=-1), r"tokens\[0\]"),
        (_remove("recovery"), "recovery"),
        (_set("recovery", "scrypt", value=[2**20, 8, 1]), "recovery"),
        (_set("recovery", "scrypt", value=[16384, 64, 1]), "recovery.scrypt"),
        (_set("recovery", "scrypt", value=[16385, 8, 1]), "recovery"),
        (_set("recovery", "salt", value="00"), "recovery"),
        (_set("recovery", "hashes", value=["zz"]), "recovery.hashes"),
        (_set("recovery", "hashes", value=["1" * 31]), "recovery.hashes"),
        (_set("recovery", "hashes", value=["11" * 16] * 2), "recovery"),
        (_set("recovery", "scratch", value=False), "recovery.scratch"),
        (_set("recovery", "scratch", value=1), "recovery.scratch"),
        (_set("pin", value=None), "pin"),
        (_set("pin", value={**PIN_DOCUMENT, "length": 3}), "4 to 16 characters"),
        (_set("pin", value={**PIN_DOCUMENT, "length": 17}), "4 to 16 characters"),
        (_set("pin", value={**PIN_DOCUMENT, "length": True}), "pin.length"),
        (_set("pin", value={**PIN_DOCUMENT, "salt": "00"}), "pin"),
        (_set("pin", value={**PIN_DOCUMENT, "hash": "00"}), "pin"),
        (_set("pin", value={**PIN_DOCUMENT, "scrypt": [2**20, 8, 1]}), "pin"),
        (_set("pin", value={**PIN_DOCUMENT, "extra": 1}), "pin"),
    ],
)
def test_tokenfile__a_mistake_is_refused_and_its_place_named(
    change: Callable[[dict[str, Any]], None], place: str
) -> None:
    document = _document()
    change(document)
    with pytest.raises(BadTokenFile, match=place) as caught:
        _parse(document)
    assert KEY_TEXT not in str(caught.value).upper()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0" * 100,
        b"{",
        b"[]",
        b"null",
        b"NaN",
        b'{"version": Infinity}',
        b'{"version": 1, "version": 1}',
        b'{"version": ' + b"1" * 5000 + b"}",
        b"[" * 30000,
        b'{"a":' * 5000,
        b" " * 40000,
        json.dumps(_document()).encode() + b"x",
        json.dumps(_document()).encode() + b"\0",
        "\u00e9".encode(),
        b"\xff\xfe",
    ],
)
def test_tokenfile__anything_but_one_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(BadTokenFile):
        token_file.parse(data, path="tokens")


@given(st.data())
def test_tokenfile__any_damage_is_refused_or_harmless(data: st.DataObject) -> None:
    text = bytearray(json.dumps(_document()).encode())
    for _ in range(data.draw(st.integers(1, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    try:
        read = token_file.parse(bytes(text), path="tokens")
    except BadTokenFile:
        return
    assert token_file.parse(token_file.serialise(read), path="tokens").tokens[0].name == read.tokens[0].name


def _bound(**account: object) -> bytes:
    return json.dumps({**_document(), "account": {"name": "carol", "uid": 1000, **account}}).encode()


def test_tokenfile__in_roots_store_is_read_only_for_its_account() -> None:
    content = token_file.parse(_bound(), path="tokens", owner=("carol", 1000))
    assert token_file.parse_any(token_file.serialise(content, owner=("carol", 1000)), path="tokens")[1] == (
        "carol",
        1000,
    )
    for owner in (("carol", 1001), ("dave", 1000), ("Carol", 1000)):
        with pytest.raises(OtherAccount, match="holds the tokens of carol"):
            token_file.parse(_bound(), path="tokens", owner=owner)
    with pytest.raises(OtherAccount, match="does not name its account"):
        token_file.parse(json.dumps(_document()).encode(), path="tokens", owner=("carol", 1000))


def test_tokenfile__in_the_home_is_not_bound_to_an_account() -> None:
    with pytest.raises(BadTokenFile, match="only a file in a store of root's"):
        token_file.parse(_bound(), path="tokens")


@pytest.mark.parametrize("name", ["carol", "CORP\\carol", "carol@corp.example", "k\u00e4the", "\udcff"])
def test_tokenfile__is_bound_to_any_name(name: str) -> None:
    content = token_file.parse(json.dumps(_document()).encode(), path="tokens")
    written = token_file.serialise(content, owner=(name, 2**32 - 1))
    assert token_file.parse_any(written, path="tokens")[1] == (name, 2**32 - 1)


@pytest.mark.parametrize(
    "account",
    [
        {"name": ""},
        {"name": "a" * 256},
        {"name": 7},
        {"uid": -1},
        {"uid": 2**32},
        {"uid": "1000"},
        {"uid": True},
        {"x": 1},
    ],
)
def test_tokenfile__invalid_account_is_refused(account: dict[str, object]) -> None:
    with pytest.raises(BadTokenFile, match="account"):
        token_file.parse_any(_bound(**account), path="tokens")


@pytest.mark.parametrize("uid", [0, token_file.MAX_UID])
def test_tokenfile__is_bound_to_any_uid(uid: int) -> None:
    content = token_file.parse(json.dumps(_document()).encode(), path="tokens")
    written = token_file.serialise(content, owner=("name", uid))
    assert token_file.parse_any(written, path="tokens")[1] == ("name", uid)


def test_tokenfile__as_large_as_it_can_be_is_read_and_a_larger_one_is_not() -> None:
    largest = json.dumps(_document()).encode().ljust(token_file.MAX_BYTES)
    assert len(token_file.parse(largest, path="tokens").tokens) == 1
    with pytest.raises(BadTokenFile, match="larger than"):
        token_file.parse(largest + b" ", path="tokens")


def test_tokenfile__a_number_that_is_too_long_is_not_computed() -> None:
    text = json.dumps(_document()).replace("1700000000", "1" * 21)
    with pytest.raises(BadTokenFile, match="too long"):
        token_file.parse(text.encode(), path="tokens")
