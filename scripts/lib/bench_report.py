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
from bench_setup import GOOGLE, NOTHING, OATH, OURS, PYTHON, BenchError, file_system_of, run

COLUMNS = (OURS, GOOGLE, OATH, PYTHON)
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


def attempt_table(figures: dict[str, Figures]) -> Table:
    """Return the table of single attempts and of rates, a column for each module."""
    rows: list[tuple[str, ...]] = []

    def add(label: str, pick: Callable[[Figures], Sample], digits: int, *, spread: bool = True) -> None:
        samples = [pick(figures[candidate.key]) for candidate in COLUMNS]
        rows.append((label, *(_number(sample, Sample.median, digits) for sample in samples), _ratio(*samples[:2])))
        if spread:
            rows.append(("  nine in ten below", *(_number(sample, Sample.p90, digits) for sample in samples), ""))

    add("prompt shown after (ms)", lambda each: each.prompt_ms, 2)
    for typing_ms in TYPING_MS:
        label = f"verdict, typed in {typing_ms} ms (ms)"
        add(label, lambda each, typing_ms=typing_ms: each.verdict_ms[typing_ms], 2)  # type: ignore[misc]
    add("CPU of one attempt (ms)", lambda each: each.cpu_ms, 1)
    add("left in the host process (kB)", lambda each: each.resident_kb, 0)
    add("  of it private and changed", lambda each: each.private_kb, 0, spread=False)
    for crowd in CROWDS:
        label = f"logins per second, {crowd} at once"
        add(label, lambda each, crowd=crowd: each.logins_per_s[crowd], 0, spread=False)  # type: ignore[misc]
    return Table(("", *(candidate.title for candidate in COLUMNS), "ratio"), rows)


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
    ours, google, python = (figures[candidate.key] for candidate in (OURS, GOOGLE, PYTHON))
    verdict = ours.verdict_ms[200].median() / google.verdict_ms[200].median()
    prompt_ms, python_ms = ours.prompt_ms.median(), python.prompt_ms.median()
    memory = ours.resident_kb.median() / google.resident_kb.median()
    cpu_ms = ours.cpu_ms.median()
    return [
        Goal("verdict after 200 ms of typing <= 1.0 x google-authenticator", f"{verdict:.2f}", verdict <= 1.0),
        Goal("prompt within 15 ms", f"{prompt_ms:.1f} ms", prompt_ms <= 15),
        Goal("prompt sooner than pam_python's", f"{prompt_ms / python_ms:.2f}", prompt_ms < python_ms),
        Goal("memory left in the host <= 1.1 x google-authenticator", f"{memory:.2f}", memory <= 1.1),
        Goal("CPU of one attempt <= 16 ms", f"{cpu_ms:.1f} ms", cpu_ms <= 16),
    ]


def goal_table(reached: Sequence[Goal]) -> Table:
    """Return the table of goals."""
    rows: list[tuple[str, ...]] = [(goal.text, goal.measured, "met" if goal.met else "not met") for goal in reached]
    return Table(("goal", "measured", "result"), rows)


def notes(figures: dict[str, Figures], directory: Path, *, rounds: int, passes: int, logins: int) -> list[str]:
    """Return notes on how the figures were measured, and on which machine."""
    kind, device = file_system_of(directory)
    nothing = figures[NOTHING.key]
    versions = run("dpkg-query", "-W", "-f", "${Package} ${Version}\n", *PEERS).splitlines()
    return [
        (
            f"Each median is of {rounds} attempts (prompt, CPU, memory: {2 * rounds}), {passes} rates, "
            f"{logins} ssh logins; the modules took turns. HOTP, every attempt with a fresh code that was right and "
            "stored durably; an attempt is a new process, loading the module included. ours: pam_softtoken; google-a.: "
            "google-authenticator; pam_python: a module that only asks and checks nothing; ratio: ours to google-a."
        ),
        (
            f"The client itself, with pam_permit in place of a module: {nothing.cpu_ms.median():.1f} ms CPU, "
            f"{nothing.resident_kb.median():.0f} kB; that is part of all columns."
        ),
        f"Machine: {_processor()}, {os.cpu_count()} cores, Linux {os.uname().release}, {kind} on {device}.",
        f"Debian: {', '.join(versions)}.",
    ]


def _processor() -> str:
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else os.uname().machine


def _number(sample: Sample, pick: Callable[[Sample], float], digits: int) -> str:
    return f"{pick(sample):.{digits}f}" if sample.values else _UNMEASURED


def _ratio(ours: Sample, google: Sample) -> str:
    if not ours.values or not google.values:
        raise BenchError("nothing was measured")
    return f"{ours.median() / google.median():.2f}"


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
