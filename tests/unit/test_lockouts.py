"""The table of ways to be locked out, compared with the tests and the manual."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.support import lockouts

TREE = Path(__file__).resolve().parents[2]


def test_lockouts__table_is_up_to_date() -> None:
    assert lockouts.TABLE.read_text() == lockouts.table()


def test_lockouts__each_situation_is_listed_once() -> None:
    counted = Counter(lockout.situation for lockout in lockouts.read())
    assert [situation for situation, number in counted.items() if number > 1] == []


def test_lockouts__manual_has_each_message_with_its_cure() -> None:
    section = (TREE / "pam_softtoken/man/pam_softtoken.8.in").read_text().split(".Sh LOCKED OUT")[1].split("\n.Sh")[0]
    words = " ".join(line.partition(" ")[2] if line.startswith(".") else line for line in section.splitlines())
    for lockout in lockouts.read():
        assert lockout.shows in words, lockout
        assert lockout.cure in words, lockout
