"""Read hostile exports: cut, flipped, far too large, or something else: one error each, without a key."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path

import pytest
import segno
from hypothesis import given
from hypothesis import strategies as st

from pam_softtoken.interchange.apps import exports
from pam_softtoken.program_errors import ImportFailed
from tests.device import export_maker, published_exports
from tests.device.export_maker import NOW, Person, read
from tests.device.published_exports import ACCOUNTS, STEAM_SECRET

KEYS = [account.secret for account in ACCOUNTS] + [STEAM_SECRET]
LOUD = [base64.b32decode(key + "=" * (-len(key) % 8)) for key in KEYS]
ENCRYPTED = {
    "aegis": json.dumps(export_maker.aegis_encrypted()).encode(),
    "andotp": export_maker.andotp_encrypted(),
    "twofas": json.dumps(export_maker.twofas_encrypted()).encode(),
}
PLAIN = [
    json.dumps(make).encode()
    for make in (export_maker.aegis(), export_maker.andotp(), export_maker.twofas(), export_maker.freeotp_plus())
]
URIS = (
    b"otpauth://totp/Deno:Mason?secret=4SJHB4GSD43FZBAI7C2HLRJGPQ&issuer=Deno\n"
    b"otpauth://steam/Boeing:Sophia?secret=JRZCL47CMXVOQMNPZR2F7J4RGI&issuer=Boeing\n\n"
    b"otpauth://hotp/short?secret=JBSWY3DPEHPK3PXP&counter=7\n"
)
# From the README of github.com/dim13/otpauth: the key is the 10 bytes "Hello!" DE AD BE EF.
MIGRATION = b"otpauth-migration://offline?data=CjEKCkhlbGxvId6tvu8SGEV4YW1wbGU6YWxpY2VAZ29vZ2xlLmNvbRoHRXhhbXBsZTAC"


def _assert_one_error_or_the_same(data: bytes, person: Person) -> None:
    refused = None
    try:
        harvest = read(data, person)
    except ImportFailed as error:
        refused = error
    if refused is not None:
        assert len(refused.problems) == 1
        _assert_nothing_told(refused)
        return
    # What is not sealed may change as long as it means nothing, such as the name of a field that is not read.
    assert [record.token.secret.reveal() for record in harvest.found] == LOUD[: len(ACCOUNTS)]


def _assert_nothing_told(error: ImportFailed) -> None:
    told = f"{error.message} {error.hint} {error!r}"
    assert f"{error.message}{error.hint}".isprintable()
    assert error.hint
    assert not any(key[:10] in told.upper() for key in KEYS)


@pytest.mark.parametrize("app", ENCRYPTED)
def test_exports__every_cut_of_an_encrypted_one_is_one_error(app: str) -> None:
    data = ENCRYPTED[app]
    for length in range(len(data)):
        with pytest.raises(ImportFailed) as caught:
            read(data[:length], Person())
        assert len(caught.value.problems) == 1


@pytest.mark.parametrize("app", ENCRYPTED)
def test_exports__every_flipped_byte_of_an_encrypted_one_is_one_error(app: str) -> None:
    # Every byte if that is quick; otherwise the whole head, and every fifth byte of the encrypted part.
    data = ENCRYPTED[app]
    for place in [*range(60), *range(60, len(data), 1 if app == "aegis" else 5)]:
        changed = bytearray(data)
        changed[place] ^= 1
        _assert_one_error_or_the_same(bytes(changed), Person())


def test_exports__a_cut_in_the_published_vault_is_one_error() -> None:
    data = published_exports.AEGIS.encode()
    for length in (1, 100, 900, len(data) - 1):
        with pytest.raises(ImportFailed):
            read(data[:length], Person(published_exports.PASSPHRASE))
    sealed = json.loads(data)
    sealed["db"] = "A" + sealed["db"][1:]
    with pytest.raises(ImportFailed, match="wrong passphrase, or a damaged file"):
        read(json.dumps(sealed), Person(published_exports.PASSPHRASE))


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
        (b"\0\0\0\0", "no format that is known here"),
        (b"\0\0\x03\xe8", "the file is cut off"),
        (b"\0\x0f\x42\x41" + bytes(100), "no format that is known here"),
        (b"\x80" * 100, "line 1: not UTF-8 text"),
        (b"{", "line 1: not JSON"),
        (b'\xef\xbb\xbf{"a":\n1', "line 2: not JSON"),
        (b'{"a": 1}{"b": 2}', "line 1: not JSON"),
        (b'{"a": \xff}', "not UTF-8 text"),
        (b"[" * 200_000, "the JSON is nested too deeply"),
        (b'{"a":' * 200_000, "the JSON is nested too deeply"),
        (b'[{"counter": ' + b"9" * 1_000_000 + b"}]", "a number is too long"),
        (b'[{"counter": 1.' + b"9" * 1_000_000 + b"}]", "a number is too long"),
        (b'[{"counter": NaN}]', "not a number"),
        (b'[{"counter": -Infinity}]', "not a number"),
        (b'[{"secret": "A", "secret": "B"}]', "a name stands twice"),
        (b"[" + b" " * exports.MAX_BYTES, f"larger than {exports.MAX_BYTES} bytes"),
        (URIS * 25_000, "larger than 4194304 bytes"),
        (b"-----BEGIN PGP MESSAGE-----\n\nhQEM", "the file is encrypted with OpenPGP"),
        (b"JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP\n", "not an export of an app"),
        (b"HOTP alice - 3132333435363738393031323334353637383930\n", "not an export of an app"),
        (b'<?xml version="1.0"?><KeyContainer/>', "XML of no app"),
        (b"\x89PNG\r\n\x1a\n", "the picture is damaged"),
        (b"SQLite format 3\0", "no format that is known here"),
    ],
)
def test_exports__file_of_another_kind_is_one_error(data: bytes, problem: str) -> None:
    with pytest.raises(ImportFailed) as caught:
        read(data)
    (told,) = caught.value.problems
    assert told.startswith(problem)
    _assert_nothing_told(caught.value)


def test_exports__too_expensive_hash_is_refused_before_the_passphrase_question() -> None:
    # The maximum number of iterations in this file format would take half an hour.
    for iterations in (999, 10**6 + 1, 2**32 - 1):
        data = iterations.to_bytes(4, "big") + ENCRYPTED["andotp"][4:]
        with pytest.raises(ImportFailed):
            read(data)


def test_exports__lines_with_key_uris_are_read_and_others_reported() -> None:
    harvest = read(URIS + MIGRATION + b"\n")
    assert [record.place for record in harvest.found] == ["line 1", "line 4", "line 5, account 1"]
    assert [record.token.name for record in harvest.found] == ["Deno Mason", "short", "Example alice@google.com"]
    # The codes: oathtool --hotp -b -c 7 JBSWY3DPEHPK3PXP, and --totp -N @1111111109
    assert harvest.found[1].token.otp_at(7) == "449891"
    assert harvest.found[2].token.otp_at(1111111109 // 30) == "071271"
    (skipped,) = harvest.skipped
    assert skipped.startswith('line 2: a token "steam" makes its codes in a way of its own')


def test_exports__a_picture_of_qr_codes_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "shot.png"
    segno.make(MIGRATION.decode()).save(str(path), scale=4)
    (record,) = read(path.read_bytes()).found
    assert (record.place, record.token.name) == ("QR code 1, account 1", "Example alice@google.com")


def test_exports__another_dialect_alone_is_an_error() -> None:
    with pytest.raises(ImportFailed) as caught:
        read(URIS.splitlines()[1])
    assert caught.value.problems[0].startswith('line 1: a token "steam"')
    assert "exports of Aegis, andOTP, 2FAS, 2FAuth, Bitwarden" in caught.value.hint


def test_exports__exception_of_the_passphrase_question_is_passed_on() -> None:
    class Cancelled(Exception):
        pass

    def cancel() -> str:
        raise Cancelled

    for data in ENCRYPTED.values():
        with pytest.raises(Cancelled):
            exports.read(data, path="export", now=NOW, ask_passphrase=cancel)


PIECES = [*PLAIN, *ENCRYPTED.values(), URIS, MIGRATION, b'{"a":', b"[", b'"\\ud800"', b"1e999", b"null", b"-1", b"true"]


@given(st.one_of(st.sampled_from(PIECES), st.binary(max_size=200)), st.data())
def test_exports__arbitrary_bytes_raise_nothing_else(start: bytes, data: st.DataObject) -> None:
    text = bytearray(start)
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(text)))
        text[place : place + data.draw(st.integers(0, 30))] = data.draw(
            st.one_of(st.binary(max_size=3), st.sampled_from(PIECES[6:]))
        )
    _assert_tokens_or_import_failed(bytes(text))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.integers(0, 3), st.data())
def test_exports__arbitrary_values_raise_nothing_else(app: int, data: st.DataObject) -> None:
    document = json.loads(PLAIN[app])
    holder = document
    while data.draw(st.booleans()) and holder:
        step = data.draw(st.sampled_from(sorted(holder))) if isinstance(holder, dict) else 0
        inner = holder[step]
        if not isinstance(inner, (dict, list)) or not inner:
            holder[step] = data.draw(JSON)
            break
        holder = inner
    if isinstance(holder, dict):
        holder[data.draw(st.sampled_from(sorted(holder)))] = data.draw(JSON)
    _assert_tokens_or_import_failed(json.dumps(document).encode())


def _assert_tokens_or_import_failed(data: bytes) -> None:
    refused = None
    try:
        harvest = read(data, Person())
    except ImportFailed as error:
        refused = error
    if refused is not None:
        assert refused.problems
        assert refused.hint
        assert f"{refused.message}{refused.hint}".isprintable()
        return
    assert harvest.found
    for record in harvest.found:
        assert len(record.token.otp_at(0)) == record.token.digits
    assert all(sentence.isprintable() for sentence in harvest.skipped)


def test_exports__cryptography_is_not_loaded_for_plain_exports() -> None:
    script = (
        "import sys; from pam_softtoken.interchange.apps import exports\n"
        "exports.read(sys.stdin.buffer.read(), path='-', now=0, ask_passphrase=str)\n"
        "print(*sys.modules)"
    )
    tree = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=tree, input=PLAIN[0], capture_output=True, check=True)
    assert not set(done.stdout.decode().split()) & {"cryptography", "PIL", "zxingcpp", "pskc"}
