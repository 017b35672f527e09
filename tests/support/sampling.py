"""Choose which cases of an exhaustive sweep run. `scripts/test full` runs all of them, any other run a sample.

The sample depends on a seed, which changes with each run. pytest prints it at the start and with each failure.
TEST_SEED=N repeats the sample; TEST_FULL=yes takes every case. The processes of one run share both.
"""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

FULL = os.environ.get("TEST_FULL") == "yes"
SEED = int(os.environ.setdefault("TEST_SEED", str(random.randrange(1, 1_000_000))))
Item = TypeVar("Item")
Number = TypeVar("Number", int, float)


def sampled(items: Iterable[Item], share: float, *, always: Sequence[Item] = ()) -> list[Item]:
    """Return some of the cases, in their order. There is at least one.

    Args:
        share: the part that an ordinary run takes, 0 to 1.
        always: cases that each run takes, in addition to that part of the others.
    """
    every = list(items)
    if FULL:
        return every
    others = [place for place, item in enumerate(every) if item not in always]
    number = min(len(others), max(round(share * len(others)), 0 if always else 1))
    chosen = set(random.Random(f"{SEED} {len(every)}").sample(others, number))
    return [item for place, item in enumerate(every) if place in chosen or item in always]


def is_sampled(item: object, share: float) -> bool:
    """Return whether to run one case, where their number is not known before. `repr(item)` identifies it."""
    return FULL or random.Random(f"{SEED} {item!r}").random() < share


def amount(ordinary: Number, *, full: Number) -> Number:
    """Return how much to do, such as rounds or seconds, in this run."""
    return full if FULL else ordinary


def source(name: object = "") -> random.Random:
    """Return random numbers that depend on the seed and a name only."""
    return random.Random(f"{SEED} {name!r}")


def deselected(items: Sequence[Any]) -> list[Any]:
    """Return the tests that this run leaves out: cases of a test with `@pytest.mark.sampled(share)`."""
    cases: dict[str, list[Any]] = defaultdict(list)
    for item in items:
        if item.get_closest_marker("sampled"):
            cases[item.nodeid.partition("[")[0]].append(item)
    left_out = []
    for name, each in cases.items():
        (share,) = each[0].get_closest_marker("sampled").args
        number = len(each) if FULL else max(round(share * len(each)), 1)
        kept = source(name).sample(range(len(each)), number)
        left_out += [item for place, item in enumerate(each) if place not in kept]
    return left_out
