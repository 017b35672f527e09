"""Write the tables of `scripts/bench`: the figures, the goals that they meet, and the machine. Measures nothing."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import bench_ssh
from bench_attempts import CROWDS, TYPING_MS, Figures, Sample
from bench_instructions import Instructions
from bench_setup import GOOGLE, NOTHING, OATH, OTHER, OURS, PYTHON, BenchError, Candidate, file_system_of, run

COLUMNS = (OURS, GOOGLE, OATH, PYTHON)
COLUMNS_AGAINST = (OURS, OTHER, GOOGLE, OATH)
"""With --against. A table has room for four modules."""
PEERS = ("libpam-google-authenticator", "libpam-oath", "libpam-python", "libpam0g", "openssh-server", "python3")
_WIDTH = 80
_UNMEASURED = "-"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a head. The first column is aligned left, the others right."""

    head: tuple[str, ...]
    rows: list[tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Goal:
    """A goal, the figure, and whether it meets the goal."""

    text: str
    measured: str
    met: bool


def columns_of(figures: dict[str, Figures]) -> tuple[Candidate, ...]:
    """Return the modules that have a column."""
    return COLUMNS_AGAINST if OTHER.key in figures else COLUMNS


def attempt_table(figures: dict[str, Figures], counts: dict[str, Instructions]) -> Table:
    """Return the table of single attempts and of rates, a column for each module."""
    rows: list[tuple[str, ...]] = []
    columns = columns_of(figures)
    rivals = [each for each in (GOOGLE, OTHER) if each in columns]

    def append(label: str, samples: dict[str, Sample], digits: int) -> None:
        ratios = (_ratio(samples[OURS.key], samples[rival.key]) for rival in rivals)
        rows.append((label, *(_number(samples[each.key], Sample.median, digits) for each in columns), *ratios))

    def add(label: str, pick: Callable[[Figures], Sample], digits: int, *, spread: bool = True) -> None:
        samples = {candidate.key: pick(figures[candidate.key]) for candidate in columns}
        append(label, samples, digits)
        if spread:
            numbers = (_number(samples[each.key], Sample.p90, digits) for each in columns)
            rows.append(("  nine in ten below", *numbers, *("" for _ in rivals)))

    add("prompt shown after (ms)", lambda each: each.prompt_ms, 2)
    for typing_ms in TYPING_MS:
        label = f"verdict, typed in {typing_ms} ms (ms)"
        add(label, lambda each, typing_ms=typing_ms: each.verdict_ms[typing_ms], 2)  # type: ignore[misc]
    add("CPU of one attempt (ms)", lambda each: each.cpu_ms, 1)
    for label, part in (("user", "user_ms"), ("system", "system_ms")):
        means = (_number(getattr(figures[each.key], part), Sample.mean, 1) for each in columns)
        rows.append((f"  of it {label}, on average", *means, *("" for _ in rivals)))
    append("million instructions, to prompt", {key: each.prompt for key, each in counts.items()}, 2)
    append("  of an accepted attempt", {key: each.attempt for key, each in counts.items()}, 2)
    add("left in the host process (kB)", lambda each: each.resident_kb, 0)
    add("  of it private and changed", lambda each: each.private_kb, 0, spread=False)
    for crowd in CROWDS:
        label = f"logins per second, {crowd} at once"
        add(label, lambda each, crowd=crowd: each.logins_per_s[crowd], 0, spread=False)  # type: ignore[misc]
    return Table(("", *(candidate.title for candidate in columns), "ratio", "to other")[: 5 + len(rivals)], rows)


def ssh_table(samples: dict[str, Sample]) -> Table:
    """Return the table of whole ssh logins."""
    order = [samples[name] for name in (bench_ssh.PLAIN, bench_ssh.OURS, bench_ssh.GOOGLE)]
    plain_ms = order[0].median()
    rows: list[tuple[str, ...]] = [
        ("median (ms)", *(_number(sample, Sample.median, 1) for sample in order)),
        ("  nine in ten below", *(_number(sample, Sample.p90, 1) for sample in order)),
        ("  more than with it alone", "", *(f"{sample.median() - plain_ms:+.1f}" for sample in order[1:])),
    ]
    return Table(("whole ssh login with password", "alone", f"+{OURS.title}", f"+{GOOGLE.title}"), rows)


def goals(figures: dict[str, Figures]) -> list[Goal]:
    """Compare the figures with the goals."""
    ours, google = figures[OURS.key], figures[GOOGLE.key]
    reached = []
    for typing_ms, when in ((200, "after 200 ms of typing"), (0, "for a code typed at once")):
        verdict = ours.verdict_ms[typing_ms].median() / google.verdict_ms[typing_ms].median()
        reached.append(Goal(f"verdict {when} <= 0.95 x google-a.'s", f"{verdict:.2f}", verdict <= 0.95))
    prompt_ms, cpu_ms = ours.prompt_ms.median(), ours.cpu_ms.median()
    reached.append(Goal("prompt within 12 ms, where google-a. has 0.3", f"{prompt_ms:.1f} ms", prompt_ms <= 12))
    reached.append(Goal("CPU of one attempt <= 14.5 ms, where google-a. has 2.5", f"{cpu_ms:.1f} ms", cpu_ms <= 14.5))
    memory = ours.resident_kb.median() / google.resident_kb.median()
    reached.append(Goal("memory left in the host <= 1.1 x google-a.'s", f"{memory:.2f}", memory <= 1.1))
    if OTHER.key in figures:
        most = max(CROWDS)
        rate = ours.logins_per_s[most].median() / figures[OTHER.key].logins_per_s[most].median()
        reached.append(Goal(f"logins per second, {most} at once >= 1.25 x other's", f"{rate:.2f}", rate >= 1.25))
    else:
        ratio = prompt_ms / figures[PYTHON.key].prompt_ms.median()
        reached.append(Goal("prompt sooner than pam_python's", f"{ratio:.2f}", ratio < 1))
    return reached


def goal_table(reached: Sequence[Goal]) -> Table:
    """Return the table of goals."""
    rows: list[tuple[str, ...]] = [(goal.text, goal.measured, "met" if goal.met else "not met") for goal in reached]
    return Table(("goal", "measured", "result"), rows)


def notes(
    figures: dict[str, Figures],
    counts: dict[str, Instructions],
    directory: Path,
    *,
    rounds: int,
    passes: int,
    logins: int,
) -> list[str]:
    """Return notes on how the figures were measured, and on which machine."""
    nothing, nothing_counted = figures[NOTHING.key], counts[NOTHING.key].attempt.median()
    fourth = "pam_python: a module that only asks and checks nothing"
    if OTHER.key in figures:
        fourth = "other: the tree given with --against"
    versions = run("dpkg-query", "-W", "-f", "${Package} ${Version}\n", *PEERS).splitlines()
    return [
        (
            f"Each median is of {rounds} attempts (prompt, CPU, memory: {2 * rounds}), {passes} rates, "
            f"{logins} ssh logins; the modules took turns. HOTP, every attempt with a fresh code that was right and "
            "stored durably; an attempt is a new process, loading the module included. ours: pam_softtoken; google-a.: "
            f"google-authenticator; {fourth}; ratio: ours to google-a."
        ),
        (
            "Instructions: those in user space of all processes of an attempt, as valgrind counts them. They tell on a "
            f"busy machine, too. {nothing_counted:.2f} million are the client's, and part of all columns."
        ),
        (
            f"The client itself, with pam_permit in place of a module: {nothing.cpu_ms.median():.1f} ms CPU, "
            f"{nothing.resident_kb.median():.0f} kB; that is part of all columns."
        ),
        machine_note(directory),
        f"Debian: {', '.join(versions)}.",
    ]


def machine() -> str:
    """Return a sentence about the processor and the kernel."""
    return f"Machine: {_processor()}, {os.cpu_count()} cores, Linux {os.uname().release}."


def machine_note(directory: Path) -> str:
    """Return a sentence about the machine, with the disk of a directory."""
    kind, device = file_system_of(directory)
    return f"{machine()[:-1]}, {kind} on {device}."


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else os.uname().machine


def _number(sample: Sample, pick: Callable[[Sample], float], digits: int) -> str:
    return f"{pick(sample):.{digits}f}" if sample.values else _UNMEASURED


def _ratio(ours: Sample, google: Sample) -> str:
    if not ours.values or not google.values:
        raise BenchError("nothing was measured")
    return f"{ours.median() / google.median():.2f}" if google.median() else _UNMEASURED


def plain(table: Table) -> str:
    """Write a table for a terminal, at most 80 columns wide."""
    lines = [table.head, *table.rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(table.head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def markdown(table: Table) -> str:
    """Write a table in Markdown."""
    rule = ("---", *("---:" for _ in table.head[1:]))
    return "\n".join(f"| {' | '.join(cell.strip() for cell in line)} |" for line in (table.head, rule, *table.rows))


def paragraph(text: str) -> str:
    """Return a text broken into lines of at most 80 columns."""
    return textwrap.fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)
