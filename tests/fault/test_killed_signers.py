"""Kill a change of tokens that sign sudo commands, at its system calls. TEST_SEED=N draws the same calls again.

A user with a mark and without a token is refused by sudo, and could not even enrol anew. So no kill may leave that.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from pam_softtoken.account import places, signers
from pam_softtoken.account.safe_open import Account
from pam_softtoken.account.signer_editor import SignerEditor
from pam_softtoken.otp.ocra import SIGNING_SUITE, OCRAToken, Suite
from pam_softtoken.otp.token import Secret
from tests.support.account import Person
from tests.support.fault import CHANGING, Call, drawn
from tests.support.installation import TREE
from tests.support.sampling import source
from tests.support.signers_place import require_no_leftovers

SCRIPT = """
import sys
sys.path.insert(0, {tree!r})
from pam_softtoken.account.safe_open import Account
from tests.fault.test_killed_signers import CHANGES, change
change(Account({name!r}, {uid}, {uid}, home="/"), CHANGES[{kind!r}])
"""
Names = tuple[str, ...]


def token(name: str) -> OCRAToken:
    return OCRAToken(name, Secret(name.encode().ljust(32)), suite=Suite.parse(SIGNING_SUITE), created=7)


class Change:
    """A change.

    Args:
        before, after: names of the tokens; None for a user who never had one.
    """

    def __init__(self, before: Names | None, after: Names | None) -> None:
        self.before = before
        self.after = after


CHANGES = {
    "first": Change(None, ("laptop",)),
    "first after a revocation": Change((), ("laptop",)),
    "another": Change(("laptop",), ("laptop", "tablet")),
    "one less": Change(("laptop", "tablet"), ("tablet",)),
    "last": Change(("laptop",), None),
}


def change(account: Account, what: Change) -> None:
    """Do the change, as a program does."""
    after = None if what.after is None else tuple(map(token, what.after))
    SignerEditor(account).exchange(lambda present: after, lambda: None)


class Owner:
    """A user whose tokens are changed.

    Attributes:
        account: their account.
    """

    def __init__(self, alice: Person) -> None:
        self.person = alice
        self.account = Account(alice.name, alice.uid, alice.gid, home="/")

    def reset(self, what: Change) -> None:
        """Restore what was before."""
        self.person.forget_on_the_host()
        if what.before is not None:
            change(self.account, Change(None, what.before))

    def tokens(self) -> Names | None:
        """Return the names of the tokens that sudo would ask for; None if it asks for none because there is no mark."""
        found = SignerEditor(self.account).look()
        if not signers.is_marked(self.account):
            assert found is None
            return None
        return tuple(each.name for each in found or ())

    def marks(self) -> list[bool]:
        """Return whether there is the mark of the uid, and that of the name."""
        paths = (signers.uid_mark(self.account.uid), signers.name_mark(self.account.name))
        return [os.path.lexists(path) for path in paths]


class Killer:
    """Runs a change in a process of its own, undisturbed or killed at a call.

    Attributes:
        said: what it wrote to stderr.
    """

    def __init__(self, owner: Owner, kind: str, trace: Path) -> None:
        facts = {"tree": str(TREE), "name": owner.account.name, "uid": owner.account.uid, "kind": kind}
        self._command = [sys.executable, "-B", "-c", SCRIPT.format(**facts)]
        self._trace = trace
        self.said = ""

    def calls(self) -> list[Call]:
        """List the calls that can change anything, starting at the first look at the place."""
        assert self._strace("trace=all") == 0
        seen: Counter[str] = Counter()
        calls = []
        for line in self._trace.read_text().splitlines():
            name = line.partition("(")[0]
            seen[name] += 1
            calls.append(Call(name, seen[name], line))
        begin = next(place for place, call in enumerate(calls) if f'"{places.SIGNERS}' in call.text)
        return [call for call in calls[begin:] if call.name in CHANGING]

    def kill_at(self, call: Call) -> None:
        """Run the change, and kill it as it enters a call."""
        assert self._strace(f"trace={call.name}", f"inject={call.name}:signal=KILL:when={call.number}") == -9

    def fail_at(self, call: Call, error: str) -> str:
        """Run the change with a call that fails. Return what it raised; empty if nothing."""
        self._strace(f"trace={call.name}", f"inject={call.name}:error={error}:when={call.number}")
        return self.said.strip().rpartition("\n")[2]

    def _strace(self, *expressions: str) -> int:
        words = [word for expression in expressions for word in ("-e", expression)]
        command = ["strace", "-o", str(self._trace), *words, *self._command]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        self.said = done.stderr
        return done.returncode


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("first", marks=pytest.mark.lockout("softtoken-enroll --sign is killed")),
        "first after a revocation",
        pytest.param("another", marks=pytest.mark.lockout("softtoken-enroll --sign for another token is killed")),
        "one less",
        pytest.param("last", marks=pytest.mark.lockout("softtoken-enroll --sign --remove is killed")),
    ],
)
def test_signers__kill_at_any_call_leaves_the_old_or_the_new_tokens_with_their_mark(
    alice: Person, tmp_path: Path, kind: str
) -> None:
    owner, what = Owner(alice), CHANGES[kind]
    killer = Killer(owner, kind, tmp_path / "trace")
    owner.reset(what)
    change(owner.account, what)  # it makes what all users share
    owner.reset(what)
    calls = killer.calls()
    assert {"flock", "fsync"} <= {call.name for call in calls}
    for call in drawn(calls):
        print(f"killed at {call}")
        owner.reset(what)
        killer.kill_at(call)
        assert owner.tokens() in (what.before, what.after)
        change(owner.account, what)
        assert owner.tokens() == what.after
        assert owner.marks() == [what.after is not None] * 2
        require_no_leftovers()


@pytest.mark.parametrize("kind", CHANGES)
def test_signers__any_call_fails_and_the_tokens_are_the_old_or_the_new_with_their_mark(
    alice: Person, tmp_path: Path, kind: str
) -> None:
    """The error says what is wrong with which file."""
    owner, what = Owner(alice), CHANGES[kind]
    killer = Killer(owner, kind, tmp_path / "trace")
    owner.reset(what)
    change(owner.account, what)
    owner.reset(what)
    for call in drawn([call for call in killer.calls() if call.name != "write"]):
        error = source(call.text).choice(["EIO", "ENOSPC", "EACCES", "EROFS"])
        print(f"{error} at {call}")
        owner.reset(what)
        raised = killer.fail_at(call, error)
        assert re.match(r"$|pam_softtoken\.errors\.\w+: /var/lib/softtoken", raised), killer.said
        assert owner.tokens() in ((what.before, what.after) if raised else (what.after,))
        change(owner.account, what)
        assert owner.tokens() == what.after
        assert owner.marks() == [what.after is not None] * 2
