"""Implement `status`: one line for each user who can log in, with the services that refuse, admit or exempt them."""

from __future__ import annotations

import argparse
import calendar
import json
import pwd
import time
from dataclasses import dataclass

from pam_softtoken import option_values
from pam_softtoken.admin import seal_status
from pam_softtoken.admin.access import in_force
from pam_softtoken.admin.common import logins, orphans, person
from pam_softtoken.admin.common.finding import named
from pam_softtoken.admin.common.orphans import Orphan
from pam_softtoken.admin.common.realm_reader import DOES_NOT_ANSWER
from pam_softtoken.admin.common.survey import ENROLLED, NOT_ENROLLED, UNUSABLE, Facts, facts_of, survey
from pam_softtoken.admin.signers import signer_facts
from pam_softtoken.config import Config
from pam_softtoken.enroll.token_list import local
from pam_softtoken.ui import progress, table, terminal
from pam_softtoken.ui.command_line import Command

HEADER = ("user", "status", "tokens", "last used", "recovery", "remarks")
_NAMED = 10


@dataclass(frozen=True, slots=True)
class StatusOptions:
    """The options of `status`."""

    users: tuple[str, ...]
    all: bool
    json: bool
    store: str | None


def _status(screen: terminal.Terminal, options: StatusOptions) -> None:
    person.require_root("status")
    settings = person.settings_of(options.store)
    users = _chosen(options)
    now = int(time.time())
    with progress.shown(len(users), "looking") as advance:
        found = []
        for facts in survey(users, lambda entry: facts_of(entry, settings, now=now)):
            found.append(facts)
            advance()
    for facts in found:
        facts["signing"] = signer_facts.facts_of(facts["user"], facts["uid"], now=now)
    names = {str(facts["user"]) for facts in found} if options.users else None
    services, doubts = in_force.in_force(names)
    left = orphans.find((settings.store, person.PLACES["system"])) if not options.users else []
    if options.json:
        document = {
            "users": found,
            "realm": settings.fleet or None,
            "totals": _totals(found),
            "only_in_by_nullok": _only_in_by_nullok(found),
            "services": [each._asdict() for each in services],
            "orphans": [each._asdict() for each in left],
            "sudo_asks_for_signatures": signer_facts.sudo_asks(),
        }
        screen.show(json.dumps(document))
        return
    rows = [HEADER, *(_row(screen, facts, settings) for facts in found)]
    if any(facts["signing"]["marked"] for facts in found):
        rows = [row[:-1] + cell + row[-1:] for row, cell in zip(rows, _signing_column(screen, found), strict=True)]
    table.show(screen, rows)
    if settings.fleet:
        screen.show(f"\n{_of_realm(settings, found)}")
    said = in_force.lines(services, _NAMED if screen.is_terminal() else len(found))
    if not _count(found, ENROLLED) and not options.users:
        said += in_force.nobody_gets_in(services)
    said += _about_signatures(found)
    said += [f"Not known: {doubt}" for doubt in doubts]
    screen.show("\n" + "\n".join([_summary(found), *(screen.spell(terminal.visible(line)) for line in said)]))
    sealing = seal_status.in_short() if not options.users else ""
    for line in ([sealing] if sealing else []) + _of_orphans(left):
        screen.show(screen.spell(terminal.visible(line)))


def _of_realm(settings: Config, found: list[Facts]) -> str:
    """Return that the users are those of a realm, and what is wrong with it."""
    nodes, realm = option_values.fleet_parts(settings.fleet)
    names = ", ".join(f"{host}:{port}" for host, port in nodes)
    said = f"The tokens are those of the realm {realm}, on {names}."
    if any(facts["problem"] == DOES_NOT_ANSWER for facts in found):
        said += f" It does not answer: {person.PROGRAM} doctor says why."
    return said


def _of_orphans(left: list[Orphan]) -> list[str]:
    """Return one line for each account with leftovers: the place, the state of the account, and what helps."""
    paths: dict[tuple[str, str, str], list[str]] = {}
    for each in left:
        paths.setdefault((each.problem, each.cure, each.otherwise), []).append(each.path)
    lines = []
    for (problem, cure, otherwise), group in paths.items():
        help_text = f"; {cure}" if cure else ""
        if otherwise:
            help_text = f"; if that is the same user: {cure}; if not: {otherwise}"
        if otherwise.startswith(f"{person.PROGRAM} disable"):
            help_text = f"; {cure} keeps it, {otherwise} takes it back"
        lines.append(f"orphan: {', '.join(group)}: {problem}{help_text}")
    return lines


def _chosen(options: StatusOptions) -> list[pwd.struct_passwd]:
    if options.users:
        return person.entries_of(options.users)
    return logins.everybody() if options.all else logins.who_can_log_in()


def _row(screen: terminal.Terminal, facts: Facts, settings: Config) -> tuple[str, ...]:
    name = screen.spell(terminal.visible(facts["user"]))
    if facts["status"] != ENROLLED:
        return name, facts["status"], "-", "-", "-", screen.spell(terminal.visible(_remarks(facts, settings)))
    codes = facts["recovery_codes"]
    left = "?" if codes["left"] is None else codes["left"]
    recovery = f"{left}/{codes['total']}" if codes["total"] else "none"
    last = _here(facts["last_used"]) if facts["last_used"] else "never" if facts["state"] == "ok" else "unknown"
    remarks = screen.spell(terminal.visible(_remarks(facts, settings)))
    return name, ENROLLED, str(len(facts["tokens"])), last, recovery, remarks


