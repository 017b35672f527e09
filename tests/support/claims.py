"""The table of claims about security: read from the tests that carry `@pytest.mark.claim`, without running them.

The marker's text is a sentence of `softtoken-security(7)`; `pam_softtoken/man/claims.txt` has the sentences by topic.
`python -m tests.support.claims >tests/CLAIMS.md` writes the table.
"""

from __future__ import annotations

import ast

from tests.support import markers

TABLE = markers.TESTS / "CLAIMS.md"
HEAD = """\
# What is claimed, and the tests that show it

Made from the tests that carry `@pytest.mark.claim`. `softtoken-security(7)` has the same claims by topic, and says what
the module does not do.

| claim | tests |
|---|---|
"""


def read() -> dict[str, list[str]]:
    """Return the tests of each claim.

    Raises:
        ValueError: a marker is not made of one literal.
    """
    tests: dict[str, set[str]] = {}
    for test, call in markers.calls("claim"):
        (claim,) = (ast.literal_eval(each) for each in call.args)
        tests.setdefault(claim, set()).add(test)
    return {claim: sorted(names) for claim, names in tests.items()}


def table() -> str:
    """Return the whole document."""
    rows = (f"| {claim} | {', '.join(f'`{test}`' for test in tests)} |\n" for claim, tests in sorted(read().items()))
    return HEAD + "".join(rows)


if __name__ == "__main__":
    print(table(), end="")
