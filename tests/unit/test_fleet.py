"""The bytes of a realm: HTTP/2, etcd's messages, keys and values, and the options that name them."""

from __future__ import annotations

import os
import resource
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_softtoken import config
from pam_softtoken.account import host_key, places, seal
from pam_softtoken.account.host_key import HostKeys
from pam_softtoken.account.state import State
from pam_softtoken.config import Config
from pam_softtoken.errors import ConfigError, DamagedState, NotStored, UnusableFile
from pam_softtoken.fleet import etcd_messages, http2, key_files, local_record, realm
from pam_softtoken.fleet.http2 import BadAnswer, Conversation, frame
from pam_softtoken.fleet.realm import FLOOR, STATE, TOKENS, Realm
from pam_softtoken.login import throttle
from tests.fuzz.seeds import seeds

FRAMES = seeds()["etcd_frames"]
MESSAGES = seeds()["etcd_message"]
WHOLE = {
    "answer", "answer-in-pieces", "ping", "headers-in-pieces", "status-in-pieces", "unknown-kind", "reset-of-another",
}  # fmt: skip
UNFINISHED = {"refusal", "cut-short"}
METHOD = "/etcdserverpb.KV/Txn"


def _called() -> Conversation:
    conversation = Conversation()
    conversation.call(METHOD, b"request", timeout_ms=1000)
    return conversation


@pytest.mark.parametrize("name", FRAMES)
def test_answer__counts_only_if_it_is_whole_and_well_formed(name: str) -> None:
    conversation = _called()
    if name in WHOLE | UNFINISHED:
        conversation.feed(FRAMES[name])
        assert (conversation.message == MESSAGES["read"]) == (name in WHOLE)
        assert (conversation.message is None) == (name in UNFINISHED)
    else:
        with pytest.raises(BadAnswer):
            conversation.feed(FRAMES[name])


def test_answer__cut_anywhere_is_no_message() -> None:
    good = FRAMES["answer"]
    for end in range(len(good)):
        conversation = _called()
        conversation.feed(good[:end])
        assert conversation.message is None
        assert not conversation.has_ended


def test_answer__one_byte_at_a_time_is_the_same() -> None:
    conversation = _called()
    for byte in FRAMES["answer"]:
        conversation.feed(bytes((byte,)))
    assert conversation.message == MESSAGES["read"]


def test_settings_and_pings__are_acknowledged() -> None:
    replies = _called().feed(FRAMES["ping"])
    assert replies == frame(http2.SETTINGS, http2.ACK, 0) + frame(http2.PING, http2.ACK, 0, b"12345678")


def test_frames_without_data__are_limited() -> None:
    conversation = _called()
    conversation.feed(frame(http2.SETTINGS, 0, 0))
    with pytest.raises(BadAnswer, match="too many"):
        conversation.feed(frame(http2.PING, http2.ACK, 0, bytes(8)) * (http2.MAX_OTHER_FRAMES + 1))


def test_request__waits_for_no_room_that_the_server_has_not_made() -> None:
    conversation = _called()
    conversation.call(METHOD, bytes(50_000), timeout_ms=1)
    with pytest.raises(BadAnswer, match="no room"):
        conversation.call(METHOD, bytes(50_000), timeout_ms=1)
    conversation.feed(frame(http2.SETTINGS, 0, 0) + frame(http2.WINDOW_UPDATE, 0, 0, b"\0\1\0\0"))
    assert conversation.call(METHOD, bytes(50_000), timeout_ms=1)


def test_request__is_cut_into_frames_that_every_server_takes() -> None:
    sent = Conversation().call(METHOD, bytes(40_000), timeout_ms=1)
    lengths = []
    while sent:
        length = int.from_bytes(sent[:3], "big")
        lengths.append((sent[3], length, sent[4]))
        sent = sent[9 + length :]
    assert [kind for kind, _, _ in lengths] == [http2.HEADERS, http2.DATA, http2.DATA, http2.DATA]
    assert max(length for _, length, _ in lengths) == http2.MAX_FRAME_BYTES
    assert [flags for kind, _, flags in lengths if kind == http2.DATA] == [0, 0, http2.END_STREAM]


