"""Exports of Google Authenticator, written by Google's own library for protocol buffers."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import quote

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from pam_softtoken.interchange import reader
from pam_softtoken.interchange.record import SHORTEST_KEY_BYTES
from pam_softtoken.otp.token import HOTPToken, TOTPToken
from pam_softtoken.program_errors import ImportFailed

NOW = 1_700_000_000
KEY = b"12345678901234567890"  # RFC 4226, appendix D
HOTP, TOTP = 1, 2


def _payload() -> Any:
    """Return the message class as https://alexbakker.me/post/parsing-google-auth-export-qr-code.html describes it."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="migration.proto", syntax="proto3")
    account = file.message_type.add(name="OtpParameters")
    names = [("secret", field.TYPE_BYTES), ("name", field.TYPE_STRING), ("issuer", field.TYPE_STRING)]
    names += [(name, field.TYPE_INT32) for name in ("algorithm", "digits", "type")] + [("counter", field.TYPE_INT64)]
    names += [("unique_id", field.TYPE_STRING)]  # newer versions of the app write one
    for number, (name, form) in enumerate(names, 1):
        account.field.add(name=name, number=number, type=form, label=field.LABEL_OPTIONAL)
    payload = file.message_type.add(name="MigrationPayload")
    payload.field.add(
        name="otp_parameters",
        number=1,
        type=field.TYPE_MESSAGE,
        type_name="OtpParameters",
        label=field.LABEL_REPEATED,
    )
    for number, name in enumerate(("version", "batch_size", "batch_index", "batch_id"), 2):
        payload.field.add(name=name, number=number, type=field.TYPE_INT32, label=field.LABEL_OPTIONAL)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("MigrationPayload"))


Payload = _payload()


def _uri(message: Any) -> str:
    data = message if isinstance(message, bytes) else message.SerializeToString()
    return f"otpauth-migration://offline?data={quote(base64.b64encode(data).decode(), safe='')}"


def _export(*accounts: dict[str, Any], **about: int) -> Any:
    return Payload(otp_parameters=accounts, **{"version": 1, "batch_size": 1, "batch_id": -5, **about})


ACCOUNT = {"secret": KEY, "name": "Example:alice", "issuer": "Example", "algorithm": 1, "digits": 1, "type": TOTP}


def test_migration__accounts_are_read() -> None:
    uri = _uri(
        _export(
            ACCOUNT | {"unique_id": "abc"},
            {"secret": KEY * 2, "name": "bob", "algorithm": 3, "digits": 2, "type": HOTP, "counter": 300},
            {"secret": KEY, "name": "c", "issuer": "\u00e4:b", "algorithm": 2, "type": HOTP},
        )
    )
    alice, bob, third = reader.read(uri.encode(), path="old", now=NOW).found
    assert isinstance(alice.token, TOTPToken)
    assert (alice.token.name, alice.token.secret.reveal(), alice.token.period_s) == ("Example alice", KEY, 30)
    assert (alice.token.algorithm, alice.token.digits, alice.last) == ("SHA1", 6, None)
    assert (alice.place, alice.notes) == ("line 1, account 1", ())
    assert isinstance(bob.token, HOTPToken)
    assert (bob.token.name, bob.token.algorithm, bob.token.digits) == ("bob", "SHA512", 8)
    assert (bob.token.counter, bob.last) == (300, 299)
    assert isinstance(third.token, HOTPToken)
    assert (third.token.name, third.token.algorithm, third.token.counter) == ("\u00e4:b c", "SHA256", 0)


def test_migration__part_of_an_export_says_so() -> None:
    lines = [_uri(_export(ACCOUNT, batch_size=3, batch_index=index)) for index in (0, 2)]
    first, last = reader.read("\n".join(lines).encode(), path="old", now=NOW).found
    assert first.notes[0].startswith("this is part 1 of 3 of the export")
    assert last.notes[0].startswith("this is part 3 of 3 of the export")
    assert last.place == "line 2, account 1"


