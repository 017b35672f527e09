"""What has happened: last accepted counters, spent recovery codes, wrong answers, where the owner logs in from.

Format and transitions only; `store` has the file.

The file holds two slots of 4 KiB. A store overwrites the older one in place, so it needs no space on the disk, and when
the power fails in the middle of it, the other slot still stands. A slot is

    magic and version   8 bytes
    sequence number     8 bytes, big-endian; the slot's place is its remainder by 2
    length of the text  2 bytes, big-endian
    text                lines of ASCII words, see `_text_of`
    zeros               up to the checksum
    checksum            32 bytes, SHA-256 of all before the zeros

Imports nothing that touches a file.
"""

from __future__ import annotations

from pam_softtoken.errors import DamagedState
from pam_softtoken.mac import sha256
from pam_softtoken.recovery import MAX_CODES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    _Value = TypeVar("_Value")

MAGIC = b"softtok\x01"
SLOT_BYTES = 4096
FILE_BYTES = 2 * SLOT_BYTES
NEVER = -1
"""The last accepted counter of a token that has not been used."""
MAX_RECORDS = 24
MAX_SETS = 8
MAX_SOURCES = 8
MAX_BUCKETS = MAX_SOURCES + 2
MAX_WRONG = 9999
SHARED_BUCKETS = ("local", "remote")
_HEADER_BYTES = 18
_CHECKSUM_BYTES = 32
_COUNTER_DIGITS, _WRONG_DIGITS, _TIME_DIGITS = 20, 4, 13


class State:
    """What one state file says. Does not change; the transitions return a new one.

    Args:
        last: for each token's fingerprint the highest accepted counter or time step, or `NEVER`; the least recently
            changed first.
        spent: for each known set of recovery codes the names of its spent ones; the least recently changed first. Of
            a set that is not known nobody can tell what is spent.
        wrong: for each bucket of `throttle` that has any, the number of wrong answers in a row, and when the last one
            was, in Unix seconds.
        sources: for each of the last sources with a success, when that was; the least recent first.
    """

    __slots__ = ("last", "sources", "spent", "wrong")

    def __init__(
        self,
        last: dict[str, int],
        spent: dict[str, tuple[str, ...]],
        wrong: dict[str, tuple[int, int]],
        sources: dict[str, int],
    ) -> None:
        self.last = last
        self.spent = spent
        self.wrong = wrong
        self.sources = sources

    @classmethod
    def new(cls) -> State:
        """The state before anything was used."""
        return cls({}, {}, {}, {})

    def with_last(self, fingerprint: str, counter: int) -> State:
        """Record an accepted counter or time step. A lower one than before is not recorded: nothing goes back."""
        highest = max(counter, self.last.get(fingerprint, NEVER))
        return State(_with(self.last, fingerprint, highest, MAX_RECORDS), self.spent, self.wrong, self.sources)

    def with_set(self, name: str) -> State:
        """Record a new set of recovery codes, none of them spent; of a set that is known nothing is forgotten."""
        return self._with_spent(name, self.spent.get(name, ()))

    def with_spent(self, name: str, code: str) -> State:
        """Record a spent recovery code of a known set."""
        return self._with_spent(name, (*self.spent[name], code))

    def _with_spent(self, name: str, codes: tuple[str, ...]) -> State:
        return State(self.last, _with(self.spent, name, codes, MAX_SETS), self.wrong, self.sources)

    def with_wrong(self, bucket: str, count: int, when: int) -> State:
        """Record how many wrong answers a bucket has, and when the last one was."""
        wrong = _with(self.wrong, bucket, (min(count, MAX_WRONG), when), MAX_BUCKETS)
        return State(self.last, self.spent, wrong, self.sources)

    def without_wrong(self, bucket: str) -> State:
        """Forget a bucket's wrong answers."""
        if bucket not in self.wrong:
            return self
        wrong = {each: self.wrong[each] for each in self.wrong if each != bucket}
        return State(self.last, self.spent, wrong, self.sources)

    def with_source(self, name: str, when: int) -> State:
        """Record a success from a source."""
        return State(self.last, self.spent, self.wrong, _with(self.sources, name, when, MAX_SOURCES))


def _with(records: dict[str, _Value], name: str, value: _Value, most: int) -> dict[str, _Value]:
    """Change a record and make it the newest; the oldest ones go when there are too many."""
    changed = {each: records[each] for each in records if each != name}
    changed[name] = value
    while len(changed) > most:
        del changed[next(iter(changed))]
    return changed


