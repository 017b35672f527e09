"""Exchange parts of a path, as fast as possible, while root opens it: for that user, for another, for writing.

Root opens only the user's own file, or the open is refused. Nothing is created where a link points.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pam_softtoken.account.safe_open import Account
from pam_softtoken.account.user_path import NamedFiles
from pam_softtoken.errors import PathError
from tests.fault.test_rename_race import _EXCHANGE, restless
from tests.support.account import Person
from tests.support.listing import listing

TRIES, MOST_TRIES = 2000, 200_000
OWN, OTHERS = b"the user's own", b"another user's"


def account_of(person: Person) -> Account:
    """Return a person as the program knows them."""
    return Account(person.name, person.uid, person.gid, home=str(person.home))


def tries(is_race: Callable[[], bool]) -> Iterator[int]:
    """Count tries: a minimum, and more until both sides have had their turn."""
    for number in range(MOST_TRIES):
        if number >= TRIES and is_race():
            return
        yield number
    raise AssertionError("it was no race")


def scene_of(alice: Person, bob: Person, part: str) -> tuple[Path, Path, Path]:
    """Create `a/b/file` in both homes, and a link of Alice's to one part of Bob's.

    Returns:
        The file that is opened, the part of its path that is exchanged, and the link.
    """
    for person, content in ((alice, OWN), (bob, OTHERS)):
        directory = person.home / "a" / "b"
        directory.mkdir(parents=True)
        (directory / "file").write_bytes(content)
        for path in (person.home / "a", directory, directory / "file"):
            os.chown(path, person.uid, person.gid)
        (directory / "file").chmod(0o600)
    link = alice.home / "link"
    link.symlink_to(bob.home / part)
    os.chown(link, alice.uid, alice.gid, follow_symlinks=False)
    return alice.home / "a" / "b" / "file", alice.home / part, link


@pytest.mark.parametrize("part", ["a", "a/b", "a/b/file"])
def test_race__root_reads_a_file_of_the_user_or_none(make_person: Callable[[], Person], part: str) -> None:
    alice, bob = make_person(), make_person()
    path, exchanged, link = scene_of(alice, bob, part)
    before = listing(bob.home)
    seen: Counter[str] = Counter()
    both = {OWN.decode(), f"Permission denied (opened as {alice.name})"}
    with restless(alice, _EXCHANGE, exchanged, link):
        for _ in tries(lambda: both <= set(seen)):
            try:
                seen[NamedFiles(account_of(alice)).read(str(path), 100).decode()] += 1
            except PathError as error:
                seen[error.why] += 1
            with pytest.raises(PathError):
                NamedFiles().read(str(path), 100)
    assert OTHERS.decode() not in seen
    assert listing(bob.home) == before


@pytest.mark.parametrize("part", ["a", "a/b"])
def test_race__root_creates_a_file_in_a_directory_of_the_user_or_none(
    make_person: Callable[[], Person], part: str
) -> None:
    alice, bob = make_person(), make_person()
    path, exchanged, link = scene_of(alice, bob, part)
    before = listing(bob.home)
    seen: Counter[str] = Counter()
    with restless(alice, _EXCHANGE, exchanged, link):
        for _ in tries(lambda: len(seen) == 2):
            new = path.with_name("new")
            try:
                file = NamedFiles(account_of(alice)).make(str(new))
            except PathError:
                seen["refused"] += 1
                continue
            seen["made"] += 1
            file.fill(OWN)
            file.discard()
            file.close()
            with suppress(PathError):
                NamedFiles(account_of(bob)).make(str(new)).discard()
    assert listing(bob.home) == before


def test_race__link_in_a_shared_directory_is_never_followed_as_root(
    make_person: Callable[[], Person], outside: Path
) -> None:
    """In /tmp a user's file takes turns with a link to another user's file."""
    alice, bob = make_person(), make_person()
    shared = outside / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    _, _, link = scene_of(alice, bob, "a/b/file")
    link.rename(shared / "link")
    (shared / "file").write_bytes(OWN)
    os.chown(shared / "file", alice.uid, alice.gid)
    seen: Counter[str] = Counter()
    with restless(alice, _EXCHANGE, shared / "file", shared / "link"):
        for _ in tries(lambda: OWN.decode() in seen and len(seen) > 2):
            for files in (NamedFiles(account_of(alice)), NamedFiles(account_of(bob)), NamedFiles()):
                try:
                    seen[files.read(str(shared / "file"), 100).decode()] += 1
                except PathError as error:
                    seen[error.why] += 1
    assert OTHERS.decode() not in seen
