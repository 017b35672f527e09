"""Measure a login with pam_softtoken against Debian's other one-time password modules, or what signatures add to a
command at sudo. `scripts/bench` runs this.

Exit status 0 when everything was measured, whatever came out; this is no test. Standard library only.
"""

from __future__ import annotations

import argparse
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NoReturn

import bench_report as report
from bench_attempts import CROWDS, LOGINS_OF_EACH, TYPING_MS, measure_attempts, measure_crowds
from bench_instructions import ROUNDS, count_instructions
from bench_refusals import measure_refusals, refusal_table
from bench_setup import (
    GOOGLE,
    NOTHING,
    OATH,
    OTHER,
    OURS,
    PYTHON,
    BenchError,
    Workshop,
    adopt_orphans,
    check_disk,
    check_place,
    reap,
)
from bench_signatures import LEAST_RUNS, measure_signatures, signature_goals, signature_note, signature_table
from bench_ssh import measure_logins

SINGLE = (OURS, GOOGLE, OATH, PYTHON, NOTHING)
SINGLE_AGAINST = (OURS, OTHER, GOOGLE, OATH, NOTHING)
TOGETHER = (OURS, GOOGLE, OATH)
TOGETHER_AGAINST = (OURS, OTHER, GOOGLE, OATH)
QUICK_ROUNDS = 10
QUIET_SHARE = 0.1
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Progress:
    """Shows the progress on a terminal. Writes nothing to a file or a pipe."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()

    def say(self, text: str) -> None:
        """Replace the line that is shown."""
        if self._shown:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def counting(self, text: str, total: int) -> Callable[[int], None]:
        """Return a function to call with the number of each step."""
        return lambda number: self.say(f"{text}: {number + 1} of {total}")


class Watch:
    """Measures how busy the machine was with other work than the bench, because that spoils the figures."""

    def __init__(self) -> None:
        self._started = self._now()
        self._load = os.getloadavg()[0]

    @staticmethod
    def _now() -> tuple[float, float, float]:
        # user, nice, system, (idle, iowait,) irq, softirq, steal
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        busy_s = (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")
        usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return time.monotonic(), busy_s, sum(usage.ru_utime + usage.ru_stime for usage in usages)

    def summary(self) -> str:
        """Return how long it took and how busy the machine was."""
        took_s, busy_s, ours_s = (now - then for now, then in zip(self._now(), self._started, strict=True))
        share = max(0.0, busy_s - ours_s) / took_s / (os.cpu_count() or 1)
        load = f"The load was {self._load:.1f} before and {os.getloadavg()[0]:.1f} after it, with the bench's own."
        text = f"The run took {took_s:.0f} s; other work kept {share:.0%} of the machine's CPUs busy meanwhile. {load}"
        return text + " That is much: measure again when it is quiet." if share > QUIET_SHARE else text


def main() -> int:
    """Run the program."""
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    options = _parse()
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    progress = Progress()
    try:
        return _bench(options, progress)
    except BenchError as error:
        progress.say("")
        print(f"bench: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        progress.say("")
        print("bench: interrupted", file=sys.stderr)
        return 130


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__, allow_abbrev=False)
    parser.add_argument("--rounds", type=int, default=200, metavar="N", help="attempts of each kind (default: 200)")
    parser.add_argument("--quick", action="store_true", help=f"a trial: {QUICK_ROUNDS} rounds")
    parser.add_argument("--markdown", action="store_true", help="print the tables as Markdown")
    parser.add_argument(
        "--against", type=Path, metavar="TREE", help="measure another source tree in turn with this one"
    )
    instead = parser.add_mutually_exclusive_group()
    instead.add_argument("--refusals", action="store_true", help="compare the times of refusals instead")
    instead.add_argument(
        "--signatures",
        action="store_true",
        help=f"measure what signatures add to a command at sudo instead, in at least {LEAST_RUNS} runs",
    )
    instead.add_argument("--fleet", action="store_true", help="measure a realm of many hosts instead")
    parser.add_argument(
        "--users", type=int, default=10_000, metavar="N", help="with --fleet: users to import (default: 10000)"
    )
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path("/var/tmp"),
        metavar="DIR",
        help="where the modules' files are, on the disk to measure (default: /var/tmp)",
    )
    options = parser.parse_args()
    if options.quick:
        options.rounds = QUICK_ROUNDS
    if options.against is not None and (options.refusals or options.signatures or options.fleet):
        parser.error("--against: not with --refusals, --signatures or --fleet")
    if not 1 <= options.users <= 100_000:
        parser.error("--users: 1 to 100000")
    if not 2 <= options.rounds <= 10_000:
        parser.error("--rounds: 2 to 10000")
    return options


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    # One signal is enough. The cleanup must not be interrupted.
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt


def _bench(options: argparse.Namespace, progress: Progress) -> int:
    rounds: int = options.rounds
    passes, logins = max(2, rounds // 40), max(5, rounds // 4)
    (check_place if options.signatures else check_disk)(options.directory)
    watch = Watch()
    adopt_orphans()
    os.umask(0o022)
    most_codes = max(rounds * len(TYPING_MS), passes * sum(LOGINS_OF_EACH.values()), logins + 1)
    single, together = (SINGLE, TOGETHER) if options.against is None else (SINGLE_AGAINST, TOGETHER_AGAINST)
    shop = Workshop(options.directory, most_codes, other=options.against)
    try:
        progress.say("building")
        shop.prepare()
        shop.isolate()
        if options.refusals:
            kinds = measure_refusals(shop, rounds, progress.counting("refusals", rounds))
            progress.say("")
            print((report.markdown if options.markdown else report.plain)(refusal_table(kinds)))
            print(watch.summary())
            return 0
        if options.signatures:
            return _signatures(shop, options, progress, watch)
        if options.fleet:
            return _bench_fleet(options, shop, watch, progress)
        figures = measure_attempts(shop, single, rounds, progress.counting("single attempts", rounds))
        counts = count_instructions(shop, single, progress.counting("instructions", ROUNDS))
        progress.say("enrolling a crowd")
        label = f"logins at once ({', '.join(map(str, CROWDS))})"
        measure_crowds(shop, together, passes, figures, progress.counting(label, passes))
        progress.say("starting sshd")
        ssh = measure_logins(shop, logins, progress.counting("whole ssh logins", logins))
        progress.say("")
        notes = report.notes(figures, counts, shop.path, rounds=rounds, passes=passes, logins=logins)
    finally:
        shop.remove()
        reap()
    tables = (report.attempt_table(figures, counts), report.ssh_table(ssh), report.goal_table(report.goals(figures)))
    write = report.markdown if options.markdown else report.plain
    print("\n\n".join(write(table) for table in tables), end="\n\n")
    for note in (*notes, watch.summary()):
        print(note + "\n" if options.markdown else report.paragraph(note))
    return 0


def _signatures(shop: Workshop, options: argparse.Namespace, progress: Progress, watch: Watch) -> int:
    runs = max(LEAST_RUNS, options.rounds)
    times = measure_signatures(shop, runs, progress.counting("commands at sudo", runs))
    progress.say("")
    write = report.markdown if options.markdown else report.plain
    for table in (signature_table(times), report.goal_table(signature_goals(times))):
        print(write(table), end="\n\n")
    note = f"{signature_note(runs)} {report.machine()} {watch.summary()}"
    print(note if options.markdown else report.paragraph(note))
    return 0


def _bench_fleet(options: argparse.Namespace, shop: Workshop, watch: Watch, progress: Progress) -> int:
    from bench_fleet import fleet_notes, fleet_table, measure_fleet  # noqa: PLC0415 - the usual bench makes no networks

    figures = measure_fleet(shop, options.rounds, options.users, progress.say)
    progress.say("")
    print((report.markdown if options.markdown else report.plain)(fleet_table(figures)), end="\n\n")
    for note in (*fleet_notes(figures, rounds=options.rounds), report.machine_note(shop.path), watch.summary()):
        print(note + "\n" if options.markdown else report.paragraph(note))
    return 0


if __name__ == "__main__":
    sys.exit(main())
