"""The state of one user: last accepted counters, drift, spent recovery codes, wrong answers, and the owner's sources.
These are its transitions. `state_format` has the bytes, and `store` the file. Imports nothing.

The transitions forget nothing about a token. When a state is encoded, `within_bounds` drops the oldest records, but
only those of tokens and recovery sets that are no longer enrolled.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    _Value = TypeVar("_Value")
    Note = tuple[int, tuple[tuple[str, int], ...], bool]

NO_BOOT = "0" * 16
"""Written if the name of the machine's start is not known. No start has this name."""
NEVER = -1
"""The last accepted counter of a token that has not been used."""
MAX_RECORDS = 40
"""More than all tokens of a user twice: during a replacement the old and the new tokens are live."""
MAX_SETS = 4
MAX_SOURCES = 8
MAX_BUCKETS = MAX_SOURCES + 2
MAX_NOTES, MAX_NOTED_COUNTERS = 8, 2
MAX_MISSED = 4
OTHERS = "0" * 16
"""In `missed`: all sources without a record of their own."""
MAX_GRACES = 8
MAX_ASSUMED = 16
"""As many as a user can have tokens."""
MAX_WRONG = 9999
SHARED_BUCKETS = ("local", "remote")


class State:
    """The content of one state file. It does not change: the transitions return a new state.

    Attributes:
        last: for each token's fingerprint, the highest accepted counter or time step, or `NEVER`. The least recently
            changed comes first.
        assumed: for a fingerprint, a time step. Codes up to it count as used though none was accepted: a code of it was
            only noted, or it was the present step when a record began. It is believed as long as the clock is not set
            back to before it, see `policy`. A clock that was wrong must not keep the owner out afterwards.
        drift: for a fingerprint of `last`, how many half time steps the token's clock is ahead; absent when 0.
        when: for a fingerprint of `last`, when its last OTP was accepted, in Unix seconds; absent if never.
        notes: for each `throttle.Source.key` whose last answer was right but not acceptable by itself: when that was,
            the fingerprints and counters whose OTP it is, and whether it was typed during a wait. The code after it is
            accepted next.
        spent: for each known set of recovery codes, the names of its spent codes. The least recently changed comes
            first. If a set is not known, nobody can tell which of its codes are spent.
        wrong: for each bucket of `throttle` that has any, the number of wrong answers in a row, and the time of the
            last one in Unix seconds.
        missed: for each of the last sources of a wrong answer, how many there were since the last success of any
            source. Those of other sources are under `OTHERS`.
        sources: for each of the last sources with a success, when that was, in Unix seconds. The least recent comes
            first.
        graces: for each of the last sources and services from which a code was accepted, when that was: in Unix seconds
            and in seconds since the machine was started.
        issued: the last code that an administrator issued, if the recovery codes have not changed since. For the name
            of their set: its hash, the start and the end of its time, the name of the machine's start before that, the
            seconds from that start to the issue, and 1 if it is unused, otherwise 0.
    """

    __slots__ = ("assumed", "drift", "graces", "issued", "last", "missed", "notes", "sources", "spent", "when", "wrong")
    last: dict[str, int]
    assumed: dict[str, int]
    drift: dict[str, int]
    when: dict[str, int]
    notes: dict[str, Note]
    spent: dict[str, tuple[str, ...]]
    wrong: dict[str, tuple[int, int]]
    missed: dict[str, int]
    sources: dict[str, int]
    graces: dict[str, tuple[int, int]]
    issued: dict[str, tuple[str, int, int, str, int, int]]

    def __init__(self, **records: object) -> None:
        for name in self.__slots__:
            setattr(self, name, records.get(name) or {})

    @classmethod
    def new(cls) -> State:
        """Return the state before anything was used."""
        return cls()

    def _changed(self, **records: object) -> State:
        # Line by line: a loop over the names takes four times as long, between the person's answer and the verdict.
        state = State.__new__(State)
        state.last, state.drift, state.when, state.notes = self.last, self.drift, self.when, self.notes
        state.spent, state.wrong, state.sources, state.graces = self.spent, self.wrong, self.sources, self.graces
        state.issued, state.missed, state.assumed = self.issued, self.missed, self.assumed
        for name, value in records.items():
            setattr(state, name, value)
        return state

    def with_last(self, fingerprint: str, counter: int) -> State:
        """Return a state in which a counter or time step is used. A lower one than before is not recorded: nothing goes
        back.
        """
        highest = max(counter, self.last.get(fingerprint, NEVER))
        return self._changed(last=_with(self.last, fingerprint, highest))

    def with_assumed(self, fingerprint: str, step: int) -> State:
        """Return a state in which codes up to a time step count as used for now, though none of them was accepted."""
        return self._changed(assumed=_with(self.assumed, fingerprint, step, MAX_ASSUMED))

    def without_assumed(self) -> State:
        """Return a state for a decision that ignores assumptions or has them applied. It must not be written."""
        return self._changed(assumed={})

    def without_last(self, fingerprint: str) -> State:
        """Return a state for a decision in which a token's used codes are unknown. It must not be written."""
        return self if fingerprint not in self.last else self._changed(last=_without(self.last, fingerprint))

    def with_accepted(self, fingerprint: str, counter: int, *, drift: int, now: int) -> State:
        """Return a state with an accepted OTP: its counter or time step, and its evidence about the token's clock, in
        half steps.
        """
        state = self.with_last(fingerprint, counter)
        if fingerprint in state.assumed:
            state = state._changed(assumed=_without(state.assumed, fingerprint))
        if drift != self.drift.get(fingerprint, 0):
            state = state.with_drift(fingerprint, drift)
        return state._changed(when={**state.when, fingerprint: max(0, now)})

    def with_drift(self, fingerprint: str, drift: int) -> State:
        """Return a state with the drift of a token that is in `last`: how many half time steps its clock is ahead."""
        drifts = _without(self.drift, fingerprint)
        if drift != 0:
            drifts[fingerprint] = drift
        return self._changed(drift=drifts)

    def with_note(self, key: str, noted: tuple[tuple[str, int], ...], now: int, *, held: bool = False) -> State:
        """Return a state that notes a right answer for these counters. `held` means that only a wait prevented
        acceptance.
        """
        note = (max(0, now), noted[:MAX_NOTED_COUNTERS], held)
        return self._changed(notes=_with(self.notes, key, note, MAX_NOTES))

    def without_notes(self, keys: tuple[str, ...]) -> State:
        """Return a state without the notes under these keys; the same state if there are none."""
        if not self.notes or not any(key in self.notes for key in keys):
            return self
        return self._changed(notes={key: self.notes[key] for key in self.notes if key not in keys})

    def with_set(self, name: str) -> State:
        """Return a state with a new set of recovery codes, none of them spent. A known set loses nothing. A code that
        was issued before ends, also if the same set comes back.
        """
        return self._with_spent(name, self.spent.get(name, ())).without_issued()

    def with_spent(self, name: str, code: str) -> State:
        """Return a state with a spent recovery code of a known set."""
        return self._with_spent(name, (*self.spent[name], code))

    def _with_spent(self, name: str, codes: tuple[str, ...]) -> State:
        return self._changed(spent=_with(self.spent, name, codes))

    def with_wrong(self, bucket: str, count: int, when: int) -> State:
        """Return a state with a bucket's number of wrong answers and the time of the last one, in Unix seconds."""
        return self._changed(wrong=_with(self.wrong, bucket, (min(count, MAX_WRONG), when), MAX_BUCKETS))

    def without_wrong(self, bucket: str) -> State:
        """Return a state without a bucket's wrong answers."""
        return self if bucket not in self.wrong else self._changed(wrong=_without(self.wrong, bucket))

    def with_missed(self, name: str) -> State:
        """Return a state with one more wrong answer of a source, for the owner to be told."""
        missed = _with(self.missed, name, min(self.missed.get(name, 0) + 1, MAX_WRONG))
        while len(missed) > MAX_MISSED:
            oldest = next(each for each in missed if each != OTHERS)
            missed = {OTHERS: 0, **missed}
            missed[OTHERS] = min(missed[OTHERS] + missed.pop(oldest), MAX_WRONG)
        return self._changed(missed=missed)

    def without_missed(self, name: str = "") -> State:
        """Return a state without the wrong answers that the owner has been told of. With a name, only those of that
        source go.
        """
        if not self.missed or (name and name not in self.missed):
            return self
        return self._changed(missed=_without(self.missed, name) if name else {})

    def with_source(self, name: str, when: int) -> State:
        """Return a state with a success of a source, in Unix seconds."""
        return self._changed(sources=_with(self.sources, name, when, MAX_SOURCES))

    def with_grace(self, name: str, when: int, uptime_s: int) -> State:
        """Return a state in which a code was accepted from a source for a service."""
        return self._changed(graces=_with(self.graces, name, (max(0, when), uptime_s), MAX_GRACES))

    def without_graces(self) -> State:
        """Return a state without times of grace, so that every service asks for a code again."""
        return self._changed(graces={})

    def without_waits(self) -> State:
        """Return a state without wrong answers, so that nobody has to wait."""
        return self._changed(wrong={}, notes={})

    def with_issued(
        self, set_name: str, digest: str, *, since: int, until: int, boot: str = "", uptime_s: int = 0
    ) -> State:
        """Return a state with a code that an administrator issues. An earlier issued code becomes invalid."""
        return self._changed(issued={set_name: (digest, since, until, boot or NO_BOOT, uptime_s, 1)})

    def with_issued_used(self, set_name: str) -> State:
        """Return a state in which the issued code is used."""
        *words, _ = self.issued[set_name]
        return self._changed(issued={set_name: (*words, 0)})

    def without_issued(self) -> State:
        """Return a state without an issued code."""
        return self._changed(issued={})

    def without_issued_until(self, when: int) -> State:
        """Return a state without a code that was issued up to a moment, in Unix seconds."""
        return self.without_issued() if any(since <= when for _, since, *_ in self.issued.values()) else self

    def with_uses_of(self, older: State) -> State:
        """Return a state that also has the uses which only an older state of the same user knows, such as a backup's.
        Nothing else of the older one counts.
        """
        only = older.last.keys() - self.last.keys()
        last = {each: older.last[each] for each in older.last if each in only}
        last |= {each: max(counter, older.last.get(each, NEVER)) for each, counter in self.last.items()}
        spent = {each: older.spent[each] for each in older.spent if each not in self.spent}
        spent |= {each: tuple(dict.fromkeys((*older.spent.get(each, ()), *self.spent[each]))) for each in self.spent}
        drift, when = (
            {**{each: known[each] for each in known if each in only}, **present}
            for known, present in ((older.drift, self.drift), (older.when, self.when))
        )
        return self._changed(last=last, spent=spent, drift=drift, when=when)


