"""Repair a user's directory of tokens: after a restore, beside a hard-linked backup, or in place of a link. Files that
the user can read are read and written again as the user. So users gain nothing by what they put there. Root reads only
files that a backup restored under another owner and that are closed to the user. It reads them on checked descriptors,
and only if no other user has a token with that key. No login loads this.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import struct
from collections.abc import Callable

from pam_softtoken import errors
from pam_softtoken.account import cure, enrolled_mark, file_faults, replace, safe_open, state_format, token_file
from pam_softtoken.account.location import STATE, TOKENS, Location
from pam_softtoken.account.store import text_of
from pam_softtoken.account.token_file import TokenFile
from pam_softtoken.errors import DamagedState, InsecureFile, PathError, UnusableFile
from pam_softtoken.program_errors import EnrolmentFailed

_LOOKING = os.O_RDONLY | safe_open.SAFELY
_MAX_BYTES = {TOKENS: token_file.MAX_FILE_BYTES, STATE: state_format.FILE_BYTES}
_WRITTEN = re.compile(r"\.[0-9a-f]{16}")
LOCK_TIMEOUT_S = 2.0
_GET_FLAGS, _SET_FLAGS, _IMMUTABLE = 0x80086601, 0x40086602, 0x30
"""FS_IOC_GETFLAGS and FS_IOC_SETFLAGS; chattr's +i and +a. Source: linux/fs.h."""


