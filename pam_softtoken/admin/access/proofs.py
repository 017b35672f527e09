"""Define the values of the model of ways in: users, their proofs, and the proofs that a PAM service asks for.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pam_softtoken.admin.sshd.match_blocks import MAYBE, NO, YES, Names
from pam_softtoken.pam.stack import Line

KEY, PASSWORD, CODE, TICKET, HOST_KEY = "key", "password", "code", "Kerberos ticket", "host's key"
PROOFS = (KEY, TICKET, HOST_KEY, PASSWORD, CODE)
"""The proofs a user can have, in the order in which they are asked for."""
OF_TARGETS = ("su", "su-l")
"""Services that ask for the proofs of the target account."""
ENROLLED, NEVER, HOMELESS, BEFORE = "enrolled", "never", "homeless", "before"
UNUSABLE, UNKNOWN = "unusable", "unknown"
"""Whether a user has a token in a store: yes; never had one; no session has made the home for it yet; had one before;
one that cannot be used; unknown.
"""
Settings = Mapping[str, str]
"""sshd's settings for one user and connection. Names are in lower case; the values of a list are joined by spaces."""
Proofs = frozenset[str]
Ways = frozenset[tuple[Proofs, int]]
"""The smallest sets of proofs that let a user in, each with `YES` or `MAYBE`."""
NO_WAY: Ways = frozenset()


class Person(NamedTuple):
    """A user, and the known facts.

    Args:
        names: login name and groups.
        uid: user id.
        password: whether they have one that PAM's password modules accept.
        keys: for each value of `AuthorizedKeysFile`, whether one of their public keys is there.
        enrolments: for each store, one of the six words.
        expired: the account has expired, or its password expired longer ago than shadow(5) allows.
        locked: the shadow file has a `!`. Without PAM, sshd then refuses all logins.
        root: whether the user is root, or may become root with sudo.
        sudo: whether the user may run some command with sudo.
        asked: whether sudo asks them to authenticate for at least one of these commands.
        has_shell: the user has a login shell, and is root, is not a system account, or has a password.
    """

    names: Names
    uid: int
    password: int = NO
    keys: tuple[tuple[str, int], ...] = ()
    enrolments: tuple[tuple[str, str], ...] = ()
    expired: bool = False
    locked: bool = False
    root: int = NO
    sudo: int = NO
    asked: int = YES
    has_shell: bool = True

    @property
    def name(self) -> str:
        return self.names.user

    def key(self, settings: Settings) -> int:
        """Return whether the user has a key for these settings of sshd."""
        found = dict(self.keys).get(settings.get("authorizedkeysfile", ""), MAYBE)
        elsewhere = any(settings.get(name, "none") != "none" for name in ("authorizedkeyscommand", "trustedusercakeys"))
        revoked = settings.get("revokedkeys", "none") != "none"
        return max(min(found, MAYBE if revoked else YES), MAYBE if elsewhere else NO)

    def enrolment(self, store: str) -> str:
        """Return the state of the user's tokens in a store."""
        return dict(self.enrolments).get(store, UNKNOWN)

    @property
    def with_everything(self) -> Person:
        """The same user with every proof that sshd and PAM could ask for."""
        return self._replace(
            password=YES,
            keys=tuple((place, YES) for place, _ in self.keys),
            enrolments=tuple((store, ENROLLED) for store, _ in self.enrolments),
            expired=False,
            locked=False,
        )


class Asking(NamedTuple):
    """What one of our lines asks for.

    Args:
        store: the path template of the token directory.
        passes_never: it lets in users who have never enrolled.
        from_password: it takes the code from the end of the password.
        asks: it can ask for the code by itself.
        passes_homeless: it lets in users who have never enrolled and whose home the session will make.
    """

    store: str
    passes_never: bool = False
    from_password: bool = False
    asks: bool = True
    passes_homeless: bool = False

    def lets_in(self, enrolment: str) -> bool:
        """Return whether it lets in a user without a code, because they have never enrolled."""
        return self.passes_never if enrolment == NEVER else self.passes_homeless and enrolment == HOMELESS


class Door(NamedTuple):
    """The part of a PAM service that decides which users get in.

    Args:
        service: the name of the service.
        auth: its auth lines.
        asking: what each of our lines asks for. None for a line that refuses everybody: its options are wrong, or a
            screen locker cannot read its store.
        account: its account lines, which can refuse a user after all proofs.
    """

    service: str
    auth: tuple[Line, ...]
    asking: Mapping[Line, Asking | None]
    account: tuple[Line, ...] = ()

    @property
    def is_ours(self) -> bool:
        return any(line.is_ours for line in self.auth)


def text_of(found: Ways) -> str:
    """Return ways as text: `key or password and code`."""
    if not found:
        return "no way in"
    order = sorted(found, key=lambda way: (-way[1], sorted(PROOFS.index(proof) for proof in way[0])))
    return " or ".join(_text_of_way(*way) for way in order)


def _text_of_way(proofs: Proofs, certainty: int) -> str:
    named = [proof for proof in PROOFS if proof in proofs]
    text = " and ".join(named) if named else "nothing is asked"
    return text if certainty == YES else f"perhaps {text}"
