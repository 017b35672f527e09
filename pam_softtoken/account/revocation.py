"""Read what root has revoked, for a login. The record is root's own, so that nothing a user does to their files undoes
it. Imports nothing but `os`, the errors, the paths, the mark and the token file's values.

Users can restore a copy of their token file and state, replace their directory in a loop, and hold every lock on it. So
a revocation does not change these files. It is a file of root's. A login reads it twice:

1. before it reads the tokens (`read`); for this login the revoked tokens then do not exist; 2. after the accepted code
is durably recorded as used, and before the verdict (`Revocation.require_unchanged`).

No code works once `revoke` has returned, in any order of events. The reason is that a revocation takes effect with one
rename. If a login's second look comes after that rename, it sees another set of records than at its first look. The
login is refused, whether it was waiting for the prompt, the lock or the disk. If the second look comes before the
rename, the login had recorded its code before the revocation. So it was accepted before it. There is no third order,
and the argument needs no lock.

A user's records are in `REVOKED/UID`. Each revocation is a file with a random name. It is written whole, renamed into
place, and never changed. `LIVING` lists what root has enrolled since, and names every revocation that was known then.
So writing it at the same moment as a revocation cannot undo that revocation. No process has to wait for another.

An account that got another uid is found by its name. Revocations under the former uid count until root hands them over
(`read_for`).
"""

from __future__ import annotations

import os

from pam_softtoken.account import account_record, places
from pam_softtoken.account.token_file import TokenFile, rebind_words
from pam_softtoken.errors import DENIED, EXPLAINED, Revoked, UnusableFile
from pam_softtoken.otp.mac import sha256
from pam_softtoken.otp.recovery_code import RecoverySet

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.account.safe_open import Account
    from pam_softtoken.account.state import State

LIVING = "living"
HEADER, LIVING_HEADER = "softtoken-revocation 1", "softtoken-living 1"
MAX_BYTES = 64 * 1024
NAME_DIGITS = 16
DIGEST_DIGITS = 32
_READS = 100
_HEXADECIMAL = "0123456789abcdef"


class Revocation:
    """Everything that was revoked for one user.

    Attributes:
        names: names of the revocations; empty if nothing was ever revoked.
        closing: names of the revocations that revoked everything. Since then only what root has enrolled counts.
        dead: fingerprints of tokens that were revoked by name, or were seen when everything was revoked.
        tokens: fingerprints of the tokens that root has enrolled since the last of `closing`.
        sets: names of the sets of recovery codes that root has enrolled since then.
        issued: start of the hash of a code that an administrator issued since the last of `names`; or empty.
        beside: by uid, the names of revocations under another uid of the account.
        is_shared: the tokens are those of several hosts, and others do not know this record.
    """

    __slots__ = ("beside", "closing", "dead", "is_shared", "issued", "names", "sets", "tokens", "uid")

    def __init__(self, uid: int) -> None:
        self.uid = uid
        self.names: frozenset[str] = frozenset()
        self.closing: frozenset[str] = frozenset()
        self.dead: dict[str, None] = {}
        self.tokens: dict[str, None] = {}
        self.sets: dict[str, None] = {}
        self.issued = ""
        self.beside: dict[int, frozenset[str]] = {}
        self.is_shared = False

    def for_realm(self) -> Revocation:
        """Return it for tokens of a realm. A key that was revoked here stays dead, and no more: what is enrolled and
        issued on other hosts since is not in this record, and must not be held back by it.
        """
        self.closing, self.is_shared = frozenset(), True
        return self

    def counts(self, fingerprint: str) -> bool:
        """Check whether codes of a token are judged at all."""
        return fingerprint not in self.dead and (not self.closing or fingerprint in self.tokens)

    def living(self, content: TokenFile) -> TokenFile:
        """Return a token file without what was revoked.

        Raises:
            Revoked: no token is left.
        """
        if not self.names:
            return content
        tokens = tuple(token for token in content.tokens if self.counts(token.fingerprint()))
        if not tokens:
            raise Revoked
        codes = content.recovery
        if self.closing and codes.name not in self.sets:
            codes = RecoverySet(codes.salt, (), scrypt_n=codes.scrypt_n)
        return TokenFile(tokens, codes, content.pin)

    def living_state(self, state: State) -> State:
        """Return a state without a code that was issued before the last revocation.

        Older times of grace have other names, see `Store.grace_name`.
        """
        if not self.names or self.is_shared:
            return state
        if any(words[0][:DIGEST_DIGITS] != self.issued for words in state.issued.values()):
            return state.without_issued()
        return state

    def grace_name(self, name: str) -> str:
        """Return the recorded name of a time of grace. `grace` made `name`. Each revocation changes it."""
        if not self.names:
            return name
        return sha256(" ".join((name, *sorted(self.names))).encode("ascii")).hexdigest()[:16]

    def require_unchanged(self) -> None:
        """Check that nothing was revoked since this was read.

        Raises:
            Revoked: something was revoked. The next attempt takes it into account.
            UnusableFile: nobody can tell.
        """
        for uid, names in ((self.uid, self.names), *self.beside.items()):
            if _names(uid) != names:
                raise Revoked


