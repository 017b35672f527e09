"""Check sshd's settings with our line in its PAM service: whether a way in bypasses the code."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from pam_softtoken.admin.access import forecast, host_facts, in_force
from pam_softtoken.admin.access.host_facts import Sshd
from pam_softtoken.admin.access.pam_judge import Judge
from pam_softtoken.admin.access.proofs import CODE, KEY, Person, Settings, Ways
from pam_softtoken.admin.access.ways_in import sshd_ways
from pam_softtoken.admin.common import bounded, child
from pam_softtoken.admin.common.bounded import Reading
from pam_softtoken.admin.common.finding import ERROR, NOTE, WARNING, Edit, Finding, Report, named
from pam_softtoken.admin.services import exempt
from pam_softtoken.admin.services.option_check import settings_of
from pam_softtoken.admin.services.stack_check import Services
from pam_softtoken.admin.sshd import config_lines, match_blocks, server
from pam_softtoken.admin.sshd.config_lines import ASKING, LOGIN_SETTINGS, METHODS, Directive
from pam_softtoken.admin.sshd.match_blocks import Peer
from pam_softtoken.pam import paths
from pam_softtoken.pam.stack import Stack
from pam_softtoken.program_errors import AdministrationFailed

_DEFAULTS = {
    "usepam": "no",
    "kbdinteractiveauthentication": "yes",
    "passwordauthentication": "yes",
    "pubkeyauthentication": "yes",
    "hostbasedauthentication": "no",
    "gssapiauthentication": "no",
    "authenticationmethods": "any",
    "authorizedkeysfile": ".ssh/authorized_keys .ssh/authorized_keys2",
    "permitrootlogin": "without-password",
}
_SPELT = {"usepam": "UsePAM", **LOGIN_SETTINGS}


class Fault(NamedTuple):
    """A wrong setting.

    Args:
        severity: the severity of the finding.
        name: the name of the setting.
        what: what is wrong with it.
        value: the value that it should have.
        can_be_meant: a Match block with this value is not an oversight.
    """

    severity: str
    name: str
    what: str
    value: str
    can_be_meant: bool = False


class View(NamedTuple):
    """sshd's settings for some of its users, and what its PAM service asks them for.

    Args:
        settings: values by name, all in lower case.
        password_in_pam: the service asks for the password.
        code_in_password: our line takes the code from the end of the password.
    """

    settings: Settings
    password_in_pam: bool
    code_in_password: bool

    def on(self, name: str) -> bool:
        return self.settings[name] == "yes"

    @property
    def ways(self) -> list[list[str]]:
        """The lists of methods that let a user in; all methods of a list are needed."""
        methods = self.settings["authenticationmethods"]
        if methods != "any":
            return [[method.partition(":")[0] for method in way.split(",")] for way in methods.split()]
        return [[method] for method, name in METHODS.items() if self.on(name)]


class Case(NamedTuple):
    """A fault, and the users and connections that it concerns."""

    finding: Finding
    fault: Fault
    concerned: list[tuple[Person, Peer]]


def check(services: Services) -> Report:
    """Check sshd's configuration, if our line is in its PAM service."""
    stack = next((stack for stack in services.ours if stack.service == server.SERVICE), None)
    if stack is None or not os.path.exists(server.PROGRAM):
        return Report(not_looked_at=("sshd: its PAM service has no line of ours",) if stack is None else ())
    reading = Reading()
    directives = config_lines.read(reading.reader, lambda pattern: sorted(glob.glob(pattern)))
    current, findings, doubts = _ask_sshd(reading, directives)
    doubts += [f"{path}: {why}" for path, why in reading.refused.items()]
    stores = [each for each in map(settings_of, stack.ours) if each is not None]
    host = forecast.look_around(stores, current, sudo=False)
    view = forecast.View(Judge(host_facts.door_of(stack)), current)
    findings += _of_settings(stack, view, current, host.people)
    findings += _of_people(stack, view, host.people)
    return Report(tuple(findings), (f"sshd's settings in {config_lines.FILE}",), tuple(doubts))