def test_migration__published_example_is_refused_for_its_short_key() -> None:
    # From the README of github.com/dim13/otpauth: the key is the 10 bytes "Hello!" DE AD BE EF.
    uri = "otpauth-migration://offline?data=CjEKCkhlbGxvId6tvu8SGEV4YW1wbGU6YWxpY2VAZ29vZ2xlLmNvbRoHRXhhbXBsZTAC"
    with pytest.raises(ImportFailed) as caught:
        reader.read(uri.encode(), path="old", now=NOW)
    assert caught.value.problems == ("line 1, account 1: the key has 80 bits, and RFC 4226 asks for 128 at least",)
    # A device accepts it. The codes: oathtool --totp -b -N @0 JBSWY3DPEHPK3PXP, and @1111111109.
    (record,) = reader.read(uri.encode(), path="old", now=NOW, min_key_bytes=SHORTEST_KEY_BYTES).found
    assert [record.token.otp_at(step) for step in (0, 1111111109 // 30)] == ["282760", "071271"]


def _account(**changes: Any) -> str:
    return _uri(_export(ACCOUNT | changes))


GOOD = _export(ACCOUNT).SerializeToString()


@pytest.mark.parametrize(
    ("uri", "problem"),
    [
        (_account(algorithm=4), "account 1: the algorithm is none of"),
        (_account(algorithm=-1), "account 1: the algorithm is none of"),
        (_account(digits=3), "account 1: a code does not have 6 or 8 digits"),
        (_account(type=0), "account 1: the type is neither HOTP nor TOTP"),
        (_account(type=3), "account 1: the type is neither HOTP nor TOTP"),
        (_account(secret=b""), "account 1: the key is empty"),
        (_account(type=HOTP, counter=-1), "account 1: the counter is out of range"),
        (_uri(_export()), "an export without accounts"),
        (_uri(_export(ACCOUNT, batch_size=2, batch_index=2)), "the number of the part is out of range"),
        (_uri(_export(ACCOUNT, batch_size=-1)), "the number of the part is out of range"),
        (_uri(GOOD[:-1]), "the export is cut off"),
        (_uri(GOOD[:20]), "the export is cut off"),
        (_uri(GOOD + b"\x10\x01"), "the export has a field twice"),
        (_uri(GOOD + b"\x12\x01x"), "the export has a field of another form"),
        (_uri(GOOD + b"\x0b"), "the export has a field of an unknown form"),
        (_uri(GOOD + b"\x00\x00"), "the export has a field of another form"),
        (_uri(GOOD + b"\xf0\x01\x80\x00"), "written too long"),
        (_uri(GOOD + b"\xf0\x01" + b"\xff" * 9 + b"\x7f"), "too large"),
        (_uri(GOOD + b"\xf0\x01" + b"\xff" * 20), "the export is cut off"),
        (_uri(GOOD + b"\xf1\x01" + b"1234567"), "the export is cut off"),
        (_uri(GOOD).replace("offline", "online"), "not an export"),
        (_uri(GOOD).replace("data=", "date="), "not known here"),
        (_uri(GOOD) + "&data=", "data is given twice"),
        (_uri(GOOD).replace("C", "-", 1), "the export is not Base64"),
        (_uri(GOOD) + "%20", "the export is not Base64"),
        ("otpauth-migration://offline?data=Ch%3D%3D", "the export is not Base64 of whole bytes"),
        ("otpauth-migration://offline?data=", "an export without accounts"),
    ],
)
def test_migration__damaged_one_is_refused(uri: str, problem: str) -> None:
    with pytest.raises(ImportFailed) as caught:
        reader.read(uri.encode(), path="old", now=NOW)
    (told,) = caught.value.problems
    assert told.startswith("line 1")
    assert problem in told


def test_migration__fields_of_the_future_are_left_out() -> None:
    more = b"\xf0\x01\x05" + b"\xf2\x01\x02ab" + b"\xf1\x01" + b"12345678" + b"\xf5\x01" + b"1234"
    assert len(reader.read(_uri(GOOD + more).encode(), path="old", now=NOW).found) == 1


def test_migration__all_mistakes_are_reported() -> None:
    first = _uri(_export(ACCOUNT | {"type": 0}, ACCOUNT, ACCOUNT | {"secret": b"x"}))
    with pytest.raises(ImportFailed) as caught:
        reader.read(f"{first}\n\notpauth://totp/x\n{_uri(b'x')}\n".encode(), path="old", now=NOW)
    places = [problem.split(":")[0] for problem in caught.value.problems]
    assert places == ["line 1, account 1", "line 1, account 3", "line 3", "line 4"]
