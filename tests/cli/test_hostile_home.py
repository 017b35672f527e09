"""Enrol in homes that cannot or must not be written: full, read-only, another user's, full of traps."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pam_softtoken.account.state_format import SLOT_BYTES
from tests.support.account import Person, Phone
from tests.support.client import PAM_SUCCESS, Service
from tests.support.disk import fill, take_all_files
from tests.support.enroller import CODE_PROMPT, ENTER_PROMPT, Enroller, Mistake
from tests.support.installation import Installation
from tests.support.listing import listing

SCRIPT = ("--no-confirm", "--json", "--period=300", "--recovery-codes=0")
NOBODY = 65534


@pytest.mark.parametrize("exhaust", [fill, take_all_files], ids=["blocks", "inodes"])
def test_enroll__full_disk_is_one_error_and_leaves_nothing(
    enroller: Enroller, alice: Person, small_home: Path, exhaust: Callable[[Path], object]
) -> None:
    exhaust(small_home)
    before = listing(small_home)
    with enroller.start(person=alice) as dialogue:
        mistake = dialogue.refused()
    assert mistake.before == "", "nobody should scan a key that cannot be kept"
    assert "No space left on device; nothing was changed" in mistake.error
    assert "room" in mistake.hint
    assert listing(small_home) == before
    for options in (SCRIPT, (*SCRIPT, "--user", alice.name)):
        person = None if "--user" in options else alice
        assert "No space left" in enroller.run(*options, person=person).refused().error
    assert listing(small_home) == before


def test_enroll__disk_that_fills_up_during_the_dialogue_leaves_nothing(
    enroller: Enroller, alice: Person, small_home: Path
) -> None:
    with enroller.start("--period=300", person=alice) as dialogue:
        dialogue.expect(CODE_PROMPT)
        dialogue.type(dialogue.phone().totp())
        dialogue.expect(ENTER_PROMPT)
        fill(small_home)
        dialogue.type("")
        assert "No space left on device; nothing was changed" in dialogue.refused().error
    assert sorted(path.name for path in small_home.iterdir()) == ["filler"]


@pytest.mark.parametrize("exhaust", [fill, take_all_files], ids=["blocks", "inodes"])
def test_enroll__full_disk_keeps_the_earlier_token_working(
    enroller: Enroller,
    installed: Installation,
    alice: Person,
    service: Service,
    *,
    small_home: Path,
    exhaust: Callable[[Path], object],
) -> None:
    phone = alice.enrol(installed, "--period=300", "--recovery-codes=1")
    tokens = (alice.store / "tokens").read_bytes()
    exhaust(small_home)
    assert "No space left" in enroller.run(*SCRIPT, "--force", person=alice).refused().error
    assert (alice.store / "tokens").read_bytes() == tokens
    assert sorted(os.listdir(alice.store)) == ["state", "tokens"]
    assert service.log_in(alice, phone.totp()).result == PAM_SUCCESS
    assert service.log_in(alice, phone.recovery_codes[0]).result == PAM_SUCCESS


@pytest.mark.parametrize("size", [1024, 5120])
def test_enroll__first_state_cut_short_does_not_lock_the_owner_out(
    enroller: Enroller, installed: Installation, alice: Person, service: Service, size: int
) -> None:
    # A disk with 1 KiB blocks and one free block, made by a limit on the size of files.
    phone = alice.enrol(installed, "--period=300", "--recovery-codes=1")
    (alice.store / "state").unlink()
    with enroller.after("prlimit", f"--fsize={size}:").start("--force", person=alice) as dialogue:
        dialogue.refused()
    # The state was missing, so the code of the next step is the first one that works.
    assert service.log_in(alice, phone.totp(1)).result == PAM_SUCCESS


def close_home(alice: Person) -> None:
    """Remove the write permission of the home, the owner's as well."""
    alice.home.chmod(0o500)


def open_home_to_group(alice: Person) -> None:
    """Allow the user's group to write to the home."""
    alice.home.chmod(0o775)


def open_home_to_all(alice: Person) -> None:
    """Allow everybody to write to the home."""
    alice.home.chmod(0o777)


def give_home_away(alice: Person) -> None:
    """Change the owner of the home to another user."""
    os.chown(alice.home, NOBODY, NOBODY)


