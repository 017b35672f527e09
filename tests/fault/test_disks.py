"""Full and read-only disks: the owner gets in, and a code still works once."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from pam_softtoken import state
from tests.support.account import Person
from tests.support.client import PAM_AUTH_ERR, PAM_SUCCESS, Service
from tests.support.disk import disk_as_home
from tests.support.installation import Installation
from tests.support.pam_scene import NO_CODES
from tests.support.system_log import SystemLog


def _fill(directory: Path) -> None:
    full = subprocess.run(["dd", "if=/dev/zero", f"of={directory}/ballast", "bs=4k"], check=False, capture_output=True)
    assert b"No space" in full.stderr


def test_full_disk__the_owner_gets_in_with_totp_hotp_and_recovery_codes_each_once(
    installed: Installation, service: Service, alice: Person
) -> None:
    with disk_as_home(alice):
        for kind in ("--type=totp", "--type=hotp"):
            phone = alice.enrol(installed, kind, "--force")
            _fill(alice.home)
            code = phone.hotp() if kind == "--type=hotp" else phone.totp()
            for answer in (code, phone.recovery_codes[0]):
                assert service.log_in(alice, answer).result == PAM_SUCCESS
                assert service.log_in(alice, answer).result == PAM_AUTH_ERR
            (alice.home / "ballast").unlink()


def test_full_disk__a_state_that_cannot_be_made_denies(
    installed: Installation, service: Service, alice: Person, system_log: SystemLog
) -> None:
    with disk_as_home(alice):
        phone = alice.enrol(installed, "--period=300")
        (alice.store / "state").unlink()
        _fill(alice.home)
        assert service.log_in(alice, phone.totp(1)).result == PAM_AUTH_ERR
        assert system_log.reasons() == ["not_stored"]
        os.unlink(alice.home / "ballast")
        assert service.log_in(alice, phone.totp(1)).result == PAM_SUCCESS


def test_bad_block__does_not_bring_an_older_record_back(
    installed: Installation,
    make_service: Callable[[str], Service],
    alice: Person,
    system_log: SystemLog,
    tmp_path: Path,
) -> None:
    """Where a later block of a file cannot be read, Linux gives what comes before it, and the error to who asks on."""
    phone = alice.enrol(installed, "--period=300", NO_CODES)
    service = make_service(installed.line("window=3"))
    first, code, following = (phone.totp(steps) for steps in range(3))
    assert [service.log_in(alice, each).result for each in (first, code)] == [PAM_SUCCESS, PAM_SUCCESS]
    sequence, _ = state.decode((alice.store / "state").read_bytes(), path="state")
    assert state.place_of(sequence) == state.SLOT_BYTES, "the newer record is not in the later block"
    backend = tmp_path / "backend"
    backend.write_text(
        "import errno, os, sys\n"
        f"sys.path.insert(0, {str(installed.root)!r})\n"
        "from pam_softtoken.backend import main\n"
        "good = os.pread\n"
        "def pread(descriptor, count, offset):\n"
        f"    if offset >= {state.SLOT_BYTES}:\n"
        "        raise OSError(errno.EIO, 'bad block')\n"
        f"    return good(descriptor, min(count, {state.SLOT_BYTES} - offset), offset)\n"
        "os.pread = pread\n"
        "main(__file__)\n"
    )
    on_bad_disk = make_service(f"auth required {installed.bridge} backend={backend} window=3\n")
    system_log.clear()
    assert on_bad_disk.log_in(alice, code).result == PAM_AUTH_ERR
    assert system_log.reasons() == ["unusable_file"]
    assert service.log_in(alice, following).result == PAM_SUCCESS
