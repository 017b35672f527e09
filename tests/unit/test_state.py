"""The state's slots: after a torn write the other one is intact, damage is noticed, and nothing goes back."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pam_softtoken.account import state, state_format
from pam_softtoken.account.state import NEVER, State
from pam_softtoken.account.state_format import SLOT_BYTES
from pam_softtoken.errors import DamagedState
from pam_softtoken.otp import recovery_code

FINGERPRINT = "0123456789abcdef" * 2
OTHER = "f" * 32
FULL_OF_KINDS = State(
    last={FINGERPRINT: 5},
    assumed={OTHER: 4},
    drift={FINGERPRINT: -3},
    when={FINGERPRINT: 8},
    notes={"9" * 24: (9, ((OTHER, 1), (FINGERPRINT, 2)), False), "8" * 24: (9, ((OTHER, 1),), True)},
    missed={"c" * 16: 4},
    spent={"a" * 16: ("b" * 8,)},
    wrong={"local": (3, 9)},
    sources={"c" * 16: 7},
    graces={"d" * 16: (8, 3)},
    issued={"a" * 16: ("e" * 32, 7, 10, "f" * 16, 3, 1)},
)


def _file(*slots: tuple[int, State]) -> bytes:
    data = bytearray(state_format.FILE_BYTES)
    for sequence, each in slots:
        place = state_format.place_of(sequence)
        data[place : place + SLOT_BYTES] = state_format.encode(each, sequence)
    return bytes(data)


def _decode(data: bytes) -> State:
    return state_format.decode(data, path="state")[1]


def test_state__the_newer_slot_is_read() -> None:
    old = State(last={FINGERPRINT: 1})
    new = old.with_last(FINGERPRINT, 2).with_set("0" * 16).with_spent("0" * 16, "1" * 8)
    for slots in ([(7, old), (8, new)], [(8, new), (9, old)]):
        sequence, read = state_format.decode(_file(*slots), path="state")
        newest = slots[1][1]
        assert (sequence, read.last, read.spent) == (slots[1][0], newest.last, newest.spent)


def _slot_of(text: str, sequence: int) -> bytes:
    content = state_format.MAGIC + sequence.to_bytes(8, "big") + len(text).to_bytes(2, "big") + text.encode("ascii")
    return content.ljust(SLOT_BYTES - 32, b"\0") + hashlib.sha256(content).digest()


def test_state__from_before_an_upgrade_is_read_and_no_used_code_comes_back() -> None:
    graces = f"grace {'d' * 16} 8\n"
    issued = f"issued {'a' * 16} {'e' * 32} 7 10 "
    for unused in (0, 1):
        old = _slot_of(f"last {FINGERPRINT} 1 0 0\n", 2)
        new = _slot_of(f"last {FINGERPRINT} 2 0 0\nspent {'a' * 16} {'b' * 8}\n{graces}{issued}{unused}\n", 3)
        read = _decode(old + new)
        assert (read.last, read.spent) == ({FINGERPRINT: 2}, {"a" * 16: ("b" * 8,)})
        # No second clock tells how long ago a code was accepted, so the next login asks for one.
        assert read.graces == {}
        assert read.issued == {"a" * 16: ("e" * 32, 7, 10, "0" * 16, 0, unused)}


@pytest.mark.parametrize("before", ["", f"last {FINGERPRINT} 2 0 0\n"])
@pytest.mark.parametrize(("line", "issued"), [(f"grace {'d' * 16} 8", 0), (f"issued {'a' * 16} {'e' * 32} 7 10 1", 1)])
def test_state__from_before_an_upgrade_is_read_wherever_its_old_line_stands(
    before: str, line: str, issued: int
) -> None:
    read = _decode(bytes(SLOT_BYTES) + _slot_of(f"{before}{line}\n", 1))
    assert (len(read.last), len(read.issued), read.graces) == (bool(before), issued, {})


@pytest.mark.parametrize(
    "line",
    [
        f"grace {'d' * 16} 08\n",
        f"grace {'d' * 15} 8\n",
        f"grace {'d' * 16} 8 \n",
        f"issued {'a' * 16} {'e' * 32} 7 10 2\n",
        f"issued {'a' * 16} {'e' * 32} 07 10 1\n",
        f"last {FINGERPRINT} 1 0\n",
        f"last {FINGERPRINT} +1 0 0\n",
        f"last {FINGERPRINT[1:]} 1 0 0\n",
        f"assumed {OTHER[1:]} 1\n",
        f"note {'9' * 23} 9 {OTHER} 1\n",
        f"note {'9' * 24} 9 {OTHER[1:]} 1\n",
        f"held {'9' * 24} 9 {'g' * 32} 1\n",
        f"spent {'a' * 15}\n",
        f"spent {'a' * 16} {'b' * 7}\n",
        f"wrong {'c' * 15} 1 1\n",
        f"missed {'c' * 15} 1\n",
        f"source {'c' * 15} 1\n",
        f"grace {'d' * 15} 8 3\n",
        f"issued {'a' * 15} {'e' * 32} 7 10 {'f' * 16} 3 1\n",
        f"issued {'a' * 16} {'e' * 31} 7 10 {'f' * 16} 3 1\n",
        f"issued {'a' * 16} {'e' * 32} 7 10 {'f' * 15} 3 1\n",
    ],
)
def test_state__with_a_line_in_another_spelling_is_damaged(line: str) -> None:
    with pytest.raises(DamagedState):
        _decode(bytes(SLOT_BYTES) + _slot_of(line, 1))


def test_state__the_oldest_set_that_is_not_live_is_forgotten_with_its_spent_codes() -> None:
    present = State.new()
    names = [f"{number:016x}" for number in range(state.MAX_SETS + 2)]
    for name in names:
        present = present.with_set(name).with_spent(name, "1" * 8)
    kept = state_format.decode_slot(state_format.encode(present, 1, frozenset(names[:1])))[1]
    assert list(kept.spent) == [names[0], *names[3:]]


@given(st.lists(st.integers(0, 99), min_size=1, max_size=150), st.sets(st.integers(0, 99), max_size=32))
def test_state__records_of_live_tokens_are_never_dropped_for_want_of_room(used: list[int], live: set[int]) -> None:
    present = State.new()
    for number in used:
        present = present.with_accepted(f"{number:032x}", number, drift=number + 1, now=number + 1)
    names = frozenset(f"{number:032x}" for number in live)
    kept = state_format.decode_slot(state_format.encode(present, 1, names))[1]
    assert len(kept.last) <= state.MAX_RECORDS
    for name in names & set(present.last):
        assert (kept.last[name], kept.drift[name], kept.when[name]) == (
            present.last[name],
            present.drift[name],
            present.when[name],
        )
    # Of the others, the newest ones stay.
    dead = [name for name in present.last if name not in names]
    stayed = [name for name in kept.last if name not in names]
    assert stayed == dead[len(dead) - len(stayed) :]


def test_state__too_many_live_records_are_an_error() -> None:
    last = {f"{number:032x}": 1 for number in range(state.MAX_RECORDS + 1)}
    with pytest.raises(ValueError, match="live"):
        state_format.encode(State(last=last), 1, frozenset(last))


def test_state__a_known_set_never_forgets_a_spent_code() -> None:
    present = State.new().with_set("0" * 16)
    for number in range(recovery_code.MAX_CODES):
        present = present.with_spent("0" * 16, f"{number:08x}").with_set("0" * 16)
    assert len(_decode(_file((1, present))).spent["0" * 16]) == recovery_code.MAX_CODES


def test_state__successive_versions_take_turns() -> None:
    places = [state_format.place_of(sequence) for sequence in (1, 2, 3, 4)]
    assert set(places) == {0, SLOT_BYTES}
    assert places[:2] == places[2:]


@given(st.integers(0, SLOT_BYTES))
def test_state__a_torn_write_leaves_the_version_before(written: int) -> None:
    older, old, new = (State(last={FINGERPRINT: counter}) for counter in (99, 100, 101))
    data = bytearray(_file((3, older), (4, old)))
    place = state_format.place_of(5)
    data[place : place + written] = state_format.encode(new, 5)[:written]
    whole = bytes(data[place : place + SLOT_BYTES]) == state_format.encode(new, 5)
    assert _decode(bytes(data)).last[FINGERPRINT] == (101 if whole else 100)


@given(st.integers(0, SLOT_BYTES - 1), st.integers(1, 255))
def test_state__any_changed_byte_spoils_a_slot(place: int, change: int) -> None:
    data = bytearray(_file((2, FULL_OF_KINDS)))
    data[place] ^= change
    with pytest.raises(DamagedState):
        _decode(bytes(data))


@pytest.mark.parametrize(
    "data", [b"x", bytes(10), bytes(SLOT_BYTES), bytes(state_format.FILE_BYTES), b"\xff" * state_format.FILE_BYTES]
)
def test_state__without_a_whole_slot_it_is_damaged(data: bytes) -> None:
    with pytest.raises(DamagedState):
        _decode(data)


@pytest.mark.parametrize(
    "odd",
    [
        State(spent={"0" * 16: ("1" * 8,) * (recovery_code.MAX_CODES + 1)}),
        State(wrong={f"{number:016x}": (1, 1) for number in range(state.MAX_BUCKETS + 1)}),
        State(sources={f"{number:016x}": 1 for number in range(state.MAX_SOURCES + 1)}),
        State(assumed={f"{number:032x}": 1 for number in range(state.MAX_ASSUMED + 1)}),
        State(assumed={FINGERPRINT: 10**19}),
        State(graces={f"{number:016x}": (1, 1) for number in range(state.MAX_GRACES + 1)}),
        State(notes={f"{number:024x}": (1, ((FINGERPRINT, 1),), False) for number in range(state.MAX_NOTES + 1)}),
        State(notes={"9" * 24: (1, ((FINGERPRINT, 1),) * (state.MAX_NOTED_COUNTERS + 1), False)}),
        State(notes={"9" * 24: (1, (), False)}),
        State(missed={f"{number:016x}": 1 for number in range(state.MAX_MISSED + 1)}),
        State(missed={"9" * 16: 10**4}),
        State(last={FINGERPRINT: 10**19}),
        State(last={FINGERPRINT: 1}, drift={FINGERPRINT: 10**4}),
        State(last={FINGERPRINT: 1}, when={FINGERPRINT: 10**13}),
        State(wrong={"local": (state.MAX_WRONG + 1, 1)}),
        State(wrong={"local": (1, 10**13)}),
        State(sources={"c" * 16: 10**13}),
        State(issued={f"{number:016x}": ("e" * 32, 1, 2, "f" * 16, 1, 1) for number in range(2)}),
        State(issued={"a" * 16: ("e" * 32, 1, 10**13, "f" * 16, 1, 1)}),
        State(issued={"a" * 16: ("e" * 32, 1, 2, "f" * 16, 1, 2)}),
        State(issued={"a" * 16: ("e" * 32, 1, 2, "f", 1, 1)}),
    ],
)
def test_state__with_more_records_than_possible_is_damaged(odd: State) -> None:
    """Otherwise there could be no room for the next record, and the right code would not be accepted."""
    with pytest.raises(DamagedState):
        _decode(_file((1, odd)))


def test_state__a_longer_file_is_damaged() -> None:
    with pytest.raises(DamagedState):
        _decode(_file((1, State.new())) + b"\0")


def test_state__a_slot_in_the_other_place_is_not_read() -> None:
    data = state_format.encode(State.new(), 1) + state_format.encode(State.new(), 2)  # 1 belongs second, 2 first
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


def test_state__every_kind_of_record_comes_back() -> None:
    read = _decode(_file((1, FULL_OF_KINDS)))
    for kind in State.__slots__:
        assert getattr(read, kind) == getattr(FULL_OF_KINDS, kind) != {}


@pytest.mark.parametrize(
    "odd",
    [
        State(last={f"{number:032x}": 1 for number in range(state.MAX_RECORDS + 1)}),
        State(spent={f"{number:016x}": () for number in range(state.MAX_SETS + 1)}),
    ],
)
def test_state__slot_with_more_records_than_possible_is_damaged(odd: State, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(state_format, "within_bounds", lambda each, live: each)
        slot = state_format.encode(odd, 2)
    with pytest.raises(DamagedState):
        _decode(slot + bytes(SLOT_BYTES))


def test_state__an_accepted_code_sets_the_clock() -> None:
    accepted = State.new().with_last(OTHER, 1).with_accepted(FINGERPRINT, 4, drift=-3, now=9)
    assert (accepted.drift, accepted.when) == ({FINGERPRINT: -3}, {FINGERPRINT: 9})
    assert accepted.with_accepted(FINGERPRINT, 5, drift=0, now=10).drift == {}


def test_state__new_issued_code_replaces_the_earlier_one() -> None:
    present = State.new().with_issued("a" * 16, "b" * 32, since=1, until=2)
    assert present.with_issued_used("a" * 16).issued == {"a" * 16: ("b" * 32, 1, 2, "0" * 16, 0, 0)}
    later = present.with_issued("c" * 16, "d" * 32, since=3, until=4, boot="e" * 16, uptime_s=5)
    assert later.issued == {"c" * 16: ("d" * 32, 3, 4, "e" * 16, 5, 1)}
    assert present.without_issued().issued == {}


def test_state__issued_code_used_in_the_file_stays_used_for_any_record() -> None:
    issued = State.new().with_issued("a" * 16, "b" * 32, since=1, until=2)
    for newer in (True, False):
        assert state.with_volatile(issued.with_issued_used("a" * 16), issued, newer=newer).issued["a" * 16][-1] == 0


def test_state__the_fullest_one_fits_into_a_slot() -> None:
    present = State.new()
    for number in range(state.MAX_RECORDS + 5):
        present = present.with_accepted(f"{number:032x}", 2**62, drift=-999, now=10**13 - 1)
    for number in range(state.MAX_NOTES + 5):
        noted = tuple((f"{each:032x}", 2**62) for each in range(9))
        present = present.with_note(f"{number:024x}", noted, 10**13 - 1)
        present = present.with_missed(f"{number:016x}")
    for name in (f"{number:016x}" for number in range(state.MAX_SETS + 5)):
        present = present.with_set(name)
        for code in range(recovery_code.MAX_CODES):
            present = present.with_spent(name, f"{code:08x}")
    for number in range(state.MAX_SOURCES + 5):
        present = present.with_source(f"{number:016x}", 10**13 - 1).with_wrong(f"{number:016x}", 10**6, 10**13 - 1)
        present = present.with_grace(f"{number:016x}", 10**13 - 1, 10**13 - 1)
    for bucket in state.SHARED_BUCKETS:
        present = present.with_wrong(bucket, 10**6, 10**13 - 1)
    times = {"since": 10**13 - 1, "until": 10**13 - 1, "uptime_s": 10**13 - 1}
    present = present.with_issued("a" * 16, "e" * 32, boot="f" * 16, **times)
    for number in range(state.MAX_ASSUMED + 5):
        present = present.with_assumed(f"{number:032x}", 2**62)
    assert len(state_format.encode(present, 2**64 - 1)) == SLOT_BYTES
    read = state_format.decode(_file((1, present)), path="state")[1]
    bounded = state.within_bounds(present, frozenset())
    assert len(read.assumed) == state.MAX_ASSUMED
    for kind in State.__slots__:
        assert getattr(read, kind) == getattr(bounded, kind)
    assert len(read.last) == len(read.when) == len(read.drift) == state.MAX_RECORDS
    assert (len(read.notes), len(read.missed), len(read.spent)) == (state.MAX_NOTES, state.MAX_MISSED, state.MAX_SETS)
    # The oldest records are dropped, never the newest.
    assert f"{state.MAX_RECORDS + 4:032x}" in read.last


def test_state__wrong_answers_of_many_sources_are_counted_together() -> None:
    present = State.new()
    for number in range(1, 10):
        for _ in range(number):
            present = present.with_missed(f"{number:016x}")
    assert sum(present.missed.values()) == sum(range(1, 10))
    assert len(present.missed) == state.MAX_MISSED
    assert present.missed[f"{9:016x}"] == 9


def test_state__a_slot_of_another_length_is_not_read() -> None:
    slot = _slot_of("", 1)
    assert state_format.decode_slot(slot)[0] == 1
    assert state_format.decode_slot(state_format.encode(State.new(), 2**64 - 1))[0] == 2**64 - 1
    with pytest.raises(ValueError, match="not a slot"):
        state_format.decode_slot(slot[:18] + slot[-32:])


def test_move__onto_a_leftover_state_never_brings_a_used_code_back() -> None:
    for leftover, live in ((7, 5), (5, 7)):
        moved = state.moved_onto(State(last={FINGERPRINT: leftover}), State(last={FINGERPRINT: live}), {FINGERPRINT})
        assert moved.last == {FINGERPRINT: 7}
    old, new = (State(spent={"a" * 16: codes}) for codes in (("1" * 8, "2" * 8), ("2" * 8, "3" * 8)))
    assert state.moved_onto(old, new, set()).spent == {"a" * 16: ("1" * 8, "2" * 8, "3" * 8)}


def test_move__takes_no_old_record_for_a_token_that_lost_its_own() -> None:
    leftover = State(last={FINGERPRINT: 7, OTHER: 3})
    assert state.moved_onto(leftover, State.new(), {FINGERPRINT}).last == {OTHER: 3}


def test_backup__of_a_state_adds_uses_and_nothing_else() -> None:
    older = State(
        last={FINGERPRINT: 7, OTHER: 3}, drift={FINGERPRINT: 2, OTHER: 4}, when={OTHER: 5},
        spent={"a" * 16: ("1" * 8,), "b" * 16: ()}, graces={"c" * 16: (1, 1)},
        issued={"a" * 16: ("d" * 64, 1, 9, state.NO_BOOT, 0, 1)}, wrong={"local": (1, 1)},
    )  # fmt: skip
    used = {"a" * 16: ("d" * 64, 1, 9, state.NO_BOOT, 0, 0)}
    present = State(last={FINGERPRINT: 9}, spent={"a" * 16: ("2" * 8,)}, issued=used, wrong={"local": (8, 8)})
    both = present.with_uses_of(older)
    assert both.last == {OTHER: 3, FINGERPRINT: 9}
    assert (both.drift, both.when) == ({OTHER: 4}, {OTHER: 5})
    assert both.spent == {"b" * 16: (), "a" * 16: ("1" * 8, "2" * 8)}
    assert (both.issued, both.graces, both.wrong) == (used, {}, {"local": (8, 8)})
    # A use that the backup has no record of, neither as unused nor as used, stays.
    assert present.with_uses_of(State.new()).last == {FINGERPRINT: 9}


@pytest.mark.parametrize("present", [State.new(), FULL_OF_KINDS])
def test_state__without_a_change_need_not_be_written(present: State) -> None:
    absent = "7" * 16
    assert present.without_notes((absent,)) is present
    assert present.without_wrong(absent) is present
    assert present.without_missed(absent) is present
    assert present.without_last(absent) is present
    assert present.without_missed() is present or present.missed
