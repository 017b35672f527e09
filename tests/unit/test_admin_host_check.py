"""What the doctor reads from logs and file systems. No check can hang or end it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from pam_softtoken.admin.common import bounded, child
from pam_softtoken.admin.common.finding import Report
from pam_softtoken.admin.doctor import host_check
from pam_softtoken.otp import hotp

# As the kernel writes them: apparmor(7), and the audit system's records.
APPARMOR = (
    'audit: type=1400 audit(1700000000.123:45): apparmor="DENIED" operation="exec" profile="/usr/sbin/sshd" '
    'name="/usr/bin/python3.11" pid=814 comm="sshd" requested_mask="x" denied_mask="x" fsuid=0 ouid=0'
)
SELINUX = (
    'type=AVC msg=audit(1700000000.456:46): avc:  denied  { execute } for  pid=815 comm="sshd" name="python3.11" '
    'dev="vda1" ino=1234 scontext=system_u:system_r:sshd_t:s0 tcontext=system_u:object_r:bin_t:s0 tclass=file'
)
OF_OTHERS = APPARMOR.replace("/usr/bin/python3.11", "/etc/shadow").replace('comm="sshd"', 'comm="cupsd"')


def statvfs(*, free: int, inodes: int, total_inodes: int = 1000, flags: int = 0) -> os.statvfs_result:
    """Return a result of statvfs(3), with sizes and numbers of blocks, numbers of inodes, and flags."""
    return os.statvfs_result(
        (4096, 4096, 10**6, free // 4096, free // 4096, total_inodes, inodes, inodes, flags, 255, 0)
    )


@pytest.mark.parametrize(("line", "words", "mend"), [
    (APPARMOR, "AppArmor forbids /usr/sbin/sshd", "aa-logprof"),
    (SELINUX, "SELinux forbids sshd", "audit2allow"),
])  # fmt: skip
def test_denials__that_stop_a_login_are_reported(line: str, words: str, mend: str) -> None:
    (finding,) = host_check.denials("kernel log", f"usb 1-1: new device\n{line}\n")
    assert words in finding.what
    assert mend in finding.mend
    assert finding.line == line


@pytest.mark.parametrize("name", ["sshd", "softtoken-x"])
def test_denials__caused_by_a_users_program_become_no_rule(name: str) -> None:
    """A program with any name can try the access that it would like to be allowed."""
    (finding,) = host_check.denials(
        "audit.log", SELINUX.replace("sshd", name).replace("python3.11", "softtoken-python3")
    )
    assert not any(each in finding.mend for each in ("semodule", "-M ", ";", "&&"))


def test_denials__of_other_programs_are_ignored() -> None:
    assert list(host_check.denials("kernel log", OF_OTHERS + '\napparmor="ALLOWED" softtoken\n\0\udcff')) == []


@pytest.mark.parametrize("now", [0, hotp.RELEASED - 1])
def test_clock__that_was_never_set_is_an_error(now: int) -> None:
    (finding,) = host_check.check_clock(now=now).findings
    assert (finding.severity, finding.place) == ("error", "clock")
    assert f"this machine's clock says {'1970-01-01' if now == 0 else '2026-11-22'}" in finding.what
    assert finding.mend.startswith("timedatectl set-ntp true")


def test_clock__correct_one_does_not_count_as_never_set() -> None:
    report = host_check.check_clock(now=hotp.RELEASED)
    assert not any("this machine's clock says" in finding.what for finding in report.findings)


# Source: `timedatectl show` of systemd 252.
@pytest.mark.parametrize(("status", "said", "expected"), [
    (0, "CanNTP=yes\nNTP=yes\nNTPSynchronized=yes\n", []),
    (0, "CanNTP=no\nNTP=no\nNTPSynchronized=yes\n", []),
    (0, "CanNTP=yes\nNTP=yes\nNTPSynchronized=no\n", [("note", "not marked as synchronised", "timedatectl")]),
    (0, "CanNTP=yes\nNTP=no\nNTPSynchronized=no\n", [("warning", "nothing keeps the clock right", "set-ntp true")]),
    (0, "CanNTP=no\nNTP=no\nNTPSynchronized=no\n", [("warning", "nothing keeps the clock right", "apt install")]),
    (1, "", []),
])  # fmt: skip
def test_clock__without_synchronisation_is_reported(
    status: int, said: str, expected: list[tuple[str, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "timedatectl"
    program.write_text(f"#!/bin/sh\nprintf 'Timezone=Etc/UTC\n{said}'\nexit {status}\n")
    program.chmod(0o755)
    monkeypatch.setitem(child.ENVIRONMENT, "PATH", str(tmp_path))
    report = host_check.check_clock(now=hotp.RELEASED)
    assert len(report.findings) == len(expected)
    for finding, (severity, words, mend) in zip(report.findings, expected, strict=True):
        assert finding.severity == severity
        assert words in finding.what
        assert mend in finding.mend
    assert bool(report.not_looked_at) is (status != 0)


def test_space__shortage_is_reported() -> None:
    assert list(host_check.space_of("/x", statvfs(free=10**9, inodes=500))) == []
    # Some file systems create inodes as needed, and report 0 of 0.
    assert list(host_check.space_of("/x", statvfs(free=10**9, inodes=0, total_inodes=0))) == []
    (short,) = host_check.space_of("/x", statvfs(free=8192, inodes=500))
    assert (short.severity, short.what[:5]) == ("warning", "8 KiB")
    (full,) = host_check.space_of("/x", statvfs(free=0, inodes=500))
    assert full.severity == "error"
    (no_inodes,) = host_check.space_of("/x", statvfs(free=10**9, inodes=0))
    assert no_inodes.severity == "error"
    (read_only,) = host_check.space_of("/x", statvfs(free=10**9, inodes=500, flags=os.ST_RDONLY))
    assert "remount,rw" in read_only.mend


def hang() -> Report:
    """Wait for ever."""
    while True:
        signal.pause()


def fall_over() -> Report:
    """End in the middle of a check."""
    os.kill(os.getpid(), signal.SIGKILL)
    return Report()


def stumble() -> Report:
    """Raise an error that nobody expected."""
    raise RecursionError


def test_bounded__hanging_check_is_ended_and_reported() -> None:
    assert bounded.run(hang, "homes", limit_s=0.05).not_looked_at == ("homes: it took longer than 0.05 s",)


@pytest.mark.parametrize("check", [fall_over, stumble])
def test_bounded__failing_check_is_reported(check: object) -> None:
    report = bounded.run(check, "homes")  # type: ignore[arg-type]
    assert report.not_looked_at == ("homes: the check ended before it was complete",)
