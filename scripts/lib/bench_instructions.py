"""Count the instructions of attempts for `scripts/bench`, in all processes of an attempt. A busy machine does not
change these numbers by much, unlike a time.

Valgrind counts what runs in user space: the program that calls PAM with the module in it, and the backend. It does not
see the kernel's work.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench_attempts import Sample, client_command, in_turn
from bench_setup import NOTHING, BenchError, Candidate, Service, Workshop, reap

ROUNDS = 3
_TIMEOUT_S = 120
_COUNTED = re.compile(r"Collected\s*: (\d+)")


@dataclass(slots=True)
class Instructions:
    """The instructions of one candidate, in millions.

    Attributes:
        prompt: of an attempt that ends at the prompt, because its application was ended.
        attempt: of an attempt that was accepted.
    """

    prompt: Sample = field(default_factory=Sample)
    attempt: Sample = field(default_factory=Sample)


def count_instructions(
    shop: Workshop, candidates: Sequence[Candidate], progress: Callable[[int], None]
) -> dict[str, Instructions]:
    """Count a few attempts of each candidate, in turn. The first one of each is not counted: it stores more.

    Raises:
        BenchError: valgrind failed, or a right code was not accepted.
    """
    found = {candidate.key: Instructions() for candidate in candidates}
    services = {candidate.key: shop.add_service(candidate, _NUMBER, "timeout=60") for candidate in candidates}
    for number in range(-1, ROUNDS):
        progress(max(0, number))
        for candidate in in_turn(candidates, number):
            attempt = _count_accepted(shop, services[candidate.key])
            if number < 0:
                continue
            found[candidate.key].attempt.values.append(attempt)
            if candidate is not NOTHING:
                found[candidate.key].prompt.values.append(_count_to_the_prompt(shop, services[candidate.key]))
    return found


_NUMBER = 1000
"""The number of the services for this. Those of the crowds have lower ones."""


def _count_accepted(shop: Workshop, service: Service) -> float:
    (code,) = shop.take_codes(service, 1)
    command = _under_valgrind(shop, client_command(shop, service))
    done = subprocess.run(command, input=f"={code}\n", capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if '"result": 0,' not in done.stdout:
        raise BenchError(f"{service.name} under valgrind: {done.stdout}{done.stderr}\n{shop.log.tail()}")
    return _counted(shop)


def _count_to_the_prompt(shop: Workshop, service: Service) -> float:
    """Count until the prompt is there, and end the application then. The backend ends when it is gone."""
    prompted, announce = os.pipe()
    options = (f"--announce={announce}", "--hold=0")
    client = subprocess.Popen(
        _under_valgrind(shop, client_command(shop, service, *options)),
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(announce,),
    )
    os.close(announce)
    try:
        if os.read(prompted, 1) != b".":
            raise BenchError(f"{service.name} under valgrind: no prompt\n{shop.log.tail()}")
    finally:
        os.close(prompted)
        client.send_signal(signal.SIGTERM)
        client.communicate()
    return _counted(shop)


def _under_valgrind(shop: Workshop, command: Sequence[str | Path]) -> tuple[str | Path, ...]:
    log = shop.path / "valgrind.%p"
    options = ("--tool=callgrind", "--trace-children=yes", "--callgrind-out-file=/dev/null", f"--log-file={log}")
    return ("valgrind", *options, *command)


def _counted(shop: Workshop) -> float:
    """Return the sum over all processes, and remove their reports."""
    reap()
    total = 0
    for path in shop.path.glob("valgrind.*"):
        total += sum(map(int, _COUNTED.findall(path.read_text())))
        path.unlink()
    return total / 1e6