def _remarks(facts: Facts, settings: Config) -> str:
    """Return what is unusual about a user."""
    helps = f" (run: {facts['cure']})" if facts["cure"] else ""
    remarks = [f"{facts['problem']}{helps}"] if facts["problem"] else []
    if facts["status"] == NOT_ENROLLED and facts["was_enrolled"]:
        former = f", as {facts['former_name']}" if facts["former_name"] else ""
        former = former or (f", with uid {facts['former_uid']}" if facts["former_uid"] is not None else "")
        remarks.append(f"was enrolled before{former}: denied, nullok or not")
    remarks += [f"has tokens in {path}, where no service looks{_move(facts, settings)}" for path in facts["elsewhere"]]
    if facts["status"] == ENROLLED and facts["state"] == "missing":
        remarks.append("state is missing")
    if settings.pin_required and facts["pin"] is False:
        remarks.append("has no PIN: denied")
    remarks += [f"{each['source']} must wait until {_clock(each['until'])}" for each in facts["waiting"]]
    signing = facts["signing"]
    if signing["problem"]:
        remarks.append(signing["problem"] + (f" (run: {signing['cure']})" if signing["cure"] else ""))
    remarks += [f"signatures must wait until {_clock(each['until'])}" for each in signing["waiting"]]
    if facts["issued_code_until"]:
        remarks.append(f"issued code until {_here(facts['issued_code_until'])}")
    return "; ".join(remarks)


def _move(facts: Facts, settings: Config) -> str:
    if settings.fleet:
        return f": {person.PROGRAM} fleet import {facts['user']}" if facts["status"] == NOT_ENROLLED else ""
    to = [word for word, template in person.PLACES.items() if template == settings.store]
    return f": {person.PROGRAM} move {facts['user']} --to {to[0]}" if to else ""


def _signing_column(screen: terminal.Terminal, found: list[Facts]) -> list[tuple[str]]:
    """Return the column with the names of the tokens that sign. It is shown if any user has the mark."""
    cells = ["signs with"]
    for facts in found:
        names = ", ".join(each["name"] for each in facts["signing"]["tokens"])
        cells.append(names or ("none" if facts["signing"]["marked"] else "-"))
    return [(screen.spell(terminal.visible(cell)),) for cell in cells]


def _about_signatures(found: list[Facts]) -> list[str]:
    """Return whom sudo asks for a signature. Nothing, if that is nobody and there are no signing tokens."""
    asks = signer_facts.sudo_asks()
    marked = [facts["user"] for facts in found if facts["signing"]["marked"]]
    listed = f" ({len(marked)}): {named(marked, _NAMED)}"
    if asks == signer_facts.OFF:
        turn_on = f"{person.PROGRAM} enable sudo --sign turns it on"
        return [f"sudo: asks nobody for a signature; {turn_on} for those who can sign{listed}"] if marked else []
    if asks == signer_facts.UNKNOWN:
        return ["Not known: whom sudo asks for a signature"]
    if asks == signer_facts.REQUIRED:
        return [f"sudo: asks everybody for a signature, and refuses those who have no signing token; can sign{listed}"]
    return [f"sudo: asks for a signature{listed}" if marked else "sudo: asks for signatures; nobody here can sign"]


def _seconds(when: str) -> int:
    return calendar.timegm(time.strptime(when, "%Y-%m-%dT%H:%M:%SZ"))


def _here(when: str) -> str:
    return local(_seconds(when))


def _clock(when: str) -> str:
    return time.strftime("%H:%M:%S", time.localtime(_seconds(when)))


def _totals(found: list[Facts]) -> dict[str, int]:
    return {
        "users": len(found),
        **{status.replace("-", "_"): _count(found, status) for status in (ENROLLED, NOT_ENROLLED, UNUSABLE)},
        "waiting": sum(bool(facts["waiting"]) for facts in found),
    }


def _count(found: list[Facts], status: str) -> int:
    return sum(facts["status"] == status for facts in found)


def _only_in_by_nullok(found: list[Facts]) -> list[str]:
    return [facts["user"] for facts in found if facts["status"] == NOT_ENROLLED and not facts["was_enrolled"]]


def _summary(found: list[Facts]) -> str:
    totals = _totals(found)
    users = "1 user" if totals["users"] == 1 else f"{totals['users']} users"
    waiting = f"; waits are on for {totals['waiting']}" if totals["waiting"] else ""
    statuses = ", ".join(f"{_count(found, status)} {status}" for status in (ENROLLED, NOT_ENROLLED, UNUSABLE))
    return f"{users}: {statuses}{waiting}"


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Show for each user who can log in: whether they are enrolled, with how many tokens, when a code of theirs was "
        "last used, how many recovery codes are left, what signs at sudo, and what is unusual. A user can log in if "
        "their shell is in /etc/shells and is neither nologin nor false, and they are root, or have a uid of UID_MIN "
        "in /etc/login.defs or more, or have a password. Users of a directory service are shown if it lists them, or "
        "once they have logged in with a code. Then comes what root keeps for accounts that are gone or were changed, "
        "with the command that helps. Nothing is changed, no code is tried, and no lock is taken."
    )
    parser.add_argument("users", metavar="USER", nargs="*", help="only these users")
    parser.add_argument("--all", action="store_true", help="every user of the host, with a login shell or not")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout, for programs")
    person.add_store(parser)


STATUS = Command(
    "status",
    "show who is enrolled, who must wait, and whom the services refuse or exempt",
    _add_arguments,
    StatusOptions,
    _status,
)