def store_is_a_link(alice: Person) -> None:
    """Create ~/.softtoken as a link to another directory of the user."""
    (alice.home / "elsewhere").mkdir(mode=0o700)
    os.chown(alice.home / "elsewhere", alice.uid, alice.gid)
    alice.store.symlink_to("elsewhere")


def store_is_a_dangling_link(alice: Person) -> None:
    """Create ~/.softtoken as a link to a path that does not exist."""
    alice.store.symlink_to("nowhere")


def store_is_a_file(alice: Person) -> None:
    """Create ~/.softtoken as a file."""
    alice.store.write_bytes(b"precious")
    os.chown(alice.store, alice.uid, alice.gid)


def make_store(alice: Person) -> Path:
    """Create an empty ~/.softtoken, as enrolment does, and return its path."""
    alice.store.mkdir(mode=0o700)
    os.chown(alice.store, alice.uid, alice.gid)
    return alice.store


def store_of_somebody_else(alice: Person) -> None:
    """Create ~/.softtoken, owned by another user."""
    make_store(alice).chmod(0o755)
    os.chown(alice.store, NOBODY, NOBODY)


def store_of_root(alice: Person) -> None:
    """Create ~/.softtoken, owned by root."""
    make_store(alice).chmod(0o755)
    os.chown(alice.store, 0, 0)


def store_open_to_group(alice: Person) -> None:
    """Create ~/.softtoken so that the group can write to it."""
    make_store(alice).chmod(0o770)


def store_without_access(alice: Person) -> None:
    """Remove the owner's rights to ~/.softtoken."""
    make_store(alice).chmod(0)


def tokens_is_a_link(alice: Person) -> None:
    """Create the token file as a link to another file of the user."""
    (alice.home / "precious").write_bytes(b"precious")
    os.chown(alice.home / "precious", alice.uid, alice.gid)
    (make_store(alice) / "tokens").symlink_to("../precious")


def tokens_is_a_fifo(alice: Person) -> None:
    """Create the token file as a FIFO. An unguarded open would wait for ever."""
    os.mkfifo(make_store(alice) / "tokens", 0o600)
    os.chown(alice.store / "tokens", alice.uid, alice.gid)


def tokens_is_a_directory(alice: Person) -> None:
    """Create the token file as a directory."""
    (make_store(alice) / "tokens").mkdir()
    os.chown(alice.store / "tokens", alice.uid, alice.gid)


def tokens_is_open_to_others(alice: Person) -> None:
    """Create a token file that other users can read."""
    (make_store(alice) / "tokens").write_bytes(b"{}")
    os.chown(alice.store / "tokens", alice.uid, alice.gid)
    (alice.store / "tokens").chmod(0o644)


def state_is_a_link(alice: Person) -> None:
    """Create the state file as a link to another file of the user."""
    (alice.home / "precious").write_bytes(b"precious")
    os.chown(alice.home / "precious", alice.uid, alice.gid)
    (make_store(alice) / "state").symlink_to("../precious")


def state_has_two_names(alice: Person) -> None:
    """Create the state file as a hard link to another file of the user."""
    state_is_a_link(alice)
    (alice.store / "state").unlink()
    (alice.home / "precious").chmod(0o600)
    os.link(alice.home / "precious", alice.store / "state")


def state_is_a_fifo(alice: Person) -> None:
    """Create the state file as a FIFO. An unguarded open would wait for ever."""
    os.mkfifo(make_store(alice) / "state", 0o600)
    os.chown(alice.store / "state", alice.uid, alice.gid)


# The trap, the faulty part, and the fault.
TRAPS: list[tuple[Callable[[Person], object], str, str]] = [
    (close_home, "/.softtoken", "Permission denied"),
    (open_home_to_group, "", "others can write it (mode 0775)"),
    (open_home_to_all, "", "others can write it (mode 0777)"),
    (give_home_away, "", f"belongs to uid {NOBODY}"),
    (store_is_a_link, "/.softtoken", "is a symbolic link"),
    (store_is_a_dangling_link, "/.softtoken", "is a symbolic link"),
    (store_is_a_file, "/.softtoken", "Not a directory"),
    (store_of_somebody_else, "/.softtoken", f"belongs to uid {NOBODY}"),
    (store_of_root, "/.softtoken", "belongs to uid 0"),
    (store_open_to_group, "/.softtoken", "others can write it (mode 0770)"),
    (store_without_access, "/.softtoken", "Permission denied"),
    (tokens_is_a_link, "/.softtoken/tokens", "is a symbolic link"),
    (tokens_is_a_fifo, "/.softtoken/tokens", "is not a regular file"),
    (tokens_is_a_directory, "/.softtoken/tokens", "is not a regular file"),
    (tokens_is_open_to_others, "/.softtoken/tokens", "is open to others (mode 0644)"),
    (state_is_a_link, "/.softtoken/state", "is a symbolic link"),
    (state_has_two_names, "/.softtoken/state", "has 2 links"),
    (state_is_a_fifo, "/.softtoken/state", "is not a regular file"),
]
NAMES = [trap.__name__ for trap, _, _ in TRAPS]
HOME_TRAPS = (close_home, open_home_to_group, open_home_to_all, give_home_away)