class Mender:
    """The directory of one user.

    Args:
        location: whose, and where.
        is_somebody_elses: whether a token file that belongs to this uid is another user's; asked only before root hands
            it over.
    """

    def __init__(self, location: Location, is_somebody_elses: Callable[[TokenFile, int], bool] | None = None) -> None:
        self._location = location
        self._is_somebody_elses = is_somebody_elses
        self._name = os.path.basename(location.path)
        self._above = -1
        self._locked: list[int] = []
        self._maker = safe_open.AsUser(safe_open.OURSELVES)

    def mend(self) -> str:
        """Write the directory and both files in good order. The result is durable on return.

        Returns:
            What was done, for the person. Empty if nothing was needed.

        Raises:
            EnrolmentFailed: nothing could be kept, and nothing has changed.
            PathError: the token file is damaged, another process has the lock, a directory above is not in order, or
                nothing can be written.
        """
        return self._within(self._mend)

    def set_aside(self) -> str:
        """Move the directory, or anything else with its name, to another name.

        Returns:
            The new path; empty if nothing has that name.

        Raises:
            PathError: it cannot be moved.
        """
        return self._within(self._move_away)

    def _within(self, work: Callable[[], str]) -> str:
        account = self._location.account
        try:
            with self._location.as_owner():
                self._above = self._location.open_above()
        except FileNotFoundError:
            return ""  # where nothing can be, nothing is wrong
        try:
            # Only root can make something in root's directory. In the user's directory only the user does.
            is_roots = os.fstat(self._above).st_uid == 0
            self._maker = safe_open.AsUser(safe_open.OURSELVES if is_roots else account)
            return work()
        except OSError as error:
            raise file_faults.refusal(self._location.path, error, below=self._above) from None
        finally:
            for descriptor in (*self._locked, self._above):
                os.close(descriptor)
            self._locked.clear()

    def _mend(self) -> str:
        path = self._location.path
        try:
            status = os.stat(self._name, dir_fd=self._above, follow_symlinks=False)
        except FileNotFoundError:
            self._require_nothing_written()
            if os.fstat(self._above).st_uid == self._location.owner:
                return ""
            os.close(self._make(self._name))
            return f"{path} is there now, for {self._location.account.name}"
        if not stat.S_ISDIR(status.st_mode) or status.st_uid != self._location.owner:
            return self._mend_whole()
        done = self._set_modes()
        with self._location.as_owner():
            directory = os.open(self._name, _LOOKING | os.O_DIRECTORY, dir_fd=self._above)
        try:
            done += self._mend_files(directory)
        finally:
            os.close(directory)
        return "; ".join(done)

    def _require_nothing_written(self) -> None:
        """Check that no killed program has moved the old directory away and not put the new one in its place.

        Raises:
            EnrolmentFailed: one has. Only root can say whether something was removed since.
        """
        path, user = self._location.path, cure.quoted(self._location.account.name)
        with self._maker:
            try:
                names = sorted(os.listdir(f"/proc/self/fd/{self._above}"))
            except OSError:
                return
            written = [
                f"{os.path.dirname(path)}/{name}"
                for name in names
                if _WRITTEN.fullmatch(name.removeprefix(self._name)) and name.startswith(self._name)
                and os.access(f"{name}/{TOKENS}", os.R_OK, dir_fd=self._above, effective_ids=True)
            ]  # fmt: skip
        if written:
            is_users = os.fstat(self._above).st_uid == self._location.owner != 0
            words = f"runuser -u {user} -- " if is_users else ""
            raise EnrolmentFailed(
                f"{path} is missing, and {written[-1]} is what a killed program wrote in its place",
                hint=f"{words}mv -T {cure.quoted(written[-1])} {cure.quoted(path)}, if no token was removed since",
            )

    def _mend_whole(self) -> str:
        """Write a new directory with what can be kept, and put it in the place of the old one."""
        path = self._location.path
        contents = {name: data for name in (STATE, TOKENS) if (data := self._content_of(name)) is not None}
        if TOKENS not in contents:
            raise self._nothing_to_keep(path)
        new = f"{self._name}.{os.urandom(8).hex()}"
        directory = self._make(new)
        try:
            # The state comes first: tokens without a state would have no used codes.
            for name, data in contents.items():
                self._put(name, data, directory)
            aside = self._move_away()
        except BaseException:
            self._discard(new, directory)
            raise
        finally:
            os.close(directory)
        with self._maker:
            os.rename(new, self._name, src_dir_fd=self._above, dst_dir_fd=self._above)
            with contextlib.suppress(PermissionError):  # a directory that can be entered, but not read
                replace.sync_directory(".", below=self._above)
        return f"{path} was written again, and the former one is {aside} now"

    def _mend_files(self, directory: int) -> list[str]:
        """Write again those files of a sound directory that are refused."""
        path = self._location.path
        refused = [name for name in (STATE, TOKENS) if self._is_refused(name, directory)]
        # A state without a token file is useless.
        is_there = TOKENS in os.listdir(directory)
        contents = {name: self._content_of(name) if is_there else None for name in refused}
        if contents.get(TOKENS, b"") is None:
            raise self._nothing_to_keep(f"{path}/{TOKENS}")
        done = []
        for name, data in contents.items():
            if data is not None:
                self._put(name, data, directory)
                done.append(f"{path}/{name} was written again")
            else:
                with self._location.as_owner():
                    os.rename(name, f"{name}.old", src_dir_fd=directory, dst_dir_fd=directory)
                    os.fsync(directory)
                done.append(f"{path}/{name} is {name}.old now")
        return done

    def _nothing_to_keep(self, path: str) -> EnrolmentFailed:
        return EnrolmentFailed(
            f"{path}: nothing in it can be kept; nothing was changed",
            hint=f"softtoken-enroll --user {self._location.account.name} --force makes a new token in its place",
        )

    def _is_refused(self, name: str, directory: int) -> bool:
        path, flags = f"{self._location.path}/{name}", os.O_RDWR if name == STATE else os.O_RDONLY
        with self._location.as_owner():
            try:
                os.close(safe_open.open_file(path, flags, below=directory, owner=self._location.owner))
            except FileNotFoundError:
                return False
            except PathError:
                return True
        return False

    def _make(self, name: str) -> int:
        with self._maker:
            os.mkdir(name, 0o700, dir_fd=self._above)
            directory = os.open(name, _LOOKING | os.O_DIRECTORY, dir_fd=self._above)
            os.fchmod(directory, 0o700)
            if os.fstat(directory).st_uid != self._location.owner:
                os.fchown(directory, self._location.owner, self._location.account.gid)
        return directory

    def _put(self, name: str, data: bytes, directory: int) -> None:
        with self._location.as_owner():
            replace.Replacement(f"{self._location.path}/{name}", data, below=directory).put()

    def _discard(self, new: str, directory: int) -> None:
        with self._maker, contextlib.suppress(OSError):
            for name in os.listdir(directory):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=directory)
            os.rmdir(new, dir_fd=self._above)

    def _move_away(self) -> str:
        # This comes first. Otherwise, in a moment without a token file, the user would pass for one who never enrolled.
        enrolled_mark.set_for(self._location.account)
        with self._maker:
            try:
                present = set(os.listdir(f"/proc/self/fd/{self._above}"))
            except OSError:
                present = set()
            others = (f"{self._name}.old{number or ''}" for number in range(len(present) + 1))
            other = next(each for each in others if each not in present)
            try:
                os.rename(self._name, other, src_dir_fd=self._above, dst_dir_fd=self._above)
            except FileNotFoundError:
                return ""
        return f"{os.path.dirname(self._location.path)}/{other}"

    def _set_modes(self) -> list[str]:
        """Set the modes: closed to others, open to the owner."""
        changed = []
        for name, mode in ((self._name, 0o700), *((f"{self._name}/{each}", 0o600) for each in (TOKENS, STATE))):
            path = os.path.join(os.path.dirname(self._location.path), name)
            if self._clear_flags(name):
                changed.append(f"{path} is not immutable any more")
            with self._location.as_owner(), contextlib.suppress(OSError):
                status = os.stat(name, dir_fd=self._above, follow_symlinks=False)
                is_theirs = status.st_uid == self._location.owner and not stat.S_ISLNK(status.st_mode)
                if is_theirs and stat.S_IMODE(status.st_mode) & 0o777 != mode:
                    os.chmod(name, mode, dir_fd=self._above)
                    changed.append(f"{path} has mode {mode:04o}")
        return changed

    def _clear_flags(self, name: str) -> bool:
        """Remove the chattr flags of a file that is its owner's, on the descriptor. This needs root."""
        try:
            with self._location.as_owner():
                descriptor = os.open(name, _LOOKING, dir_fd=self._above)
        except OSError:
            return False
        try:
            with contextlib.suppress(OSError):
                if os.fstat(descriptor).st_uid == self._location.owner:
                    flags = struct.unpack("L", fcntl.ioctl(descriptor, _GET_FLAGS, bytes(8)))[0]
                    if flags & _IMMUTABLE:
                        fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("L", flags & ~_IMMUTABLE))
                        return True
            return False
        finally:
            os.close(descriptor)

    def _content_of(self, name: str) -> bytes | None:
        """Read one of the files. The result is None if nothing of it can be kept."""
        data = self._read_as_owner(name)
        if data is None and os.geteuid() == 0 and self._location.owner != 0:
            data = self._read_as_root(name)
        if data is None or not data or len(data) > _MAX_BYTES[name]:
            return None
        if name == TOKENS:
            self._parsed(data)
        return data

    def _parsed(self, data: bytes) -> TokenFile:
        path = f"{self._location.path}/{TOKENS}"
        text = text_of(data, path=path, is_roots=not self._location.in_home)
        return token_file.parse(text, path=path, owner=self._location.bound_to)

    def _read_as_owner(self, name: str) -> bytes | None:
        # Root follows no link, because it may be another user's. Users may put their own files where they like.
        flags = _LOOKING if self._location.owner == 0 else _LOOKING & ~os.O_NOFOLLOW
        with self._location.as_owner():
            try:
                return self._read(os.open(f"{self._name}/{name}", flags, dir_fd=self._above), name)
            except (OSError, UnusableFile):
                return None

    def _read_as_root(self, name: str) -> bytes | None:
        """Read a file that was restored under another owner and is closed to the user.

        Raises:
            EnrolmentFailed: the file may really be another user's.
        """
        try:
            directory = os.open(self._name, _LOOKING | os.O_DIRECTORY, dir_fd=self._above)
        except OSError:
            return None
        try:
            descriptor = os.open(name, _LOOKING, dir_fd=directory)
        except OSError:
            return None
        finally:
            os.close(directory)
        data, status = self._read(descriptor, name), os.fstat(descriptor)
        if status.st_nlink != 1:
            return None
        if name == STATE and data:
            # Users can give this name to any file of root's that is in their home.
            try:
                state_format.decode(data, path=f"{self._location.path}/{name}")
            except DamagedState:
                return None
        if name == TOKENS and data:
            content = self._parsed(data)
            if self._is_somebody_elses is None or self._is_somebody_elses(content, status.st_uid):
                raise EnrolmentFailed(
                    f"{self._location.path}/{name} may be another user's; nothing was changed",
                    hint=f"softtoken-enroll --user {self._location.account.name} --force makes a new token",
                )
        return data

    def _read(self, descriptor: int, name: str) -> bytes | None:
        """Read an open file. The state stays locked, so that no login writes a record that would be lost."""
        self._locked.append(descriptor)
        path = f"{self._location.path}/{name}"
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        if name == STATE:
            safe_open.lock(descriptor, LOCK_TIMEOUT_S, path=path)
        return safe_open.read(descriptor, _MAX_BYTES[name], path=path)


def is_mendable(error: PathError, location: Location) -> bool:
    """Check whether this module can repair the fault. It must be in or at the user's own directory."""
    is_theirs = error.culprit == location.path or error.culprit.startswith(f"{location.path}/")
    return is_theirs and isinstance(error, (InsecureFile, UnusableFile)) and error.kind in (
        errors.FOREIGN, errors.HARD_LINKED, errors.LINK, errors.NO_DIRECTORY, errors.NO_FILE,
        errors.READABLE, errors.WRITABLE, errors.DENIED, errors.IMMUTABLE,
    )  # fmt: skip
