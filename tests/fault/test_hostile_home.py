"""Log in with a hostile home: each of `.softtoken`, `tokens` and `state` as everything that it should not be.

Each case is a denial within two seconds, with the reason in the log. Nothing outside the home changes: neither the
target of a link nor the place where a dangling link points.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.account import Person, Phone, resident_of
from tests.support.client import PAM_AUTH_ERR, Outcome, Service
from tests.support.installation import Installation
from tests.support.listing import listing
from tests.support.pam_scene import ALERT, ERR, NO_CODES, NOTICE, PROMPT, Pam, severities
from tests.support.process import shortest_s
from tests.support.system_log import SystemLog

BOUND_S = 2
NOBODY = 65534
ZERO = os.makedev(1, 5)

STORE, TOKENS, STATE = ".softtoken", ".softtoken/tokens", ".softtoken/state"
INSECURE, UNUSABLE = "insecure_file", "unusable_file"
A_LINK = (INSECURE, "is a symbolic link")
NOT_A_DIRECTORY = (UNUSABLE, "Not a directory")
NOT_A_FILE = (INSECURE, "is not a regular file")
NO_PERMISSION = (UNUSABLE, "Permission denied")
BAD_TOKENS = ("bad_token_file", "")
BAD_STATE = ("damaged_state", "neither of its two records is whole")


class Scene:
    """Alice's home, and a place outside that everybody can write.

    Attributes:
        alice: the owner of the home.
        phone: the token of the owner.
        outside: the place.
    """

    def __init__(self, alice: Person, phone: Phone, outside: Path) -> None:
        self.alice = alice
        self.phone = phone
        self.outside = outside

    def of_alice(self, path: Path, mode: int) -> None:
        """Change mode and owner to Alice, so that the owner is no reason to refuse the file."""
        path.chmod(mode)
        os.chown(path, self.alice.uid, self.alice.gid)

    def move_outside(self, path: Path) -> Path:
        """Move the real file outside."""
        return Path(shutil.move(path, self.outside / path.name))

    def make_file(self, path: Path) -> Path:
        """Replace the real file with an empty file that belongs to Alice."""
        _remove(path)
        path.touch(0o600)
        self.of_alice(path, 0o600)
        return path


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def link_to_what_would_do(path: Path, scene: Scene) -> None:
    """Replace the file with a link to it. The link is the only fault."""
    path.symlink_to(scene.move_outside(path))


def link_to_what_is_roots(path: Path, scene: Scene) -> None:
    """Replace the file with a link to it, and change its owner to root."""
    true = scene.move_outside(path)
    for each in [true, *true.rglob("*")]:
        os.chown(each, 0, 0)
    path.symlink_to(true)


def link_to_what_everybody_can_write(path: Path, scene: Scene) -> None:
    """Replace the file with a link to it. Another user owns the file, and everybody can write to it."""
    true = scene.move_outside(path)
    for each in [true, *true.rglob("*")]:
        os.chown(each, NOBODY, NOBODY)
        each.chmod(0o777 if each.is_dir() else 0o666)
    path.symlink_to(true)


def dangling_link(path: Path, scene: Scene) -> None:
    """Replace the file with a link to a path that does not exist but could be created."""
    _remove(path)
    path.symlink_to(scene.outside / "nothing")


def link_to_itself(path: Path, scene: Scene) -> None:
    """Replace the file with a link to itself."""
    _remove(path)
    path.symlink_to(path)


def hard_link(path: Path, scene: Scene) -> None:
    """Add a hard link to the file outside the home."""
    os.link(path, scene.outside / "other-name")


def hard_link_to_what_is_roots(path: Path, scene: Scene) -> None:
    """Add a hard link outside the home, and change the owner of the file to root."""
    hard_link(path, scene)
    os.chown(path, 0, 0)
    path.chmod(0o666)


def fifo(path: Path, scene: Scene) -> None:
    """Replace the file with a FIFO. An unguarded open would wait for ever."""
    _remove(path)
    os.mkfifo(path)
    scene.of_alice(path, 0o600)


def unix_socket(path: Path, scene: Scene) -> None:
    """Replace the file with a socket, which cannot be opened."""
    _remove(path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
    scene.of_alice(path, 0o600)


def device(path: Path, scene: Scene) -> None:
    """Replace the file with a device that never ends."""
    _remove(path)
    try:
        os.mknod(path, 0o020600, ZERO)
    except PermissionError:
        pytest.skip("needs CAP_MKNOD: it makes a device file")
    scene.of_alice(path, 0o600)


def directory(path: Path, scene: Scene) -> None:
    """Replace the file with a directory."""
    _remove(path)
    path.mkdir()
    scene.of_alice(path, 0o700)


def empty_file(path: Path, scene: Scene) -> None:
    """Replace the file with an empty file."""
    scene.make_file(path)


def endless_file(path: Path, scene: Scene) -> None:
    """Replace the file with a gigabyte of zeros."""
    os.truncate(scene.make_file(path), 1 << 30)


def file_of_zeros(path: Path, scene: Scene) -> None:
    """Replace the file with 8192 NUL bytes, the size of a state file."""
    scene.make_file(path).write_bytes(bytes(8192))


def endless_true_file(path: Path, scene: Scene) -> None:
    """Add a gigabyte of zeros to the content of an enrolment."""
    os.truncate(path, 1 << 30)


def of_somebody_else(path: Path, scene: Scene) -> None:
    """Change the owner to another user. The group of Alice can still read and write the file."""
    os.chown(path, NOBODY, scene.alice.gid)
    path.chmod(path.stat().st_mode | 0o070)


def of_root_and_usable(path: Path, scene: Scene) -> None:
    """Change the owner to root. The group of Alice can still read and write the file."""
    os.chown(path, 0, scene.alice.gid)
    path.chmod(path.stat().st_mode | 0o070)


def of_root(path: Path, scene: Scene) -> None:
    """Change the owner and the group to root."""
    os.chown(path, 0, 0)


def open_to_its_group(path: Path, scene: Scene) -> None:
    """Allow the group to write to the file."""
    path.chmod(path.stat().st_mode | 0o020)


def open_to_everybody(path: Path, scene: Scene) -> None:
    """Allow everybody to write to the file."""
    path.chmod(path.stat().st_mode | 0o002)


def readable_by_others(path: Path, scene: Scene) -> None:
    """Allow other users to read the keys."""
    path.chmod(0o604)


def closed(path: Path, scene: Scene) -> None:
    """Remove all rights, including the owner's."""
    path.chmod(0)