@pytest.mark.parametrize(("trap", "place", "words"), TRAPS, ids=NAMES)
def test_enroll__hostile_home_is_one_error_and_is_not_changed(
    enroller: Enroller, alice: Person, trap: Callable[[Person], object], place: str, words: str
) -> None:
    trap(alice)
    before = listing(alice.home)
    # As the user and as root: neither repairs the place.
    mistakes = [
        enroller.run(*SCRIPT, person=alice).refused(),
        enroller.run(*SCRIPT, "--user", alice.name).refused(),
    ]
    if trap in HOME_TRAPS:  # files in the home directory may be replaced, but not the home directory
        mistakes.append(enroller.run(*SCRIPT, "--force", person=alice).refused())
    with enroller.start(person=alice) as dialogue:
        mistakes.append(dialogue.refused())
    assert mistakes[-1].before == ""
    assert listing(alice.home) == before
    assert {mistake.error for mistake in mistakes} == {f"{alice.home}{place}: {words}; nothing was changed"}


def test_enroll__missing_home_is_one_error(enroller: Enroller, alice: Person) -> None:
    moved = alice.home.rename(alice.home.with_suffix(".moved"))
    try:
        for mistake in (
            enroller.run(*SCRIPT, person=alice).refused(),
            enroller.run(*SCRIPT, "--user", alice.name).refused(),
        ):
            assert f"{alice.home}: there is no home directory yet" in mistake.error
        assert not alice.home.exists()
    finally:
        moved.rename(alice.home)


def test_enroll__root_does_not_follow_the_users_link(enroller: Enroller, alice: Person, outside: Path) -> None:
    alice.store.symlink_to(outside)
    before = listing(outside)
    enroller.run(*SCRIPT, "--user", alice.name).refused()
    assert enroller.run(*SCRIPT, "--user", alice.name, "--force").status == 0
    assert listing(outside) == before
    assert not alice.store.is_symlink()


@pytest.mark.parametrize("by_root", [False, True], ids=["user", "root"])
@pytest.mark.parametrize(
    ("trap", "place", "words"),
    [each for each in TRAPS if each[0] not in HOME_TRAPS],
    ids=[each[0].__name__ for each in TRAPS if each[0] not in HOME_TRAPS],
)
def test_enroll__force_replaces_files_that_every_login_refuses(
    enroller: Enroller,
    alice: Person,
    service: Service,
    *,
    trap: Callable[[Person], object],
    place: str,
    words: str,
    by_root: bool,
) -> None:
    trap(alice)
    precious = alice.home / "precious"
    whose = ("--user", alice.name) if by_root else ()
    done = enroller.run(*SCRIPT, "--force", *whose, person=None if by_root else alice)
    assert done.status == 0, done.stderr
    assert service.log_in(alice, Phone(json.loads(done.stdout)).totp()).result == PAM_SUCCESS
    assert not precious.exists() or precious.read_bytes() == b"precious"


