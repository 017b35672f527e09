"""Plant files where root's programs and the packages' scripts look, in /run, /var/lib and /etc: no user can.

If a file stands there anyway, because a directory was opened to other users, root does not trust it.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.support.account import Person
from tests.support.enabling import CHANGES, Admin
from tests.support.installation import TREE, Installation
from tests.support.listing import listing
from tests.support.private_mounts import PrivateMounts

PLACES = (
    "/run/softtoken",
    "/run/softtoken/0-0123456789abcdef",
    "/run/softtoken-check-x",
    "/run/softtoken-trial-x",
    "/run/softtoken-sshd-x",
    "/run/softtoken-doctor-x",
    "/run/sshd/x",
    "/run/sshd.pid",
    "/var/lib/softtoken/x",
    "/var/lib/softtoken/.names",
    "/var/lib/softtoken/.names/x",
    "/var/lib/softtoken/enrolled",
    "/var/lib/softtoken/enrolled/0",
    "/var/lib/softtoken/enrolled.new",
    f"{CHANGES}/.lock",
    f"{CHANGES}/sudo",
    f"{CHANGES}/sudo/pending",
    "/var/lib/pam/auth",
    "/etc/pam.d/.sudo.softtoken-new",
    "/etc/pam.d/softtoken",
    "/etc/security/softtoken.conf",
    "/etc/ssh/sshd_config.d/00-softtoken.conf",
    "/usr/lib/pam_softtoken",
    "/usr/share/man/man1/softtoken-enroll.1",
)
"""Everything that `roll-back`, `enable`, `doctor`, a login, or a maintainer script opens, creates or removes."""


@pytest.fixture
def admin(mounts: PrivateMounts, installed: Installation) -> Admin:
    """Root on that host."""
    return Admin(mounts, installed)


@pytest.mark.parametrize("prepared", [False, True], ids=["at first", "in use"])
def test_planted__user_can_create_no_file_where_root_looks(
    mounts: PrivateMounts, installed: Installation, alice: Person, prepared: bool
) -> None:
    if prepared:
        alice.enrol(installed, "--recovery-codes=0")
        subprocess.run(mounts.command("install", "-d", "-m", "711", "/run/softtoken"), check=True)
    identity = ["setpriv", f"--reuid={alice.uid}", f"--regid={alice.gid}", "--clear-groups", "env", f"-C{alice.home}"]
    for place in PLACES:
        (alice.home / "mine").touch()
        os.chown(alice.home / "mine", alice.uid, alice.gid)
        before = (alice.home / "mine").stat()
        for command in (["mkdir"], ["ln", "-s", "/home"], ["cp", "mine"], ["mv", "-T", "mine"], ["rm", "-rf"]):
            words = mounts.command(*identity, *command, place)
            done = subprocess.run(words, capture_output=True, check=False)
            gone = subprocess.run(mounts.command("test", "-e", place), check=False).returncode != 0
            assert done.returncode != 0 or (command[0] == "rm" and gone), (place, command)
        assert (alice.home / "mine").stat().st_ino == before.st_ino


def planted_record(path: Path) -> bytes:
    """Return a record that would change /etc/pam.d/sudo to let everybody in."""
    now = base64.b64encode(path.read_bytes()).decode()
    evil = base64.b64encode(b"auth sufficient pam_permit.so\n").decode()
    content = {"mode": 0o644, "uid": 0, "gid": 0}
    file = {"path": "/etc/pam.d/sudo", "before": {"data": evil, **content}, "after": {"data": now, **content}}
    record = {"version": 1, "identity": "x", "boot": "of another day", "deadline_s": 0.0, "files": [file]}
    return json.dumps(record).encode()


PLANTED = {
    "directory that others can write": "chmod 777 $changes; mkdir $changes/sudo; cp $record $changes/sudo/pending",
    "directory of a user": "chown $uid $changes; mkdir $changes/sudo; cp $record $changes/sudo/pending",
    "service's directory of a user": "mkdir $changes/sudo; cp $record $changes/sudo/pending; chown $uid $changes/sudo",
    "service's directory is a link": "ln -s $(dirname $record) $changes/sudo",
    "record of a user": "mkdir $changes/sudo; cp $record $changes/sudo/pending; chown $uid $changes/sudo/pending",
    "record that others can write": "mkdir $changes/sudo; cp $record $changes/sudo/pending; chmod 666 $changes/sudo/*",
    "record is a link": "mkdir $changes/sudo; ln -s $record $changes/sudo/pending",
    "record is a pipe": "mkdir $changes/sudo; mkfifo $changes/sudo/pending",
}


@pytest.mark.parametrize("case", PLANTED)
def test_roll_back__ignores_a_record_that_others_could_write(admin: Admin, alice: Person, case: str) -> None:
    service = admin.mounts.directory / "pam.d" / "sudo"
    record = alice.home / "pending"
    record.write_bytes(planted_record(service))
    os.chown(record, alice.uid, alice.gid)
    before = admin.pam(), listing(alice.home)
    admin.inside("sh", "-euc", f"changes={CHANGES} record={record} uid={alice.uid}\n{PLANTED[case]}")
    done = admin.run("roll-back")
    assert done.returncode == 1
    assert "hint: " in done.stderr
    assert "Traceback" not in done.stderr
    assert (admin.pam(), listing(alice.home)) == before


def test_roll_back__uses_the_same_record_if_root_owns_it(admin: Admin, alice: Person) -> None:
    """The control: without it the test above would prove nothing."""
    service = admin.mounts.directory / "pam.d" / "sudo"
    record = admin.mounts.directory / "pending"
    record.write_bytes(planted_record(service))
    admin.inside("sh", "-euc", f"mkdir {CHANGES}/sudo; cp {record} {CHANGES}/sudo/pending")
    assert admin.run("roll-back").returncode == 0
    assert service.read_text() == "auth sufficient pam_permit.so\n"


_HOOKS = """
mount -t tmpfs -o mode=755 tmpfs /var/lib
mount -t tmpfs -o mode=755 tmpfs /run
ln -s "$2" /var/lib/softtoken
ln -s "$2" /run/softtoken
sh "$1/debian/libpam-softtoken.postinst" configure 1.0 || echo "postinst $?"
sh "$1/debian/softtoken-common.postinst" configure 1.0
sh "$1/debian/libpam-softtoken.prerm" upgrade 1.0
sh "$1/debian/libpam-softtoken.postrm" purge
find /var/lib /run -mindepth 1
"""


@pytest.mark.parametrize("target", ["victim", "nowhere"])
def test_scripts_of_the_packages__follow_no_link_in_run_and_var_lib(
    mounts: PrivateMounts, outside: Path, target: str
) -> None:
    """No user can plant the link there, and a script of root's does not follow it either."""
    (outside / "victim" / "below").mkdir(parents=True)
    (outside / "victim" / "file").write_text("it stays")
    before = listing(outside)
    command = ["unshare", "--mount", "sh", "-euc", _HOOKS, "sh", str(TREE), str(outside / target)]
    done = subprocess.run(mounts.command(*command), capture_output=True, text=True, check=True)
    # The links are gone, whatever `postinst` did with a link to nowhere.
    assert [line for line in done.stdout.splitlines() if line and not line.startswith("postinst")] == []
    assert listing(outside) == before
