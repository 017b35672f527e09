"""Compute from measured figures what a realm needs: the requests of the busiest second of a morning, and the size of
the store. No I/O, and no figure of its own apart from the assumptions, which are arguments.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

_SEED = 9  # the same morning in each run


@dataclass(frozen=True, slots=True)
class Morning:
    """What is assumed about the users.

    Attributes:
        hosts: each login is a connection of its own, so their number alone costs nothing while nobody logs in.
        users: each comes once.
        spread_min: standard deviation of their arrivals around 9 o'clock, in minutes; two thirds come within it.
        logins: that each makes one after the other: to a first host, to a second one, and sudo.
        between_s: mean time between these, in seconds.
        mistyped: share of the answers that are wrong and typed again.
    """

    hosts: int = 5_000
    users: int = 50_000
    spread_min: float = 10.0
    logins: int = 3
    between_s: float = 60.0
    mistyped: float = 0.05


@dataclass(frozen=True, slots=True)
class Peak:
    """The busiest times of a morning.

    Attributes:
        attempts: of all users together.
        attempts_per_s: in the busiest second.
        minute_per_s: mean per second of the busiest minute.
    """

    attempts: int
    attempts_per_s: int
    minute_per_s: float


def attempts_of(morning: Morning) -> list[float]:
    """Return the times of all attempts, in seconds from 9 o'clock."""
    chance = random.Random(_SEED)
    times = []
    for _ in range(morning.users):
        moment = chance.gauss(0.0, morning.spread_min * 60)
        for _ in range(morning.logins):
            times.append(moment)
            while chance.random() < morning.mistyped:
                moment += chance.expovariate(1 / 10)  # they look at the app again
                times.append(moment)
            moment += chance.expovariate(1 / morning.between_s)
    return times


def peak_of(times: Sequence[float]) -> Peak:
    """Return the busiest second and minute of some attempts.

    >>> peak_of([0.1, 0.2, 0.9, 1.0, 59.9, 60.0])
    Peak(attempts=6, attempts_per_s=3, minute_per_s=0.08333333333333333)
    """
    seconds = Counter(int(moment // 1) for moment in times)
    minutes = Counter(int(moment // 60) for moment in times)
    return Peak(len(times), max(seconds.values()), max(minutes.values()) / 60)


@dataclass(frozen=True, slots=True)
class Costs:
    """What was measured of one accepted login.

    Attributes:
        requests: to etcd.
        node_cpu_ms: of all nodes together.
        written_bytes: by which the store grows until it is compacted.
        stored_bytes: of one user, after an import.
        rate_per_s: logins per second with many at once, all on this machine.
    """

    requests: float
    node_cpu_ms: float
    written_bytes: float
    stored_bytes: float
    rate_per_s: float


def lines_of(morning: Morning, costs: Costs) -> list[str]:
    """Return what the measured figures say about such a morning.

    A wrong answer is recorded as well, so each attempt counts as much as an accepted login.
    """
    peak = peak_of(attempts_of(morning))
    attempts, minute, busiest = peak.attempts, peak.minute_per_s, peak.attempts_per_s
    stored_mib = costs.stored_bytes * morning.users / 2**20
    written_mib = costs.written_bytes * attempts / 2**20
    return [
        (
            f"Assumed: {morning.hosts} hosts, and {morning.users} users who come around 9 o'clock, two thirds of them "
            f"within {morning.spread_min:.0f} minutes before or after it. Each logs in {morning.logins} times, a "
            f"minute apart, and mistypes {morning.mistyped:.0%} of the codes."
        ),
        (
            f"Then there are {attempts} attempts: {minute:.0f} a second in the busiest minute, {busiest} in the "
            f"busiest second, so {busiest * costs.requests:.0f} requests a second to etcd."
        ),
        (
            f"The nodes use {costs.node_cpu_ms:.2f} ms of CPU for one login, all together: {busiest} a second keep "
            f"{busiest * costs.node_cpu_ms / 1000:.0%} of one processor busy. "
            f"{costs.rate_per_s:.0f} logins a second were measured with many at once, with the nodes and all hosts on "
            f"this machine: {costs.rate_per_s / busiest:.1f} times the busiest second."
        ),
        (
            f"The store has {costs.stored_bytes:.0f} bytes for a user, together {stored_mib:.0f} MiB. In the hour "
            f"until it is compacted, the morning adds up to {written_mib:.0f} MiB."
        ),
    ]
