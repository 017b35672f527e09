"""The place of one user's token file and state file, and how its directory is opened. By default it is `~/.softtoken`,
and touched only as the user. A store outside the home directory belongs to the process that opens it. For a login that
is root.
"""

from __future__ import annotations

import os

from pam_softtoken import errors
from pam_softtoken.account import places, roots_files, safe_open
from pam_softtoken.errors import ConfigError, UnusableFile

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.account.safe_open import Account

TOKENS, STATE = "tokens", "state"


class Location:
    """The place of one user's files.

    Args:
        template: the `store` option.
        account: the user.

    Raises:
        ConfigError: the user's name cannot be part of a path.
    """

    __slots__ = ("_names", "_start", "account", "bound_to", "in_home", "owner", "path")

    def __init__(self, template: str, account: Account) -> None:
        name = account.name
        if "%u" in template and (not name.isprintable() or "/" in name or name.startswith(".") or not name):
            raise ConfigError((f"store: %u cannot stand for the user name {name[:64]!r}; use %U",))
        self.in_home = template.startswith("%h")
        start, words = split(template)
        self.account = account
        self._start = account.home if self.in_home else start
        self._names = [_fill(word, account) for word in words]
        self.path = "/".join((self._start.rstrip("/"), *self._names))
        self.owner = account.uid if self.in_home else os.geteuid()
        # Names and uids pass to other users one day. So a file that only root can write names its user.
        self.bound_to = None if self.in_home else (account.name, account.uid)

    def as_owner(self) -> safe_open.AsUser:
        """Return a `with` block in which the files are touched as their owner."""
        return safe_open.AsUser(self.account if self.in_home else safe_open.OURSELVES)

    def open_directory(self, *, making: list[str] | None = None) -> int:
        """Open the directory and check every part of its path. Call it as the owner.

        Args:
            making: a list. Missing directories are made with mode 0700, and their paths are added to it.

        Raises:
            FileNotFoundError: it is missing, and the directory above it was seen.
            InsecureFile, UnusableFile: as their names say.
        """
        return self._open(self._names, making)

    def open_above(self) -> int:
        """Open the directory above the user's directory and check every part of its path. Call it as the owner.

        Raises:
            FileNotFoundError: it is missing.
            InsecureFile, UnusableFile: as their names say.
        """
        if self._names:
            return self._open(self._names[:-1], None)
        return safe_open.open_directory(os.path.dirname(self._start), below=None, owner=self.owner)

    def _open(self, names: list[str], making: list[str] | None) -> int:
        directory = self._open_start(making)
        path = self._start.rstrip("/")
        for name in names:
            path += "/" + name
            try:
                if making is not None:
                    safe_open.make_directory(path, below=directory, made=making)
                below = safe_open.open_directory(path, below=directory, owner=self.owner)
            finally:
                os.close(directory)
            directory = below
        return directory

    def _open_start(self, making: list[str] | None) -> int:
        if self.in_home:
            return safe_open.open_home(self.account)
        if making is not None:
            from pam_softtoken.account import user_path  # noqa: PLC0415 - usual logins make nothing

            user_path.require_no_way_in(self._start)
            parts = self._start.split("/")
            for end in range(2, len(parts) + 1):
                path = "/".join(parts[:end])
                if path == places.DATA:
                    _make_for_all(path, making)
                safe_open.make_directory(path, below=None, made=making)
        try:
            return safe_open.open_directory(self._start, below=None, owner=self.owner)
        except FileNotFoundError:
            raise UnusableFile(self._start, "the store's directory is missing", kind=errors.MISSING) from None


def _make_for_all(path: str, made: list[str]) -> None:
    """Create the directory in which programs without root find root's records of their own user."""
    try:
        if not os.path.isdir(path):
            roots_files.make_directory(path)
            made.append(path)
    except OSError:
        pass  # the next step, which makes the store, reports the cause


def split(template: str) -> tuple[str, list[str]]:
    """Return the path that all users share (`%h` for a store in the home directory) and the words below it.

    The first part must exist already. Only a missing part below it proves an absence.
    """
    words = [word for word in template.split("/") if word not in ("", ".")]
    if words[0] == "%h":
        return "%h", words[1:]
    common = 0
    while common < len(words) and "%" not in words[common].replace("%%", ""):
        common += 1
    return "/" + "/".join(words[:common]).replace("%%", "%"), words[common:]


def _fill(word: str, account: Account) -> str:
    # The uid comes first: a "%U" in a user's name must stay as it is.
    return "%".join(piece.replace("%U", str(account.uid)).replace("%u", account.name) for piece in word.split("%%"))
