"""The substitute for the state file while its file system is read-only: a record of root's in /run.

It lasts only as long as /run, which a restart empties. That is enough for TOTP, because its OTPs expire with their time
steps. It is read and written under the lock of the state file that it belongs to. A read-only file can be locked too.
So processes that can write the file and processes that cannot see each other's records.

If /run cannot be written either, no code is accepted. A third place would break the rule that a code works once: every
service must see what every other has recorded. All services of a host share /run. /dev, /dev/shm and the kernel's
keyrings are hidden from many of them (systemd's PrivateDevices=, system call filters), and users can write /dev/shm.
"""

from __future__ import annotations

import os
import time

from pam_softtoken.account import file_faults, places, safe_open
from pam_softtoken.errors import EXPLAINED, NotStored, UnusableFile
from pam_softtoken.otp.mac import sha256

MAX_BYTES = 8192
_MODE = 0o711  # an application without root can check its own user's record, but cannot list records


def path_of(uid: int, state_path: str) -> str:
    """Return the path of the record that belongs to a state file. Its name is made from the user and the file's own
    path.
    """
    return f"{places.RUN}/{uid}-{sha256(state_path.encode('utf-8', 'surrogateescape')).hexdigest()[:16]}"


def paths_of(uid: int) -> list[str]:
    """List the records of a user, for all state files."""
    try:
        return [f"{places.RUN}/{name}" for name in os.listdir(places.RUN) if name.startswith(f"{uid}-")]
    except OSError:
        return []


def read(path: str) -> bytes | None:
    """Read a record.

    Returns:
        At most one byte more than `MAX_BYTES`; None when there is no record.

    Raises:
        InsecureFile, UnusableFile: the record cannot be trusted or read.
    """
    try:
        os.lstat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnusableFile(path, os.strerror(error.errno or 0)) from None
    try:
        directory = safe_open.open_directory(places.RUN, below=None, owner=0)
        try:
            record = safe_open.open_file(path, os.O_RDONLY, below=directory, owner=0)
        finally:
            os.close(directory)
    except FileNotFoundError:
        return None
    try:
        return safe_open.read(record, MAX_BYTES, path=path)
    finally:
        os.close(record)


def write(path: str, data: bytes) -> None:
    """Write a record in place of the present one.

    Raises:
        NotStored: the record is unchanged.
    """
    from pam_softtoken.account.replace import Replacement  # noqa: PLC0415 - few homes are read-only

    if os.geteuid() != 0:
        raise NotStored(path, "the file system of the state is read-only, and only root can record a use elsewhere")
    try:
        try:
            os.mkdir(places.RUN, _MODE)
        except FileExistsError:
            pass
        os.chmod(places.RUN, _MODE)  # whatever the umask, and even if its maker was killed before this
        directory = safe_open.open_directory(places.RUN, below=None, owner=0)
    except OSError as error:
        why = f"{os.strerror(error.errno or 0)}; the file system of the state is read-only, too, so no use is recorded"
        raise NotStored(path, why, kind=file_faults.kind_of(error)) from None
    try:
        Replacement(path, data, below=directory).put()
    finally:
        os.close(directory)


def rename(old: str, new: str) -> None:
    """Move a record to the name that its state file has now, unless there already is a record for that name.

    Raises:
        NotStored: the record is unchanged.
    """
    if old == new or not os.path.lexists(old) or os.path.lexists(new):
        return
    try:
        os.rename(old, new)
    except OSError as error:
        raise NotStored(new, os.strerror(error.errno or 0)) from None


def remove(path: str) -> None:
    """Remove a record whose content is in the state file again. If it stays, it is older than the file and harmless."""
    try:
        os.unlink(path)
    except OSError:
        pass


def age_s() -> int:
    """Return for how many seconds /run can have kept records: since the first process of this machine or container.

    Raises:
        UnusableFile: it is not known.
    """
    from pam_softtoken.account import proc  # noqa: PLC0415 - see `write`

    try:
        # Not /proc/uptime: under lxcfs it counts from the start of the container, but the field below from the host's
        # start.
        uptime_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        started = proc.start_ticks(1)
    except (OSError, ValueError):
        raise UnusableFile(
            "/proc/1/stat",
            "cannot be read, so the age of /run is not known. It matters while the file system of the state is"
            " read-only; try: mount -t proc proc /proc",
            kind=EXPLAINED,
        ) from None
    return max(0, int(uptime_s - started / os.sysconf("SC_CLK_TCK")))