def _with(records: dict[str, _Value], name: str, value: _Value, most: int = 0) -> dict[str, _Value]:
    """Return the records with one changed, which becomes the newest. If there are more than `most`, the oldest ones are
    dropped; 0 means no limit.
    """
    changed = _without(records, name)
    changed[name] = value
    while most and len(changed) > most:
        del changed[next(iter(changed))]
    return changed


def _without(records: dict[str, _Value], name: str) -> dict[str, _Value]:
    return {each: records[each] for each in records if each != name}


def _only(records: dict[str, _Value], names: dict[str, int]) -> dict[str, _Value]:
    return {each: records[each] for each in records if each in names}


def within_bounds(state: State, live: frozenset[str]) -> State:
    """Return a state without the oldest records of tokens and recovery sets that are not enrolled, until the rest fits.

    Args:
        state: with any number of records.
        live: fingerprints of the enrolled tokens, and names of their recovery sets. Their records are never dropped.

    Raises:
        ValueError: the rest does not fit even then.
    """
    if len(state.last) <= MAX_RECORDS and len(state.spent) <= MAX_SETS:
        return state
    last, spent = dict(state.last), dict(state.spent)
    for records, most in ((last, MAX_RECORDS), (spent, MAX_SETS)):
        for name in [each for each in records if each not in live][: max(0, len(records) - most)]:
            del records[name]
        if len(records) > most:
            raise ValueError("more live records than there is room for")
    return state._changed(last=last, spent=spent, drift=_only(state.drift, last), when=_only(state.when, last))


