"""The first frame of sudo's plugin."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_softtoken.account import places, signers
from pam_softtoken.bridge import approval_wire, wire
from pam_softtoken.errors import ProtocolError
from pam_softtoken.otp import signing

PLUGIN = Path(approval_wire.__file__).with_name("softtoken_approval.c").read_text()
USUAL = (b"Uuser=alice", b"Uuid=1000", b"Icommand=/bin/true", b"Atrue")


def frame(*texts: bytes) -> bytes:
    return bytes((wire.VERSION,)) + wire.START + b"".join(text + b"\0" for text in texts)


def test_start__has_everything_in_its_order() -> None:
    start = approval_wire.decode_start(
        frame(*USUAL, b"Orequired", b"Snoninteractive=true", b"A-x", b"A", b"EB=2", b"EA=1", b"Ilast=a=b")
    )
    assert start.options == ("required",)
    assert start.settings == {"noninteractive=true"}
    assert start.user_info == {"user": "alice", "uid": "1000"}
    assert start.command_info == {"command": "/bin/true", "last": "a=b"}
    assert (start.argv, start.env) == (("true", "-x", ""), ("B=2", "A=1"))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        frame(),
        frame(*USUAL)[:-1],
        frame(*USUAL, b""),
        frame(*USUAL, b"Xother"),
        frame(*USUAL, b"Uuser=bob"),
        frame(*USUAL, b"Icommand=/bin/false"),
        frame(*USUAL, b"Unothing"),
        frame(*USUAL[1:]),
        frame(*USUAL[:2], USUAL[3]),
        frame(*USUAL[:3]),
        frame(b"Uuser=", *USUAL[1:]),
        b"\2S" + frame(*USUAL)[2:],
        b"\1A" + frame(*USUAL)[2:],
        frame(*USUAL, b"A" + b"x" * approval_wire.MAX_START_BYTES),
    ],
)
def test_start__of_any_other_form_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        approval_wire.decode_start(data)


@given(st.binary(max_size=200))
def test_start__of_any_bytes_is_read_or_refused(data: bytes) -> None:
    try:
        start = approval_wire.decode_start(b"\1S" + data)
    except ProtocolError:
        return
    assert start.argv
    assert start.user_info["user"]


def test_plugin__has_the_same_numbers() -> None:
    numbers = dict(re.findall(r"^\t([A-Z_]+) = (\d),$", PLUGIN, re.MULTILINE))
    names = ("NOT_SIGNED", "SIGNED", "SIGNATURE_REQUIRED", "TOO_LONG", "NOT_CHECKED")
    assert {name: int(numbers[name]) for name in names} == {name: getattr(approval_wire, name) for name in names}
    defined = dict(re.findall(r'^#define (\w+) "?([\w/]+)"?', PLUGIN, re.MULTILINE))
    assert defined["SIGNERS"] == places.SIGNERS
    assert int(defined["MAX_MARKED_NAME_BYTES"]) == signers.MAX_NAME_BYTES
    assert int(defined["ANSWER_TIMEOUT_S"]) == signing.MAX_AGE_S