# The trap, and the reason and words in the log for each place where it can stand.
TRAPS: list[tuple[Callable[[Path, Scene], None], dict[str, tuple[str, str]]]] = [
    (link_to_what_would_do, {STORE: A_LINK, TOKENS: A_LINK, STATE: A_LINK}),
    (link_to_what_is_roots, {STORE: A_LINK, TOKENS: A_LINK, STATE: A_LINK}),
    (link_to_what_everybody_can_write, {STORE: A_LINK, TOKENS: A_LINK, STATE: A_LINK}),
    (dangling_link, {STORE: A_LINK, TOKENS: A_LINK, STATE: A_LINK}),
    (link_to_itself, {STORE: A_LINK, TOKENS: A_LINK, STATE: A_LINK}),
    (hard_link, {TOKENS: (INSECURE, "has 2 links"), STATE: (INSECURE, "has 2 links")}),
    (hard_link_to_what_is_roots, {TOKENS: (INSECURE, "has 2 links"), STATE: (INSECURE, "has 2 links")}),
    (fifo, {STORE: NOT_A_DIRECTORY, TOKENS: NOT_A_FILE, STATE: NOT_A_FILE}),
    (unix_socket, {STORE: NOT_A_DIRECTORY, TOKENS: (UNUSABLE, "No such device"), STATE: (UNUSABLE, "No such device")}),
    (device, {STORE: NOT_A_DIRECTORY, TOKENS: NOT_A_FILE, STATE: NOT_A_FILE}),
    (directory, {TOKENS: NOT_A_FILE, STATE: (UNUSABLE, "Is a directory")}),
    # An emptied state counts as lost: then the present time step counts as used.
    (empty_file, {STORE: NOT_A_DIRECTORY, TOKENS: BAD_TOKENS, STATE: ("replayed", "")}),
    (endless_file, {STORE: NOT_A_DIRECTORY, TOKENS: BAD_TOKENS, STATE: BAD_STATE}),
    (endless_true_file, {TOKENS: BAD_TOKENS, STATE: BAD_STATE}),
    (file_of_zeros, {STORE: NOT_A_DIRECTORY, TOKENS: BAD_TOKENS, STATE: BAD_STATE}),
    (of_somebody_else, dict.fromkeys((STORE, TOKENS, STATE), (INSECURE, f"belongs to uid {NOBODY}"))),
    (of_root_and_usable, dict.fromkeys((STORE, TOKENS, STATE), (INSECURE, "belongs to uid 0"))),
    (of_root, dict.fromkeys((STORE, TOKENS, STATE), NO_PERMISSION)),
    (open_to_its_group, {STORE: (INSECURE, "others can write it (mode 0720)"), **dict.fromkeys(
        (TOKENS, STATE), (INSECURE, "is open to others (mode 0620)"))}),
    (open_to_everybody, {STORE: (INSECURE, "others can write it (mode 0702)"), **dict.fromkeys(
        (TOKENS, STATE), (INSECURE, "is open to others (mode 0602)"))}),
    (readable_by_others, dict.fromkeys((TOKENS, STATE), (INSECURE, "is open to others (mode 0604)"))),
    (closed, dict.fromkeys((STORE, TOKENS, STATE), NO_PERMISSION)),
]  # fmt: skip
SEVERITY = {INSECURE: ALERT, UNUSABLE: ERR, "bad_token_file": ALERT, "damaged_state": ALERT, "replayed": NOTICE}
CASES = [(trap, place, *said) for trap, places in TRAPS for place, said in places.items()]