def _of_settings(stack: Stack, view: forecast.View, current: Sshd, people: list[Person]) -> list[Finding]:
    """List the faults in the settings of users who are not exempt."""
    exempt_groups = set(exempt.groups_of(stack.of("auth")))
    cases: dict[tuple[str, str], Case] = {}
    for someone in people:
        if exempt_groups & set(someone.names.groups):
            continue
        for peer in view.peers:
            for fault in faults(_view(stack, current.settings(someone.names, peer))):
                line = match_blocks.responsible(current.directives, fault.name, someone.names, peer)
                finding = _finding(fault, line)
                case = cases.setdefault((finding.place, finding.mend), Case(finding, fault, []))
                case.concerned.append((someone, peer))
    return [case.finding._replace(what=case.finding.what + _cost(case, view.judge, current)) for case in cases.values()]


def _cost(case: Case, judge: Judge, current: Sshd) -> str:
    """Return the users who would lose a way in by the repair of a fault."""
    losers: dict[str, None] = {}
    for someone, peer in case.concerned:
        settings = current.settings(someone.names, peer)
        mended = {**settings, case.fault.name: case.fault.value}
        before, after = (sshd_ways(someone, each, judge, peer) for each in (settings, mended))
        if any(not any(then - {CODE} <= proofs for then, _ in after) for proofs, _ in before):
            losers[someone.name] = None
    return f"; the change below takes a way in from {named(losers)}" if losers else ""


def _of_people(stack: Stack, view: forecast.View, people: list[Person]) -> Iterator[Finding]:
    """List users whose public key skips the code that the password needs, and the exempt users."""
    again = "softtoken-admin disable sshd && softtoken-admin enable sshd"
    ours = str(stack.ours[0].place)
    exempt_people = in_force.exempt_people(stack.of("auth"), people)
    for group, names in exempt_people.items():
        what = f"the group {group} is exempt from codes at sshd: {named(names) or 'it has no members'}; the command "
        yield Finding(NOTE, ours, "", f"{what}below asks them, too, and refuses those who are not enrolled", again)
    if not paths.asks_for_password(stack.of("auth")):
        return
    exempted = {name for names in exempt_people.values() for name in names}
    ways = {each.name: [view.ways(each, peer) for peer in view.peers] for each in people if each.name not in exempted}
    keyed = [name for name, found in ways.items() if any(_has_key_alone(each) for each in found)]
    if keyed:
        others = [name for name, found in ways.items() if any(found) and name not in keyed]
        cost = f", and does not let in those who have no key: {named(others)}" if others else ""
        what = f"public-key logins skip the code: {named(keyed)}; the command below asks them for key and code{cost}"
        yield Finding(NOTE, ours, "", what, f"{again} --with publickey")


def _has_key_alone(found: Ways) -> bool:
    return any(proofs == frozenset({KEY}) for proofs, _ in found)


def faults(view: View) -> Iterator[Fault]:
    """List the settings that let a user in without a code, with only a code, or not at all."""
    if not view.on("usepam"):
        yield Fault(ERROR, "usepam", "sshd does not use PAM, so that nobody is asked for a code", "yes")
    ways = view.ways
    explicit = view.settings["authenticationmethods"] != "any"
    if not view.on("kbdinteractiveauthentication"):
        if explicit and any(ASKING in way for way in ways):
            what = "nobody gets in by the way that AuthenticationMethods names: what asks for the code is off"
            yield Fault(ERROR, "kbdinteractiveauthentication", what, "yes")
        elif not (view.on("passwordauthentication") and view.code_in_password):
            what = "nobody is asked for a code: what would ask is off"
            yield Fault(ERROR, "kbdinteractiveauthentication", what, "yes")
    keys = [way for way in ways if not {ASKING, "password"} & set(way)]
    if keys and not view.password_in_pam:
        # If PAM asks for a password, the code may be intended only as an addition to it; see `_of_people`.
        names = " or ".join(dict.fromkeys("a public key" if way[0] == "publickey" else way[0] for way in keys))
        what = f"{names} skips PAM: users who have it get in without a code"
        yield Fault(ERROR, "authenticationmethods", what, _mended(view, ways, explicit=explicit), can_be_meant=True)
    if any("password" in way and ASKING not in way for way in ways) and not view.code_in_password:
        what = "the method password cannot ask for a code: it is always refused, and counts as a wrong answer"
        if explicit:
            yield Fault(WARNING, "authenticationmethods", what, _mended(view, ways, explicit=True))
        else:
            yield Fault(WARNING, "passwordauthentication", what, "no")
    elif not view.password_in_pam and [ASKING] in ways:
        what = "the code alone lets people in: PAM asks for no password, and sshd for no key"
        yield Fault(ERROR, "authenticationmethods", what, f"publickey,{ASKING}")


