"""The tokens with which a user signs sudo commands, and the marks that the user has some. All of it is root's, whatever
`store=` says. Imports nothing that only an enrolment needs: sudo loads this before its prompt.

A user is a signer if one of two marks exists: the directory `SIGNERS/UID`, or the file that `name_mark` names. So an
account that got another uid or another name is still asked. The plugin for sudo looks only at these two. They stay when
the last token is revoked, so that its user is refused and not waved through.
"""

from __future__ import annotations

import os

from pam_softtoken.account import places, safe_open, token_file
from pam_softtoken.account.location import TOKENS, Location
from pam_softtoken.account.store import Store
from pam_softtoken.errors import BadTokenFile, NotEnrolled, OtherAccount, UnusableFile
from pam_softtoken.otp import ocra
from pam_softtoken.otp.ocra import OCRAToken, Suite
from pam_softtoken.otp.token import Secret, decode_base32, encode_base32

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pam_softtoken.account.safe_open import Account
    from pam_softtoken.account.token_file import Owner, TokenFile

VERSION = 1
MAX_SIGNERS = 4
MAX_NAME_BYTES = 100
"""Of the name of a user. Its mark has twice as many characters, and a file name has up to 255."""
NAME_PREFIX = "name-"
_KEYS = ("name", "type", "key", "suite", "created")


def uid_mark(uid: int) -> str:
    """Return the path of the directory that holds a user's tokens and state. Its existence is the mark of a uid."""
    return f"{places.SIGNERS}/{uid}"


def name_mark(name: str) -> str:
    """Return the path of the mark of a name.

    Raises:
        ValueError: a user of this name cannot have tokens that sign, because the name is too long.
    """
    data = name.encode("utf-8", "surrogateescape")
    if len(data) > MAX_NAME_BYTES:
        raise ValueError(f"the user name has more than {MAX_NAME_BYTES} bytes")
    return f"{places.SIGNERS}/{NAME_PREFIX}{data.hex()}"


def is_marked(account: Account) -> bool:
    """Check whether an account has one of the marks.

    Raises:
        UnusableFile: this is not known, which is no proof that it has none.
    """
    paths = [uid_mark(account.uid)]
    try:
        paths.append(name_mark(account.name))
    except ValueError:
        pass  # no mark can have this name
    return any(_exists(path) for path in paths)


def _exists(path: str) -> bool:
    try:
        os.lstat(path)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UnusableFile(path, os.strerror(error.errno or 0)) from None
    return True


def parse(data: bytes, *, path: str, owner: Owner) -> tuple[OCRAToken, ...]:
    """Read the text of a file of tokens that sign, for one account.

    Args:
        data: the file's bytes.
        path: its name, for the error.
        owner: the account that the file must be bound to.

    Returns:
        Up to `MAX_SIGNERS` tokens. None is left after a revocation.

    Raises:
        OtherAccount: it is bound to another account.
        BadTokenFile: with the place, such as `signers[0].key`, and never with a value that could be a key.
    """
    signers, bound_to = parse_any(data, path=path)
    if bound_to != owner:
        what = f"holds tokens that sign for {token_file.described(bound_to)}, not for {token_file.described(owner)}"
        raise OtherAccount(path, what)
    return signers


def parse_any(data: bytes, *, path: str) -> tuple[tuple[OCRAToken, ...], Owner]:
    """Read such a text, whichever account it belongs to. This is for administration; sudo uses `parse`.

    Returns:
        The tokens, and the account that the file is bound to.

    Raises:
        BadTokenFile: as for `parse`.
    """
    try:
        fields = token_file.read_object(token_file.scan(data), "the file", ("version", "account", "signers"))
        if token_file.read_integer(fields["version"], "version") != VERSION:
            raise ValueError(f"version: only {VERSION} is known")
        entries = token_file.read_array(fields["signers"], "signers")
        signers = tuple(_signer_from(entry, f"signers[{place}]") for place, entry in enumerate(entries))
        _require_fit(signers)
        return signers, token_file.read_owner(fields["account"])
    except (ValueError, RecursionError) as error:
        raise BadTokenFile(path, str(error)) from None


