"""Look at the token files that the host's seal key can seal, and write them again: sealed with another key, or plain.

These are the files directly below root's directory, of whatever account, so that an account that is gone keeps no file
that nobody can open. Each is changed under its user's lock, which every writer holds from the moment when it reads the
key. `host_key` has the order in which keys and files change.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from pam_softtoken.account import entries, host_key, places, replace, safe_open, seal, token_file
from pam_softtoken.account.editor import LOCK_TIMEOUT_S
from pam_softtoken.account.host_key import HostKeys
from pam_softtoken.account.location import STATE, TOKENS
from pam_softtoken.account.moving import ASIDE
from pam_softtoken.errors import BadTokenFile, InsecureFile, PathError

_LOOKS = 5
_LEFT_BEHIND = re.compile(r"\.tokens\.[0-9a-f]{16}")
"""A file that a killed program has not put in place, with keys in it."""


class TokenFileSeen(NamedTuple):
    """One token file.

    Args:
        path: its path.
        key_id: the id of the key that sealed it; empty if it is plain.
        problem: why it cannot be read, or opened with the present keys; empty otherwise.
        needs_key: another key would open it.
    """

    path: str
    key_id: str
    problem: str
    needs_key: bool = False


def look(keys: HostKeys | None) -> list[TokenFileSeen]:
    """Read all token files, and lock nothing. If a directory is renamed meanwhile, all are read again.

    Args:
        keys: the keys that should open them.
    """
    found: list[TokenFileSeen] = []
    for _ in range(_LOOKS):
        paths = directories()
        found = [seen for path in paths for seen in _look_into(path, keys)]
        if directories() == paths:
            break
    return found


def directories() -> list[str]:
    """Return the paths of all users' directories."""
    return [f"{places.DATA}/{name}" for name in entries.directories_in(places.DATA)]


def _look_into(path: str, keys: HostKeys | None) -> Iterator[TokenFileSeen]:
    try:
        directory = _open(path)
    except (FileNotFoundError, PathError):
        return  # a login refuses the directory itself, and `doctor` says so
    try:
        for name in (TOKENS, ASIDE):
            try:
                data = _read(f"{path}/{name}", directory)
            except PathError as error:
                yield TokenFileSeen(error.path, "", error.why)
                continue
            if data is not None:
                yield _seen(f"{path}/{name}", data, keys)
    finally:
        os.close(directory)


def _seen(path: str, data: bytes, keys: HostKeys | None) -> TokenFileSeen:
    if not data.startswith(seal.MAGIC):
        return TokenFileSeen(path, "", "")
    try:
        name = seal.key_id_of(data)
    except ValueError:
        return TokenFileSeen(path, "?", "was changed")
    key = keys.by_id().get(name) if keys is not None else None
    if key is None:
        return TokenFileSeen(
            path, name, f"is sealed with the key {name!a}, which this host does not have", needs_key=True
        )
    try:
        seal.unseal(key, data, host_key.PLACE)
    except ValueError as error:
        return TokenFileSeen(path, name, str(error))
    return TokenFileSeen(path, name, "")


def rewrite(path: str, keys: HostKeys) -> int:
    """Write the token files of one user again, as the keys say, where they are not so yet.

    Args:
        path: the user's directory.
        keys: those that open, and the one that seals. If there is none, the files become plain.

    Returns:
        How many files were written.

    Raises:
        PathError: the user's files are as before, or all are done but one.
    """
    try:
        directory = _open(path)
    except FileNotFoundError:
        return 0
    try:
        with _locked(path, directory) as has_tokens:
            if not has_tokens:
                return 0
            for name in filter(_LEFT_BEHIND.fullmatch, os.listdir(directory)):
                replace.remove(f"{path}/{name}", below=directory)
            return sum(_rewrite_file(f"{path}/{name}", directory, keys) for name in (TOKENS, ASIDE))
    finally:
        os.close(directory)


@contextmanager
def _locked(path: str, directory: int) -> Iterator[bool]:
    """Hold the lock of a user's files for the length of the block. The value is whether there is anything to lock."""
    names = set(os.listdir(directory))
    if not names & {TOKENS, ASIDE, STATE} and not any(map(_LEFT_BEHIND.fullmatch, names)):
        yield False
        return
    state_path = f"{path}/{STATE}"
    state, _ = safe_open.open_or_make_file(state_path, os.O_RDWR, below=directory, owner=os.geteuid())
    try:
        safe_open.lock(state, LOCK_TIMEOUT_S, path=state_path)
        if not safe_open.is_in_place(state, state_path, below=directory):
            raise InsecureFile(state_path, "was replaced while another process had it")
        yield True
    finally:
        os.close(state)


def _rewrite_file(path: str, directory: int, keys: HostKeys) -> int:
    data = _read(path, directory)
    if data is None:
        return 0
    wanted = seal.key_id(keys.sealing) if keys.sealing is not None else ""
    seen = _seen(path, data, keys)
    if seen.problem:
        raise BadTokenFile(path, seen.problem)
    if seen.key_id == wanted:
        return 0
    text = seal.unseal(keys.by_id()[seen.key_id], data, host_key.PLACE) if seen.key_id else data
    if len(text) > token_file.MAX_BYTES:
        raise BadTokenFile(path, f"is larger than {token_file.MAX_BYTES} bytes")
    replace.Replacement(path, host_key.sealed_with(keys, text), below=directory).put()
    return 1


def rewrite_all(keys: HostKeys, advance: Callable[[], None]) -> tuple[int, list[PathError]]:
    """Write the token files of all users again, as `rewrite` does.

    Args:
        keys: as there.
        advance: called after each user.

    Returns:
        How many files were written, and what could not be written.
    """
    written, failures = 0, []
    for path in directories():
        try:
            written += rewrite(path, keys)
        except PathError as error:
            failures.append(error)
        advance()
    return written, failures


def _open(path: str) -> int:
    return safe_open.open_directory(path, below=None, owner=os.geteuid())


def _read(path: str, directory: int) -> bytes | None:
    try:
        descriptor = safe_open.open_file(path, os.O_RDONLY, below=directory, owner=os.geteuid())
    except FileNotFoundError:
        return None
    try:
        return safe_open.read(descriptor, token_file.MAX_FILE_BYTES, path=path)
    finally:
        os.close(descriptor)
