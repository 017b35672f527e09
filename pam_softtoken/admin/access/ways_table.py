"""Compare the ways in of all users before and after a change: a short table, and the users who lose access.

Pure. Users with equal rows share one line, and so do connections.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from pam_softtoken.admin.access.proofs import CODE, OF_TARGETS, Person, Ways, text_of
from pam_softtoken.admin.common.finding import named
from pam_softtoken.admin.sshd.match_blocks import ANYWHERE, NO, YES

MOST_NAMES = 4


class Claim(NamedTuple):
    """The model's result for one user and one class of connections.

    Args:
        person: the user.
        label: the class of connections; `ANYWHERE` if there is only one.
        today, then: the ways in before and after the change.
    """

    person: Person
    label: str
    today: Ways
    then: Ways

    @property
    def is_lost(self) -> bool:
        """Whether the user gets in today and would not any more. Without a login shell, today has to be certain."""
        best = _best(self.today)
        return _best(self.then) == NO and (best == YES or (best > NO and self.person.has_shell))

    @property
    def is_in_doubt(self) -> bool:
        """Whether the user gets in today, and it cannot be known whether they still would."""
        return _best(self.today) == YES and NO < _best(self.then) < YES

    @property
    def opened(self) -> Ways:
        """The new ways that do not ask for all proofs of one of today's ways. A code does not replace another proof."""
        return frozenset(
            way for way in self.then if not any(today <= way[0] - {CODE} or today == way[0] for today, _ in self.today)
        )


class Row(NamedTuple):
    """A line of the table: names, connections, ways in before and after."""

    names: tuple[str, ...]
    label: str
    today: Ways
    then: Ways


def _best(found: Ways) -> int:
    return max((certainty for _, certainty in found), default=NO)


def lost(claims: Iterable[Claim]) -> dict[str, list[str]]:
    """Return the users who would be locked out, each with the classes of connections.

    The list is empty if no other class lets the user in.
    """
    return _by_name(claims, lambda claim: claim.is_lost)


def in_doubt(claims: Iterable[Claim]) -> dict[str, list[str]]:
    """Return the users for whom the result cannot be known, in the same form as `lost`."""
    return _by_name(claims, lambda claim: claim.is_in_doubt)


def _by_name(claims: Iterable[Claim], is_meant: Callable[[Claim], bool]) -> dict[str, list[str]]:
    meant: dict[str, list[str]] = {}
    others: set[str] = set()
    for claim in claims:
        if is_meant(claim):
            meant.setdefault(claim.person.name, []).append(claim.label)
        elif claim.then:
            others.add(claim.person.name)
    return {name: labels if name in others else [] for name, labels in meant.items()}


def rows(claims: Iterable[Claim]) -> list[Row]:
    """Return the rows of the table, largest groups first. Users who never get in have no row."""
    of_person: dict[str, list[Claim]] = {}
    for claim in claims:
        of_person.setdefault(claim.person.name, []).append(claim)
    groups: dict[tuple[tuple[str, Ways, Ways], ...], list[str]] = {}
    for name, found in of_person.items():
        key = tuple((claim.label, claim.today, claim.then) for claim in found)
        groups.setdefault(key, []).append(name)
    made = []
    for key, names in sorted(groups.items(), key=lambda item: -len(item[1])):
        pairs: dict[tuple[Ways, Ways], list[str]] = {}
        for label, today, then in key:
            pairs.setdefault((today, then), []).append(label)
        for (today, then), labels in pairs.items():
            if today or then:
                made.append(Row(tuple(names), ANYWHERE if len(labels) == len(key) else ", ".join(labels), today, then))
    return made


def table(found: Sequence[Row], service: str) -> list[str]:
    """Return the table as lines, with aligned columns."""
    somewhere = any(row.label != ANYWHERE for row in found)
    cells = [("account", "from", "today", "then")]
    cells += [(_few(row.names), row.label, text_of(row.today), text_of(row.then)) for row in found]
    shown = [cell if somewhere else (cell[0], *cell[2:]) for cell in cells]
    widths = [max(len(cell[place]) for cell in shown) for place in range(len(shown[0]))]
    lines = ["  " + "  ".join(text.ljust(width) for text, width in zip(cell, widths, strict=True)) for cell in shown]
    of_whom = " (the target account)" if service in OF_TARGETS else ""
    return [f"Who gets in at {service}{of_whom}:", *(line.rstrip() for line in lines)]


def _few(names: Sequence[str]) -> str:
    return named(names, MOST_NAMES)


def opened(claims: Iterable[Claim]) -> Iterator[tuple[Claim, str]]:
    """Return the claims with a way in that is closed today, each with the way as text."""
    for claim in claims:
        for way in claim.opened:
            yield claim, text_of(frozenset({way}))