def directory_of(uid: int) -> str:
    """Return the path of a user's records."""
    return f"{places.REVOKED}/{uid}"


def read_for(account: Account) -> Revocation:
    """Read what was revoked for an account, under its present uid and its former one.

    Raises:
        UnusableFile: nobody can tell, which is no proof that nothing was.
    """
    present = read(account.uid)
    before = account_record.former(account)
    if before is None:
        return present
    former = read(before.uid)
    present.beside, former.beside = {before.uid: former.names}, {account.uid: present.names}
    if former.names <= present.names:
        return present
    if present.names:
        cure = " ".join(rebind_words((account.name, account.uid), (before.name, before.uid)))
        raise UnusableFile(
            directory_of(before.uid), f"was not handed over to uid {account.uid}; as root: {cure}", kind=EXPLAINED
        )
    return former


def read(uid: int) -> Revocation:
    """Read what was revoked for a user. Most users have no record, which takes one system call.

    Raises:
        UnusableFile: nobody can tell, which is no proof that nothing was.
    """
    for _ in range(_READS):
        names = _names(uid)
        found = Revocation(uid)
        if not names:
            return found
        try:
            _read_records(found, names)
        except FileNotFoundError:  # a later revocation with the same content has replaced it
            continue
        return found
    raise UnusableFile(directory_of(uid), "changes all the time")


def _names(uid: int) -> frozenset[str]:
    try:
        entries = os.listdir(directory_of(uid))
    except FileNotFoundError:
        return frozenset()
    except OSError as error:
        kind = DENIED if isinstance(error, PermissionError) else ""
        raise UnusableFile(directory_of(uid), os.strerror(error.errno or 0), kind=kind) from None
    # The other files are `LIVING`, and what a killed command has left.
    return frozenset(name for name in entries if len(name) == NAME_DIGITS and not name.strip(_HEXADECIMAL))


def _read_records(found: Revocation, names: frozenset[str]) -> None:
    found.names = names
    closing = []
    for name in names:
        for kind, value in _lines(found.uid, name, HEADER):
            if kind == "everything":
                closing.append(name)
            elif kind == "at":
                pass  # for people who read the file; a clock can be wrong
            elif kind == "token":
                found.dead[value] = None
            else:
                raise _damaged(found.uid, name)
    found.closing = frozenset(closing)
    try:
        _read_living(found)
    except FileNotFoundError:
        pass  # root has enrolled nothing since


def _read_living(found: Revocation) -> None:
    known: set[str] = set()
    tokens: dict[str, None] = {}
    sets: dict[str, None] = {}
    issued = ""
    for kind, value in _lines(found.uid, LIVING, LIVING_HEADER):
        if kind == "after":
            known.add(value)
        elif kind == "token":
            tokens[value] = None
        elif kind == "set":
            sets[value] = None
        elif kind == "issued":
            issued = value
        else:
            raise _damaged(found.uid, LIVING)
    if known >= found.closing:
        found.tokens, found.sets = tokens, sets
    if known >= found.names:
        found.issued = issued


def _lines(uid: int, name: str, header: str) -> list[tuple[str, str]]:
    """Read one record. The result has the two words of each line after the first.

    Raises:
        FileNotFoundError: there is none of that name.
        UnusableFile: it cannot be read, or is not ours.
    """
    path = f"{directory_of(uid)}/{name}"
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            data = b""
            while len(data) <= MAX_BYTES and (piece := os.read(descriptor, MAX_BYTES + 1)):
                data += piece
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UnusableFile(path, os.strerror(error.errno or 0)) from None
    first, *lines = data.decode("ascii", "replace").split("\n")
    if first != header or not lines or lines.pop() or len(data) > MAX_BYTES:
        raise _damaged(uid, name)
    pairs = []
    for line in lines:
        kind, _, value = line.partition(" ")
        pairs.append((kind, value))
    return pairs


def _damaged(uid: int, name: str) -> UnusableFile:
    return UnusableFile(f"{directory_of(uid)}/{name}", "is not what softtoken-admin wrote")
