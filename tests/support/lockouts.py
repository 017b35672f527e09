"""The table of ways to be locked out: read from the tests that carry `@pytest.mark.lockout`, without running them.

A row is one marker. A test without `cure` shows that the owner still gets in. A test with one shows what the owner or
root reads, runs the command, and logs in. `python -m tests.support.lockouts >tests/LOCKOUTS.md` writes the table.
"""

from __future__ import annotations

import ast
from typing import NamedTuple

from tests.support import markers

TABLE = markers.TESTS / "LOCKOUTS.md"
HEAD = """\
# Ways to be locked out, and how each ends

Each row comes from a test. *in*: the owner still gets in. *cured*: the test reads the message that is shown, carries
out the cure, and logs in. `pam_softtoken(8)`, section "LOCKED OUT", has the cure for each message.

| what happened | the owner | shown | cure | test |
|---|---|---|---|---|
"""


class Lockout(NamedTuple):
    """One row.

    Attributes:
        situation: what happened, in a few words.
        shows: what the log or a program shows of it, such as `reason=insecure_file`; empty if the owner gets in.
        cure: the command or act that helps; empty if the owner gets in without one.
        test: name of the test.
    """

    situation: str
    shows: str
    cure: str
    test: str

    def row(self) -> str:
        """Return the row of the table."""
        shows, cure = (f"`{text}`" if text else "" for text in (self.shows, self.cure))
        return f"| {self.situation} | {'cured' if cure else 'in'} | {shows} | {cure} | `{self.test}` |"


def read() -> list[Lockout]:
    """Return all rows, sorted by situation.

    Raises:
        ValueError: a marker is not made of literals, or has one of `shows` and `cure` without the other.
    """
    return sorted(_lockout(call, test) for test, call in markers.calls("lockout"))


def _lockout(call: ast.Call, test: str) -> Lockout:
    (situation,) = (ast.literal_eval(each) for each in call.args)
    named = {each.arg or "": ast.literal_eval(each.value) for each in call.keywords}
    if set(named) not in (set(), {"shows", "cure"}):
        raise ValueError(f"{test}: a cure needs what is shown, and what is shown needs a cure")
    return Lockout(situation, named.get("shows", ""), named.get("cure", ""), test)


def table() -> str:
    """Return the whole document."""
    return HEAD + "".join(lockout.row() + "\n" for lockout in read())


if __name__ == "__main__":
    print(table(), end="")