def with_volatile(stored: State | None, volatile: State, *, newer: bool) -> State:
    """Return the state file combined with the record that replaced it for a time.

    Args:
        stored: the file's state; None when the file is empty.
        volatile: the record's state. It has no use of a recovery code or an issued code that the file lacks.
        newer: the record was written after the file.
    """
    state = stored or State.new()
    for fingerprint, counter in volatile.last.items():
        state = state.with_last(fingerprint, counter)
    return volatile._changed(last=state.last, spent=state.spent, issued=state.issued) if newer else state


def moved_onto(leftover: State, live: State, fingerprints: set[str]) -> State:
    """Return the combined state for a token file that moves to another place.

    Args:
        leftover: the old state at the new place. It can add uses, and never remove one.
        live: the state at the old place.
        fingerprints: of the tokens that move. If `live` has lost a record of these, it stays lost: `leftover` may know
            less.
    """
    unknown = {*fingerprints, *live.last}
    last = {each: counter for each, counter in leftover.last.items() if each not in unknown}
    last |= {each: max(counter, leftover.last.get(each, NEVER)) for each, counter in live.last.items()}
    spent = {name: tuple(dict.fromkeys((*leftover.spent.get(name, ()), *live.spent[name]))) for name in live.spent}
    return live._changed(last=last, spent=spent)