@pytest.mark.parametrize(("name", "read"), [("read", 3), ("conflict", 3), ("written", 0), ("later-fields", 3)])
def test_transaction__answer_is_read(name: str, read: int) -> None:
    done, revision, entries = etcd_messages.read_transaction(MESSAGES[name], [b"/tokens", b"/state", b"/floor"])
    assert (done, revision, len(entries)) == (name != "conflict", 42, read)
    if entries:
        assert [(entry.value, entry.revision) for entry in entries] == [(b"sealed", 9), (b"sealed", 9), (None, 0)]


@pytest.mark.parametrize("name", sorted(set(MESSAGES) - {"read", "conflict", "written", "later-fields"}))
def test_transaction__another_answer_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        etcd_messages.read_transaction(MESSAGES[name], [b"/tokens", b"/state", b"/floor"])


@given(st.text(min_size=1))
def test_name__of_any_user_is_one_part_of_a_key(name: str) -> None:
    try:
        part = realm.encoded(name)
    except UnicodeEncodeError:
        return
    assert part.isascii()
    assert "/" not in part
    assert part.isprintable()
    assert realm.decoded(part) == name


@pytest.mark.parametrize("part", ["a%2f", "a%41", "%", "a%4", "%zz", "ä"])
def test_name__in_another_spelling_is_none(part: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        realm.decoded(part)


def test_value__opens_only_in_its_place_and_with_its_key() -> None:
    key = os.urandom(32)
    office = Realm("office", key)
    sealed = office.seal(TOKENS, "alice", b"text")
    assert office.open(TOKENS, "alice", sealed) == b"text"
    for other, kind, user in (
        (office, STATE, "alice"),
        (office, TOKENS, "alicf"),
        (Realm("offices", key), TOKENS, "alice"),
        (Realm("office", os.urandom(32)), TOKENS, "alice"),
    ):
        with pytest.raises(DamagedState):
            other.open(kind, user, sealed)


def test_value__opens_with_each_key_of_the_realm_and_is_sealed_with_one() -> None:
    old, new, foreign = (os.urandom(32) for _ in range(3))
    before, during = Realm("office", old), Realm("office", new, (old,))
    assert during.open(TOKENS, "alice", before.seal(TOKENS, "alice", b"text")) == b"text"
    sealed = during.seal(TOKENS, "alice", b"text")
    assert seal.key_id_of(sealed) == during.sealing_id == seal.key_id(new)
    assert during.key_ids() == [seal.key_id(new), seal.key_id(old)]
    assert Realm("office", new).open(TOKENS, "alice", sealed) == b"text"
    for value in (sealed, Realm("office", foreign).seal(TOKENS, "alice", b"text"), b"", b"softtoken"):
        with pytest.raises(DamagedState):
            before.open(TOKENS, "alice", value)
    renamed = sealed.replace(seal.key_id(new).encode(), seal.key_id(old).encode())
    with pytest.raises(DamagedState):
        during.open(TOKENS, "alice", renamed)


def test_seal_key_file__has_one_key_that_seals() -> None:
    old, new = os.urandom(32), os.urandom(32)
    keys = key_files.seal_keys_from(host_key.serialise(HostKeys(new, (old,))), "seal.key")
    assert (keys.sealing, keys.others) == (new, (old,))
    for bad in (host_key.serialise(HostKeys(None, (old,))), old.hex().encode() + b"\n", b""):
        with pytest.raises(UnusableFile) as caught:
            key_files.seal_keys_from(bad, "seal.key")
        assert old.hex() not in str(caught.value)


def test_state__comes_back_with_its_nonce() -> None:
    office = Realm("office", os.urandom(32))
    state = State.new().with_accepted("a" * 32, 7, drift=0, now=9).with_set("b" * 16)
    nonce, found = office.open_state("alice", office.sealed_state("alice", state, b"n" * 16, frozenset()))
    assert (nonce, found.last, found.spent) == (b"n" * 16, state.last, state.spent)
    for bad in (b"", b"short", b"n" * 16 + b"last x\n"):
        with pytest.raises(DamagedState):
            office.open_state("alice", office.seal(STATE, "alice", bad))


def test_floor__is_a_time() -> None:
    office = Realm("office", os.urandom(32))
    assert office.open_floor(office.sealed_floor(1_700_000_000)) == 1_700_000_000
    for bad in (b"", b"-1", b"1.5", b"9" * 14):
        with pytest.raises(DamagedState):
            office.open_floor(office.seal(FLOOR, "", bad))


def test_local_record__only_adds() -> None:
    token, spent = "a" * 32, "b" * 16
    older = State.new().with_last(token, 5).with_set(spent)
    newer = State.new().with_last(token, 9).with_set(spent).with_spent(spent, "c" * 8)
    for first, second in ((older, newer), (newer, older), (newer, newer)):
        found = local_record.combined(first, second)
        assert found is not None
        assert (found.last[token], found.spent[spent]) == (9, ("c" * 8,))
    assert local_record.combined(None, None) is None
    assert local_record.combined(older, None) is older


def test_local_record__keeps_what_a_cluster_that_was_set_back_does_not_know(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "FLEET", str(tmp_path))
    tmp_path.chmod(0o700)
    path, token, codes, live = f"{tmp_path}/record", "a" * 32, "b" * 16, frozenset(("a" * 32, "b" * 16))
    older = State.new().with_last(token, 5)
    newer = older.with_set(codes).with_last(token, 9).with_spent(codes, "c" * 8)
    for state in (newer, older, newer):
        local_record.add(path, state, live)
        found = local_record.read(path)
        assert found is not None
        assert (found.last, found.spent) == ({token: 9}, {codes: ("c" * 8,)})


@pytest.mark.parametrize("room_bytes", [0, 1, 4096, 8192, 8193, 12288, 16383])
def test_local_record__without_room_for_it_is_none(
    room_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "FLEET", str(tmp_path))
    tmp_path.chmod(0o700)
    path, state = f"{tmp_path}/record", State.new().with_last("a" * 32, 5)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room_bytes, limits[1]))
    try:
        with pytest.raises(NotStored):
            local_record.add(path, state, frozenset())
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert local_record.read(path) is None
    local_record.add(path, state, frozenset())
    assert local_record.read(path) is not None


