"""Determine which users sudo would ask for a signature, and which it would refuse because they have no token to sign.

`outlook` reads the facts: marks, tokens, and what sudo allows. The rest is pure. root is never asked.
"""

from __future__ import annotations

import pwd
import time
from collections.abc import Iterable
from typing import NamedTuple

from pam_softtoken.admin.access import host_facts
from pam_softtoken.admin.access.host_facts import Shadow
from pam_softtoken.admin.common import logins
from pam_softtoken.admin.common.finding import named
from pam_softtoken.admin.signers import signer_facts
from pam_softtoken.admin.sshd.match_blocks import MAYBE, NO, YES

NEVER_ENROLLED = "no signing token"
_MOST_NAMES = 8


class Signer(NamedTuple):
    """What is known about a user's signing tokens.

    Args:
        is_marked: the user has, or had, one. sudo asks such a user.
        tokens: the names of those that can sign.
        why: why there are none; empty if there are some.
    """

    is_marked: bool
    tokens: tuple[str, ...] = ()
    why: str = ""


class SudoUser(NamedTuple):
    """A user who may use sudo today, perhaps.

    Args:
        name: the account.
        signer: about the signing tokens.
        sudo: whether the user may run anything with sudo.
        root: whether the user may become root with it.
    """

    name: str
    signer: Signer
    sudo: int
    root: int


class Outlook(NamedTuple):
    """What sudo would do.

    Args:
        users: all who may use it.
        required: users without a signing token are refused, too.
        root_has_password: root can log in on the console, where nobody signs.
    """

    users: tuple[SudoUser, ...]
    required: bool
    root_has_password: bool = True

    def is_through(self, user: SudoUser) -> bool:
        """Check whether a user could still use sudo, with a signature or without."""
        return bool(user.signer.tokens) or not (self.required or user.signer.is_marked)

    @property
    def asked(self) -> list[SudoUser]:
        """The users who would be asked, and can sign."""
        return [user for user in self.users if user.signer.tokens]

    @property
    def unasked(self) -> list[SudoUser]:
        """The users who would not be asked."""
        return [user for user in self.users if self.is_through(user) and not user.signer.tokens]

    def refused(self, certainty: int) -> list[SudoUser]:
        """Return the users who would be refused, and who may certainly, or perhaps, use sudo today."""
        return [user for user in self.users if user.sudo == certainty and not self.is_through(user)]

    def refusal(self, runner: str) -> str:
        """Return why this change must be forced; empty if it need not.

        Args:
            runner: the user who makes it.
        """
        for user in self.refused(YES):
            if user.name == runner:
                return f"you are {runner}, and sudo would refuse you: {user.signer.why}"
        roots = [user for user in self.users if user.root == YES]
        if roots and not any(map(self.is_through, roots)):
            return "sudo would refuse everybody who can become root with it today"
        return ""


def lines(found: Outlook) -> Iterable[str]:
    """Yield the lines that show who is asked, who is not, and who is refused."""
    if found.asked:
        who = [f"{user.name} ({', '.join(user.signer.tokens)})" for user in found.asked]
        yield f"sudo would ask for a signature: {named(who, _MOST_NAMES)}"
    else:
        yield "Nobody who may use sudo has a signing token yet, so nobody can sign."
    if found.unasked:
        yield f"Not asked, for want of a signing token: {named((user.name for user in found.unasked), _MOST_NAMES)}"
    for certainty, text in ((YES, "These may use sudo today, and would be refused"), (MAYBE, "Perhaps these, too")):
        reasons: dict[str, list[str]] = {}
        for user in found.refused(certainty):
            reasons.setdefault(user.signer.why, []).append(user.name)
        if reasons:
            yield f"{text}:"
            yield from (f"  {named(names, _MOST_NAMES)}: {why}" for why, names in reasons.items())
    if not found.root_has_password:
        yield "root has no password, so nobody can log in on the console to help whose laptop is lost: passwd root"
    if found.refused(YES) or found.refused(MAYBE):
        yield "softtoken-enroll --sign --user NAME enrols a signing token of one of them."


def outlook(*, required: bool) -> Outlook:
    """Read who may use sudo, and who can sign.

    Args:
        required: users without a signing token are to be refused, too.
    """
    entries = {name: entry for name, entry in host_facts.accounts().items() if entry.pw_uid != 0}
    names = host_facts.names_of(entries)
    now = int(time.time())
    signing = {name: _signer_of(entry, now) for name, entry in entries.items()}
    shadow = host_facts.read_shadow()
    people = {entry.pw_name for entry in logins.who_can_log_in()}
    people |= {name for name in entries if shadow.get(name, Shadow(NO, expired=False, locked=False)).password}
    order = sorted(
        entries,
        key=lambda name: (
            not signing[name].is_marked, not host_facts.is_usual_sudoer(names[name]), name not in people,
        ),
    )  # fmt: skip
    rights = host_facts.rights_of(order[: host_facts.MOST_SUDOERS])
    users = []
    for name in order:
        root, sudo, asked = rights.get(name, (MAYBE, MAYBE, YES) if name in people else (NO, NO, YES))
        # Nobody else can type a password. A service may run what needs none.
        if sudo and (name in people or asked == NO):
            users.append(SudoUser(name, signing[name], sudo, root))
    has_password = shadow.get("root", Shadow(NO, expired=False, locked=False)).password != NO
    return Outlook(tuple(sorted(users)), required, has_password)


def _signer_of(entry: pwd.struct_passwd, now: int) -> Signer:
    facts = signer_facts.facts_of(entry.pw_name, entry.pw_uid, now=now)
    if not facts["marked"]:
        return Signer(is_marked=False, why=NEVER_ENROLLED)
    if facts["problem"]:
        return Signer(is_marked=True, why=facts["problem"])
    return Signer(is_marked=True, tokens=tuple(each["name"] for each in facts["tokens"]))