def _signer_from(document: object, place: str) -> OCRAToken:
    fields = token_file.read_object(document, place, _KEYS)
    name = token_file.read_text(fields["name"], f"{place}.name")
    created = token_file.read_integer(fields["created"], f"{place}.created")
    key = token_file.read_text(fields["key"], f"{place}.key")
    if token_file.read_text(fields["type"], f"{place}.type") != OCRAToken.kind:
        raise ValueError(f"{place}.type: must be {OCRAToken.kind}")
    # Statements are signed with this suite, whatever a file says.
    if token_file.read_text(fields["suite"], f"{place}.suite") != ocra.SIGNING_SUITE:
        raise ValueError(f"{place}.suite: must be {ocra.SIGNING_SUITE}")
    try:
        secret = Secret(decode_base32(key))
        return OCRAToken(name, secret, suite=Suite.parse(ocra.SIGNING_SUITE), created=created)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None


def _require_fit(signers: tuple[OCRAToken, ...]) -> None:
    if len(signers) > MAX_SIGNERS:
        raise ValueError(f"there are up to {MAX_SIGNERS} tokens that sign")
    if len({token.name for token in signers}) < len(signers):
        raise ValueError("two tokens have the same name")
    if len({token.fingerprint() for token in signers}) < len(signers):
        raise ValueError("two tokens have the same key")


def serialise(signers: tuple[OCRAToken, ...], *, owner: Owner) -> bytes:
    """Write the text of a file of tokens that sign: JSON, indented, ending with a newline.

    Args:
        signers: up to `MAX_SIGNERS`. No two have the same name or key.
        owner: the account that the file is bound to.

    Raises:
        ValueError: `parse` would not read it.
    """
    import json  # noqa: PLC0415 - only an enrolment writes

    _require_fit(signers)
    if any(token.suite.text != ocra.SIGNING_SUITE for token in signers):
        raise ValueError("a token has another suite")
    entries = [
        {
            "name": token.name,
            "type": token.kind,
            "key": encode_base32(token.secret.reveal()),
            "suite": token.suite.text,
            "created": token.created,
        }
        for token in signers
    ]
    document = {"version": VERSION, "account": token_file.owner_object(owner), "signers": entries}
    return (json.dumps(document, indent=2) + "\n").encode()


class SignerStore(Store):
    """The files of one user's tokens that sign, opened once and kept open for one attempt.

    Revocations of other tokens do not count here: a revoked token that signs is taken out of the file.

    Args:
        account: the user.
    """

    __slots__ = ()

    def __init__(self, account: Account) -> None:
        super().__init__(Location(places.SIGN_STORE, account))

    def open_signers(self) -> tuple[OCRAToken, ...]:
        """Open the files of a user who may have tokens that sign, and read the tokens. A missing state file is made.

        Raises:
            NotEnrolled: there is no token file.
            OtherAccount: it belongs to another account.
            BadTokenFile, InsecureFile, UnusableFile: as their names say.
        """
        try:
            with self.location.as_owner():
                self._directory = self.location.open_directory()
                self._open_tokens()
                found = self._read_signers()
                self._open_state()
        except FileNotFoundError:
            raise self.not_enrolled() from None
        return found

    def reread_signers(self) -> tuple[OCRAToken, ...] | None:
        """Read the tokens again if enrolment, removal or a revocation has replaced the file since it was opened.

        Returns:
            The tokens now, or None when nothing has changed.

        Raises:
            NotEnrolled: the file is gone.
            BadTokenFile, InsecureFile, UnusableFile: as their names say.
        """
        if self._is_in_place(self._tokens, TOKENS):
            return None
        os.close(self._tokens)
        self._tokens = -1
        try:
            with self.location.as_owner():
                self._open_tokens()
                return self._read_signers()
        except FileNotFoundError:
            raise NotEnrolled(proven=False) from None

    def open(self) -> TokenFile:
        """Refuse: these are tokens without one-time passwords. Raises `TypeError`."""
        raise TypeError("use open_signers")

    def reread_tokens(self) -> TokenFile | None:
        """Refuse, as `open` does. Raises `TypeError`."""
        raise TypeError("use reread_signers")

    def not_enrolled(self) -> NotEnrolled:
        """Return the error for a missing token file. The marks decide what the absence proves."""
        return NotEnrolled(proven=not is_marked(self.location.account), path=self._path(TOKENS))

    def _require_not_revoked(self) -> None:
        """Check nothing: what is revoked is no longer in the file."""

    def _read_signers(self) -> tuple[OCRAToken, ...]:
        path = self._path(TOKENS)
        bound_to = self.location.bound_to
        if bound_to is None:
            raise TypeError("these files are never in a home directory")
        return parse(safe_open.read(self._tokens, token_file.MAX_BYTES, path=path), path=path, owner=bound_to)
