"""The bytes of a state file: two slots, each with a whole state. `state` has the transitions, and `store` the file.
Imports nothing that touches a file.

The file has two slots of 8 KiB. A write overwrites the older slot in place, so it needs no space on the disk. If the
power fails during the write, the other slot is still whole. A slot is

    magic and version   8 bytes
    sequence number     8 bytes, big-endian; the slot's place is its remainder by 2
    length of the text  2 bytes, big-endian
    text                lines of ASCII words, see `_text_of`
    zeros               up to the checksum
    checksum            32 bytes, SHA-256 of all before the zeros
"""

from __future__ import annotations

from pam_softtoken.account.state import (
    MAX_ASSUMED,
    MAX_BUCKETS,
    MAX_GRACES,
    MAX_MISSED,
    MAX_NOTED_COUNTERS,
    MAX_NOTES,
    MAX_RECORDS,
    MAX_SETS,
    MAX_SOURCES,
    NO_BOOT,
    SHARED_BUCKETS,
    State,
    within_bounds,
)
from pam_softtoken.errors import DamagedState
from pam_softtoken.otp.mac import sha256
from pam_softtoken.otp.recovery_code import MAX_CODES

MAGIC = b"softtok\x02"
SLOT_BYTES = 8192
FILE_BYTES = 2 * SLOT_BYTES
_HEADER_BYTES = 18
_CHECKSUM_BYTES = 32
_COUNTER_DIGITS, _DRIFT_DIGITS, _WRONG_DIGITS, _TIME_DIGITS = 19, 4, 4, 13


def encode(state: State, sequence: int, live: frozenset[str] = frozenset()) -> bytes:
    """Return a state as a slot of 8192 bytes.

    Args:
        state: with any number of records. `within_bounds` drops those that do not fit.
        sequence: the slot's number.
        live: as for `within_bounds`.
    """
    text = encode_text(state, live)
    content = MAGIC + sequence.to_bytes(8, "big") + len(text).to_bytes(2, "big") + text
    if len(content) + _CHECKSUM_BYTES > SLOT_BYTES:
        raise ValueError("the state does not fit into a slot")
    return content.ljust(SLOT_BYTES - _CHECKSUM_BYTES, b"\0") + sha256(content).digest()


def encode_first(state: State, live: frozenset[str] = frozenset()) -> tuple[int, bytes]:
    """Return a new file: its sequence number, and both slots, so that later writes need no space."""
    slots = sorted((place_of(each), encode(state, each, live)) for each in (1, 2))
    return 2, b"".join(slot for _, slot in slots)


def encode_text(state: State, live: frozenset[str] = frozenset()) -> bytes:
    """Return a state as text, without a slot around it. `live` is as for `encode`."""
    return _text_of(within_bounds(state, live))


def decode_text(data: bytes) -> State:
    """Read a state's text. Raises `ValueError` if it is not one that `encode_text` returns."""
    state = _state_from(data.decode("ascii"))
    # There is one canonical spelling. If encoding does not reproduce the text, we did not write it.
    if _text_of(state) != data:
        raise ValueError("not a text of ours")
    return state


def place_of(sequence: int) -> int:
    """Return the slot's place in the file for a sequence number. Consecutive numbers never share a place."""
    return sequence % 2 * SLOT_BYTES


