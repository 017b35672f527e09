"""What the manual claims about security, against the tests that show it."""

from __future__ import annotations

from pathlib import Path

from tests.support import claims

LIST = Path(__file__).resolve().parents[2] / "pam_softtoken/man/claims.txt"


def test_claims__table_is_up_to_date() -> None:
    assert claims.TABLE.read_text() == claims.table()


def test_claims__manual_and_tests_have_the_same_ones() -> None:
    listed = [line.removeprefix("- ") for line in LIST.read_text().splitlines() if line.startswith("- ")]
    assert sorted(listed) == sorted(claims.read())
