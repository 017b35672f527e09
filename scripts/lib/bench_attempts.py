"""Run the attempts of `scripts/bench` through the client: one at a time for single figures, many at once for a rate."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median, quantiles
from typing import TypeVar

from bench_setup import NOTHING, BenchError, Candidate, Service, Workshop, reap, running

TYPING_MS = (0, 200)
CROWDS = (1, 8, 64)
PAM_SUCCESS = 0
LOGINS_OF_EACH = {1: 48, 8: 8, 64: 8}  # per pass: enough to make the start of the clients negligible
_TIMEOUT_S = 120.0


Item = TypeVar("Item")


def in_turn(items: Sequence[Item], number: int) -> Sequence[Item]:
    """Return the candidates with another one first each time, so that each comes first equally often."""
    start = number % len(items)
    return (*items[start:], *items[:start])


@dataclass(slots=True)
class Sample:
    """The repeated measurements of one quantity."""

    values: list[float] = field(default_factory=list)

    def median(self) -> float:
        """Return the median."""
        return median(self.values)

    def mean(self) -> float:
        """Return the mean. The kernel splits CPU time by its ticks, so that most short attempts have no user time."""
        return fmean(self.values)

    def p90(self) -> float:
        """Return the value that nine in ten stay below."""
        return quantiles(self.values, n=10, method="inclusive")[8] if len(self.values) > 1 else self.values[0]


@dataclass(slots=True)
class Figures:
    """What was measured of one candidate.

    Attributes:
        prompt_ms: from `pam_start`, which loads the module, to the prompt.
        verdict_ms: from the typed code to the verdict, for each typing time.
        cpu_ms: of the client and of all processes that the module started, user and system.
        user_ms, system_ms: its two parts.
        resident_kb, private_kb: growth of the host process; in all, and private and dirty.
        logins_per_s: for each number of logins at once.
    """

    prompt_ms: Sample = field(default_factory=Sample)
    verdict_ms: dict[int, Sample] = field(default_factory=lambda: {ms: Sample() for ms in TYPING_MS})
    cpu_ms: Sample = field(default_factory=Sample)
    user_ms: Sample = field(default_factory=Sample)
    system_ms: Sample = field(default_factory=Sample)
    resident_kb: Sample = field(default_factory=Sample)
    private_kb: Sample = field(default_factory=Sample)
    logins_per_s: dict[int, Sample] = field(default_factory=lambda: {crowd: Sample() for crowd in CROWDS})


def measure_attempts(
    shop: Workshop, candidates: Sequence[Candidate], rounds: int, progress: Callable[[int], None]
) -> dict[str, Figures]:
    """Run attempts for each candidate. Each attempt has a new process, as for sshd or sudo.

    Args:
        shop: the workshop.
        candidates: measured in turn, so that a machine that becomes slower affects all of them.
        rounds: the number of attempts of each.
        progress: called with the number of each round.

    Raises:
        BenchError: a right code was not accepted.
    """
    figures = {candidate.key: Figures() for candidate in candidates}
    services = {candidate.key: shop.add_service(candidate) for candidate in candidates}
    for number in range(rounds):
        progress(number)
        for candidate in in_turn(candidates, number):
            for typing_ms in TYPING_MS if candidate is not NOTHING else (0,):
                _attempt(shop, services[candidate.key], typing_ms, figures[candidate.key])
    return figures


def _attempt(shop: Workshop, service: Service, typing_ms: int, figures: Figures) -> None:
    before = _cpu_of_children()
    command = client_command(shop, service, f"--typing-ms={typing_ms}")
    script = _script(shop.take_codes(service, 1))
    done = subprocess.run(command, input=script, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    # The module's backend is now our child. It may still be ending.
    reap(shop.lasting)
    user_s, system_s = (now - then for now, then in zip(_cpu_of_children(), before, strict=True))
    (record,) = _records(shop, service, done.stdout, 1)
    figures.cpu_ms.values.append((user_s + system_s) * 1e3)
    figures.user_ms.values.append(user_s * 1e3)
    figures.system_ms.values.append(system_s * 1e3)
    figures.resident_kb.values.append(record["grown_kb"])
    figures.private_kb.values.append(record["grown_private_kb"])
    if record["prompt_us"] >= 0:
        figures.prompt_ms.values.append((record["start_us"] + record["prompt_us"]) / 1e3)
        figures.verdict_ms[typing_ms].values.append(record["verdict_us"] / 1e3)


def measure_crowds(
    shop: Workshop,
    candidates: Sequence[Candidate],
    passes: int,
    figures: dict[str, Figures],
    progress: Callable[[int], None],
) -> None:
    """Run many logins at once, each with its own token and file, and count logins per second.

    Raises:
        BenchError: a right code was not accepted.
    """
    services = {
        candidate.key: [shop.add_service(candidate, number) for number in range(1, max(CROWDS) + 1)]
        for candidate in candidates
    }
    for number in range(passes):
        progress(number)
        for crowd in CROWDS:
            for candidate in in_turn(candidates, number):
                per_s = crowd_rate(shop, services[candidate.key][:crowd], LOGINS_OF_EACH[crowd])
                figures[candidate.key].logins_per_s[crowd].values.append(per_s)


def crowd_rate(shop: Workshop, services: Sequence[Service], logins: int) -> float:
    """Run one client for each service, and return their common rate. Each client logs in repeatedly."""
    commands = []
    for service in services:
        script = shop.path / f"{service.name}-{service.user}.codes"
        script.write_text(_script(shop.take_codes(service, logins)))
        # The clients wait at a gate until all are ready, so that starting them does not count.
        waiting = ("/bin/sh", "-c", 'read -r gate; exec "$@" <"$0"', script)
        commands.append((*waiting, *client_command(shop, service, f"--repeat={logins}")))
    gate, opener = os.pipe()
    try:
        with running(commands, stdin=gate, stdout=subprocess.PIPE) as clients:
            os.close(gate)
            started_s = time.monotonic()
            os.close(opener)
            opener = -1
            outputs = [client.communicate(timeout=_TIMEOUT_S)[0] for client in clients]
            took_s = time.monotonic() - started_s
    finally:
        if opener >= 0:
            os.close(opener)
    reap(shop.lasting)
    for service, output in zip(services, outputs, strict=True):
        _records(shop, service, output, logins)
    return len(services) * logins / took_s


def client_command(shop: Workshop, service: Service, *options: str) -> tuple[str | Path, ...]:
    """Return the command line of a login."""
    return (*shop.around, shop.client, f"--confdir={shop.services}", *options, service.name, service.user)


def _script(codes: Sequence[str]) -> str:
    return "".join(f"={code}\n" for code in codes)


def _records(shop: Workshop, service: Service, output: str, expected: int) -> list[dict[str, int]]:
    """Read what the client printed. A failed login must not count in a measurement."""
    records: list[dict[str, int]] = [json.loads(line) for line in output.splitlines()]
    results = [record["result"] for record in records]
    if results != [PAM_SUCCESS] * expected:
        raise BenchError(f"{service.name}: a right code was refused: results {results}\n{shop.log.tail()}")
    return records


def _cpu_of_children() -> tuple[float, float]:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime, usage.ru_stime