def decode(data: bytes, *, path: str) -> tuple[int, State]:
    """Read a state file. The newer of the whole slots counts.

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
    """Read one slot: its sequence number and the state. Raises `ValueError` if it is not ours or not whole."""
    end = _HEADER_BYTES + int.from_bytes(slot[16:18], "big")
    if len(slot) != SLOT_BYTES or slot[:8] != MAGIC or sha256(slot[:end]).digest() != slot[-_CHECKSUM_BYTES:]:
        raise ValueError("not a slot")
    sequence = int.from_bytes(slot[8:16], "big")
    text = _in_present_form(slot[_HEADER_BYTES:end].decode("ascii"))
    state = _state_from(text)
    # There is one canonical spelling. If encoding does not reproduce the text, we did not write it.
    if sequence < 1 or _text_of(state) != text.encode() or slot[end:-_CHECKSUM_BYTES].strip(b"\0"):
        raise ValueError("not a slot of ours")
    return sequence, state


def _in_present_form(text: str) -> str:
    """Return a text as it is written today, where lines of an older version are in it.

    Those versions knew one clock. A time of grace of theirs ends here; an issued code goes by that clock alone. To
    refuse such a slot would keep the owner out, or read the older slot, in which used codes are not used.
    """
    if "\ngrace " not in text and "\nissued " not in text and not text.startswith(("grace ", "issued ")):
        return text
    lines = []
    for line in text.split("\n"):
        kind, *words = line.split(" ")
        if kind == "grace" and len(words) == 2:
            _require(line == f"grace {words[0]} {_read_old_grace(*words)}")
            continue
        if kind == "issued" and len(words) == 5:
            words[-1:] = NO_BOOT, "0", words[-1]
        lines.append(" ".join((kind, *words)))
    return "\n".join(lines)


def _read_old_grace(name: str, when: str) -> int:
    _require(_is_name(name, 16))
    return _number(when, _TIME_DIGITS)


def _text_of(state: State) -> bytes:
    lines = [
        f"last {name} {counter} {state.drift.get(name, 0)} {state.when.get(name, 0)}\n"
        for name, counter in state.last.items()
    ]
    lines += [f"assumed {name} {step}\n" for name, step in state.assumed.items()]
    for key, (when, noted, held) in state.notes.items():
        kind = "held" if held else "note"
        lines.append(" ".join((kind, key, str(when), *(f"{each} {counter}" for each, counter in noted))) + "\n")
    lines += [" ".join(("spent", name, *codes)) + "\n" for name, codes in state.spent.items()]
    lines += [f"wrong {bucket} {count} {when}\n" for bucket, (count, when) in state.wrong.items()]
    lines += [f"missed {name} {count}\n" for name, count in state.missed.items()]
    lines += [f"source {name} {when}\n" for name, when in state.sources.items()]
    lines += [f"grace {name} {when} {uptime_s}\n" for name, (when, uptime_s) in state.graces.items()]
    lines += [" ".join(("issued", name, *map(str, words))) + "\n" for name, words in state.issued.items()]
    return "".join(lines).encode("ascii")


def _state_from(text: str) -> State:
    state = State()
    for line in text.split("\n")[:-1]:
        kind, name, *rest = line.split(" ")
        read = _READERS.get(kind)
        if read is None:
            raise ValueError("not a line of ours")
        read(state, name, rest)
    # A fuller state could leave no room for the next record, and then no right code would be accepted.
    most = (
        len(state.last) <= MAX_RECORDS,
        len(state.assumed) <= MAX_ASSUMED,
        len(state.wrong) <= MAX_BUCKETS,
        len(state.sources) <= MAX_SOURCES,
        len(state.spent) <= MAX_SETS,
        len(state.notes) <= MAX_NOTES,
        len(state.missed) <= MAX_MISSED,
        len(state.graces) <= MAX_GRACES,
        len(state.issued) <= 1,
    )
    if not all(most):
        raise ValueError("more than we ever write")
    return state


def _read_last(state: State, name: str, words: list[str]) -> None:
    _require(_is_name(name, 32))
    counter, drift, when = words
    state.last[name] = _number(counter, _COUNTER_DIGITS)
    if drift != "0":
        state.drift[name] = _number(drift, _DRIFT_DIGITS)
    if when != "0":
        state.when[name] = _number(when, _TIME_DIGITS)


def _read_assumed(state: State, name: str, words: list[str]) -> None:
    _require(_is_name(name, 32))
    (step,) = words
    state.assumed[name] = _number(step, _COUNTER_DIGITS)


def _read_note(state: State, name: str, words: list[str], *, held: bool = False) -> None:
    fingerprints, counters = words[1::2], words[2::2]
    _require(_is_name(name, 24) and 1 <= len(counters) == len(fingerprints) <= MAX_NOTED_COUNTERS)
    _require(all(_is_name(each, 32) for each in fingerprints))
    noted = zip(fingerprints, (_number(word, _COUNTER_DIGITS) for word in counters), strict=True)
    state.notes[name] = (_number(words[0], _TIME_DIGITS), tuple(noted), held)


def _read_held(state: State, name: str, words: list[str]) -> None:
    _read_note(state, name, words, held=True)


def _read_missed(state: State, name: str, words: list[str]) -> None:
    _require(_is_name(name, 16))
    (count,) = words
    state.missed[name] = _number(count, _WRONG_DIGITS)


def _read_spent(state: State, name: str, words: list[str]) -> None:
    _require(_is_name(name, 16) and len(words) <= MAX_CODES and all(_is_name(code, 8) for code in words))
    state.spent[name] = tuple(words)


def _read_wrong(state: State, name: str, words: list[str]) -> None:
    _require(name in SHARED_BUCKETS or _is_name(name, 16))
    count, when = words
    state.wrong[name] = (_number(count, _WRONG_DIGITS), _number(when, _TIME_DIGITS))


def _read_source(state: State, name: str, words: list[str]) -> None:
    _require(_is_name(name, 16))
    (when,) = words
    state.sources[name] = _number(when, _TIME_DIGITS)


def _read_grace(state: State, name: str, words: list[str]) -> None:
    _require(_is_name(name, 16))
    when, uptime_s = words
    state.graces[name] = _number(when, _TIME_DIGITS), _number(uptime_s, _TIME_DIGITS)


def _read_issued(state: State, name: str, words: list[str]) -> None:
    digest, since, until, boot, uptime_s, unused = words
    _require(_is_name(name, 16) and _is_name(digest, 32) and _is_name(boot, 16) and unused in ("0", "1"))
    times = _number(since, _TIME_DIGITS), _number(until, _TIME_DIGITS)
    state.issued[name] = (digest, *times, boot, _number(uptime_s, _TIME_DIGITS), int(unused))


_READERS = {
    "last": _read_last,
    "assumed": _read_assumed,
    "note": _read_note,
    "held": _read_held,
    "spent": _read_spent,
    "wrong": _read_wrong,
    "missed": _read_missed,
    "source": _read_source,
    "grace": _read_grace,
    "issued": _read_issued,
}


def _require(holds: bool) -> None:
    if not holds:
        raise ValueError("not a line of ours")


def _number(word: str, digits: int) -> int:
    if len(word) > digits:
        raise ValueError("longer than we ever write")
    return int(word)


def _is_name(word: str, length: int) -> bool:
    return len(word) == length and not word.strip("0123456789abcdef")
