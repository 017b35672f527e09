"""Log in with places of a host that are full, read-only or missing: the owner gets in, or the log names the place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.conftest import Owner
from tests.support.account import Person, Phone
from tests.support.client import PAM_AUTH_ERR, Service
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES
from tests.support.surroundings import as_user, assert_in_once, in_namespaces, log_in_around
from tests.support.system_log import SystemLog

SPOIL = {
    "full": "mount -t tmpfs -o size=64k tmpfs {0}; {1}; ! dd if=/dev/zero of={0}/filler bs=4k 2>/dev/null",
    "no inode": "mount -t tmpfs -o nr_inodes=8 tmpfs {0}; {1}; while mktemp -p {0} >/dev/null 2>&1; do :; done",
    "read-only": "mount --bind {0} {0}; {1}; mount -o remount,bind,ro {0}; ! touch {0}/new 2>/dev/null",
}


def spoiled(how: str, places: list[str], world: Path) -> str:
    """Return a shell command that damages places. The test's own files, which may be in one, stay as they are."""
    words = [f"mount --bind {world} /mnt"]
    words += [SPOIL[how].format(place, f"mkdir -p {world}; mount --bind /mnt {world}") for place in places]
    return "; ".join(words)


@pytest.mark.parametrize(
    ("how", "places"),
    [
        pytest.param("full", ["/run"], marks=pytest.mark.lockout("/run is full")),
        pytest.param("full", ["/var"], marks=pytest.mark.lockout("/var is full")),
        pytest.param("full", ["/var/lib"], marks=pytest.mark.lockout("/var/lib is full")),
        pytest.param("full", ["/tmp"], marks=pytest.mark.lockout("/tmp is full")),
        pytest.param("no inode", ["/run"], marks=pytest.mark.lockout("/run has no inode left")),
        pytest.param("no inode", ["/var"], marks=pytest.mark.lockout("/var has no inode left")),
        pytest.param("no inode", ["/var/lib"], marks=pytest.mark.lockout("/var/lib has no inode left")),
        pytest.param("no inode", ["/tmp"], marks=pytest.mark.lockout("/tmp has no inode left")),
        pytest.param("read-only", ["/run"], marks=pytest.mark.lockout("/run is read-only")),
        pytest.param("read-only", ["/var"], marks=pytest.mark.lockout("/var is read-only")),
        pytest.param("read-only", ["/var/lib"], marks=pytest.mark.lockout("/var/lib is read-only")),
        pytest.param("read-only", ["/tmp"], marks=pytest.mark.lockout("/tmp is read-only")),
        pytest.param("full", ["/run", "/var", "/tmp"], marks=pytest.mark.lockout("/run, /var and /tmp are all full")),
        pytest.param(
            "read-only", ["/run", "/var", "/tmp"], marks=pytest.mark.lockout("/run, /var and /tmp are all read-only")
        ),
    ],
    ids=str,
)
def test_place__unusable_one_keeps_nobody_out(
    service: Service, owner: Owner, world: Path, system_log: SystemLog, how: str, places: list[str]
) -> None:
    """If there is no room for the mark of the first success, the log says so."""
    around = in_namespaces(setup=spoiled(how, places, world))
    assert_in_once(service, owner.person, owner.phone.totp(), around=around)
    assert system_log.reasons() == ["accepted", "replayed"]
    has_warning = any("cannot mark the user as enrolled" in line for line in system_log.ours())
    assert has_warning == any(place.startswith("/var") for place in places)


@pytest.mark.parametrize(
    "setup",
    [
        pytest.param("umount -l /proc", marks=pytest.mark.lockout("/proc is not mounted")),
        pytest.param(
            "mount -t proc -o hidepid=2 proc /proc", marks=pytest.mark.lockout("/proc shows nobody else's processes")
        ),
    ],
)
@pytest.mark.parametrize("without_root", [False, True], ids=["root", "user"])
def test_proc__missing_or_hidden_keeps_nobody_out(
    service: Service, owner: Owner, setup: str, without_root: bool
) -> None:
    around = in_namespaces(setup=setup, around=as_user(owner.person) if without_root else [])
    assert_in_once(service, owner.person, owner.phone.totp(), around=around)


@pytest.mark.parametrize(
    ("spoil", "mend", "words"),
    [
        pytest.param(
            "umount -l /proc",
            "mount -t proc proc /proc",
            "/proc/1/stat: cannot be read, so the age of /run is not known",
            marks=pytest.mark.lockout(
                "the home is read-only, and /proc is not mounted",
                shows="/proc/1/stat: cannot be read, so the age of /run is not known",
                cure="mount -t proc proc /proc",
            ),
        ),
        pytest.param(
            "mount -t tmpfs -o size=64k tmpfs /run; ! dd if=/dev/zero of=/run/filler bs=4k 2>/dev/null",
            "rm /run/filler",
            "/run/softtoken/",
            marks=pytest.mark.lockout(
                "the home is read-only, and /run is full",
                shows="reason=not_stored detail=/run/softtoken/...: No space left on device",
                cure="rm a large file in /run",
            ),
        ),
    ],
    ids=["no proc", "full run"],
)
def test_read_only_home__missing_place_is_named_and_its_repair_lets_in(
    service: Service,
    alice: Person,
    phone_for_records_in_run: Phone,
    system_log: SystemLog,
    spoil: str,
    mend: str,
    words: str,
) -> None:
    spoiled = f"mount --bind {alice.home} {alice.home}; mount -o remount,bind,ro {alice.home}; {spoil}"
    around = in_namespaces(setup=spoiled)
    (refused,) = log_in_around(around, service, alice, phone_for_records_in_run.totp())
    assert refused.result == PAM_AUTH_ERR
    (fields,) = system_log.outcomes()
    assert words in fields["detail"]
    around = in_namespaces(setup=f"{spoiled}; {mend}")
    assert_in_once(service, alice, phone_for_records_in_run.totp(), around=around)


@pytest.mark.lockout("the home is a link of root's to another place")
def test_home__link_owned_by_root_lets_a_code_in_once(
    installed: Installation, service: Service, alice: Person, outside: Path
) -> None:
    moved = outside / alice.name
    alice.home.rename(moved)
    alice.home.symlink_to(moved)
    try:
        phone = alice.enrol(installed, "--period=300", NO_CODES)
        assert_in_once(service, alice, phone.totp())
    finally:
        alice.home.unlink()
        moved.rename(alice.home)


@pytest.mark.lockout(
    "/usr/bin/python3 is gone",
    shows="cannot start /usr/bin/python3: No such file or directory; install python3 again",
    cure="apt install --reinstall python3-minimal",
)
def test_interpreter__missing_one_is_named_and_its_return_lets_in(
    service: Service, owner: Owner, system_log: SystemLog, outside: Path
) -> None:
    code = owner.phone.totp()
    for name in ("upper", "work"):
        (outside / name).mkdir()
    options = f"lowerdir=/usr/bin,upperdir={outside}/upper,workdir={outside}/work"
    mount = f"mount -t overlay -o {options} overlay /usr/bin"
    around = in_namespaces(setup=f"{mount}; mv /usr/bin/python3 /usr/bin/python3.away")
    (refused,) = log_in_around(around, service, owner.person, code)
    assert refused.result == PAM_AUTH_ERR
    (fields,) = system_log.outcomes()
    assert "cannot start /usr/bin/python3: No such file or directory; install python3 again" in fields["detail"]
    around = in_namespaces(setup=f"{mount}; mv /usr/bin/python3.away /usr/bin/python3")
    assert_in_once(service, owner.person, code, around=around)
