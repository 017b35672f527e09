"""What this host has accepted from the tokens of a realm. It is a second, local memory: if the cluster is set back to
an older state, such as by a backup, the codes that this host has accepted still count as used here. It only ever adds.

The file has the form of a state file. Root alone can read it.
"""

from __future__ import annotations

import os

from pam_softtoken.account import places, roots_files, safe_open, state_format
from pam_softtoken.account.file_faults import words_of
from pam_softtoken.account.state import NEVER, State
from pam_softtoken.errors import UnusableFile
from pam_softtoken.otp.mac import sha256

LOCK_TIMEOUT_S = 0.5


def path_of(realm: str, user: str) -> str:
    """Return the path of a user's record."""
    digest = sha256(f"{realm}\0{user}".encode("utf-8", "surrogateescape")).hexdigest()[:32]
    return f"{places.FLEET}/{digest}"


def read(path: str) -> State | None:
    """Read a record; None if there is none.

    Raises:
        DamagedState: it is not whole.
        InsecureFile, UnusableFile: it cannot be trusted or read.
    """
    try:
        below = safe_open.open_directory(places.FLEET, below=None, owner=os.geteuid())
    except FileNotFoundError:
        return None
    try:
        descriptor = safe_open.open_file(path, os.O_RDONLY, below=below, owner=os.geteuid())
    except FileNotFoundError:
        return None
    finally:
        os.close(below)
    try:
        return _read(descriptor, path)[1]
    finally:
        os.close(descriptor)


def combined(present: State | None, record: State | None) -> State | None:
    """Return a state in which what the record has counts as used, too."""
    if record is None:
        return present
    state = present or State.new()
    for fingerprint, counter in record.last.items():
        if counter > state.last.get(fingerprint, NEVER):
            state = state.with_last(fingerprint, counter)
    for name, codes in record.spent.items():
        for code in codes:
            if code not in state.spent.get(name, (code,)):
                state = state.with_spent(name, code)
    return state


def add(path: str, state: State, live: frozenset[str]) -> None:
    """Add what a state knows to have been used. `live` is as for `state_format.encode`.

    Raises:
        SoftTokenError: it is not recorded.
    """
    _make_directory()
    below = safe_open.open_directory(places.FLEET, below=None, owner=os.geteuid())
    descriptor = -1
    try:
        descriptor, _ = safe_open.open_or_make_file(path, os.O_RDWR, below=below, owner=os.geteuid())
        safe_open.lock(descriptor, LOCK_TIMEOUT_S, path=path)
        sequence, present = _read(descriptor, path)
        new = _with_added(present or State(), state)
        if present is not None and new.last == present.last and new.spent == present.spent:
            return
        if sequence:
            slot = state_format.encode(new, sequence + 1, live)
            safe_open.overwrite(descriptor, slot, state_format.place_of(sequence + 1), path=path)
        else:
            safe_open.fill_new(descriptor, state_format.encode_first(new, live)[1], below=below, path=path)
    finally:
        if descriptor >= 0:
            os.close(descriptor)
        os.close(below)


def forget(path: str) -> None:
    """Remove a record. An administrator has started the record of the realm anew.

    Raises:
        UnusableFile: it is still there.
    """
    roots_files.remove(path)


def _with_added(record: State, state: State) -> State:
    """Return a record with what a state knows to have been used. An older state may lack a set of recovery codes."""
    used = State(last=state.last, spent=state.spent)
    new = combined(used, record) or used
    return State(last=new.last, spent={**record.spent, **new.spent})


def _read(descriptor: int, path: str) -> tuple[int, State | None]:
    data = safe_open.read(descriptor, state_format.FILE_BYTES, path=path)
    return state_format.decode(data, path=path) if data else (0, None)


def _make_directory() -> None:
    if os.path.isdir(places.FLEET):
        return
    try:
        roots_files.make_directory(places.DATA)
        safe_open.make_directory(places.FLEET, below=None, made=[])
    except OSError as error:
        raise UnusableFile(places.FLEET, words_of(error)) from None
