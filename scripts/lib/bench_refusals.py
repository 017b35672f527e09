"""Measure the times of refusals for `scripts/bench --refusals`: does a time reveal why an answer was refused?"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field

from bench_attempts import Sample, client_command, in_turn
from bench_report import Table
from bench_setup import OURS, BenchError, Service, Workshop

PAM_AUTH_ERR = 7
WRONG, RECOVERY = "=00000000", "=AAAA-AAAA-AAAA"
_ELSEWHERE = "--item=rhost=192.0.2.66"


@dataclass(slots=True)
class Kind:
    """One reason for a refusal, and its measurements.

    Attributes:
        title: as in the table.
        service, user: the service, and the user that logs in.
        answer: what is typed.
        prompt_ms: from `pam_start` to the prompt.
        refusal_ms: from the answer to the verdict.
    """

    title: str
    service: str
    user: str
    answer: str
    prompt_ms: Sample = field(default_factory=Sample)
    refusal_ms: Sample = field(default_factory=Sample)


def measure_refusals(shop: Workshop, rounds: int, progress: Callable[[int], None]) -> list[Kind]:
    """Measure refusals for each reason, in turn.

    Raises:
        BenchError: one was not refused.
    """
    enrolled = shop.add_service(OURS)
    (used,) = shop.take_codes(enrolled, 1)
    kinds = []
    for answer, form in ((WRONG, "code"), (RECOVERY, "recovery code")):
        kinds += [
            Kind(f"{form}: enrolled, wrong", _service(shop, "wrong", "no_throttle", enrolled.name), "root", answer),
            Kind(f"{form}: enrolled, throttled", _service(shop, "slow", "", "slow"), "root", answer),
            Kind(f"{form}: not enrolled", _service(shop, "absent", "", "absent"), "root", answer),
            Kind(f"{form}: unknown user", _service(shop, "absent", "", "absent"), "nobody-of-that-name", answer),
        ]
    kinds.insert(1, Kind("code: enrolled, used", kinds[0].service, "root", f"={used}"))
    _attempt(shop, Kind("", enrolled.name, "root", f"={used}"), 0)
    for _ in range(12):
        _attempt(shop, Kind("", kinds[2].service, "root", WRONG), PAM_AUTH_ERR)
    for number in range(rounds):
        progress(number)
        for kind in in_turn(kinds, number):
            _attempt(shop, kind, PAM_AUTH_ERR)
    return kinds


def _service(shop: Workshop, name: str, option: str, store: str) -> str:
    place = shop.path / "store" / store
    if not place.exists():
        place.mkdir(mode=0o700)
        if store != "absent":
            OURS.enrol(shop, place)
    line = shop.line_of_ours(f"store={place}/%U", *([option] if option else []))
    (shop.services / f"refusals-{name}").write_text(line)
    return f"refusals-{name}"


def _attempt(shop: Workshop, kind: Kind, expected: int) -> None:
    command = list(client_command(shop, Service(kind.service), "--typing-ms=20", _ELSEWHERE))
    command[-1] = kind.user
    done = subprocess.run(command, input=f"{kind.answer}\n", capture_output=True, text=True, timeout=60, check=False)
    record = json.loads(done.stdout)
    if record["result"] != expected:
        raise BenchError(f"{kind.title}: result {record['result']}\n{shop.log.tail()}")
    kind.prompt_ms.values.append((record["start_us"] + record["prompt_us"]) / 1e3)
    kind.refusal_ms.values.append(record["verdict_us"] / 1e3)


def refusal_table(kinds: list[Kind]) -> Table:
    """Return the table: medians, and their distance from that of the enrolled user with the same kind of answer."""
    rows: list[tuple[str, ...]] = []
    for kind in kinds:
        first = next(each for each in kinds if each.title.split(":")[0] == kind.title.split(":")[0])
        numbers: list[str] = []
        for sample, reference in ((kind.prompt_ms, first.prompt_ms), (kind.refusal_ms, first.refusal_ms)):
            difference = sample.median() - reference.median()
            numbers += [f"{sample.median():.2f}", f"{difference:+.2f}" if kind is not first else ""]
        rows.append((kind.title, *numbers))
    return Table(("refused (ms)", "prompt", "more", "refusal", "more"), rows)
