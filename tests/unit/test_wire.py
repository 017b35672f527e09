"""Frames: the bridge's frames are understood, anything else is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_softtoken.bridge import wire
from pam_softtoken.errors import ProtocolError

START = b"\x01S" + b"\0".join(
    [
        b"32768",
        b"CORP\\alice",
        b"alice",
        b"1000",
        b"1000",
        b"/home/alice",
        b"1001",
        b"1",
        b"4711",
        b"=sshd",
        b"=192.0.2.7",
        b"",
        b"=",
        b"nullok",
        b"window=2",
        b"",
    ]
)


def test_start__gives_the_fields() -> None:
    start = wire.decode_start(START)
    assert (start.flags, start.user, start.name) == (32768, "CORP\\alice", "alice")
    assert (start.uid, start.gid, start.home) == (1000, 1000, "/home/alice")
    assert (start.caller_uid, start.cpu, start.session) == (1001, 1, 4711)
    assert (start.service, start.rhost, start.tty, start.ruser) == ("sshd", "192.0.2.7", None, "")
    assert start.arguments == ["nullok", "window=2"]


def test_start__an_unknown_user_has_no_uid() -> None:
    assert (
        wire.decode_start(b"\x01S" + b"\0".join([b"0", b"eve", *[b""] * 4, b"0", b"0", b"0", *[b""] * 4, b""])).uid
        is None
    )


def test_start__failed_lookup_of_the_user_has_the_cause_and_no_account() -> None:
    start = wire.decode_start(
        START.replace(b"\0alice\x001000\x001000\x00/home/alice", b"\0\0\0\0!Cannot allocate memory")
    )
    assert (start.uid, start.home, start.look_up_error) == (None, "", "Cannot allocate memory")
    assert wire.decode_start(START).look_up_error == ""


@pytest.mark.parametrize(
    "frame",
    [
        b"",
        b"\x01",
        b"\x01S",
        b"\x02" + START[1:],
        b"\x01A" + START[2:],
        START[:-1],
        START.replace(b"1000\0", b"", 2),
        START.replace(b"1000", b"-1"),
        START.replace(b"1000", b"1e3"),
        START.replace(b"1000", b"01000"),
        START.replace(b"1000", b"4294967296"),
        START.replace(b"1000", b"", 1),
        START.replace(b"1000\x001000", b"\0"),
        START.replace(b"\0alice\0", b"\0\0"),
        START.replace(b"\0alice\0", b"\0" + b"a" * 256 + b"\0"),
        START.replace(b"\0alice\0", b"\0" + "\u00e9".encode() * 128 + b"\0"),
        START.replace(b"=sshd", b"sshd"),
        START + b"x" * 4096,
    ],
)
def test_start__anything_else_is_refused(frame: bytes) -> None:
    with pytest.raises(ProtocolError):
        wire.decode_start(frame)


def test_answer__given_empty_missing_and_failed_are_distinguished() -> None:
    assert wire.decode_answer(b"\x01A=123456") == "123456"
    assert wire.decode_answer(b"\x01A=") == ""
    assert wire.decode_answer(b"\x01A-") is None
    for frame in (b"\x01A!", b"\x01A", b"\x01Ax", b"\x01A-x", b"\x01C=1", b"\x01A=" + b"1" * 513):
        with pytest.raises(ProtocolError):
            wire.decode_answer(frame)


@given(st.binary(max_size=300))
def test_frames__random_bytes_are_refused_or_understood(data: bytes) -> None:
    for decode in (wire.decode_start, wire.decode_answer):
        for frame in (data, b"\x01S" + data, b"\x01A" + data):
            try:
                decode(frame)
            except ProtocolError:
                continue


@given(st.text(max_size=5000))
def test_frames__sent_ones_always_fit(text: str) -> None:
    for frame in (wire.encode_converse(1, text), wire.encode_log(5, text), wire.encode_result(7, 5, text)):
        assert 3 <= len(frame) <= wire.MAX_FRAME_BYTES
        assert b"\0" not in frame[3:]


def test_result__brings_the_log_line_along() -> None:
    assert wire.encode_result(7, 5, "user=alice") == b"\x01R\x07\x05user=alice"
    assert wire.encode_result(0, 0, "") == b"\x01R\x00"


@pytest.mark.parametrize(("length", "left"), [(511, 511), (512, 0)])
def test_answer__that_may_have_been_cut_counts_as_empty(length: int, left: int) -> None:
    assert wire.decode_answer(b"\x01A=" + b"1" * length) == "1" * left


def test_start__says_which_of_the_two_calls_it_is() -> None:
    fields = b"0\x00alice\x00alice\x001000\x001000\x00/home/alice\x000\x000\x000\x00=sshd\x00\x00\x00\x00"
    assert not wire.decode_start(b"\x01S" + fields).account_phase
    assert wire.decode_start(b"\x01M" + fields).account_phase
    with pytest.raises(ProtocolError):
        wire.decode_start(b"\x01A" + fields)


def test_environment__replaces_the_number_of_an_item_in_a_frame() -> None:
    assert wire.encode_get(wire.ENVIRONMENT, "SSH_AUTH_INFO_0") == b"\x01G\x00SSH_AUTH_INFO_0"
    assert wire.encode_put(wire.ENVIRONMENT, "A=b") == b"\x01P\x00A=b"