@pytest.fixture
def read_only_home(small_home: Path) -> Iterator[Callable[[], None]]:
    """Return a function that remounts Alice's home read-only. After the test the home is writable again."""

    def remount(mode: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{mode}", small_home], check=True)

    yield lambda: remount("ro")
    remount("rw")


def test_enroll__read_only_home_is_one_error(
    enroller: Enroller, installed: Installation, alice: Person, read_only_home: Callable[[], None]
) -> None:
    read_only_home()
    before = listing(alice.home)
    assert "Read-only file system; nothing was changed" in enroller.run(*SCRIPT, person=alice).refused().error
    assert listing(alice.home) == before


def test_enroll__read_only_home_with_a_token_is_one_error(
    enroller: Enroller, installed: Installation, alice: Person, read_only_home: Callable[[], None]
) -> None:
    alice.enrol(installed, "--recovery-codes=0")
    read_only_home()
    before = listing(alice.home)
    mistake = enroller.run(*SCRIPT, "--force", person=alice).refused()
    assert "Read-only file system; nothing was changed" in mistake.error
    assert listing(alice.home) == before


# Files that are damaged.


@pytest.mark.parametrize("content", [b"", b"{", b"\0" * 100, b'{"version": 2}', b" " * 40_000])
def test_enroll__damaged_token_file_is_an_error_until_it_is_replaced(
    enroller: Enroller, installed: Installation, alice: Person, service: Service, content: bytes
) -> None:
    alice.enrol(installed, "--recovery-codes=0")
    (alice.store / "tokens").write_bytes(content)
    before = listing(alice.home)
    mistake = enroller.run(*SCRIPT, person=alice).refused()
    assert "tokens: " in mistake.error
    assert "--force" in mistake.hint
    assert listing(alice.home) == before
    done = enroller.run(*SCRIPT, "--force", person=alice)
    assert done.status == 0, done.stderr
    assert service.log_in(alice, Phone(json.loads(done.stdout)).totp()).result == PAM_SUCCESS


@pytest.mark.parametrize("options", [(), ("--force",)], ids=["new", "force"])
@pytest.mark.parametrize("size", [1, SLOT_BYTES, 2 * SLOT_BYTES])
def test_enroll__damaged_state_is_an_error_and_the_hint_helps(
    enroller: Enroller, installed: Installation, alice: Person, *, service: Service, size: int, options: tuple[str, ...]
) -> None:
    alice.enrol(installed, "--recovery-codes=0")
    state = alice.store / "state"
    state.write_bytes(b"\xff" * size)
    if not options:
        (alice.store / "tokens").unlink()
    before = listing(alice.home)
    mistake = enroller.run(*SCRIPT, *options, person=alice).refused()
    assert f"{state}: neither of its two records is whole" in mistake.error
    assert mistake.hint == f"run: rm {state}"
    assert listing(alice.home) == before
    state.unlink()
    done = enroller.run(*SCRIPT, *options, person=alice)
    assert service.log_in(alice, Phone(json.loads(done.stdout)).totp()).result == PAM_SUCCESS


def test_enroll__one_damaged_slot_is_no_obstacle(
    enroller: Enroller, installed: Installation, alice: Person, service: Service
) -> None:
    phone = alice.enrol(installed, "--period=300", "--recovery-codes=1")
    used = phone.totp()
    assert service.log_in(alice, used).result == PAM_SUCCESS
    state = alice.store / "state"
    slots = state.read_bytes()
    # The slot that is now the older one; its place follows from the sequence number (see `state`).
    first, second = (int.from_bytes(slots[place + 8 : place + 16], "big") for place in (0, SLOT_BYTES))
    older = 0 if first < second else SLOT_BYTES
    with state.open("r+b") as file:
        file.seek(older)
        file.write(b"\xff" * SLOT_BYTES)
    key = str(phone.record["key"]).encode()
    assert enroller.run(*SCRIPT, "--force", "--key-file=-", person=alice, typed=key).status == 0
    assert service.log_in(alice, used).result != PAM_SUCCESS


def test_enroll__refusal_without_force_makes_no_state_file(
    enroller: Enroller, installed: Installation, alice: Person
) -> None:
    alice.enrol(installed, "--recovery-codes=0")
    (alice.store / "state").unlink()
    before = listing(alice.home)
    enroller.run(*SCRIPT, person=alice).refused()
    assert listing(alice.home) == before


def test_enroll__held_lock_is_one_error_within_seconds(
    enroller: Enroller, installed: Installation, alice: Person
) -> None:
    alice.enrol(installed, "--recovery-codes=0")
    # An empty state file belongs to the next login or enrolment, and only under the lock.
    os.truncate(alice.store / "state", 0)
    before = listing(alice.home)
    holder = enroller.after("flock", alice.store / "state")
    done = holder.run(*SCRIPT, "--force", person=alice)
    assert "lock" in Mistake(done.stderr).error
    assert done.status == 1
    assert listing(alice.home) == before
