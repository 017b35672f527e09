"""Check the users: files that a login would refuse, and whether any user still needs to be let in without a token."""

from __future__ import annotations

import pwd
import shlex
import time
from collections.abc import Iterator

from pam_softtoken.account import places
from pam_softtoken.admin.access import host_facts
from pam_softtoken.admin.access.proofs import BEFORE, HOMELESS, NEVER
from pam_softtoken.admin.common import logins, survey
from pam_softtoken.admin.common.finding import ERROR, NOTE, WARNING, Finding, Report, named, shown
from pam_softtoken.admin.common.survey import Facts
from pam_softtoken.admin.services import exempt, pam_profile
from pam_softtoken.admin.services.option_check import our_lines, set_where, settings_of
from pam_softtoken.admin.services.stack_check import Services
from pam_softtoken.config import Config
from pam_softtoken.errors import in_words
from pam_softtoken.pam.stack import Line, Stack

MOST_USERS = 2000
AHEAD_S = 10 * 60
LIMIT_S = 600.0
_STATUS = "softtoken-admin status"
_MOVE = "softtoken-admin move --all --to system"


def check(services: Services) -> Report:
    """Check the files of all users who can log in, in each store that our lines name."""
    users = logins.who_can_log_in()
    seen: dict[str, list[Facts]] = {}
    findings: list[Finding] = []
    for stack, line, settings in _lines(services):
        if settings.place not in seen:
            seen[settings.place] = _look(users[:MOST_USERS], settings)
            findings += [each for facts in seen[settings.place] for each in _of_user(facts)]
            findings += _without_home(line, seen[settings.place])
        findings += _left_on(stack, line, settings, seen[settings.place])
    if len(users) <= MOST_USERS:
        findings += _nobody_enrolled(services, seen)
    doubts = (f"files of {len(users) - MOST_USERS} more users: {_STATUS}",) if len(users) > MOST_USERS else ()
    if not seen:
        return Report()
    unique = {(finding.place, finding.what): finding for finding in findings}
    return Report(tuple(unique.values()), (f"files of {min(len(users), MOST_USERS)} users",), doubts)


def _lines(services: Services) -> Iterator[tuple[Stack, Line, Config]]:
    for stack in services.ours:
        for line in our_lines(stack):
            settings = settings_of(line)
            if settings is not None and line.kind == "auth":
                yield stack, line, settings


def _look(users: list[pwd.struct_passwd], settings: Config) -> list[Facts]:
    now = int(time.time())
    return list(survey.survey(users, lambda entry: survey.facts_of(entry, settings, now=now)))


def _of_user(facts: Facts) -> Iterator[Finding]:
    if facts["record_ahead_s"] > AHEAD_S:
        yield _ahead(facts)
    path, _, why = str(facts["problem"]).rpartition(": ")
    if not path or facts["no_home"]:
        return  # a user without a home directory does not log in
    mend = str(facts["cure"]) or _STATUS
    yield Finding(WARNING, path, "", f"{facts['user']} is refused at each login: {why}", mend)


def _without_home(line: Line, people: list[Facts]) -> Iterator[Finding]:
    """Report users whose tokens would be in a home directory that no session has made yet."""
    names = [str(facts["user"]) for facts in people if facts["no_home"] == survey.NOT_YET]
    if names:
        what = (
            f"there is no home directory yet, so nobody can enrol these users: {named(names)}; "
            f"store={places.SYSTEM_STORE} keeps tokens outside the home directories"
        )
        yield Finding(NOTE, str(line.place), shown(line), what, _MOVE)


def _ahead(facts: Facts) -> Finding:
    """Return the finding for a record from the future. Only a person can know whether the clock is wrong now."""
    user, length = shlex.quote(str(facts["user"])), in_words(facts["record_ahead_s"])
    what = (
        f"the last code of {facts['user']}, or the enrolment, is {length} ahead of this machine's clock: "
        "codes of the app are refused until then; if the clock is wrong now, set it, and nothing else needs mending"
    )
    return Finding(WARNING, f"{facts['store']}/state", "", what, f"date; softtoken-admin reset-state {user}")


def _left_on(stack: Stack, line: Line, settings: Config, people: list[Facts]) -> Iterator[Finding]:
    """Report that `nullok` is on, and which users still need it."""
    if not settings.nullok:
        return
    where = set_where(line, "nullok")
    waiting = [
        str(facts["user"])
        for facts in people
        if (facts["status"] == survey.NOT_ENROLLED or facts["no_home"] == survey.NOT_YET) and not facts["was_enrolled"]
    ]
    if waiting:
        what = f"{len(waiting)} users who have never enrolled get into {stack.service} without a code: {named(waiting)}"
        yield Finding(NOTE, where.place, where.line, what, _STATUS)
    else:
        what = f"everybody who can log in is enrolled, and {stack.service} would still let a new user in without a code"
        yield Finding(WARNING, where.place, where.line, what, where.drop)


def _nobody_enrolled(services: Services, seen: dict[str, list[Facts]]) -> Iterator[Finding]:
    """Report our lines that refuse everybody because no user has a token."""
    asking: dict[Line, list[str]] = {}
    refused: dict[Line, list[str]] = {}
    for stack, line, settings in _lines(services):
        states = {str(facts["user"]): host_facts.enrolment_of(facts, settings) for facts in seen[settings.place]}
        passes = host_facts.asking_of(settings).passes_never or exempt.groups_of(stack.of("auth"))
        if passes or not states or set(states.values()) - {NEVER, HOMELESS, BEFORE}:
            continue
        first = next((known for known in asking if known.place == line.place), line)
        asking.setdefault(first, []).append(stack.service)
        refused[first] = list(states)
    for line, names in asking.items():
        one = len(names) == 1
        what = (
            f"{named(names)} {'asks' if one else 'ask'} everybody for a code, and nobody is enrolled: "
            f"{named(refused[line])} would be refused; the change below turns it off, "
            "or softtoken-enroll --user NAME enrols one of them"
        )
        yield Finding(ERROR, str(line.place), shown(line), what, pam_profile.way_off(names[0], line))
