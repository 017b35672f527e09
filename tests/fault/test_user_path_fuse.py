"""Mount a user's own file system (FUSE) that claims root owns everything in it: root trusts nothing of it.

Source: fuse(4) and the kernel's <linux/fuse.h>, whose structures are written out here.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pam_softtoken.account.safe_open import Account
from pam_softtoken.account.user_path import NamedFiles, open_directory
from pam_softtoken.errors import InsecureFile
from tests.support.account import Person

LOOKUP, GETATTR, READLINK, INIT = 1, 3, 5, 26
NOSYS, NOSUID_NODEV, DETACH = 38, 6, 2
ROOT, LINK = 1, 2


def _attributes(node: int) -> bytes:
    mode = stat.S_IFDIR | 0o755 if node == ROOT else stat.S_IFLNK | 0o777
    return struct.pack("<6Q10I", node, 100, 0, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


def _serve(device: int, target: bytes) -> None:
    """Answer the kernel's requests: a directory of root's, with a link of root's for every name."""
    while True:
        try:
            request = os.read(device, 1 << 17)
        except OSError:
            return  # unmounted
        _, code, unique, node = struct.unpack_from("<IIQQ", request)
        error, answer = 0, b""
        if code == INIT:
            major, minor = struct.unpack_from("<II", request, 40)
            answer = struct.pack("<4I2H2I2H8I", major, minor, 0, 0, 1, 1, 4096, 1, 0, 0, *8 * (0,))
        elif code == GETATTR:
            answer = struct.pack("<QII", 0, 0, 0) + _attributes(node)
        elif code == LOOKUP:
            answer = struct.pack("<4Q2I", LINK, 0, 0, 0, 0, 0) + _attributes(LINK)
        elif code == READLINK:
            answer = target
        else:
            error = -NOSYS
        try:
            os.write(device, struct.pack("<IiQ", 16 + len(answer), error, unique) + answer)
        except OSError:
            continue  # nobody waits for it any more


@contextmanager
def mounted(place: Path, person: Person, target: Path, *, source: bytes = b"fuse") -> Iterator[None]:
    """Mount it as fusermount does for a user where /etc/fuse.conf has `user_allow_other`; `fsname=` is the source."""
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        device = os.open("/dev/fuse", os.O_RDWR)
    except OSError:
        pytest.skip("needs /dev/fuse")
    options = f"fd={device},rootmode=40000,user_id={person.uid},group_id={person.gid},allow_other"
    if libc.mount(source, os.fsencode(place), b"fuse", NOSUID_NODEV, options.encode()) != 0:
        os.close(device)
        pytest.skip(f"needs the right to mount: {os.strerror(ctypes.get_errno())}")
    server = threading.Thread(target=_serve, args=(device, os.fsencode(target)), daemon=True)
    server.start()
    try:
        yield
    finally:
        libc.umount2(os.fsencode(place), DETACH)
        server.join(10)
        os.close(device)


@pytest.mark.parametrize("where", ["home", "shared"])
@pytest.mark.parametrize("source", [b"fuse", b"user_id=0", b"x,user_id=0,y", b"x user_id=0", b" - ext4 x user_id=0"])
def test_fuse__claim_that_root_owns_all_files_is_not_trusted(
    make_person: Callable[[], Person], outside: Path, where: str, source: bytes
) -> None:
    alice, bob = make_person(), make_person()
    secret = bob.home / "secret"
    secret.write_text("another user's")
    secret.chmod(0o600)
    os.chown(secret, bob.uid, bob.gid)
    place = alice.home
    if where == "shared":
        outside.chmod(0o1777)
        place = outside / "mount"
        place.mkdir()
        os.chown(place, alice.uid, alice.gid)
    for person in (alice, bob):
        account = Account(person.name, person.uid, person.gid, home=str(person.home))
        with mounted(place, alice, secret, source=source):
            status = (place / "link").lstat()
            assert (status.st_uid, stat.S_ISLNK(status.st_mode)) == (0, True)
            assert (place / "link").read_text() == "another user's"  # what root would read there
            for files in (NamedFiles(account), NamedFiles()):
                with pytest.raises(InsecureFile, match="is a file system that a user has mounted"):
                    files.read(str(place / "link"), 100)
                with pytest.raises(InsecureFile, match="is a file system that a user has mounted"):
                    files.make(str(place / "new"))
            with pytest.raises(InsecureFile, match="is a file system that a user has mounted"):
                open_directory(str(place))


def test_mount__of_a_user_with_a_strange_name_keeps_root_out_of_no_other_mount(tmp_path: Path) -> None:
    """The kernel writes the character into its list as it is."""
    steps = 'mkdir "$1/a\rb" "$1/roots" && mount -t tmpfs x "$1/a\rb" && mount -t tmpfs -o mode=755 y "$1/roots"\n'
    program = "import sys; from pam_softtoken.account.user_path import open_directory; open_directory(sys.argv[1])"
    steps += 'shift; exec "$@"'
    words = ["unshare", "--mount", "--propagation=private", "sh", "-ec", steps, "sh", str(tmp_path)]
    words += [sys.executable, "-c", program, f"{tmp_path}/roots"]
    subprocess.run(words, check=True)
