"""The state's slots: a torn write leaves the other one, damage is seen, nothing goes back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_softtoken import recovery, state
from pam_softtoken.errors import DamagedState
from pam_softtoken.state import NEVER, SLOT_BYTES, State

FINGERPRINT = "0123456789abcdef" * 2
OTHER = "f" * 32


def _file(*states: State) -> bytes:
    data = bytearray(state.FILE_BYTES)
    for each in states:
        data[state.place_of(each) : state.place_of(each) + SLOT_BYTES] = state.encode(each)
    return bytes(data)


def _decode(data: bytes) -> State:
    return state.decode(data, path="state")


def test_state__the_newer_slot_is_read() -> None:
    old = State(7, {FINGERPRINT: 1}, {})
    new = old.with_last(FINGERPRINT, 2).with_set("0" * 16).with_spent("0" * 16, "1" * 8)
    assert _decode(_file(old, old.successor())).last == {FINGERPRINT: 1}
    read = _decode(_file(old.successor(), new))
    assert (read.sequence, read.last, read.spent) == (10, {FINGERPRINT: 2}, {"0" * 16: ("1" * 8,)})


def test_state__a_set_that_is_forgotten_takes_its_spent_codes_along() -> None:
    present = State.new()
    for number in range(state.MAX_SETS + 1):
        present = present.with_set(f"{number:016x}").with_spent(f"{number:016x}", "1" * 8)
    assert list(_decode(_file(present)).spent) == [f"{number:016x}" for number in range(1, state.MAX_SETS + 1)]


def test_state__a_known_set_never_forgets_a_spent_code() -> None:
    present = State.new().with_set("0" * 16)
    for number in range(recovery.MAX_CODES):
        present = present.with_spent("0" * 16, f"{number:08x}").with_set("0" * 16)
    assert len(_decode(_file(present)).spent["0" * 16]) == recovery.MAX_CODES


def test_state__successive_versions_take_turns() -> None:
    first = State.new()
    assert state.place_of(first) != state.place_of(first.successor())
    assert state.place_of(first) == state.place_of(first.successor().successor())


@given(st.integers(0, SLOT_BYTES))
def test_state__a_torn_write_leaves_the_version_before(written: int) -> None:
    old = State(4, {FINGERPRINT: 100}, {})
    older, new = State(3, {FINGERPRINT: 99}, {}), old.with_last(FINGERPRINT, 101)
    data = bytearray(_file(older, old))
    place = state.place_of(new)
    data[place : place + written] = state.encode(new)[:written]
    read = _decode(bytes(data))
    assert read.last[FINGERPRINT] in (100, 101)
    assert read.last[FINGERPRINT] == 101 or bytes(data[place : place + SLOT_BYTES]) != state.encode(new)


@given(st.integers(0, SLOT_BYTES - 1), st.integers(1, 255))
def test_state__any_changed_byte_spoils_a_slot(place: int, change: int) -> None:
    data = bytearray(_file(State(2, {FINGERPRINT: 5}, {"a" * 16: ("b" * 8,)})))
    data[place] ^= change
    with pytest.raises(DamagedState):
        _decode(bytes(data))


@pytest.mark.parametrize(
    "data", [b"x", bytes(10), bytes(SLOT_BYTES), bytes(state.FILE_BYTES), b"\xff" * state.FILE_BYTES]
)
def test_state__without_a_whole_slot_it_is_damaged(data: bytes) -> None:
    with pytest.raises(DamagedState):
        _decode(data)


def test_state__a_longer_file_is_damaged() -> None:
    with pytest.raises(DamagedState):
        _decode(_file(State.new()) + b"\0")


def test_state__a_slot_in_the_other_place_is_not_read() -> None:
    data = state.encode(State(1, {}, {})) + state.encode(State(2, {}, {}))  # 1 belongs second, 2 first
    with pytest.raises(DamagedState):
        _decode(data)


@given(st.lists(st.tuples(st.sampled_from((FINGERPRINT, OTHER)), st.integers(NEVER, 2**40)), max_size=30))
def test_state__a_counter_never_goes_back(history: list[tuple[str, int]]) -> None:
    present = State.new()
    for fingerprint, counter in history:
        before = present.last.get(fingerprint, NEVER)
        present = present.with_last(fingerprint, counter)
        assert present.last[fingerprint] == max(before, counter)
    for fingerprint in present.last:
        assert present.last[fingerprint] == max(counter for name, counter in history if name == fingerprint)


def test_state__the_fullest_one_fits_into_a_slot() -> None:
    present = State(2**63, {}, {})
    for number in range(state.MAX_RECORDS + 5):
        present = present.with_last(f"{number:032x}", 2**64 - 1)
    for name in (f"{number:016x}" for number in range(state.MAX_SETS + 5)):
        present = present.with_set(name)
        for code in range(recovery.MAX_CODES):
            present = present.with_spent(name, f"{code:08x}")
    assert len(state.encode(present)) == SLOT_BYTES
    assert len(present.last) == state.MAX_RECORDS
    # The oldest records make room, never the newest.
    assert f"{state.MAX_RECORDS + 4:032x}" in present.last
