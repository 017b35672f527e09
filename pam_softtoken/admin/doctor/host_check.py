"""Check what a login needs of the host: a right clock, room for the state, no other guard."""

from __future__ import annotations

import errno
import os
import re
import shlex
from collections.abc import Iterator

from pam_softtoken import platform_facts
from pam_softtoken.account.places import CHANGES, DATA, RUN
from pam_softtoken.admin.change import record
from pam_softtoken.admin.common import bounded
from pam_softtoken.admin.common.finding import ERROR, NOTE, WARNING, Finding, Report
from pam_softtoken.errors import day_of
from pam_softtoken.otp import hotp

SET_CLOCK = "timedatectl set-ntp true  # or, without a network: timedatectl set-time 'YYYY-MM-DD HH:MM:SS'"
MIN_FREE_BYTES = 4 * 1024 * 1024
MIN_FREE_INODES = 100
AUDIT_LOG = "/var/log/audit/audit.log"
_HOSTS = frozenset({"sshd", "sudo", "su", "login", "sshd-session", "python3", "softtoken-backe"})
_DENIAL = re.compile(r'apparmor="DENIED"|avc:\s+denied')
_KERNEL_LINES = 20000


def check_clock(*, now: int) -> Report:
    """Check whether the clock can be right, and whether a service keeps it right.

    Args:
        now: Unix seconds.
    """
    looked_at = ("clock synchronisation",)
    if now < hotp.RELEASED:
        what = (
            f"this machine's clock says {day_of(now)}, before this version was made: codes of apps are refused until "
            "it is right; tokens that count and recovery codes work"
        )
        return Report((Finding(ERROR, "clock", "", what, SET_CLOCK),), looked_at)
    answer = bounded.ask("timedatectl", "show", limit_s=5)
    if answer is None or answer.returncode != 0:
        return Report(not_looked_at=("clock synchronisation: timedatectl does not tell",))
    if "NTPSynchronized=yes" in answer.stdout:
        return Report(looked_at=looked_at)
    if "\nNTP=yes" in f"\n{answer.stdout}":
        # It cannot reach its servers, or does not tell the kernel (chrony without rtcsync).
        what = "a time service runs, but the kernel's clock is not marked as synchronised"
        return Report((Finding(NOTE, "clock", "", what, "timedatectl"),), looked_at)
    what = "nothing keeps the clock right; when it is off by more than a minute, codes are refused"
    mend = platform_facts.install("time service") if "CanNTP=no" in answer.stdout else SET_CLOCK
    return Report((Finding(WARNING, "clock", "", f"{what} (in a container, look on its host)", mend),), looked_at)


def check_denials() -> Report:
    """Check the kernel's log and the audit log for denials of our programs by AppArmor or SELinux."""
    texts: dict[str, str] = {}
    # "-n" limits how much of a journal of years is read.
    journal = bounded.ask("journalctl", "-k", "-b", "-q", "--no-pager", "-o", "cat", "-n", str(_KERNEL_LINES))
    kernel = journal.stdout if journal is not None and journal.returncode == 0 else ""
    if not kernel.strip():
        ring = bounded.ask("dmesg")
        kernel = ring.stdout if ring is not None and ring.returncode == 0 else ""
    if kernel.strip():
        texts["kernel log"] = kernel
    try:
        texts[AUDIT_LOG] = bounded.read(AUDIT_LOG, 4 * 1024 * 1024, from_end=True)
    except OSError:
        pass
    if not texts:
        return Report(not_looked_at=("denials of AppArmor and SELinux: neither log can be read",))
    findings = {finding.what: finding for place, text in texts.items() for finding in denials(place, text)}
    return Report(tuple(findings.values()), (f"denials of AppArmor and SELinux in {' and '.join(texts)}",))


def denials(place: str, text: str) -> Iterator[Finding]:
    """Find denials of our programs, or of a program that was about to start ours."""
    for line in text.splitlines():
        if not _DENIAL.search(line):
            continue
        command = _field(line, "comm")
        target = _field(line, "name") or _field(line, "path")
        if "softtoken" not in line and not (command in _HOSTS and "python3" in target):
            continue
        profile = _field(line, "profile")
        if profile:
            what = f"AppArmor forbids {profile} what a login needs: {target or 'see the line'}"
            yield Finding(ERROR, place, line.strip()[:300], what, "aa-logprof")
        else:
            what = f"SELinux forbids {command or 'a program'} what a login needs: {target or 'see the line'}"
            # Show the rule, do not load it: any user's program can have that name, and be denied what no rule may
            # allow.
            show = f"ausearch -m avc -c {shlex.quote(command or 'sshd')} | audit2allow"
            yield Finding(ERROR, place, line.strip()[:300], what, show)


def _field(line: str, name: str) -> str:
    found = re.search(rf'\b{name}=(?:"([^"]*)"|(\S+))', line)
    return (found[1] or found[2] or "") if found else ""


def check_space(directories: list[str]) -> Report:
    """Check that state can be written in its place.

    Args:
        directories: the token directories, including those that do not exist yet.
    """
    findings: dict[int, list[Finding]] = {}
    for place in (DATA, RUN, *directories):
        try:
            device, status = _file_system_of(place)
        except OSError as error:
            findings[-1] = [Finding(ERROR, place, "", f"the file system fails: {error.strerror}", "dmesg")]
        else:
            findings.setdefault(device, list(space_of(place, status)))
    return Report(tuple(each for found in findings.values() for each in found), ("free space and inodes",))


def _file_system_of(place: str) -> tuple[int, os.statvfs_result]:
    """Return the device and the status of the file system on which a directory is, or would be made."""
    while True:
        try:
            if os.path.isdir(place):
                return os.stat(place).st_dev, os.statvfs(place)
        except FileNotFoundError:
            pass  # it was removed since the check
        if place == "/":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        place = os.path.dirname(place)


def space_of(place: str, status: os.statvfs_result) -> Iterator[Finding]:
    """Report the faults of a file system."""
    quoted = shlex.quote(place)
    if status.f_flag & os.ST_RDONLY:
        what = "nothing can be written there: codes are remembered in /run only, and counting tokens are refused"
        mend = f'mount -o remount,rw "$(findmnt -no TARGET -T {quoted})"'
        yield Finding(WARNING, place, "", what, mend)
    free = status.f_bavail * status.f_frsize
    if free < MIN_FREE_BYTES:
        what = f"{free // 1024} KiB are left there: a code that cannot be stored as used is refused"
        yield Finding(ERROR if free == 0 else WARNING, place, "", what, f"du -xh {quoted} | sort -h | tail")
    if status.f_files and status.f_favail < MIN_FREE_INODES:
        what = f"room for {status.f_favail} files is left there: what cannot be stored is refused"
        yield Finding(ERROR if status.f_favail == 0 else WARNING, place, "", what, f"df -i {quoted}")


def check_changes() -> Report:
    """Check whether a change of a PAM service waits to be confirmed, or could not be undone."""
    names = record.services()
    waiting, returning = (
        [name for name in names if os.path.lexists(f"{CHANGES}/{name}/{state}")]
        for state in (record.PENDING, record.RETURNING)
    )
    what = "a change is not confirmed yet, and will be taken back"
    found = [Finding(WARNING, f"{CHANGES}/{name}", "", what, f"softtoken-admin confirm {name}") for name in waiting]
    what = "a change could not be taken back yet"
    found += [Finding(ERROR, f"{CHANGES}/{name}", "", what, "softtoken-admin roll-back") for name in returning]
    return Report(tuple(found), ("changes that wait to be confirmed",))