def test_source__of_this_host_is_another_one_than_the_same_uid_elsewhere() -> None:
    names = {throttle.source_of("", 1000, host=host).name for host in ("", "a", "b")}
    assert len(names) == 3
    assert throttle.source_of("192.0.2.1", 0, host="a").name == throttle.source_of("192.0.2.1", 0, host="b").name


@pytest.mark.parametrize(
    "text",
    [
        "", "a:1/office", "http://a:1/office", "etcd://a:1", "etcd://a:1/", "etcd:///office", "etcd://a/office",
        "etcd://a:0/office", "etcd://a:65536/office", "etcd://a:01/office", "etcd://a:1,/office", "etcd://a:1/Office",
        "etcd://a:1/off/ice", "etcd://a:1/.", "etcd://a:1/-x", "etcd://2001:db8::1:1/office", "etcd://a b:1/office",
        "etcd://-a:1/office", f"etcd://a:1/{'x' * 64}", f"etcd://{','.join(['a:1'] * 10)}/office", "etcd://[a]:1/office",
    ],
)  # fmt: skip
def test_fleet_option__of_another_form_is_an_error(text: str) -> None:
    with pytest.raises(ConfigError, match="fleet"):
        config.load([f"fleet={text}"], lambda path, required: "")


def test_fleet_option__goes_with_some_others_only() -> None:
    fleet = "fleet=etcd://a:1/office"
    assert config.load([fleet, "fleet_alone=/srv/%U"], lambda path, required: "").fleet_alone == "/srv/%U"
    with pytest.raises(ConfigError, match="enrol"):
        config.load([fleet, "enrol"], lambda path, required: "")
    assert Config().fleet == ""