def with_volatile(stored: State | None, volatile: State, *, newer: bool) -> State:
    """Put together a state file and the record that stood in for it.

    Args:
        stored: what the file says; None when it is empty.
        volatile: what the record says. It holds no use of a recovery code that the file does not.
        newer: the record was written after the file.
    """
    state = stored or State.new()
    for fingerprint, counter in volatile.last.items():
        state = state.with_last(fingerprint, counter)
    return State(state.last, state.spent, volatile.wrong, volatile.sources) if newer else state


def encode(state: State, sequence: int) -> bytes:
    """Make a slot of a state: 4096 bytes."""
    text = _text_of(state)
    content = MAGIC + sequence.to_bytes(8, "big") + len(text).to_bytes(2, "big") + text
    if len(content) + _CHECKSUM_BYTES > SLOT_BYTES:
        raise ValueError("the state does not fit into a slot")
    return content.ljust(SLOT_BYTES - _CHECKSUM_BYTES, b"\0") + sha256(content).digest()


def place_of(sequence: int) -> int:
    """Tell where in the file the slot of a sequence number is: never where that of the number before it is."""
    return sequence % 2 * SLOT_BYTES


def decode(data: bytes, *, path: str) -> tuple[int, State]:
    """Read a state file: the newer of the slots that are whole.

    Args:
        data: the file's bytes, not empty.
        path: its name, for the error.

    Returns:
        The sequence number of the slot, and the state.

    Raises:
        DamagedState: neither slot is whole.
    """
    slots = []
    for place in (0, SLOT_BYTES):
        try:
            slot = decode_slot(data[place : place + SLOT_BYTES])
        except ValueError:
            continue
        if place_of(slot[0]) == place:
            slots.append(slot)
    if not slots or len(data) > FILE_BYTES:
        raise DamagedState(path, "neither of its two records is whole")
    return max(slots, key=lambda slot: slot[0])


def decode_slot(slot: bytes) -> tuple[int, State]:
    """Read one slot: its sequence number and the state. `ValueError` when it is not one of ours, or not whole."""
    end = _HEADER_BYTES + int.from_bytes(slot[16:18], "big")
    if len(slot) != SLOT_BYTES or slot[:8] != MAGIC or sha256(slot[:end]).digest() != slot[-_CHECKSUM_BYTES:]:
        raise ValueError("not a slot")
    sequence = int.from_bytes(slot[8:16], "big")
    state = _state_from(slot[_HEADER_BYTES:end].decode("ascii"))
    # One canonical spelling: what does not come out again as it went in was not written by us.
    if sequence < 1 or encode(state, sequence) != slot:
        raise ValueError("not a slot of ours")
    return sequence, state


def _text_of(state: State) -> bytes:
    lines = [f"last {fingerprint} {counter}\n" for fingerprint, counter in state.last.items()]
    lines += [" ".join(("spent", name, *codes)) + "\n" for name, codes in state.spent.items()]
    lines += [f"wrong {bucket} {count} {when}\n" for bucket, (count, when) in state.wrong.items()]
    lines += [f"source {name} {when}\n" for name, when in state.sources.items()]
    return "".join(lines).encode("ascii")


def _state_from(text: str) -> State:
    last: dict[str, int] = {}
    spent: dict[str, tuple[str, ...]] = {}
    wrong: dict[str, tuple[int, int]] = {}
    sources: dict[str, int] = {}
    for line in text.split("\n")[:-1]:
        kind, name, *rest = line.split(" ")
        if kind == "last" and len(rest) == 1 and _is_name(name, 32):
            last[name] = _number(rest[0], _COUNTER_DIGITS)
        elif kind == "spent" and _is_name(name, 16) and all(_is_name(code, 8) for code in rest):
            spent[name] = tuple(rest)
        elif kind == "wrong" and len(rest) == 2 and (name in SHARED_BUCKETS or _is_name(name, 16)):
            wrong[name] = (_number(rest[0], _WRONG_DIGITS), _number(rest[1], _TIME_DIGITS))
        elif kind == "source" and len(rest) == 1 and _is_name(name, 16):
            sources[name] = _number(rest[0], _TIME_DIGITS)
        else:
            raise ValueError("not a line of ours")
    # A fuller one could leave no room for the next record, and then no right code would be accepted.
    most = (len(last) <= MAX_RECORDS, len(wrong) <= MAX_BUCKETS, len(sources) <= MAX_SOURCES, len(spent) <= MAX_SETS)
    if not all(most) or any(len(codes) > MAX_CODES for codes in spent.values()):
        raise ValueError("more than we ever write")
    return State(last, spent, wrong, sources)


def _number(word: str, digits: int) -> int:
    if len(word) > digits:
        raise ValueError("longer than we ever write")
    return int(word)


def _is_name(word: str, length: int) -> bool:
    return len(word) == length and not word.strip("0123456789abcdef")
