"""Log in on full and read-only disks: the owner gets in, and a code still works only once."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pam_softtoken.account import state_format
from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.disk import disk_as_home, fill, take_all_files
from tests.support.fault import Troupe, from_the_first_frame
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES, Pam
from tests.support.process import when_left
from tests.support.surroundings import assert_in_once
from tests.support.system_log import SystemLog


@pytest.fixture
def disk(outside: Path) -> Iterator[Path]:
    """A small disk for a root-owned store."""
    options = "size=128k,nr_inodes=32,mode=755"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", outside], check=True)
    yield outside
    when_left("umount", outside)


@pytest.mark.lockout("the disk of the home is full")
@pytest.mark.claim("On a full disk the owner gets in, and each code still works once.")
def test_full_disk__the_owner_gets_in_with_totp_hotp_and_recovery_codes_each_once(
    installed: Installation, service: Service, alice: Person
) -> None:
    with disk_as_home(alice):
        for kind in ("--type=totp", "--type=hotp"):
            phone = alice.enrol(installed, kind, "--force")
            filler = fill(alice.home)
            code = phone.hotp() if kind == "--type=hotp" else phone.totp()
            for answer in (code, phone.recovery_codes[0]):
                assert service.log_in(alice, answer).result == PAM_SUCCESS
                assert service.log_in(alice, answer).result == PAM_AUTH_ERR
            filler.unlink()


@pytest.mark.lockout(
    "the disk of the home is full, and the state file is gone",
    shows="reason=not_stored",
    cure="rm a file of the user's, to make room",
)
def test_full_disk__a_state_that_cannot_be_made_denies_until_there_is_room(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog
) -> None:
    with disk_as_home(alice):
        phone = alice.enrol(installed, "--period=300")
        (alice.store / "state").unlink()
        filler = fill(alice.home)
        assert service.log_in(alice, phone.totp(1)).result == PAM_AUTH_ERR
        assert system_log.reasons() == ["not_stored"]
        filler.unlink()
        assert service.log_in(alice, phone.totp(1)).result == PAM_SUCCESS


@pytest.fixture
def ext4_as_home(alice: Person, outside: Path) -> Iterator[None]:
    """Mount a real file system with a journal as Alice's home. It has 3 MiB and room for 32 files."""
    image = outside / "disk"
    image.touch()
    os.truncate(image, 3 << 20)
    owner = f"root_owner={alice.uid}:{alice.gid}"
    subprocess.run(["mkfs.ext4", "-q", "-b", "1024", "-N", "32", "-E", owner, image], check=True, capture_output=True)
    mount = subprocess.run(["mount", "-o", "loop", image, alice.home], check=False, capture_output=True, text=True)
    if mount.returncode != 0:
        pytest.skip(f"needs a loop device: {mount.stderr}")
    yield
    when_left("umount", alice.home)


@pytest.mark.parametrize(
    "exhaust",
    [
        pytest.param(fill, marks=pytest.mark.lockout("the ext4 file system of the home is full")),
        pytest.param(take_all_files, marks=pytest.mark.lockout("the ext4 file system of the home has no inode left")),
    ],
)
@pytest.mark.usefixtures("ext4_as_home")
def test_ext4__without_a_free_block_or_inode_lets_a_code_in_once(
    installed: Installation, service: Service, alice: Person, exhaust: Callable[[Path], object]
) -> None:
    phone = alice.enrol(installed, "--period=300", NO_CODES)
    exhaust(alice.home)
    assert_in_once(service, alice, phone.totp())


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(fill, marks=pytest.mark.lockout("the disk of root's store is full")),
        pytest.param(take_all_files, marks=pytest.mark.lockout("the disk of root's store has no inode left")),
    ],
)
def test_root_held_store__on_a_full_disk_lets_a_code_in_once(
    installed: Installation, pam: Pam, alice: Person, disk: Path, spoil: Callable[[Path], object]
) -> None:
    store = f"{disk}/%U"
    phone = alice.enrol(installed, "--period=300", NO_CODES, f"--store={store}")
    spoil(disk)
    assert_in_once(pam.service(f"store={store}"), alice, phone.totp())


@pytest.mark.lockout("the disk of root's store is read-only")
def test_root_held_store__on_a_read_only_disk_lets_a_code_in_once(
    installed: Installation, pam: Pam, alice: Person, disk: Path, phone_for_records_in_run: Phone
) -> None:
    alice.forget()
    store = f"{disk}/%U"
    phone = alice.enrol(installed, NO_CODES, f"--store={store}")
    when_left("mount", "-o", "remount,ro", disk)
    assert_in_once(pam.service(f"store={store}"), alice, phone.totp())


