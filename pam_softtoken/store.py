"""A user's token file and state file: where they are, and how they are opened, read and written.

By default they are in `~/.softtoken` and touched only as the user. A store outside the home directory belongs to the
process that opens it, which for a login is root.
"""

from __future__ import annotations

import os

from pam_softtoken import files, state, tokenfile
from pam_softtoken.errors import ConfigError, InsecureFile, NotEnrolled, NotStored, UnusableFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.files import Account
    from pam_softtoken.state import State
    from pam_softtoken.tokenfile import TokenFile

TOKENS, STATE = "tokens", "state"
_OURSELVES = files.Account("", 0, 0, home="/")


class Location:
    """Where one user's files are.

    Args:
        template: the `store` option.
        account: the user.

    Raises:
        ConfigError: the user's name cannot be part of a path.
    """

    __slots__ = ("_names", "_start", "account", "in_home", "owner", "path")

    def __init__(self, template: str, account: Account) -> None:
        name = account.name
        if "%u" in template and (not name.isprintable() or "/" in name or name.startswith(".") or not name):
            raise ConfigError((f"store: %u cannot stand for the user name {name[:64]!r}; use %U",))
        words = [word for word in template.split("/") if word not in ("", ".")]
        self.in_home = words[0] == "%h"
        # The part that is the same for all users must be there already; only what is below it proves an absence.
        common = 1
        while not self.in_home and common < len(words) and "%" not in words[common].replace("%%", ""):
            common += 1
        self.account = account
        self._start = account.home if self.in_home else "/" + "/".join(words[:common]).replace("%%", "%")
        self._names = [_fill(word, account) for word in words[common:]]
        self.path = "/".join((self._start.rstrip("/"), *self._names))
        self.owner = account.uid if self.in_home else os.geteuid()

    def as_owner(self) -> files.AsUser:
        """A block in which the files are touched as their owner."""
        return files.AsUser(self.account if self.in_home else _OURSELVES)

    def open_directory(self, *, make: bool = False) -> int:
        """Open the directory, every part of it checked; call it as the owner.

        Args:
            make: make what is missing, with mode 0700.

        Raises:
            FileNotFoundError: it is missing, and the directory where it would be was seen.
            InsecureFile, UnusableFile: as their names say.
            OSError: it cannot be made.
        """
        directory = self._open_start(make)
        for name in self._names:
            try:
                if make:
                    _make_directory(name, directory)
                below = files.open_directory(name, below=directory, owner=self.owner)
            finally:
                os.close(directory)
            directory = below
        return directory

    def _open_start(self, make: bool) -> int:
        if self.in_home:
            return files.open_home(self.account)
        if make:
            os.makedirs(self._start, 0o700, exist_ok=True)
        try:
            return files.open_directory(self._start, below=None, owner=self.owner)
        except FileNotFoundError:
            raise UnusableFile(self._start, "the store's directory is missing") from None


def _fill(word: str, account: Account) -> str:
    return "%".join(piece.replace("%u", account.name).replace("%U", str(account.uid)) for piece in word.split("%%"))


def _make_directory(name: str, below: int) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=below)
    except FileExistsError:
        pass