def _mended(view: View, ways: list[list[str]], *, explicit: bool) -> str:
    """Return the `AuthenticationMethods` with which every way asks for a code and another proof."""
    if not explicit:
        return ASKING if view.password_in_pam else f"publickey,{ASKING}"
    sound = []
    for way in ways:
        methods = [method for method in way if method != "password" or view.code_in_password]
        if ASKING not in methods and "password" not in methods:
            methods.append(ASKING)
        if methods == [ASKING] and not view.password_in_pam:
            methods.insert(0, "publickey")
        sound.append(",".join(methods))
    return " ".join(dict.fromkeys(sound))


def _view(stack: Stack, settings: Settings) -> View:
    options = settings_of(stack.ours[0])
    taking = options is not None and (options.try_first_pass or options.use_first_pass or options.forward_pass)
    return View(settings, paths.asks_for_password(stack.of("auth")), taking)


def _ask_sshd(reading: Reading, directives: list[Directive]) -> tuple[Sshd, list[Finding], list[str]]:
    """Ask sshd for the settings of all users; read its files if it does not answer."""
    names = host_facts.names_of(host_facts.accounts())
    answers: list[child.Answer | None] = []

    def ask(*words: str) -> dict[str, str]:
        answers.append(bounded.ask(server.PROGRAM, *words))
        if answers[-1] is None or answers[-1].returncode != 0:
            raise AdministrationFailed("sshd gives no reason", hint="")
        return server.parse(answers[-1].stdout)

    try:
        return host_facts.read_sshd(names.values(), directives, ask=ask), [], []
    except AdministrationFailed:
        from_files = host_facts.read_files(names.values(), directives, _DEFAULTS)
    answer = answers[-1]
    if answer is None:
        return from_files, [], ["sshd -T: it did not answer; its files were read instead"]
    mistakes = re.findall(r"^(/\S+): line ([0-9]+): (.*)$|^(/\S+) line ([0-9]+): (.*)$", answer.stderr, re.MULTILINE)
    findings = []
    for groups in mistakes:
        file, number, why = groups[:3] if groups[0] else groups[3:]
        what = f"sshd does not start with this: {why.strip().rstrip('.')}"
        edit = Edit(file, int(number), int(number), None)
        findings.append(Finding(ERROR, f"{file}:{number}", reading.line(file, edit.number), what, str(edit)))
    said = " ".join(answer.stderr.split())[:200]
    return from_files, findings, [] if findings else [f"sshd -T: {said}; its files were read instead"]


def _finding(fault: Fault, directive: Directive | None) -> Finding:
    wanted = f"{_SPELT[fault.name]} {fault.value}"
    if directive is None:
        # The first value counts, so the line goes before all includes.
        default = f"{_SPELT[fault.name]} {_DEFAULTS[fault.name]} (not set, so this is the default)"
        return Finding(
            fault.severity, config_lines.FILE, default, fault.what, str(Edit(config_lines.FILE, 1, 0, wanted))
        )
    what = fault.what + (f' (for users whom "{directive.condition}" selects)' if directive.condition else "")
    mend = str(Edit(directive.file, directive.number, directive.number, wanted))
    severity = NOTE if fault.can_be_meant and directive.condition else fault.severity
    return Finding(severity, directive.place, directive.text, what, mend)