@pytest.mark.parametrize(
    ("name", "error", "words"),
    [
        pytest.param(
            "pwrite64",
            "ENOSPC",
            "No space left on device",
            marks=pytest.mark.lockout(
                "a disk that copies each block it writes (btrfs, ZFS) is full",
                shows="No space left on device",
                cure="make room on the disk",
            ),
        ),
        pytest.param(
            "pwrite64",
            "EDQUOT",
            "Disk quota exceeded",
            marks=pytest.mark.lockout(
                "the user's quota is used up on a disk that copies each block it writes",
                shows="Disk quota exceeded",
                cure="setquota, or rm a file of the user's",
            ),
        ),
        pytest.param(
            "openat",
            "ENFILE",
            "Too many open files in system; raise fs.file-max",
            marks=pytest.mark.lockout(
                "the host has no room for another open file (ENFILE)",
                shows="Too many open files in system; raise fs.file-max",
                cure="sysctl fs.file-max=NUMBER",
            ),
        ),
    ],
)
def test_error__of_the_kernel_is_named_and_the_code_works_when_it_is_gone(
    make_troupe: Callable[[str], Troupe], system_log: SystemLog, name: str, error: str, words: str
) -> None:
    """The first such call on the user's files fails, and so do all later ones."""
    stage = make_troupe("totp").lead
    calls = from_the_first_frame(stage.backend_calls(*stage.act.answers))
    call = next(
        call for call in calls if call.name == name and (name != "openat" or str(stage.person.home) in call.text)
    )
    stage.reset()
    system_log.clear()
    assert stage.disturb_backend(call, f"error={error}+", *stage.act.answers) == PAM_AUTH_ERR
    assert words in system_log.outcomes()[0]["detail"]
    assert [stage.log_in(*stage.act.answers) for _ in range(2)] == [PAM_SUCCESS, PAM_AUTH_ERR]


def test_error__of_a_full_table_of_open_files_is_named_by_the_bridge_too(
    make_troupe: Callable[[str], Troupe], system_log: SystemLog
) -> None:
    stage = make_troupe("totp").lead
    (call,) = (call for call in stage.host_calls() if call.name == "socketpair")
    stage.reset()
    system_log.clear()
    assert stage.fail_host(call, "error=ENFILE") == PAM_AUTH_ERR
    assert (
        "cannot start /usr/bin/python3: Too many open files in system; raise fs.file-max"
        in system_log.outcomes()[0]["detail"]
    )
    assert stage.log_in(*stage.act.answers) == PAM_SUCCESS


def test_bad_block__does_not_bring_an_older_record_back(
    installed: Installation,
    make_service: Callable[[str], Service],
    alice: Person,
    system_log: SystemLog,
    tmp_path: Path,
) -> None:
    """If a later block of a file is unreadable, Linux returns the data before it. The next read gets the error."""
    phone = alice.enrol(installed, "--period=300", NO_CODES)
    service = make_service(installed.line("window=3"))
    first, code, following = (phone.totp(steps) for steps in range(3))
    assert [service.log_in(alice, each).result for each in (first, code)] == [PAM_SUCCESS, PAM_SUCCESS]
    sequence, _ = state_format.decode((alice.store / "state").read_bytes(), path="state")
    assert state_format.place_of(sequence) == state_format.SLOT_BYTES, "the newer record is not in the later block"
    backend = tmp_path / "backend"
    backend.write_text(
        "import errno, os, sys\n"
        f"sys.path.insert(0, {str(installed.root)!r})\n"
        "from pam_softtoken.bridge.backend import main\n"
        "good = os.pread\n"
        "def pread(descriptor, count, offset):\n"
        f"    if offset >= {state_format.SLOT_BYTES}:\n"
        "        raise OSError(errno.EIO, 'bad block')\n"
        f"    return good(descriptor, min(count, {state_format.SLOT_BYTES} - offset), offset)\n"
        "os.pread = pread\n"
        "main(__file__)\n"
    )
    on_bad_disk = make_service(f"auth required {installed.bridge} backend={backend} window=3\n")
    system_log.clear()
    assert on_bad_disk.log_in(alice, code).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["unusable_file"]
    assert service.log_in(alice, following).result == PAM_SUCCESS