class Store:
    """The files of one user, opened once and kept open for one attempt or one enrolment.

    Args:
        location: where they are.
    """

    __slots__ = ("_directory", "_made", "_present", "_seen", "_sequence", "_state", "_tokens", "location")

    def __init__(self, location: Location) -> None:
        self.location = location
        self._made: list[str] = []
        self._seen: bytes | None = None  # the state file's bytes, so that they are not decoded again under the lock
        self._present: State | None = None
        self._sequence = 0
        self._directory = self._tokens = self._state = -1

    def close(self) -> None:
        """Close all of it, which gives the lock back."""
        for descriptor in (self._state, self._tokens, self._directory):
            if descriptor >= 0:
                os.close(descriptor)
        self._directory = self._tokens = self._state = -1

    def open(self) -> TokenFile:
        """Open the files of somebody who may be enrolled, and read the tokens.

        A missing state file is made, empty; what that means is `verifier`'s business.

        Raises:
            NotEnrolled: there is no token file; proven.
            BadTokenFile, InsecureFile, UnusableFile: as their names say.
        """
        try:
            return self._open_all()
        except UnusableFile as error:
            if not error.denied:
                raise
        # The way to the home directory may be open to one of the user's groups only.
        self.close()
        self.location.account.look_up_groups()
        return self._open_all()

    def _open_all(self) -> TokenFile:
        with self.location.as_owner():
            try:
                self._directory = self.location.open_directory()
                self._open_tokens()
            except FileNotFoundError:
                raise NotEnrolled(proven=True) from None
            content = self._read_tokens()
            self._open_state()
        return content

    def open_for_enrolment(self) -> TokenFile | None:
        """Open the directory and the state file, making both where they are missing, and read the present tokens.

        Returns:
            The present token file, or None.

        Raises:
            BadTokenFile, InsecureFile, UnusableFile: as their names say.
            OSError: something cannot be made.
        """
        with self.location.as_owner():
            try:
                self._directory = self.location.open_directory()
            except FileNotFoundError:
                self._directory = self.location.open_directory(make=True)
                self._made.append("directory")
            if self._open_state():
                self._made.append(STATE)
            try:
                self._open_tokens()
            except FileNotFoundError:
                return None
            return self._read_tokens()

    def withdraw(self) -> None:
        """Take away what `open_for_enrolment` made, because nothing came of it."""
        with self.location.as_owner():
            try:
                if STATE in self._made and TOKENS not in os.listdir(self._directory):
                    os.unlink(STATE, dir_fd=self._directory)
                if "directory" in self._made:
                    os.rmdir(self.location.path)
            except OSError:
                pass  # an empty directory left behind harms nobody
        self._made.clear()

    def reread_tokens(self) -> TokenFile | None:
        """Read the tokens again if enrolment or removal has replaced the file since it was opened.

        Returns:
            The new content, or None when nothing has changed.
        """
        if files.is_linked(self._tokens):
            return None
        with self.location.as_owner():
            os.close(self._tokens)
            self._tokens = -1
            try:
                self._open_tokens()
            except FileNotFoundError:
                raise NotEnrolled(proven=False) from None
            return self._read_tokens()

    def lock(self, timeout_s: float) -> None:
        """Take the lock, which is the state file's own.

        Raises:
            LockTimeout: somebody else held it for longer than `timeout_s` seconds.
            InsecureFile: the file was replaced while we waited.
            UnusableFile: there are no locks here.
        """
        path = self._path(STATE)
        files.lock(self._state, timeout_s, path=path)
        if not files.is_linked(self._state):
            raise InsecureFile(path, "was replaced during the attempt")

    def unlock(self) -> None:
        """Give the lock back; the files stay open."""
        files.unlock(self._state)

    def read_state(self) -> State | None:
        """Read the state, under the lock for a decision.

        Returns:
            The state, or None when the file is new or was emptied.

        Raises:
            DamagedState: it says nothing that can be trusted.
            UnusableFile: the system would not read it.
        """
        path = self._path(STATE)
        data = files.read(self._state, state.FILE_BYTES, path=path)
        if data != self._seen:
            self._sequence, self._present = state.decode(data, path=path) if data else (0, None)
            self._seen = data
        return self._present

    def write_state(self, new: State) -> None:
        """Write a state over the older slot and return when it is durable. `read_state` comes first, under one lock.

        Into an empty file both slots are written, so that later stores need no space.

        Raises:
            NotStored: it may or may not be on the disk.
        """
        path = self._path(STATE)
        self._seen = None
        is_first = self._sequence == 0
        self._sequence += 1
        files.overwrite(self._state, state.encode(new, self._sequence), state.place_of(self._sequence), path=path)
        if not is_first:
            return
        self._sequence += 1
        files.overwrite(self._state, state.encode(new, self._sequence), state.place_of(self._sequence), path=path)
        try:
            os.fsync(self._state)
            os.fsync(self._directory)
        except OSError as error:
            raise NotStored(path, os.strerror(error.errno or 0)) from None

    def write_tokens(self, content: TokenFile) -> None:
        """Put a new token file in the place of the old one, whole or not at all.

        Raises:
            NotStored: nothing has changed.
        """
        with self.location.as_owner():
            data = tokenfile.serialise(content)
            files.replace(TOKENS, data, below=self._directory, path=self._path(TOKENS))

    def _open_tokens(self) -> None:
        self._tokens = files.open_file(
            TOKENS, os.O_RDONLY, below=self._directory, owner=self.location.owner, max_bytes=tokenfile.MAX_BYTES
        )

    def _open_state(self) -> bool:
        self._state, is_new = files.open_or_make_file(
            STATE, os.O_RDWR, below=self._directory, owner=self.location.owner, max_bytes=state.FILE_BYTES
        )
        return is_new

    def _read_tokens(self) -> TokenFile:
        path = self._path(TOKENS)
        return tokenfile.parse(files.read(self._tokens, tokenfile.MAX_BYTES, path=path), path=path)

    def _path(self, name: str) -> str:
        return f"{self.location.path}/{name}"
