"""The seal against a model of its own, written from the format in `seal`'s docstring with the standard library."""

from __future__ import annotations

import hashlib
import hmac
import itertools
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_softtoken.account import seal, store, token_file

KEY, OTHER_KEY, NONCE = bytes(range(32)), bytes(range(1, 33)), bytes(range(100, 124))
PLACE = ("host", "tokens", "alice")
TEXT = b'{"version": 1, "what": "a text that is longer than one block of 32 bytes"}\n'
REFUSED = r"seal|changed"
SEALED = seal.seal(KEY, TEXT, PLACE, nonce=NONCE)

_words = st.text(st.characters(codec="utf-8"), max_size=8)


def model_of_opening(key: bytes, sealed: bytes, place: tuple[str, str, str]) -> bytes:
    """Open a sealed text, as the format says. Raises `ValueError` if it is not right."""

    def derive(label: str) -> bytes:
        return hmac.new(key, f"softtoken seal 1 {label}".encode(), hashlib.sha256).digest()

    found = re.fullmatch(rb"(softtoken-sealed 1 ([0-9a-f]{16})\n)(.{24})(.*)(.{32})", sealed, re.DOTALL)
    if found is None or found[2].decode() != derive("id").hex()[:16]:
        raise ValueError
    covered = hmac.new(derive("tag"), digestmod=hashlib.sha256)
    for part in (*(word.encode() for word in place), found[1], found[3], found[4]):
        covered.update(len(part).to_bytes(8, "big"))
        covered.update(part)
    if covered.digest() != found[5]:
        raise ValueError
    blocks = (
        hmac.new(derive("stream"), found[3] + number.to_bytes(8, "big"), hashlib.sha256).digest()
        for number in itertools.count()
    )
    return bytes(left ^ right for left, right in zip(found[4], itertools.chain.from_iterable(blocks), strict=False))


_sized = {size: st.binary(min_size=size, max_size=size) for size in (seal.KEY_BYTES, seal.NONCE_BYTES)}


@given(_sized[32], st.binary(max_size=200), st.tuples(_words, _words, _words), _sized[24])
def test_seal__is_opened_by_the_model(key: bytes, text: bytes, place: seal.Place, nonce: bytes) -> None:
    sealed = seal.seal(key, text, place, nonce=nonce)
    assert len(sealed) == len(text) + seal.OVERHEAD_BYTES
    assert model_of_opening(key, sealed, place) == text
    assert seal.unseal(key, sealed, place) == text


def test_seal__keeps_its_format() -> None:
    """What was sealed once is on disks. The values are the model's."""
    assert hashlib.sha256(SEALED).hexdigest() == "8c4f59718f59964128c53a42eb2b754c3018800c709819558b34a0ef84c2cb57"
    assert model_of_opening(KEY, SEALED, PLACE) == TEXT


def test_seal__shows_nothing_of_the_text_and_the_same_text_looks_different() -> None:
    again = seal.seal(KEY, TEXT, PLACE, nonce=bytes(24))
    assert not any(TEXT[place : place + 8] in SEALED for place in range(len(TEXT) - 8))
    assert again[seal.HEADER_BYTES + 24 : -32] != SEALED[seal.HEADER_BYTES + 24 : -32]


def test_unseal__refuses_every_flipped_bit() -> None:
    for bit in range(8 * len(SEALED)):
        changed = bytearray(SEALED)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(ValueError, match=REFUSED):
            seal.unseal(KEY, bytes(changed), PLACE)


def test_unseal__refuses_every_cut_and_every_byte_more() -> None:
    for end in range(len(SEALED)):
        for piece in (SEALED[:end], SEALED[len(SEALED) - end :], SEALED[:end] + SEALED[end + 1 :]):
            with pytest.raises(ValueError, match=REFUSED):
                seal.unseal(KEY, piece, PLACE)
    for longer in (SEALED + b"\0", b"\0" + SEALED, SEALED[:-32] + b"\0" + SEALED[-32:], SEALED * 2):
        with pytest.raises(ValueError, match=REFUSED):
            seal.unseal(KEY, longer, PLACE)


@pytest.mark.parametrize(
    "place",
    [
        ("host", "tokens", "bob"), ("host", "state", "alice"), ("other", "tokens", "alice"), ("host", "tokens", ""),
        ("host", "tokensa", "lice"), ("hos", "ttokens", "alice"), ("", "hosttokens", "alice"),
    ],
)  # fmt: skip
def test_unseal__refuses_another_place(place: seal.Place) -> None:
    with pytest.raises(ValueError, match="belongs elsewhere"):
        seal.unseal(KEY, SEALED, place)


def test_unseal__refuses_another_key_that_has_the_id_of_this_one() -> None:
    with pytest.raises(ValueError, match="another key"):
        seal.unseal(OTHER_KEY, SEALED, PLACE)
    renamed = SEALED.replace(seal.key_id(KEY).encode(), seal.key_id(OTHER_KEY).encode())
    with pytest.raises(ValueError, match="was changed"):
        seal.unseal(OTHER_KEY, renamed, PLACE)


def test_unseal__refuses_a_text_with_parts_of_two() -> None:
    other = seal.seal(KEY, TEXT[::-1], PLACE, nonce=bytes(24))
    for cut in (seal.HEADER_BYTES + 12, seal.HEADER_BYTES + 24, len(SEALED) - 32):
        with pytest.raises(ValueError, match="was changed"):
            seal.unseal(KEY, SEALED[:cut] + other[cut:], PLACE)


def test_seal__refuses_a_short_key_and_a_short_nonce() -> None:
    for key, nonce in ((KEY[:-1], NONCE), (KEY, NONCE[:-1])):
        with pytest.raises(ValueError, match="wrong length"):
            seal.seal(key, TEXT, PLACE, nonce=nonce)


def test_seal__module_fits_on_a_reviewers_page() -> None:
    assert len(Path(seal.__file__).read_text().splitlines()) <= 80


def test_store__knows_a_sealed_file_by_its_first_bytes() -> None:
    assert seal.MAGIC.startswith(store._SEALED)
    assert len(TEXT) + token_file.MAX_FILE_BYTES - token_file.MAX_BYTES >= seal.OVERHEAD_BYTES
