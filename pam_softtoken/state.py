"""What has been used: the last accepted counter of each token, and the spent recovery codes.

Format and transitions only; `store` has the file.

The file holds two slots of 4 KiB. A store overwrites the older one in place, so it needs no space on the disk, and when
the power fails in the middle of it, the other slot still stands. A slot is

    magic and version   8 bytes
    sequence number     8 bytes, big-endian; the slot's place is its remainder by 2
    length of the text  2 bytes, big-endian
    text                lines of ASCII words, see `_text_of`
    zeros               up to the checksum
    checksum            32 bytes, SHA-256 of all before it

Imports nothing that touches a file.
"""

from __future__ import annotations

import hashlib

from pam_softtoken.errors import DamagedState

MAGIC = b"softtok\x01"
SLOT_BYTES = 4096
FILE_BYTES = 2 * SLOT_BYTES
NEVER = -1
"""The last accepted counter of a token that has not been used."""
MAX_RECORDS = 24
MAX_SPENT = 96  # some sets of recovery codes back, should an old token file be restored
_HEADER_BYTES = 18
_CHECKSUM_BYTES = 32


class State:
    """What one state file says. Does not change; the transitions return a new one.

    Args:
        sequence: number of this version, 1 or more.
        last: for each token's fingerprint the highest accepted counter or time step, or `NEVER`; the least recently
            changed first.
        spent: names of the spent recovery codes, oldest first.
    """

    __slots__ = ("last", "sequence", "spent")

    def __init__(self, sequence: int, last: dict[str, int], spent: tuple[str, ...]) -> None:
        self.sequence = sequence
        self.last = last
        self.spent = spent

    @classmethod
    def new(cls) -> State:
        """The state before anything was used."""
        return cls(1, {}, ())

    def successor(self) -> State:
        """The same facts under the next sequence number, for the other slot."""
        return State(self.sequence + 1, self.last, self.spent)

    def with_last(self, fingerprint: str, counter: int) -> State:
        """Record an accepted counter or time step. A lower one than before is not recorded: nothing goes back."""
        last = dict(self.last)
        counter = max(counter, last.pop(fingerprint, NEVER))
        last[fingerprint] = counter
        while len(last) > MAX_RECORDS:
            del last[next(iter(last))]
        return State(self.sequence + 1, last, self.spent)

    def with_spent(self, name: str) -> State:
        """Record a spent recovery code."""
        return State(self.sequence + 1, self.last, (*self.spent, name)[-MAX_SPENT:])


def encode(state: State) -> bytes:
    """Make a slot of a state: 4096 bytes."""
    text = _text_of(state)
    head = MAGIC + state.sequence.to_bytes(8, "big") + len(text).to_bytes(2, "big") + text
    body = head.ljust(SLOT_BYTES - _CHECKSUM_BYTES, b"\0")
    if len(body) + _CHECKSUM_BYTES > SLOT_BYTES:
        raise ValueError("the state does not fit into a slot")
    return body + hashlib.sha256(body).digest()


def place_of(state: State) -> int:
    """Tell where in the file a state's slot is: that of the version before the last one."""
    return state.sequence % 2 * SLOT_BYTES


def decode(data: bytes, *, path: str) -> State:
    """Read a state file: the newer of the slots that are whole.

    Args:
        data: the file's bytes, not empty.
        path: its name, for the error.

    Raises:
        DamagedState: neither slot is whole.
    """
    slots = []
    for place in (0, SLOT_BYTES):
        try:
            slots.append(_decode_slot(data[place : place + SLOT_BYTES], place))
        except ValueError:
            continue
    if not slots or len(data) > FILE_BYTES:
        raise DamagedState(path, "neither of its two records is whole")
    return max(slots, key=lambda state: state.sequence)


def _decode_slot(slot: bytes, place: int) -> State:
    body, checksum = slot[:-_CHECKSUM_BYTES], slot[-_CHECKSUM_BYTES:]
    if len(slot) != SLOT_BYTES or hashlib.sha256(body).digest() != checksum or body[:8] != MAGIC:
        raise ValueError("not a slot")
    end = _HEADER_BYTES + int.from_bytes(body[16:18], "big")
    state = _state_from(int.from_bytes(body[8:16], "big"), body[_HEADER_BYTES:end].decode("ascii"))
    # One canonical spelling: what does not come out again as it went in was not written by us.
    if state.sequence < 1 or place_of(state) != place or encode(state) != slot:
        raise ValueError("not a slot of ours")
    return state


def _text_of(state: State) -> bytes:
    lines = [f"last {fingerprint} {counter}\n" for fingerprint, counter in state.last.items()]
    lines += [f"spent {name}\n" for name in state.spent]
    return "".join(lines).encode("ascii")


def _state_from(sequence: int, text: str) -> State:
    last: dict[str, int] = {}
    spent: list[str] = []
    for line in text.split("\n")[:-1]:
        words = line.split(" ")
        if words[0] == "last" and len(words) == 3 and _is_name(words[1], 32):
            last[words[1]] = int(words[2])
        elif words[0] == "spent" and len(words) == 2 and _is_name(words[1], 16):
            spent.append(words[1])
        else:
            raise ValueError("not a line of ours")
    return State(sequence, last, tuple(spent))


def _is_name(word: str, length: int) -> bool:
    return len(word) == length and not word.strip("0123456789abcdef")
