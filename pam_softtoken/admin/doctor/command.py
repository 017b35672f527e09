"""Implement `softtoken-admin doctor`: find ways past the code, faults that lock users out, and future faults.

It only reads. Each check runs in a separate process, so that it cannot hang or end the others.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from pam_softtoken.admin.common import bounded, logins
from pam_softtoken.admin.common.finding import NOTE, SEVERITIES, Finding, Report, edited_file
from pam_softtoken.admin.doctor import (
    backend_check,
    host_check,
    mode_check,
    people_check,
    realm_check,
    seal_check,
    service_user_check,
    sign_check,
    sshd_check,
    store_check,
)
from pam_softtoken.admin.services import locker_check, option_check, relay_check, stack_check
from pam_softtoken.admin.services.stack_check import Services
from pam_softtoken.program_errors import ProgramError
from pam_softtoken.ui import progress, terminal
from pam_softtoken.ui.command_line import Command

_ONE_AND_MANY = {"error": ("error", "errors"), "warning": ("warning", "warnings"), "note": ("note", "notes")}


class Family(NamedTuple):
    """Checks that belong together.

    Args:
        name: the heading above their findings.
        check: runs the checks.
        limit_s: the time limit in seconds.
    """

    name: str
    check: Callable[[Services], Report]
    limit_s: float = bounded.LIMIT_S


class ProblemsFound(ProgramError):
    """At least one finding is an error or a warning."""


FAMILIES = (
    Family("sshd", sshd_check.check, people_check.LIMIT_S),
    Family("PAM services", stack_check.check),
    Family("options", option_check.check),
    Family("stores", store_check.check),
    Family("seal", seal_check.check),
    Family("realm", realm_check.check, people_check.LIMIT_S),
    Family("screen lockers", locker_check.check),
    Family("users of services", service_user_check.check),
    Family("programs without root", relay_check.check),
    Family("files", mode_check.check),
    Family("backend", backend_check.check),
    Family("signatures", sign_check.check, people_check.LIMIT_S),
    Family("users", people_check.check, people_check.LIMIT_S),
    Family("clock", lambda _: host_check.check_clock(now=int(time.time()))),
    Family("denials", lambda _: host_check.check_denials()),
    Family("space", lambda services: host_check.check_space(_places(services))),
    Family("changes", lambda _: host_check.check_changes()),
)


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """The options of `doctor`."""

    verbose: bool
    json: bool


def doctor(screen: terminal.Terminal, options: DoctorOptions) -> None:
    """Run all checks, and show the findings.

    Raises:
        ProblemsFound: there are errors or warnings.
    """
    if os.geteuid() != 0:
        raise ProblemsFound("only root can check all of it", hint="sudo softtoken-admin doctor")
    services = stack_check.read_services()
    reports = []
    with progress.shown(len(FAMILIES)) as begin:
        for family in FAMILIES:
            terminal.checkpoint()
            begin(family.name)
            check = partial(family.check, services)
            reports.append((family.name, bounded.run(check, family.name, limit_s=family.limit_s)))
    if options.json:
        screen.show(_as_json(reports))
    else:
        _show(screen, reports, verbose=options.verbose)
    findings = [finding for _, report in reports for finding in report.findings]
    if any(finding.severity != NOTE for finding in findings):
        raise ProblemsFound(_counted(findings), hint="what mends it is shown below each finding")


def _places(services: Services) -> list[str]:
    homes = dict.fromkeys(os.path.dirname(entry.pw_dir) for entry in logins.who_can_log_in())
    return mode_check.places_of_state(services, homes)


def _show(screen: terminal.Terminal, reports: list[tuple[str, Report]], *, verbose: bool) -> None:
    changed: set[str] = set()
    for name, report in reports:
        if report.findings:
            screen.show(f"{name}:")
        for finding in sorted(report.findings, key=lambda each: SEVERITIES.index(each.severity)):
            _show_finding(screen, finding, changed)
    if not any(report.findings for _, report in reports):
        screen.show("No problems found.")
    if verbose:
        screen.show("Looked at: " + "; ".join(each for _, report in reports for each in report.looked_at) + ".")
    for _, report in reports:
        for each in report.not_looked_at:
            screen.show(terminal.visible(f"Not looked at: {each}"))


def _show_finding(screen: terminal.Terminal, finding: Finding, changed: set[str]) -> None:
    """Show one finding. Of each file, only the first change is shown. Another one would have the numbers and lines from
    before it, could undo it or overwrite a line that has moved there, and was not tried together with it.

    Args:
        screen: the output.
        finding: the finding.
        changed: the files of the changes above. The finding's file is added.
    """
    screen.show(terminal.visible(f"  {finding.severity}: {finding.place}: {finding.what}"))
    if finding.line:
        screen.show(terminal.visible(f"    | {finding.line[:300]}"))
    file = edited_file(finding.mend)
    if file in changed:
        screen.show(terminal.visible(f"    First make the change of {file} above. Then run doctor again."))
        return
    if file:
        changed.add(file)
    for step in finding.mend.split("\n"):
        screen.show(terminal.visible(f"    # {step}"))


def _as_json(reports: list[tuple[str, Report]]) -> str:
    document = {
        "findings": [{"family": name, **finding._asdict()} for name, report in reports for finding in report.findings],
        "looked_at": [each for _, report in reports for each in report.looked_at],
        "not_looked_at": [each for _, report in reports for each in report.not_looked_at],
    }
    return json.dumps(document, indent=2)


def _counted(findings: list[Finding]) -> str:
    words = []
    for severity in SEVERITIES:
        count = sum(finding.severity == severity for finding in findings)
        if count:
            words.append(f"{count} {_ONE_AND_MANY[severity][count > 1]}")
    return "found " + ", ".join(words)


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--verbose", action="store_true", help="say what was looked at, too")
    parser.add_argument("--json", action="store_true", help="print one object with findings, looked_at, not_looked_at")


DOCTOR = Command(
    "doctor",
    "look for ways past the code, for users who are locked out, and for what will go wrong",
    _add_arguments,
    DoctorOptions,
    doctor,
)
