"""People, what they can prove who they are with, and what a PAM service asks for: the values of the model of ways in.

Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pam_softtoken.admin.sshd.match_blocks import MAYBE, NO, YES, Names
from pam_softtoken.pam.stack import Line

KEY, PASSWORD, CODE, TICKET, HOST_KEY = "key", "password", "code", "Kerberos ticket", "host's key"
PROOFS = (KEY, TICKET, HOST_KEY, PASSWORD, CODE)
"""What somebody can prove who they are with, in the order in which people are asked."""
OF_TARGETS = ("su", "su-l")
"""Services that ask for what the account has that somebody becomes."""
ENROLLED, NEVER, BEFORE, UNUSABLE, UNKNOWN = "enrolled", "never", "before", "unusable", "unknown"
"""Whether a user has a token in a store: yes; never had; had one once; files that are refused; it cannot be seen."""
Settings = Mapping[str, str]
"""sshd's settings for one user and connection, names in lower case, of a list all values joined by spaces."""
Proofs = frozenset[str]
Ways = frozenset[tuple[Proofs, int]]
"""The smallest sets of proofs that let somebody in, each with `YES` or `MAYBE`."""
NO_WAY: Ways = frozenset()


class Person(NamedTuple):
    """A user, and what is known of them.

    Args:
        names: login name and groups.
        uid: user id.
        password: one that PAM's modules for passwords accept.
        keys: for each value of `AuthorizedKeysFile`, whether a public key of theirs is there.
        enrolments: for each store, one of the five words.
        expired: the account has an end, and it is over.
        locked: the shadow file has a `!`, with which sshd refuses all unless it uses PAM.
        root: sudo lets them become root, or it is root.
        sudo: sudo lets them run anything; `asked` says whether it asks them to authenticate.
        asked: see `sudo`.
        has_shell: they have a shell for people, and are root or no account of the system.
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
        """Return whether they have a key for these settings of sshd."""
        found = dict(self.keys).get(settings.get("authorizedkeysfile", ""), MAYBE)
        elsewhere = any(settings.get(name, "none") != "none" for name in ("authorizedkeyscommand", "trustedusercakeys"))
        revoked = settings.get("revokedkeys", "none") != "none"
        return max(min(found, MAYBE if revoked else YES), MAYBE if elsewhere else NO)

    def enrolment(self, store: str) -> str:
        """Return what is known of their tokens in a store."""
        return dict(self.enrolments).get(store, UNKNOWN)

    @property
    def with_everything(self) -> Person:
        """The same user, if they had all that sshd and PAM could ask for."""
        return self._replace(
            password=YES,
            keys=tuple((place, YES) for place, _ in self.keys),
            enrolments=tuple((store, ENROLLED) for store, _ in self.enrolments),
            expired=False,
            locked=False,
        )


class Asking(NamedTuple):
    """What a line of ours asks for.

    Args:
        store: template of the directory of the tokens.
        passes_never: it lets users in who have never enrolled.
        from_password: it takes the code out of the password.
        asks: it can ask for the code by itself.
    """

    store: str
    passes_never: bool = False
    from_password: bool = False
    asks: bool = True


class Door(NamedTuple):
    """A PAM service, as far as it decides who gets in.

    Args:
        service: its name.
        auth: its lines of that type.
        asking: what our lines among them ask for; None for one that refuses everybody: its options are wrong, or a
            screen locker cannot read its store.
        account: its lines of that type, which can keep somebody out who has proved everything.
    """

    service: str
    auth: tuple[Line, ...]
    asking: Mapping[Line, Asking | None]
    account: tuple[Line, ...] = ()

    @property
    def is_ours(self) -> bool:
        return any(line.is_ours for line in self.auth)


def text_of(found: Ways) -> str:
    """Return ways in words: `key or password and code`."""
    if not found:
        return "no way in"
    order = sorted(found, key=lambda way: (-way[1], sorted(PROOFS.index(proof) for proof in way[0])))
    return " or ".join(_text_of_way(*way) for way in order)


def _text_of_way(proofs: Proofs, certainty: int) -> str:
    named = [proof for proof in PROOFS if proof in proofs]
    text = " and ".join(named) if named else "nothing is asked"
    return text if certainty == YES else f"perhaps {text}"