@pytest.fixture(scope="module")
def resident(world: Path) -> Iterator[Person]:
    """The one user of all traps: creating one takes longer than a login."""
    with resident_of(world / "homes-hostile") as person:
        yield person


@pytest.fixture
def scene(resident: Person, installed: Installation, world: Path) -> Iterator[Scene]:
    """A home as it is after an enrolment."""
    outside = world / "outside-hostile"
    outside.mkdir(mode=0o777)
    outside.chmod(0o777)
    yield Scene(resident, resident.enrol(installed, "--period=300", NO_CODES), outside)
    shutil.rmtree(outside)
    if resident.store.is_symlink():
        resident.store.unlink()
    else:
        _remove(resident.store)


@pytest.mark.parametrize(
    ("trap", "place", "reason", "words"), CASES, ids=[f"{place}-{trap.__name__}" for trap, place, _, _ in CASES]
)
@pytest.mark.claim(
    "Links, pipes and files of others in `~/.softtoken` are refused within seconds, and nothing outside "
    "the home changes."
)
def test_hostile_home__is_denied_within_seconds_and_nothing_outside_changes(
    pam: Pam,
    scene: Scene,
    system_log: SystemLog,
    trap: Callable[[Path, Scene], None],
    place: str,
    reason: str,
    words: str,
) -> None:
    trap(scene.alice.home / place, scene)
    code = scene.phone.totp()
    before = listing(scene.outside)
    outcomes: list[Outcome] = []

    def log_in(service: Service, run_as: Person | None) -> None:
        outcomes.append(service.log_in(scene.alice, code, run_as=run_as))

    for service in (pam.service(), pam.only_ignore("nullok")):
        for run_as in (None, scene.alice):
            deny = partial(log_in, service, run_as)
            assert shortest_s(deny, within_s=BOUND_S) < BOUND_S
    assert {outcome.result for outcome in outcomes} == {PAM_AUTH_ERR}
    assert all(outcome.messages == PROMPT for outcome in outcomes)
    assert listing(scene.outside) == before
    assert system_log.reasons() == len(outcomes) * [reason]
    assert severities(system_log) == len(outcomes) * [SEVERITY[reason]]
    for fields in system_log.outcomes():
        assert words in fields.get("detail", "")
        assert f"{scene.alice.home / place}: " in fields.get("detail", "") or reason == "replayed"
